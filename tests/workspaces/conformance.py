"""What a workspace is, wherever it lives: each provider's tests inherit all of this."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.support.gateway import until

RECORD = {
    *("id", "status", "owner", "createdAt", "root", "node", "image", "cpu", "memory", "storage")
}
DETAILS = {"desired", "pod", "conditions", "volume", "events", "gatewayUrl", "sessions"}
DOCUMENT = {"apiVersion", "kind"}


def document(run_cli: RunCli, *line: str) -> dict[str, Any]:
    code, out, err = run_cli(*line, "-o", "json")
    assert code == 0, err
    parsed = json.loads(out)
    assert isinstance(parsed, dict)
    assert parsed["apiVersion"] == "coditect/v1"
    return parsed


def refusal(run_cli: RunCli, *line: str) -> tuple[int, str]:
    """The exit code and the code of an error; stdout is empty."""
    code, out, err = run_cli(*line, "-o", "json")
    assert out == ""
    error = json.loads(err.splitlines()[-1])["error"]
    assert error["exitCode"] == code
    return code, error["code"]


class WorkspaceConformance:
    """Inherit it, and let the fixture `provider` set the context up."""

    @pytest.fixture(autouse=True)
    def _provider(self, provider: None) -> None: ...

    def test_a_life(self, run_cli: RunCli) -> None:
        created = document(run_cli, "workspace", "create", "demo")
        assert created.keys() == RECORD | DOCUMENT
        assert (created["kind"], created["id"], created["status"]) == (
            "Workspace",
            "demo",
            "running",
        )
        assert run_cli("workspace", "wait", "demo")[0] == 0
        stopped = document(run_cli, "workspace", "stop", "demo")
        assert stopped == {**created, "status": "stopped", "node": stopped["node"]}
        assert run_cli("workspace", "wait", "demo", "--for", "stopped")[0] == 0
        started = document(run_cli, "workspace", "start", "demo")
        assert started == created
        deleted = document(run_cli, "workspace", "delete", "demo")
        assert deleted == {
            "apiVersion": "coditect/v1",
            "kind": "Workspace",
            "id": "demo",
            "status": "deleted",
        }
        assert run_cli("workspace", "wait", "demo", "--for", "deleted")[0] == 0
        assert refusal(run_cli, "workspace", "show", "demo") == (3, "workspace.not_found")

    def test_show_has_these_keys_and_list_those(self, run_cli: RunCli) -> None:
        created = document(run_cli, "workspace", "create", "demo")
        shown = document(run_cli, "workspace", "show", "demo")
        assert shown.keys() == RECORD | DETAILS | DOCUMENT
        assert shown.items() >= created.items()
        assert shown["desired"] == "running"
        listed = document(run_cli, "workspace", "list")
        assert listed["kind"] == "WorkspaceList"
        assert listed["items"] == [{key: created[key] for key in RECORD}]

    def test_lists_in_each_form(self, run_cli: RunCli) -> None:
        assert document(run_cli, "workspace", "list")["items"] == []
        assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
        for id in ("b", "a"):
            run_cli("workspace", "create", id, "--no-wait")
        assert run_cli("workspace", "list", "-o", "name")[1] == "a\nb\n"
        lines = run_cli("workspace", "list", "-o", "ndjson")[1].splitlines()
        assert [json.loads(line).keys() for line in lines] == [RECORD, RECORD]
        table = run_cli("workspace", "list")[1].splitlines()
        assert [line.split()[0] for line in table] == ["ID", "a", "b"]
        wide = run_cli("workspace", "list", "-o", "wide")[1].splitlines()
        assert {"AGE", "NODE", "CPU", "MEMORY", "STORAGE", "IMAGE"} <= set(wide[0].split())

    def test_a_list_of_somebodys_own(self, run_cli: RunCli) -> None:
        whose = document(run_cli, "workspace", "create", "one")["owner"]
        for owner, ids in ((whose, ["one"]), ("nobody@example.com", [])):
            listed = document(run_cli, "workspace", "list", "--owner", owner)["items"]
            assert [item["id"] for item in listed] == ids

    def test_a_wait_of_no_time_looks_once(self, run_cli: RunCli) -> None:
        run_cli("workspace", "create", "one")
        assert run_cli("workspace", "wait", "one", "--timeout", "0")[0] == 0
        assert run_cli("workspace", "wait", "one", "--for", "stopped", "--timeout", "0")[0] == 124

    def test_scripts_can_repeat_themselves(self, run_cli: RunCli) -> None:
        run_cli("workspace", "create", "demo")
        assert refusal(run_cli, "workspace", "create", "demo") == (6, "workspace.exists")
        again = document(run_cli, "workspace", "create", "demo", "--if-not-exists")
        assert again.keys() == RECORD | DOCUMENT
        for verb in ("start", "start", "stop", "stop", "delete"):
            assert run_cli("workspace", verb, "demo")[0] == 0
        for verb in ("stop", "delete"):
            assert refusal(run_cli, "workspace", verb, "demo") == (3, "workspace.not_found")
            answer = document(run_cli, "workspace", verb, "demo", "--ignore-not-found")
            assert answer["status"] == "deleted"

    def test_what_is_not_there_is_not_found(self, run_cli: RunCli) -> None:
        for verb in ("show", "start", "stop", "delete", "wait"):
            assert refusal(run_cli, "workspace", verb, "none") == (3, "workspace.not_found")
        purge = ("workspace", "delete", "none", "--purge", "--confirm", "none")
        assert refusal(run_cli, *purge) == (3, "workspace.not_found")
        assert run_cli("workspace", "wait", "none", "--for", "deleted")[0] == 0

    def test_each_verb_checks_the_id(self, run_cli: RunCli) -> None:
        for verb in ("create", "show", "start", "stop", "delete", "wait"):
            for id in ("../x", "Ä", "0a", "a-", "x" * 53, "a.b"):
                assert refusal(run_cli, "workspace", verb, id) == (2, "workspace.invalid_id")

    def test_a_wait_that_ends_unmet_is_124(self, run_cli: RunCli) -> None:
        run_cli("workspace", "create", "demo")
        wait = ("workspace", "wait", "demo", "--for", "stopped", "--timeout")
        assert refusal(run_cli, *wait, "1s") == (124, "workspace.timeout")
        assert refusal(run_cli, *wait, "soon") == (2, "usage")

    def test_delete_keeps_the_files_for_their_owner(self, run_cli: RunCli) -> None:
        run_cli("workspace", "create", "demo")
        assert run_cli("workspace", "delete", "demo")[0] == 0
        assert run_cli("workspace", "create", "demo")[0] == 0
        assert run_cli("workspace", "delete", "demo")[0] == 0
        purge = ("workspace", "delete", "demo", "--purge", "--confirm", "demo")
        assert document(run_cli, *purge)["status"] == "deleted"
        assert refusal(run_cli, *purge) == (3, "workspace.not_found")

    def test_purge_needs_its_name(self, run_cli: RunCli) -> None:
        run_cli("workspace", "create", "demo")
        purge = ("workspace", "delete", "demo", "--purge")
        assert refusal(run_cli, *purge) == (2, "confirm.needed")
        assert refusal(run_cli, *purge, "--yes") == (2, "confirm.needed")
        assert refusal(run_cli, *purge, "--confirm", "demo2") == (2, "confirm.mismatch")
        assert refusal(run_cli, "workspace", "delete", "demo", "--confirm", "demo") == (2, "usage")
        assert document(run_cli, "workspace", "show", "demo")["status"] == "running"


class EntryConformance:
    """The ways into a workspace, as long as there is no way in; as above."""

    @pytest.fixture(autouse=True)
    def _provider(self, provider: None) -> None: ...

    def test_a_workspace_that_is_absent_or_stopped_is_said_to_be_so(
        self, run_cli: RunCli, tmp_path: Path
    ) -> None:
        file = tmp_path / "file"
        file.write_text("x")
        lines = (
            ("attach", "demo"),
            ("exec", "demo", "--", "true"),
            ("cp", str(file), "demo:file"),
            ("cp", "demo:file", str(tmp_path / "other")),
        )

        def are_refused(status: int, message: str) -> bool:
            """A gateway may learn of a change a moment later."""
            results = [run_cli(*line) for line in lines]
            return all(
                (code, out) == (status, "") and f"error: {message}\n" in err
                for code, out, err in results
            )

        until(lambda: are_refused(3, "no workspace demo"), "an absent workspace")
        assert run_cli("workspace", "create", "demo")[0] == 0
        assert run_cli("workspace", "stop", "demo", "--force")[0] == 0
        until(lambda: are_refused(6, "workspace demo is stopped"), "a stopped workspace")
        assert run_cli("workspace", "delete", "demo")[0] == 0
        until(lambda: are_refused(3, "no workspace demo"), "a deleted workspace")
