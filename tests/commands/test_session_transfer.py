from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from coditect_cli.paths import Paths
from coditect_cli.sessions import transfer
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.transfer import Exported, Import
from coditect_cli.stores.store import SessionStore, Transaction
from tests.commands.session_documents import document, listed, refused
from tests.conftest import RunCli
from tests.sessions.test_session import state
from tests.support.gateway import Gateway

SECRET = "hunter2hunter"


@pytest.fixture
def saved(layer: SessionLayer) -> None:
    for workspace_id, id in (("demo", "s1"), ("demo", "s2"), ("gone", "s1")):
        layer.save(state(id=id, workspace_id=workspace_id, environment_vars={"TOKEN": SECRET}))


def clear(store: SessionStore) -> None:
    def remove(transaction: Transaction) -> None:
        for key, _ in transaction.range(b"", b"\xff"):
            transaction.clear(key)

    store.transact(remove)


def test_an_export_on_stdout_is_whole_and_says_so(run_cli: RunCli, saved: None) -> None:
    code, out, err = run_cli("session", "export")
    assert (code, out.count(SECRET), out.count("\n")) == (0, 3, 5)
    assert err.startswith("every variable and command in it is as it was")
    assert (
        run_cli("session", "export", "-o", "ndjson")[1].splitlines()[1:-1] == out.splitlines()[1:-1]
    )
    assert run_cli("session", "export", "demo")[1].count(SECRET) == 2
    assert refused(run_cli, "export") == (2, "usage")
    assert refused(run_cli, "export", "nosuch") == (2, "usage")
    assert run_cli("session", "export", "nosuch")[0] == 3


def test_an_exports_file_is_for_its_owner_alone(
    run_cli: RunCli, saved: None, tmp_path: Path
) -> None:
    file = tmp_path / "x.ndjson"
    args = ["export", "--output-file", str(file)]
    old = os.umask(0)
    try:
        done = document(run_cli, *args)
    finally:
        os.umask(old)
    assert (done["kind"], done["sessions"], done["file"]) == ("SessionExport", 3, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().count(SECRET) == 3
    assert refused(run_cli, *args) == (6, "export.exists")
    file.write_text("old")
    assert document(run_cli, *args, "--force")["sessions"] == 3
    assert file.read_text().count(SECRET) == 3
    assert refused(run_cli, "export", "--output-file", "/proc/nosuch/x") == (8, "export.failed")
    os.mkfifo(tmp_path / "pipe")
    assert refused(run_cli, "export", "--output-file", str(tmp_path / "pipe"), "--force") == (
        8, "file.special"
    )  # fmt: skip
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "link").symlink_to(file)
    assert document(run_cli, "export", "--output-file", str(tmp_path / "link"), "--force")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["home", "link", "pipe", "x.ndjson"]


def test_what_was_exported_is_imported_again(
    run_cli: RunCli, saved: None, store: SessionStore
) -> None:
    data = run_cli("session", "export")[1].encode()
    clear(store)
    code, out, err = run_cli("session", "import", "-", stdin=data)
    assert (code, err) == (0, "")
    assert out == "sessions imported: 3 new, 0 replaced, 0 there already, 0 newer ones kept\n"
    assert listed(run_cli, "--all") == ["demo/s1", "demo/s2", "gone/s1"]
    shown = document(run_cli, "show", "demo", "s1", "--reveal", "TOKEN")
    assert shown["environmentVars"] == {"TOKEN": SECRET}


def test_a_damaged_file_changes_nothing(
    run_cli: RunCli, saved: None, store: SessionStore, tmp_path: Path
) -> None:
    file = tmp_path / "x.ndjson"
    data = run_cli("session", "export")[1]
    clear(store)
    lines = data.splitlines(keepends=True)
    for damaged in (data.replace("gone", "gona"), "".join(lines[:-1]), data[:-50], ""):
        file.write_text(damaged)
        assert refused(run_cli, "import", str(file)) == (2, "import.damaged")
        assert listed(run_cli, "--all") == []
    assert refused(run_cli, "import", str(tmp_path / "nosuch")) == (3, "import.not_found")
    assert refused(run_cli, "import", str(file), "--overwrite", "--keep-newer") == (2, "usage")


def test_a_file_with_one_session_that_is_newer_in_the_store_changes_nothing(
    run_cli: RunCli, saved: None, store: SessionStore, layer: SessionLayer
) -> None:
    data = run_cli("session", "export")[1].encode()
    clear(store)
    layer.save(state(id="s1", workspace_id="gone", last_active=2))
    code, out, err = run_cli("session", "import", "-", "-o", "json", stdin=data)
    assert (code, out) == (6, "")
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "import.newer"
    assert listed(run_cli, "--all") == ["gone/s1"]
    kept = json.loads(
        run_cli("session", "import", "-", "--keep-newer", "-o", "json", stdin=data)[1]
    )
    assert (kept["new"], kept["keptNewer"]) == (2, 1)
    again = json.loads(
        run_cli("session", "import", "-", "--overwrite", "-o", "json", stdin=data)[1]
    )
    assert (again["unchanged"], again["replaced"]) == (2, 1)


def test_an_import_that_breaks_off_is_gone_on_with(
    run_cli: RunCli, saved: None, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = run_cli("session", "export")[1].encode()
    clear(store)
    monkeypatch.setattr(transfer, "BATCH_SESSIONS", 1)
    put = Import.put

    def interrupted(self: Import, batch: list[Exported]) -> None:
        if batch[0].session == "s2":
            raise KeyboardInterrupt
        put(self, batch)

    monkeypatch.setattr(Import, "put", interrupted)
    code, _, err = run_cli("session", "import", "-", stdin=data)
    assert code == 130
    assert err.startswith("sessions imported until then: 1; run it again to go on\n")
    assert listed(run_cli, "--all") == ["demo/s1"]
    monkeypatch.setattr(Import, "put", put)
    out = run_cli("session", "import", "-", stdin=data)[1]
    assert out == "sessions imported: 2 new, 0 replaced, 1 there already, 0 newer ones kept\n"


def test_a_live_session_is_not_imported_over(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer
) -> None:
    client = gateway.attach()
    layer.save(state(id=client.session))
    data = run_cli("session", "export")[1].encode()
    code, _, err = run_cli("session", "import", "-", "--overwrite", "-o", "json", stdin=data)
    assert (code, json.loads(err.splitlines()[-1])["error"]["code"]) == (6, "session.live")


def test_the_copy_of_stdin_is_gone_afterwards(run_cli: RunCli, saved: None, paths: Paths) -> None:
    before = sorted(os.listdir(paths.state))
    data = run_cli("session", "export")[1].encode()
    assert run_cli("session", "import", "-", stdin=data)[0] == 0
    assert sorted(os.listdir(paths.state)) == before
