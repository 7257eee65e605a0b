from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from coditect_cli import __version__
from coditect_cli.errors import BY_EXIT_CODE, Conflict
from coditect_cli.main import main
from coditect_cli.streams import Streams
from tests.conftest import RunCli

PROGRAM = [sys.executable, "-m", "coditect_cli"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> RunCli:
    """run_cli whose command raises what is given first."""

    def run(problem: BaseException, *args: str) -> tuple[int, str, str]:
        def fail(*_: object) -> None:
            raise problem

        monkeypatch.setattr(TyperGroup, "invoke", fail)
        return run_cli(*args)

    return run


@pytest.mark.parametrize("code", sorted(BY_EXIT_CODE))
def test_each_error_ends_with_its_exit_code(failing: RunCli, code: int) -> None:
    error = BY_EXIT_CODE[code]("it failed", hint="do this")
    assert failing(error, "version", "-v") == (code, "", "error: it failed\nhint: do this\n")


def test_an_error_is_json_where_results_are(failing: RunCli) -> None:
    code, out, err = failing(Conflict("held", code="x.held"), "-o", "json", "version", "-v")
    assert (code, out) == (6, "")
    assert json.loads(err)["error"] == {
        "code": "x.held",
        "exitCode": 6,
        "message": "held",
        "hint": None,
        "retryable": False,
    }


def test_an_unexpected_exception_is_a_bug_with_a_traceback_for_debug_only(failing: RunCli) -> None:
    code, out, err = failing(ValueError("odd"), "version", "-v")
    assert (code, out) == (1, "")
    assert "this is a bug" in err
    assert "ValueError: odd" in err
    assert "Traceback" not in err
    assert "Traceback" in failing(ValueError("odd"), "--debug", "version")[2]


def test_what_the_system_refuses_is_no_bug(failing: RunCli) -> None:
    code, _, err = failing(PermissionError(13, "Permission denied", "/x"), "version", "-v")
    assert (code, err) == (8, "error: the system refused: /x: Permission denied\n")


def test_an_interrupt_ends_130(failing: RunCli) -> None:
    assert failing(KeyboardInterrupt(), "version", "-v")[0] == 130
    error = json.loads(failing(KeyboardInterrupt(), "-o", "json", "version")[2])["error"]
    assert error["code"] == "interrupted"


@pytest.mark.parametrize(
    "args", [(), ("nonsense",), ("version", "--nonsense"), ("workspace",), ("workspace", "show")]
)
def test_a_line_that_does_not_parse_ends_2_with_nothing_on_stdout(
    run_cli: RunCli, args: tuple[str, ...]
) -> None:
    code, out, err = run_cli(*args)
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "--help" in err
    for json_flag in (("-o", "json"), ("-ojson",), ("--output=json",)):
        code, out, err = run_cli(*args, *json_flag)
        assert (code, out) == (2, "")
        assert json.loads(err.splitlines()[-1])["error"]["code"] == "usage"


@pytest.mark.parametrize(
    "args", [("--version",), ("version",), ("--version", "-o", "table"), ("--debug", "--version")]
)
def test_version(run_cli: RunCli, args: tuple[str, ...]) -> None:
    assert run_cli(*args) == (0, f"coditect {__version__}\n", "")


def test_version_as_json(run_cli: RunCli) -> None:
    code, out, _ = run_cli("version", "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert set(document) == {"apiVersion", "kind", "version", "python", "platform"}
    assert (document["kind"], document["version"]) == ("Version", __version__)


def test_asking_for_the_version_loads_no_command_tree() -> None:
    code = "import sys; from coditect_cli.main import main; main(['--version']);"
    code += "print([m for m in ('typer', 'dataclasses', 'pathlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"coditect {__version__}\n[]\n"


@pytest.mark.parametrize("args", [["version"], ["version", "-o", "json"], ["--help"]])
def test_a_full_disk_is_told(args: list[str]) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*PROGRAM, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert run.returncode == 8
    assert "No space left" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("args", [["version"], ["--help"]])
def test_a_reader_that_has_gone_ends_it_quietly(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [*PROGRAM, *args], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")


def test_closed_streams_are_no_bug() -> None:
    for redirection in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        run = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, "version", "-v"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, ""), redirection


def test_ctrl_c_in_a_real_process_ends_130(run_cli: RunCli) -> None:
    run_cli("workspace", "create", "demo")
    command = [*PROGRAM, "workspace", "wait", "demo", "--for", "stopped", "-v"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        try:
            assert waiting.stderr is not None
            assert "waiting until" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            assert waiting.stderr.read() == "error: interrupted\n"
        finally:
            waiting.kill()
    assert waiting.returncode == 130


def test_nothing_but_our_own_log_is_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    monkeypatch.setenv("CODITECT_LOG", "debug")
    streams = Streams.test()
    assert main(["version", "-o", "json"], streams) == 0
    logging.getLogger("websockets.client").debug("a token")
    logging.getLogger("coditect.x").debug("ours")
    streams.stderr.seek(0)
    assert "ours" in (text := streams.stderr.read())
    assert "a token" not in text
    monkeypatch.setenv("CODITECT_LOG", "loud")
    assert main(["version", "-v", "-o", "json"], Streams.test()) == 0
    assert main(["version", "-o", "json"], Streams.test()) == 2


INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "coditect_cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from coditect_cli.main import entry
sys.argv[1:] = ["version", "-o", "json"]
entry()
"""


def test_an_interrupt_at_the_end_is_no_traceback(home: Path) -> None:
    script = (
        "import atexit, os, signal, sys; from coditect_cli.main import entry; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); "
        "sys.argv = ['coditect', 'workspace', 'list']; entry()"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, b"")


def test_the_end_waits_for_no_thread(home: Path) -> None:
    """Nor takes anything down below one: OpenSSL has ended a command with SIGSEGV so."""
    script = (
        "import sys, threading; from coditect_cli.main import entry; "
        "threading.Thread(target=threading.Event().wait).start(); "
        "sys.argv = ['coditect', 'workspace', 'list', '-o', 'name']; entry()"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_an_interrupt_while_modules_load_is_no_traceback() -> None:
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, b"", b"")


def test_an_error_that_nobody_reads_still_has_its_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run([*PROGRAM, "nonsense"], stderr=writer, check=False)
    os.close(writer)
    assert run.returncode == 2
