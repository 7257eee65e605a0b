from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli.attach.exec import PipesPump
from coditect_cli.attach.exec import run as run_pipes
from coditect_cli.attach.link import Link
from coditect_cli.attach.sink import Sink
from coditect_cli.errors import CoditectError, Interrupted
from coditect_cli.protocol.messages import Exec
from coditect_cli.protocol.stream import Inbox
from coditect_cli.tokens import local_user
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.proxy import Proxy
from tests.support.terminal import Terminal


def argv(*args: str) -> list[str]:
    return [sys.executable, "-m", "coditect_cli", "exec", *args]


def linked(gateway: Gateway) -> Link:
    return Link.open(f"ws+unix:{gateway.socket}", "demo", gateway.token("demo"))


def run(gateway: Gateway, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("input", b"")
    return subprocess.run(
        argv(*args), capture_output=True, env=gateway.environ, check=False, **options
    )


def test_stdout_stderr_and_status_are_the_programs_own(gateway: Gateway) -> None:
    done = run(gateway, "demo", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_death_by_a_signal_is_128_and_its_number(gateway: Gateway) -> None:
    assert run(gateway, "demo", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_a_command_that_is_not_there_is_127(gateway: Gateway) -> None:
    done = run(gateway, "demo", "--", "no-such-command")
    assert done.returncode == 127
    assert b"no-such-command" in done.stderr


@pytest.mark.skipif(os.path.isdir("/workspace"), reason="this machine has one of its own")
def test_the_workspace_may_be_called_as_in_production(gateway: Gateway) -> None:
    run(gateway, "demo", "--", "mkdir", "src")
    done = run(gateway, "--workdir", "/workspace/src", "demo", "--", "pwd")
    assert done.returncode == 0
    assert done.stdout.endswith(b"/src\n")


def test_an_empty_folder_is_told_in_the_options_name(gateway: Gateway) -> None:
    done = run(gateway, "--workdir", "", "demo", "--", "pwd")
    assert done.returncode == 2
    assert b"--workdir is empty" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["/etc"], 126, "/etc is a folder"),
        (["/etc/passwd"], 126, "/etc/passwd is not executable"),
        (["/dev/null"], 126, "/dev/null is not executable"),
        (["/etc/passwd/x"], 126, "/etc/passwd/x: Not a directory"),
        (["/" + "x" * 300], 126, "File name too long"),
        (["./none"], 127, "./none does not exist"),
        (["echo", "x" * 131_072], 126, "Argument list too long"),
    ],
)
def test_what_cannot_be_run_ends_as_in_bash(
    gateway: Gateway, words: list[str], status: int, why: str
) -> None:
    asked = Exec("0" * 32, tuple(words), {}, None, False, None, None)
    with pytest.raises(CoditectError) as caught:
        run_pipes(lambda: linked(gateway), lambda *_: asked, None, Sink(1), Sink(2))
    assert caught.value.exit_code == status
    assert why in caught.value.message


def test_a_command_that_is_no_message_is_refused(gateway: Gateway) -> None:
    done = run(gateway, "demo", "--", "touch", "made", *["x" * 100_000] * 12)
    assert done.returncode == 7
    assert b"larger than a message to the gateway may be" in done.stderr


def test_the_end_of_stdin_half_closes(gateway: Gateway) -> None:
    done = run(gateway, "demo", "--", "sh", "-c", "wc -c; echo after", input=b"x" * 100_000)
    assert done.stdout.split() == [b"100000", b"after"]


def test_stdin_from_a_file(gateway: Gateway, tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"y" * 300_000)
    with file.open() as stdin:
        done = run(gateway, "demo", "--", "wc", "-c", input=None, stdin=stdin)
    assert done.stdout.strip() == b"300000"


def test_variables_and_the_folder_are_as_asked(gateway: Gateway) -> None:
    done = run(
        gateway, "--env", "A=b c", "--workdir", "/", "demo", "--", "sh", "-c", 'echo "$A"; pwd'
    )
    assert done.stdout == b"b c\n/\n"


def test_there_is_no_terminal_without_t(gateway: Gateway) -> None:
    script = "for fd in 0 1 2; do test -t $fd && echo terminal; done; true"
    assert run(gateway, "demo", "--", "sh", "-c", script).stdout == b""


def test_stdin_that_is_a_terminal_stays_ours_without_i(
    gateway: Gateway, run_in_terminal: Callable[..., Terminal]
) -> None:
    terminal = run_in_terminal("exec", "demo", "--", "cat")
    assert terminal.wait() == 0
    assert terminal.settings() == terminal.settings_before


def test_t_gives_a_terminal_with_the_size_of_ours(
    gateway: Gateway, run_in_terminal: Callable[..., Terminal]
) -> None:
    terminal = run_in_terminal("exec", "-it", "demo", "--", "sh", "-c", "stty size; exit 3")
    terminal.expect(b"24 80\r\n")
    assert terminal.wait() == 3
    assert terminal.settings() == terminal.settings_before


def test_leaving_a_program_on_a_terminal_hangs_it_up(
    gateway: Gateway, run_in_terminal: Callable[..., Terminal]
) -> None:
    terminal = run_in_terminal("exec", "-t", "demo", "--", "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(terminal.expect(b"\r\n"))
    terminal.type(b"~.")
    said = terminal.expect(b"hung up")
    assert b"attach" not in said
    assert terminal.wait() == 255
    until(lambda: not psutil.pid_exists(pid), "the end of the program")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_on_a_terminal_ends_with_its_client(
    gateway: Gateway, run_in_terminal: Callable[..., Terminal], number: signal.Signals
) -> None:
    script = "trap '' HUP; echo $$; while :; do sleep 0.1; done"
    terminal = run_in_terminal("exec", "-t", "demo", "--", "sh", "-c", script)
    pid = int(terminal.expect(b"\r\n"))
    terminal.process.send_signal(number)
    assert terminal.wait() == 128 + number
    until(lambda: not psutil.pid_exists(pid), "the end of the program")


@pytest.fixture
def sleeper(gateway: Gateway) -> Any:
    """A running exec that says which signal it got."""
    script = "trap 'echo got INT' INT; trap 'echo got TERM; exit 5' TERM; echo ready; "
    script += "while :; do sleep 0.05; done"
    with subprocess.Popen(
        argv("demo", "--", "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        yield client
        if client.poll() is None:
            client.kill()


def test_signals_are_passed_on(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.stdout is not None
    sleeper.send_signal(signal.SIGINT)
    assert sleeper.stdout.readline() == b"got INT\n"
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.stdout.readline() == b"got TERM\n"
    assert sleeper.wait() == 5


def test_a_second_interrupt_leaves_at_once(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.stdout is not None
    sleeper.send_signal(signal.SIGINT)
    assert sleeper.stdout.readline() == b"got INT\n"
    sleeper.send_signal(signal.SIGINT)
    assert sleeper.wait() == 130


@contextmanager
def started(gateway: Gateway, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running exec of a shell's script."""
    with subprocess.Popen(
        argv("demo", "--", "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        try:
            yield client
        finally:
            client.kill()


@pytest.mark.parametrize("name", ["QUIT", "USR1", "USR2"])
def test_other_signals_are_passed_on_too(gateway: Gateway, name: str) -> None:
    script = f"trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    with started(gateway, script) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.Signals["SIG" + name])
        assert client.communicate()[0] == b"got\n"
        assert client.returncode == 5


def left_behind(client: subprocess.Popen[bytes]) -> psutil.Process:
    """What a program left that printed its id and its own, once that has ended."""
    assert client.stdout is not None
    left, program = map(int, client.stdout.readline().split())
    until(lambda: not psutil.pid_exists(program), "the end of the program")
    return psutil.Process(left)


def test_what_a_program_left_behind_gets_the_signal(gateway: Gateway) -> None:
    with started(gateway, "sleep 300 & echo $! $$; exit 3") as client:
        left = left_behind(client)
        client.send_signal(signal.SIGTERM)
        assert client.wait() == 3
        until(lambda: not left.is_running(), "the end of what was left")


def test_a_second_sigterm_does_not_wait_for_what_ignores_it(gateway: Gateway) -> None:
    script = "(trap '' TERM; exec sh -c 'echo $$ '$$'; exec sleep 300') & exit 3"
    with started(gateway, script) as client:
        left = left_behind(client)

        def ended() -> bool:  # two of a kind that come at once are one
            client.send_signal(signal.SIGTERM)
            return client.poll() is not None

        until(ended, "the end of the client")
        assert client.returncode in (143, -signal.SIGTERM)  # a third may come on its way out
        until(lambda: not left.is_running(), "the end of what was left")


@pytest.mark.parametrize("left_behind", [False, True])
def test_what_ignores_sigterm_is_left_after_a_while_and_ended(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, left_behind: bool
) -> None:
    monkeypatch.setattr("coditect_cli.attach.exec.GRACE", 0.1)

    class Asking(Sink):
        pid = 0

        def write(self, data: bytes, inbox: Inbox | None = None) -> None:
            super().write(data, inbox)
            self.pid = int(data)
            os.kill(os.getpid(), signal.SIGTERM)

    waiting = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done'"
    script = f"{waiting} & exit 3" if left_behind else waiting
    sink = Asking(1)

    def ask(client: str, resume: dict[str, int] | None) -> Exec:
        return Exec(client, ("sh", "-c", script), {}, None, False, None, resume)

    with pytest.raises(Interrupted, match="did not end, and is ended by the gateway") as caught:
        run_pipes(lambda: linked(gateway), ask, None, sink, Sink(2))
    assert caught.value.exit_code == 143
    until(lambda: not psutil.pid_exists(sink.pid), "the end of the program")


def test_an_exec_is_live_while_something_of_it_holds_its_pipes(gateway: Gateway) -> None:
    with started(gateway, "sleep 300 & echo $$; exit 3") as client:
        assert client.stdout is not None
        first = int(client.stdout.readline())
        until(lambda: not psutil.pid_exists(first), "the end of the first process")
        assert [one["pid"] for one in gateway.sessions()] == [first]
        assert gateway.status()["sessions"] == 1
        asked = {"type": "gateway", "action": "stop", "force": False}
        assert gateway.request("_gateway", **asked)["code"] == "gateway.in_use"
        assert gateway.request("demo", type="stop", force=True)["sessions"] == 1
        assert client.wait() == 3


def test_what_a_lost_client_left_behind_is_ended(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "home", exec_linger="10ms") as gateway:
        gateway.user = local_user()
        gateway.workspace("demo")
        with started(gateway, "sleep 300 & echo $! $$; exit 3") as client:
            left = left_behind(client)
            client.kill()
        until(lambda: not left.is_running(), "the end of what was left")


def test_bytes_that_are_no_text_are_refused(gateway: Gateway) -> None:
    for words in (["demo", "--", "echo", b"\xff"], ["--env", b"A=\xff", "demo", "--", "true"]):
        done = run(gateway, *words)
        assert done.returncode == 2
        assert b"not UTF-8" in done.stderr


def test_there_may_be_as_many_arguments_as_xargs_gives(gateway: Gateway) -> None:
    words = [str(number) for number in range(20_000)]
    assert run(gateway, "demo", "--", "echo", *words).stdout.split() == [w.encode() for w in words]


def test_output_that_nobody_reads_hangs_the_program_up(gateway: Gateway) -> None:
    with subprocess.Popen(
        argv("demo", "--", "yes"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()
        client.stdout.close()
        assert client.wait() == 128 + signal.SIGPIPE
    until(lambda: not gateway.sessions(), "the program's end")


def test_a_gateway_that_is_killed_is_never_a_success(gateway: Gateway) -> None:
    with subprocess.Popen(
        argv("demo", "--", "sh", "-c", "echo ready; cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        gateway.keeper.kill()
        assert client.wait() == 255


def test_a_lost_link_is_taken_up_again(gateway: Gateway, start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    with subprocess.Popen(
        argv("demo", "--", "sh", "-c", "echo ready; wc -c; exit 4"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.stdin.write(b"z" * 1000)
        client.stdin.flush()
        proxy.drop()
        client.stdin.write(b"z" * 1000)
        client.stdin.close()
        assert client.stdout.read().strip() == b"2000"
        assert client.wait() == 4
    assert proxy.connections == 2


def test_a_killed_bridge_is_not_noticed(gateway: Gateway) -> None:
    with subprocess.Popen(
        argv("demo", "--", "cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for number in range(5):
            line = b"line %d\n" % number
            client.stdin.write(line)
            client.stdin.flush()
            assert client.stdout.readline() == line
            gateway.kill_bridge()
        client.stdin.close()
        assert client.stdout.read() == b""
        assert client.wait() == 0


def test_the_shared_descriptors_stay_blocking(gateway: Gateway) -> None:
    reader, writer = os.pipe()
    subprocess.run(
        argv("demo", "--", "echo", "hello"),
        stdin=reader,
        stdout=writer,
        stderr=subprocess.DEVNULL,
        env=gateway.environ,
        check=True,
    )
    assert os.get_blocking(reader)
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_an_interrupt_while_the_link_is_down_arrives_later(
    gateway: Gateway, start_proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start_proxy()
    taken = threading.Event()
    on_signal = PipesPump.on_signal

    def note(pump: PipesPump, number: int) -> None:
        on_signal(pump, number)
        taken.set()

    monkeypatch.setattr(PipesPump, "on_signal", note)

    def dial() -> Link:
        if proxy.connections:
            os.kill(os.getpid(), signal.SIGINT)
            assert taken.wait(30)
        return Link.open(proxy.url, "demo", gateway.token("demo"))

    class Dropping(Sink):
        def write(self, data: bytes, inbox: Inbox | None = None) -> None:
            super().write(data, inbox)
            proxy.drop()

    script = "trap 'exit 5' INT; echo ready; for i in $(seq 600); do sleep 0.05; done"

    def ask(client: str, resume: dict[str, int] | None) -> Exec:
        return Exec(client, ("sh", "-c", script), {}, None, False, None, resume)

    assert run_pipes(dial, ask, None, Dropping(1), Sink(2)) == 5
    assert proxy.connections == 2
