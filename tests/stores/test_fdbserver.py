"""A cluster that falls silent, dies, comes back, or wants certificates: servers of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.errors import Unreachable
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.foundationdb import FoundationDBStore
from tests.sessions.test_session import output, state
from tests.stores.contract import put, rows_of
from tests.support.authority import Authority
from tests.support.fdbserver import FDBServer, Identity, running_fdbserver

pytestmark = pytest.mark.foundationdb


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FDBServer]:
    with running_fdbserver(tmp_path / "fdb") as running:
        yield running


def start(server: FDBServer, home: Path, *argv: str, **settings: Path) -> subprocess.Popen[str]:
    """A command whose context keeps its sessions in the server."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FDB_")}
    environ |= {"CODITECT_HOME": str(home), "CODITECT_STORE": "foundationdb"}
    environ |= {"CODITECT_FDB_CLUSTER_FILE": str(server.cluster_file)}
    environ |= {f"CODITECT_FDB_TLS_{name.upper()}": str(file) for name, file in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "coditect_cli", *argv, "-o", "json"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_cluster_that_was_silent_is_used_again(server: FDBServer) -> None:
    store = FoundationDBStore(str(server.cluster_file), answer_seconds=1)
    put(store, (b"a", b"1"))
    server.pause()
    with pytest.raises(Unreachable) as read:
        rows_of(store)
    with pytest.raises(Unreachable):
        put(store, (b"a", b"2"))
    server.resume()
    assert read.value.message == "FoundationDB does not answer"
    store = FoundationDBStore(str(server.cluster_file))
    put(store, (b"b", b"3"))
    assert rows_of(store)[-1] == (b"b", b"3")


def test_a_cluster_that_was_killed_is_used_again_when_it_is_back(server: FDBServer) -> None:
    store = FoundationDBStore(str(server.cluster_file))
    put(store, (b"a", b"1"))
    server.kill()
    server.start()
    assert rows_of(store) == [(b"a", b"1")]


@pytest.mark.slow
def test_every_command_ends_when_no_coordinator_answers(server: FDBServer, tmp_path: Path) -> None:
    SessionLayer(FoundationDBStore(str(server.cluster_file))).save(state(), output(["x"]))
    home = tmp_path / "home"
    file = tmp_path / "sessions.ndjson"
    exporting = start(server, home, "session", "export", f"--output-file={file}")
    exporting.communicate()
    assert '"session":"s1"' in file.read_text()
    server.pause()
    started = [
        start(server, home, *line.split())
        for line in (
            *("session list --all", "session show demo s1", "session history demo s1"),
            *("session output demo s1", "session delete demo s1 --yes", f"session import {file}"),
            *(
                "session delete --older-than 1d --all --yes",
                f"session export --output-file={file}2",
            ),
            *("keys ls", "keys get a", "keys du", "keys check"),
            *("migrate status", "migrate lock show"),
        )
    ]
    for command, (out, err) in [(command, command.communicate()) for command in started]:
        error = json.loads(err.splitlines()[-1])["error"]
        assert (out, command.returncode, error["code"]) == ("", 9, "store.unreachable"), err
        assert error["retryable"]


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    authority = Authority(tmp_path)
    return Identity(*authority.issue("client", "client"), authority.certificate)


@pytest.mark.slow
def test_a_cluster_with_mutual_tls_answers_who_has_a_certificate_of_its_authority(
    identity: Identity, tmp_path: Path
) -> None:
    files = {
        "certificate_file": identity.certificate,
        "key_file": identity.key,
        "ca_file": identity.authority,
    }
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("stranger", "stranger")
    home = tmp_path / "home"
    with running_fdbserver(tmp_path / "fdb", identity) as server:
        out, err = start(server, home, "keys", "ls", **files).communicate()
        assert out, err
        assert json.loads(out)["items"] == []
        findings = json.loads(start(server, home, "doctor", **files).communicate()[0])["items"]
        assert [item["status"] for item in findings if item["check"] == "store"] == ["pass"]
        # From here on the server keeps this address waiting: its handshakes failed.
        nobody = start(server, home, "keys", "ls")
        other = start(
            server, home, "keys", "ls",
            **{**files, "certificate_file": stranger[0], "key_file": stranger[1]},
        )  # fmt: skip
        answers = [(refused, *refused.communicate()) for refused in (nobody, other)]
    for refused, out, err in answers:
        assert (out, refused.returncode) == ("", 9)
        assert "fdb_tls_" in json.loads(err.splitlines()[-1])["error"]["hint"]
