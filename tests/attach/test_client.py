from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.gateway import Gateway, running_gateway, until
from tests.support.proxy import Proxy
from tests.support.shell import hooked_shell
from tests.support.terminal import Terminal

Run = Callable[..., Terminal]


def ready(terminal: Terminal) -> None:
    """Wait for a shell that answers."""
    terminal.type(b"PS1='$ '; echo rea''dy\r")
    terminal.expect(b"ready\r\n")


def exit_of_shell(terminal: Terminal, gateway: Gateway) -> int:
    terminal.type(b"exit 7\r")
    return 7


def detach(terminal: Terminal, gateway: Gateway) -> int:
    terminal.type(b"\r~d")
    return 0


def leave(terminal: Terminal, gateway: Gateway) -> int:
    terminal.type(b"\r~.")
    return 255


def terminate(terminal: Terminal, gateway: Gateway) -> int:
    terminal.signal(signal.SIGTERM)
    return 128 + signal.SIGTERM


def hang_up(terminal: Terminal, gateway: Gateway) -> int:
    terminal.signal(signal.SIGHUP)
    return 128 + signal.SIGHUP


def interrupt(terminal: Terminal, gateway: Gateway) -> int:
    terminal.signal(signal.SIGINT)
    return 128 + signal.SIGINT


def kill_keeper(terminal: Terminal, gateway: Gateway) -> int:
    gateway.keeper.kill()
    return 255


def stop_gateway(terminal: Terminal, gateway: Gateway) -> int:
    gateway.keeper.terminate()
    return 255


@pytest.mark.parametrize(
    "way_out",
    [exit_of_shell, detach, leave, terminate, hang_up, interrupt, kill_keeper, stop_gateway],
)
def test_the_terminal_is_as_it_was_after_every_way_out(
    gateway: Gateway,
    run_in_terminal: Run,
    way_out: Callable[[Terminal, Gateway], int],
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    assert terminal.settings() != terminal.settings_before
    terminal.type(b"printf '\\033[?1049h\\033[?1000h\\033[?25l'; echo in''side\r")
    terminal.expect(b"inside\r\n")
    status = way_out(terminal, gateway)
    assert terminal.wait() == status
    assert terminal.settings() == terminal.settings_before
    for reset in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h"):
        assert reset in terminal.seen


def test_an_alternate_screen_that_is_not_there_is_not_left(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"\r~d")
    assert terminal.wait() == 0
    assert b"\x1b[?1049l" not in terminal.seen
    assert b"\x1b[?2004l" in terminal.seen


def test_an_attach_that_is_refused_leaves_the_terminal_alone(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    terminal = run_in_terminal("attach", "demo", "--session", "no-such")
    assert terminal.wait() == 3
    assert b"session no-such" in terminal.seen
    assert terminal.settings() == terminal.settings_before


def test_a_detached_session_goes_on_with_its_state(gateway: Gateway, run_in_terminal: Run) -> None:
    first = run_in_terminal("attach", "demo")
    ready(first)
    first.type(b"FOO=kept; echo se''t\r")
    first.expect(b"set\r\n")
    first.type(b"~d")
    assert first.wait() == 0
    second = run_in_terminal("attach", "demo")
    second.type(b"echo foo=$FOO.\r")
    second.expect(b"foo=kept.\r\n")


def test_a_resize_reaches_the_program(gateway: Gateway, run_in_terminal: Run) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"trap 'echo size=$(stty size).' WINCH; echo trap''ped\r")
    terminal.expect(b"trapped\r\n")
    terminal.resize(101, 33)
    terminal.type(b"\r")
    terminal.expect(b"size=33 101.")


def test_keys_reach_the_program_as_they_are(gateway: Gateway, run_in_terminal: Run) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"stty raw -echo; echo sta''rt; head -c 9 | od -An -tx1; stty sane\r")
    terminal.expect(b"start")
    terminal.type(b"\x03\x1a\x04\x11\x13\x1c~\xc3\xa9")
    terminal.expect(b"03 1a 04 11 13 1c 7e c3 a9")


def test_escape_keys_tell_about_themselves_and_the_link(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"~?")
    terminal.expect(b"~d  detach")
    terminal.type(b"~s")
    status = terminal.expect(b"bytes of input taken")
    assert gateway.sessions()[0]["session"].encode() in status
    assert b"link up" in status
    assert b"this terminal leads" in status
    terminal.type(b"~~~\r")
    terminal.expect(b"~~")


def test_without_escape_keys_they_are_typed(gateway: Gateway, run_in_terminal: Run) -> None:
    terminal = run_in_terminal("attach", "demo", "--escape-char", "none")
    ready(terminal)
    terminal.type(b"~.\r")
    terminal.expect(b"~.")
    ready(terminal)


def test_a_read_only_client_watches(gateway: Gateway, run_in_terminal: Run) -> None:
    writer = run_in_terminal("attach", "demo")
    ready(writer)
    watcher = run_in_terminal("attach", "demo", "--read-only")
    watcher.expect(b"ready")
    watcher.type(b"echo from-the-watcher\r")
    watcher.resize(30, 10)
    writer.type(b"echo size=$(stty size).\r")
    watcher.expect(b"size=24 80.")
    writer.expect(b"size=24 80.")
    watcher.type(b"\r~d")
    assert watcher.wait() == 0
    assert b"from-the-watcher" not in watcher.seen + writer.seen


def test_leaving_a_dead_network_needs_no_network(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    proxy = start_proxy()
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    proxy.go_dead()
    terminal.type(b"lost\r~.")
    assert terminal.wait() == 255
    assert b"left; the session goes on" in terminal.seen
    assert terminal.settings() == terminal.settings_before


def cut_off(start_proxy: Callable[..., Proxy], run_in_terminal: Run) -> tuple[Proxy, Terminal]:
    """A client that says that its link is lost, and who refuses it a new one."""
    proxy = start_proxy()
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    proxy.refuse()
    terminal.expect(b"the connection was lost, reconnecting, ~. leaves")
    return proxy, terminal


def test_a_lost_link_comes_back_and_what_was_typed_meanwhile_arrives(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    proxy, terminal = cut_off(start_proxy, run_in_terminal)
    terminal.type(b"echo typed-mean''while\r")
    proxy.listen_again()
    terminal.expect(b"\x1b[2K\x1b8")  # the notice goes away
    terminal.expect(b"typed-meanwhile\r\n")


def test_a_notice_is_gone_when_one_leaves(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    _, terminal = cut_off(start_proxy, run_in_terminal)
    terminal.type(b"\r~.")
    terminal.expect(b"\x1b[2K\x1b8")
    terminal.expect(b"left; the session goes on")
    assert terminal.wait() == 255


def test_a_notice_over_a_full_screen_program_is_followed_by_a_redraw(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    proxy = start_proxy()
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"printf '\\033[?1049h\\033[H'; echo the-sc''reen; read\r")
    terminal.expect(b"the-screen\r\n")
    proxy.refuse()
    terminal.expect(b"\x1b[24;1H\x1b[2K")
    terminal.expect(b"reconnecting")
    proxy.listen_again()
    terminal.expect(b"the-screen")


def test_without_reconnect_a_lost_link_is_the_end(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    proxy = start_proxy()
    terminal = run_in_terminal("attach", "demo", "--no-reconnect")
    ready(terminal)
    proxy.drop()
    assert terminal.wait() == 255
    assert b"connection to the gateway was lost" in terminal.seen


def test_output_that_is_no_longer_kept_is_counted(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run
) -> None:
    proxy = start_proxy()
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    go = gateway.paths.state / "go"
    terminal.type(b"until test -e %s; do :; done; seq 900000\r" % bytes(go))
    terminal.expect(b"\x1b[?2004l")
    proxy.hang_up(on_everybody=True)
    terminal.expect(b"reconnecting")
    other = gateway.attach("demo")
    other.send(b" ")  # takes the lead, so that the program does not wait for the lost client
    go.touch()
    other.expect(b"\n900000\r\n")
    proxy.hang_up(on_everybody=False)
    skipped = terminal.expect(b" bytes of output were skipped").split()[-6]
    assert int(skipped) > 1_000_000
    terminal.expect(b"900000")


def test_a_session_of_a_stopped_workspace_is_refused(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    gateway.workspaces.set_desired("demo", "stopped")
    terminal = run_in_terminal("attach", "demo")
    assert terminal.wait() == 6
    assert b"workspace demo is stopped" in terminal.seen


def test_who_is_attached_hears_why_the_session_was_ended(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"printf '\\033[?1049h'; echo in''side\r")
    terminal.expect(b"inside\r\n")
    [session] = gateway.request("demo", type="sessions")["items"]
    gateway.request("demo", type="kill", session=session["session"])
    assert terminal.wait() == 129
    shown = terminal.seen.rpartition(b"\x1b[?1049l")[2]
    assert b"coditect: somebody ended the session: session kill, or delete --force\r\n" in shown


def piped(gateway: Gateway, typed: bytes, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "coditect_cli", *args],
        input=typed,
        capture_output=True,
        env=gateway.environ,
        check=False,
    )


def test_piped_input_is_typed_and_its_end_ends_the_shell(gateway: Gateway) -> None:
    done = piped(gateway, b"echo $((40+2))\nfalse\n", "attach", "demo")
    assert b"42\r\n" in done.stdout
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_end_of_piped_input_ends_a_program_and_then_the_shell(gateway: Gateway) -> None:
    done = piped(gateway, b"cat >file\nno line end", "attach", "demo")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (gateway.workspaces.get("demo").root / "file").read_bytes() == b"no line end"


def test_a_large_piped_output_is_whole(gateway: Gateway) -> None:
    done = piped(gateway, b"stty -onlcr; seq 300000\n", "attach", "demo")
    lines = done.stdout.split(b"\n")
    start = lines.index(b"2")
    assert lines[start : start + 299_999] == [b"%d" % n for n in range(2, 300_001)]


def test_a_killed_bridge_is_not_noticed(gateway: Gateway, run_in_terminal: Run) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"echo $$ >pid; read line; echo got=$line.\r")
    file = gateway.workspaces.get("demo").root / "pid"
    pid = until(lambda: file.exists() and file.read_text().strip(), "the pid")
    gateway.kill_bridge()
    terminal.type(b"typed\r")
    terminal.expect(b"got=typed.\r\n")
    assert psutil.pid_exists(int(pid))


def test_output_that_nobody_reads_ends_it(gateway: Gateway) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "coditect_cli", "attach", "demo"],
        stdin=subprocess.PIPE,
        stdout=writer,
        env=gateway.environ,
    ) as client:
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        assert client.stdin is not None
        client.stdin.write(b"seq 100000\n")
        client.stdin.flush()
        assert client.wait() == 128 + signal.SIGPIPE


def test_a_client_goes_on_in_the_restored_session(
    gateway: Gateway, start_proxy: Callable[..., Proxy], run_in_terminal: Run, tmp_path: Path
) -> None:
    shell = hooked_shell(tmp_path)
    proxy = start_proxy()
    gateway.environ["CODITECT_SHELL"] = str(shell)
    gateway.keeper.terminate()
    gateway.keeper.wait()
    with running_gateway(tmp_path / "home", shell=shell) as first:
        first.user = gateway.user
        terminal = run_in_terminal("attach", "demo")
        terminal.expect(b"$ ")
        terminal.type(b"export WHERE=first; echo d''one\r")
        terminal.expect(b"done\r\n")
        client = first.attach(read_only=True)
        client.detach()  # which saves
        proxy.hang_up(on_everybody=True)
        terminal.expect(b"reconnecting")
        first.keeper.terminate()
        first.keeper.wait()
    with running_gateway(tmp_path / "home", shell=shell):
        terminal.type(b"typed in vain")
        proxy.hang_up(on_everybody=False)
        terminal.expect(b"did not survive")
        terminal.expect(b"$ ")
        terminal.type(b"echo $WHERE\r")
        terminal.expect(b"echo $WHERE\r\n")
        terminal.expect(b"first\r\n")
        terminal.type(b"exit 5\r")
        assert terminal.wait() == 5


def test_a_terminals_answer_is_no_key_that_takes_the_clients_words_away(
    run_in_terminal: Run,
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    terminal.type(b"printf '\\033[?1049h'; cat\r")
    terminal.expect(b"\x1b[?1049h")
    terminal.type(b"~s")
    terminal.expect(b"Any key takes this away.")
    terminal.type(b"\x1b[I")
    terminal.expect(b"^[[I")


def test_a_session_is_not_attached_to_its_own_terminal(
    gateway: Gateway, run_in_terminal: Run
) -> None:
    terminal = run_in_terminal("attach", "demo")
    ready(terminal)
    home, token = gateway.environ["CODITECT_HOME"], gateway.token("demo")
    terminal.type(f"export CODITECT_HOME={home} CODITECT_TOKEN={token}\r".encode())
    terminal.type(f"{sys.executable} -m coditect_cli attach demo; echo en''ded $?\r".encode())
    assert b"this terminal is in the session" in terminal.expect(b"ended 6")
    assert [one["clients"] for one in gateway.sessions()] == [1]
