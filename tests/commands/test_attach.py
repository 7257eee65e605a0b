from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import RunCli

PROGRAM = [sys.executable, "-m", "coditect_cli"]


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
