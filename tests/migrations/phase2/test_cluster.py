"""The cluster that phase 2 makes, and what leads to it; gcloud is stood for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from coditect_cli.errors import Failed
from coditect_cli.kube import Kube
from coditect_cli.migrations import gke, programs
from coditect_cli.migrations.phase2.cluster import GetCredentials, MakeCluster, with_its_entry
from coditect_cli.migrations.plan import make_plan
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.settings import Settings
from tests.migrations.phase2.conftest import CLUSTER, Field
from tests.migrations.phase2.dying import TARGET
from tests.migrations.quick import Programs
from tests.migrations.toy import any_user, no_cluster
from tests.support.cloud import PROJECT, Cloud


def test_a_kubeconfig_that_is_not_there_is_told_before_the_cluster(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(field.folder / "none"))
    with pytest.raises(Failed, match="the kubeconfig has no context test"):
        field.go(field.steps())
    assert field.programs.ran == []


PLACE = "gke_acme-dev_europe-west1_coditect-cluster"


@pytest.mark.parametrize(
    ("server", "is_done"),
    [
        ("https://192.0.2.10", True),
        ("https://10.0.0.2/", True),
        ("https://gke-1a2b.europe-west1.gke.goog", True),
        ("https://192.0.2.99", False),
    ],
)
def test_credentials_are_those_of_this_cluster_and_not_of_one_that_was_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, is_done: bool
) -> None:
    """A cluster that was deleted and made again has another address, under the same name."""
    cloud = Cloud()
    monkeypatch.setattr(programs, "run_json", Programs(cloud).run_json)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    entry = {"name": PLACE, "context": {"cluster": PLACE}}
    cluster = {"name": PLACE, "cluster": {"server": server}}
    (tmp_path / "kubeconfig").write_text(
        yaml.safe_dump({"contexts": [entry], "clusters": [cluster]})
    )
    settings = MigrateSettings(project=PROJECT, cluster_region="europe-west1")
    world = World(settings, TARGET, no_cluster, any_user)
    step = GetCredentials()
    assert not step.observe(world).is_done  # there is no such cluster yet
    cloud.clusters.add(CLUSTER, "europe-west1")
    cloud.clusters.clusters[CLUSTER] |= {
        "privateClusterConfig": {"privateEndpoint": "10.0.0.2"},
        "controlPlaneEndpointsConfig": {
            "dnsEndpointConfig": {"endpoint": "gke-1a2b.europe-west1.gke.goog"}
        },
    }
    seen = step.observe(world)
    assert (seen.is_done, server in seen.detail) == (is_done, True)
    assert "--region=europe-west1" in step.actions(world)[0].text
    cloud.server.close()


ENTRY = f"gke_{PROJECT}_us-central1_{CLUSTER}"


class Engineer:
    """Somebody whose kubeconfig gcloud writes; before, it leads to `server` under that name."""

    def __init__(self, field: Field, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.field = field
        self.config = field.folder / "kubeconfig"
        monkeypatch.setenv("KUBECONFIG", str(self.config))
        monkeypatch.setattr(field.programs, "_do", self._gcloud(field.programs._do))
        field.cloud.clusters.endpoint = field.cluster.url.removeprefix("https://")
        self._write(server)
        settings = replace(field.world.settings, kube_context=None)
        world = World(settings, TARGET, self._open, any_user)
        field.world = with_its_entry(world)

    def _open(self) -> Kube:
        return Kube(
            Settings(
                kubeconfig=str(self.config), kube_context=ENTRY, namespace=self.field.namespace
            )
        )

    def _gcloud(
        self, usual: Callable[[list[str], dict[str, str]], None]
    ) -> Callable[[list[str], dict[str, str]], None]:
        def do(words: list[str], flags: dict[str, str]) -> None:
            if "get-credentials" in words:
                self._write(self.field.cluster.url)
            usual(words, flags)

        return do

    def _write(self, server: str) -> None:
        document = yaml.safe_load(self.field.cluster.kubeconfig.read_text())
        document["contexts"][0]["name"] = ENTRY
        document["clusters"][0]["cluster"]["server"] = server
        self.config.write_text(yaml.safe_dump(document))

    def plan(self) -> dict[str, str | None]:
        """Why each step could not be looked at."""
        planned = make_plan("phase2", self.field.steps(), self.field.world, "nobody")
        return {step["name"]: step["unobserved"] for step in planned["steps"]}


def test_an_entry_that_leads_elsewhere_is_not_looked_through_and_mended(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that was made before does not keep the run, in the same process, from going on."""
    engineer = Engineer(field, "https://127.0.0.1:1", monkeypatch)
    field.cloud.clusters.add(CLUSTER)
    unobserved = engineer.plan()
    assert unobserved["credentials"] is None
    assert "leads to https://127.0.0.1:1, and not to" in str(unobserved["namespace"])
    assert field.go(field.steps()).state == "done"
    assert field.is_there
    assert engineer.plan()["namespace"] is None


def test_another_cluster_is_not_taken_for_this_one(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it says nothing of the one that is to be made."""
    engineer = Engineer(field, field.cluster.url, monkeypatch)
    assert "not to any cluster" in str(engineer.plan()["namespace"])
    here, field.cloud.clusters.endpoint = field.cloud.clusters.endpoint, "192.0.2.10"
    field.cloud.clusters.add(CLUSTER)
    assert "and not to 192.0.2.10" in str(engineer.plan()["namespace"])
    field.cloud.clusters.clusters[CLUSTER]["endpoint"] = here
    assert engineer.plan()["namespace"] is None


def test_a_cluster_whose_credentials_were_never_got_is_removed(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    Engineer(field, "https://127.0.0.1:1", monkeypatch)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise Failed("no space left on device")

        broken.setattr(Engineer, "_write", fail)
        with pytest.raises(Failed, match="no space left"):
            field.go(field.steps())
    assert list(field.cloud.clusters.clusters) == [CLUSTER]
    field.roll_back()
    assert field.cloud.clusters.clusters == {}


def test_a_cluster_that_failed_to_be_made_is_removed(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never answered, so that nobody's volumes are in it could not be looked at."""
    Engineer(field, "https://127.0.0.1:1", monkeypatch)
    field.cloud.clusters.endpoint = "127.0.0.1:1"
    create = field.programs._do

    def fail_late(words: list[str], flags: dict[str, str]) -> None:
        create(words, flags)
        if "create-auto" in words:
            field.cloud.clusters.clusters[CLUSTER]["status"] = "ERROR"
            raise Failed("Quota exceeded: SSD_TOTAL_GB")

    monkeypatch.setattr(field.programs, "_do", fail_late)
    with pytest.raises(Failed, match="SSD_TOTAL_GB"):
        field.go(field.steps())
    with pytest.raises(Failed, match=f"{CLUSTER} is ERROR$"):
        field.go(field.steps())
    field.roll_back()
    assert field.cloud.clusters.clusters == {}
    assert "gcloud container clusters get-credentials" not in field.programs.ran


@pytest.mark.parametrize(("status", "deletes"), [("STOPPING", 0), ("PROVISIONING", 1)])
def test_what_gke_does_to_the_cluster_already_is_waited_for(
    field: Field, monkeypatch: pytest.MonkeyPatch, status: str, deletes: int
) -> None:
    """A way back that was cut off: GKE refuses to delete what it is making, or deletes already."""
    Engineer(field, field.cluster.url, monkeypatch)
    clusters = field.cloud.clusters.clusters
    assert field.go(field.steps()).state == "done"
    field.roll_back("credentials")
    clusters[CLUSTER]["status"] = status
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if status == "STOPPING":
            clusters.clear()
        else:
            clusters[CLUSTER]["status"] = "RUNNING"

    monkeypatch.setattr(gke.time, "sleep", sleep)
    step = MakeCluster()
    for action in step.inverse(field.world, {"exists": False}):
        action.perform()
    assert step.restored(field.world, {"exists": False}) is None
    assert len(waited) == 1
    assert field.programs.ran.count("gcloud container clusters delete") == deletes
