from __future__ import annotations

import re

import pytest

from coditect_cli.errors import UsageError
from coditect_cli.settings import Settings
from coditect_cli.workspaces.manifest import build, claim_name, user_label

LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
IMAGE = "localhost/workspace:1"


def test_a_user_id_that_is_a_label_stays_one() -> None:
    for user in ("ada", "7", "a.b_c-d", "x" * 63):
        assert user_label(user) == user


def test_other_user_ids_get_labels_that_no_other_user_has() -> None:
    users = ["ada@example.com", "ada example com", "-ada", "x" * 64, "Ä", "sha256.x", "ada\n"]
    labels = [user_label(user) for user in users]
    labels.append(user_label(labels[0]))  # a user with the name of another's label
    assert all(LABEL.fullmatch(label) for label in labels)
    assert len(set(labels)) == len(labels)
    assert user_label("ada@example.com") == labels[0]


def test_sizes_keep_their_form_and_limits_are_twice_as_large() -> None:
    settings = Settings(image=IMAGE, cpu="0.5", memory="1e9", storage="1Ti", storage_class="fast")
    claim, stateful_set = build("demo", "ada", settings)
    [container] = stateful_set["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "0.5", "memory": "1e9"},
        "limits": {"cpu": "1.0", "memory": "2e9"},
    }
    [template] = stateful_set["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == template["spec"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Ti"
    assert claim["metadata"]["name"] == claim_name("demo") == "workspace-storage-demo-0"


def test_spot_nodes_are_asked_for_unless_they_are_not_wanted() -> None:
    _, on_spot = build("demo", "ada", Settings(image=IMAGE))
    _, off_spot = build("demo", "ada", Settings(image=IMAGE, spot=False))
    pod = on_spot["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert [each["key"] for each in pod["tolerations"]] == ["cloud.google.com/gke-spot"]
    assert not {"nodeSelector", "tolerations"} & off_spot["spec"]["template"]["spec"].keys()


def test_a_pod_saves_sessions_where_its_context_looks_for_them() -> None:
    def variables(**settings: str) -> dict[str, str]:
        _, stateful_set = build("demo", "ada", Settings(image=IMAGE, **settings))  # type: ignore[arg-type]
        [container] = stateful_set["spec"]["template"]["spec"]["containers"]
        return {one["name"]: one["value"] for one in container["env"] if "value" in one}

    assert "CODITECT_STORE" not in variables()
    plain = variables(store="foundationdb", fdb_cluster_file="/here/fdb.cluster")
    assert plain["CODITECT_STORE"] == "foundationdb"
    assert plain["FDB_CLUSTER_FILE"] == "/secrets/fdb.cluster"
    assert not any(name.startswith("CODITECT_FDB_TLS") for name in plain)
    mutual = variables(store="foundationdb", fdb_tls_certificate_file="/here/ada.crt")
    assert (
        mutual.items()
        >= {
            "CODITECT_FDB_TLS_CERTIFICATE_FILE": "/secrets/tls.crt",
            "CODITECT_FDB_TLS_KEY_FILE": "/secrets/tls.key",
            "CODITECT_FDB_TLS_CA_FILE": "/secrets/ca.crt",
        }.items()
    )


def test_an_image_has_to_be_chosen() -> None:
    with pytest.raises(UsageError) as caught:
        build("demo", "ada", Settings())
    assert caught.value.code == "workspace.no_image"
