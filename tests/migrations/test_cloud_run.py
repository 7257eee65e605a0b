"""Cloud Run's argv and looks, through the real gcloud."""

from __future__ import annotations

from typing import Any

import pytest

from coditect_cli.errors import Failed, Forbidden
from coditect_cli.migrations import programs
from coditect_cli.migrations.cloud_run import CloudRun, Target, read_revision, read_service
from tests.support.cloud import PROJECT, Cloud

RUN = CloudRun(PROJECT, "us-central1")
NAME = "websocket-gateway"


def image(letter: str) -> str:
    """An image's name with a digest."""
    return f"gcr.io/{PROJECT}/{NAME}@sha256:{letter * 64}"


@pytest.mark.slow
def test_the_first_deployment_ever_gets_all_traffic(google: Cloud) -> None:
    assert RUN.describe(NAME) is None
    with pytest.raises(Failed, match="not supported when creating"):
        programs.run(RUN.deploy_argv(NAME, image("a"), tag="pty-fix", traffic=False))
    programs.run(RUN.deploy_argv(NAME, image("a"), tag="pty-fix", traffic=True))
    service = RUN.describe(NAME)
    assert service is not None
    assert service.percents == {service.newest: 100}


@pytest.mark.slow
def test_a_canary_gets_its_part_and_the_rest_stays_where_it_was(google: Cloud) -> None:
    old = google.run.deploy(NAME, image("a"))
    programs.run(RUN.deploy_argv(NAME, image("b"), tag="pty-fix", traffic=False))
    service = RUN.describe(NAME)
    assert service is not None
    new = service.newest
    assert new == service.newest_ready != old
    assert service.percents == {old: 100}
    assert service.image == image("b")
    assert service.not_ready is None
    tagged = service.tagged("pty-fix")
    assert tagged is not None
    assert (tagged.revision, tagged.percent) == (new, 0)
    assert str(tagged.url).startswith("https://pty-fix---websocket-gateway-")

    programs.run(RUN.split_argv(NAME, "pty-fix", 10))
    assert google.run.percents(NAME) == {old: 90, new: 10}
    programs.run(RUN.percents_argv(NAME, service.percents))
    assert google.run.percents(NAME) == {old: 100}
    programs.run(RUN.latest_argv(NAME))
    service = RUN.describe(NAME)
    assert service is not None
    assert service.percents == {new: 100}
    assert service.follows_latest


@pytest.mark.slow
def test_instances_are_bounded_by_a_revision_that_takes_over(google: Cloud) -> None:
    google.run.deploy(NAME, image("a"))
    programs.run(RUN.scale_argv(NAME, 100))
    service = RUN.describe(NAME)
    assert service is not None
    assert (service.max_instances, service.session_affinity) == (100, True)
    assert service.percents == {service.newest: 100}
    programs.run(RUN.scale_argv(NAME, None, session_affinity=False))
    service = RUN.describe(NAME)
    assert service is not None
    assert (service.max_instances, service.session_affinity) == (None, False)


@pytest.mark.slow
def test_a_revision_that_does_not_start_fails_the_deployment_and_gets_nothing(
    google: Cloud,
) -> None:
    old = google.run.deploy(NAME, image("a"))
    google.run.broken.add("b" * 64)
    with pytest.raises(Failed, match="failed to start and listen on the port"):
        programs.run(RUN.deploy_argv(NAME, image("b"), tag="pty-fix", traffic=False))
    service = RUN.describe(NAME)
    assert service is not None
    assert service.percents == {old: 100}
    assert "failed to start" in str(service.not_ready)
    assert service.newest is not None
    revision = RUN.revision(service.newest)
    assert revision is not None
    assert (revision.image, revision.is_ready) == (image("b"), False)


@pytest.mark.slow
def test_who_may_not_shift_traffic_is_told_which_permission_is_missing(google: Cloud) -> None:
    google.run.deploy(NAME, image("a"))
    google.fail("PUT", f"/services/{NAME}", 403, "Permission 'run.services.update' denied")
    with pytest.raises(Forbidden, match=r"run\.services\.update"):
        programs.run(RUN.latest_argv(NAME))


SERVICE: dict[str, Any] = {
    "metadata": {"name": NAME},
    "spec": {"template": {"spec": {"containers": [{"image": image("a")}]}}},
    "status": {
        "latestReadyRevisionName": "r1",
        "latestCreatedRevisionName": "r2",
        "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Deploying"}],
        "traffic": [
            {"revisionName": "r1", "percent": 60, "latestRevision": True},
            {"revisionName": "r0", "percent": 30},
            {"revisionName": "r0", "percent": 10, "tag": "old", "url": "https://old"},
        ],
    },
}


def test_a_service_is_read_with_all_entries_of_its_traffic() -> None:
    service = read_service(SERVICE)
    assert service.percents == {"r1": 60, "r0": 40}
    assert service.tagged("old") == Target("r0", 10, "old", "https://old", False)
    assert service.tagged("new") is None
    assert not service.follows_latest
    assert (service.max_instances, service.session_affinity) == (None, False)
    assert service.not_ready == "Deploying"


def test_a_service_that_was_never_ready_serves_nothing() -> None:
    service = read_service({**SERVICE, "status": {}})
    assert (service.newest_ready, service.percents) == (None, {})
    assert service.not_ready == "not ready yet"


@pytest.mark.parametrize("document", [None, [], {}, {"metadata": {}}, {"spec": {"template": 1}}])
def test_an_answer_of_another_kind_is_an_error_and_no_traceback(document: object) -> None:
    with pytest.raises(Failed, match="not known"):
        read_service(document)
    with pytest.raises(Failed, match="not known"):
        read_revision(document)


def test_a_plan_line_can_be_pasted() -> None:
    assert " ".join(RUN.split_argv(NAME, "pty-fix", 10)) == (
        "gcloud run services update-traffic websocket-gateway --to-tags=pty-fix=10 "
        "--region=us-central1 --project=acme-dev --format=json"
    )
