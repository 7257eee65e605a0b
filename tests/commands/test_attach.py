from __future__ import annotations

import subprocess
import sys

import pytest

from coditect_cli.paths import Paths
from tests.conftest import RunCli
from tests.support.gateway import Gateway

PROGRAM = [sys.executable, "-m", "coditect_cli"]
SECRETIVE = "printf 'a %s' secret"
EXEC = ["exec", "demo", "--", "sh", "-c", f"cat > /dev/null; {SECRETIVE}"]


def test_the_log_tells_the_way_to_the_session_and_no_secret(run_cli: RunCli, paths: Paths) -> None:
    run_cli("workspace", "create", "demo")
    for flag, words in (("-v", ["up", "demo", "--exec", SECRETIVE]), ("--debug", EXEC)):
        run = subprocess.run(
            [*PROGRAM, flag, *words], input="typed", capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout) == (0, "a secret")
        assert ("coditect.launch: starting_gateway" in run.stderr) == (flag == "-v")
        assert f"connecting workspace=demo url=ws+unix:{paths.gateway_socket}" in run.stderr
        assert "coditect.session: joined session=" in run.stderr
        for leaked in ("secret", "typed", "eyJ", "earer"):
            assert leaked not in run.stderr


def test_up_exec_leaves_stdin_to_the_loop_around_it(run_cli: RunCli) -> None:
    loop = 'while read -r word; do "$@" up demo --exec "echo $word"; done'
    run = subprocess.run(
        ["/bin/sh", "-c", loop, "sh", *PROGRAM],
        input="a\nb\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("a\nb\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "demo", "-o", "json", "--", "true"),
        ("exec", "-t", "demo", "-o", "name", "--", "true"),
        ("up", "demo", "-o", "json", "--exec", "true"),
        ("up", "demo", "-o", "yaml", "--stdin"),
        ("attach", "demo", "-o", "json"),
        ("attach", "demo", "--read-only", "--new"),
        ("attach", "demo", "--session", "5e0c", "--new"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_done(
    run_cli: RunCli, paths: Paths, words: tuple[str, ...]
) -> None:
    code, out, err = run_cli(*words)
    assert (code, out) == (2, "")
    assert "bug" not in err
    assert not paths.workspaces.exists()


@pytest.mark.parametrize("id", ["x\x01", "x\ny", "\u202e", "a/b", "", "../../etc", "_coditect"])
def test_a_forged_workspace_id_is_refused(run_cli: RunCli, id: str) -> None:
    for words in (["attach", id], ["exec", id, "--", "true"], ["attach", id, "--session", "s"]):
        code, out, err = run_cli(*words)
        assert (code, out) == (2, "")
        assert "is not a workspace id" in err


@pytest.mark.parametrize(
    ("redirection", "out"), [("<&-", "0\n"), (">&-", ""), ("2>&-", "0\n"), ("<&- >&- 2>&-", "")]
)
def test_closed_streams_are_empty_and_no_bug(run_cli: RunCli, redirection: str, out: str) -> None:
    run_cli("up", "demo")
    for words in (["up", "demo", "--exec", "wc -c"], ["exec", "demo", "--", "wc", "-c"]):
        run = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, *words],
            input="",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, out, "")


def test_a_session_is_attached_to_by_a_unique_start_of_its_id(
    gateway: Gateway, run_cli: RunCli
) -> None:
    first, other = gateway.attach(session="new"), gateway.attach(session="new")
    command = [*PROGRAM, "attach", "demo", "--session", first.session[:8]]
    run = subprocess.run(command, input="exit 7\n", capture_output=True, text=True, check=False)
    assert run.returncode == 7, run.stderr
    assert first.exit()["status"] == 7
    assert other.run("echo unharmed") == b"unharmed\r\n"
    assert run_cli("attach", "demo", "--session", "nosuch")[0] == 3
