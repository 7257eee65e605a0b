"""Sessions that come back from the store, after keeper and bridge were killed together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionState
from tests.support.gateway import Gateway, until
from tests.support.records import kill_everything, recorded, state_when, store_of, type_lines
from tests.support.shell import hooked_shell


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_directory_variables_history_and_screen_come_back(
    start: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    shell = hooked_shell(tmp_path, name)
    gateway = start(shell=shell)
    client = gateway.attach()
    type_lines(client, "export FOO='bar  baz'", "export GONE=1", "cd /usr/share", "unset GONE")
    type_lines(client, "export GH_TOKEN=hunter2", " export QUIET=1", "echo on the screen")
    state = state_when(
        gateway,
        client.session,
        lambda state, output: (
            any("on the screen" in line for line in output.lines)
            and "on the screen" in "".join(state.command_history[-1:])
        ),
    )
    assert state.working_directory == "/usr/share"
    assert state.environment_vars["FOO"] == "bar  baz"
    assert "GONE" not in state.environment_vars
    assert "GH_TOKEN" not in state.environment_vars
    assert "hunter2" not in str(state.command_history)
    assert not [line for line in state.command_history if line.startswith(" ")]
    kill_everything(gateway)

    again = start(shell=shell)
    client = again.attach()
    assert client.session == state.id
    client.expect(b"on the screen\x1b[m\r\n" if name == "bash" else b"on the screen")
    client.expect(b"restored: processes did not survive")
    assert client.run('echo "$FOO,$PWD,${GONE-unset},${GH_TOKEN-unset}"') == (
        b"bar  baz,/usr/share,unset,unset\r\n"
    )
    client.send(b"\x1b[A\x1b[A\r")  # the line before the one that was just run
    client.expect(b"on the screen\r\n")


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_what_start_up_files_export_does_not_undo_what_was_unset_or_changed(
    start: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    rc = "PS1='$ '\nexport GOES=1 COMES_BACK=1 CHANGES=1 RC_TOKEN=1\n"
    shell = hooked_shell(tmp_path, name, rc)
    gateway = start(shell=shell)
    client = gateway.attach()
    type_lines(client, "unset GOES COMES_BACK RC_TOKEN", "export CHANGES=2")
    state = state_when(
        gateway, client.session, lambda state, _: state.environment_vars.get("CHANGES") == "2"
    )
    assert state.variables_unset == ["COMES_BACK", "GOES", "RC_TOKEN"]
    gateway.kill_bridge()
    type_lines(client := gateway.attach(), "export COMES_BACK=3")
    for _ in range(2):  # restored, and restored again
        state_when(
            gateway, client.session, lambda state, _: state.variables_unset == ["GOES", "RC_TOKEN"]
        )
        kill_everything(gateway)
        gateway = start(shell=shell)
        client = gateway.attach()
        client.expect(b"restored: processes did not survive")
        assert client.run('echo "${GOES-unset},$COMES_BACK,$CHANGES,${RC_TOKEN-unset}"') == (
            b"unset,3,2,unset\r\n"
        )


def test_a_restored_shell_has_its_own_locale(
    start: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_TIME", "TZ"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    client = gateway.attach()
    type_lines(client, "export DONE=1")
    state_when(gateway, client.session, lambda state, _: "DONE" in state.environment_vars)
    kill_everything(gateway)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    gateway = start(shell=shell)
    assert gateway.attach().run('echo "$LC_TIME,${LC_ALL-unset},${TZ-unset}"') == (
        b"C.UTF-8,unset,unset\r\n"
    )
    assert gateway.attach(session="new").run("echo $LC_ALL,$TZ") == b"C,Asia/Tokyo\r\n"


def test_a_stopped_gateway_has_saved_everything(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    clients = [gateway.attach(session="new") for _ in range(5)]
    for number, client in enumerate(clients):
        client.run(f"export N={number}; cd /usr")
        client.run("true")  # by then the prompt before it has told of the line above
    gateway.keeper.terminate()
    gateway.keeper.wait()
    for number, client in enumerate(clients):
        state, output = recorded(gateway, client.session)
        assert state is not None
        assert output is not None
        assert f"N={number}" in state.command_history[0]
        assert state.ended_at == 0
    again = start(shell=shell)
    assert again.attach(session=clients[3].session).run("echo $N $PWD")[-8:] == b"3 /usr\r\n"


def test_two_clients_that_mean_the_same_saved_session_get_the_same(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    first = gateway.attach()
    first.run("true")
    state_when(gateway, first.session, lambda state, _: bool(state.command_history))
    kill_everything(gateway)
    again = start(shell=gateway.environ["CODITECT_SHELL"])
    connections = [again.connect() for _ in range(3)]
    for client in connections:
        message = {"type": "attach", "client": os.urandom(16).hex(), "session": None}
        message |= {"resume": None, "cols": 80, "rows": 24, "term": "xterm", "readOnly": False}
        client.send(message)
    assert {client.message("attached")["session"] for client in connections} == {first.session}


def test_one_whose_id_lives_in_another_workspace_is_not_taken(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    store = store_of(gateway)
    layer = SessionLayer(store)
    for workspace in ("demo", "other"):
        layer.save(SessionState("s1", workspace, 0, 0, "bash", "/", {"IN": workspace}, []))
    first = gateway.attach(session="s1")
    other = gateway.attach("other")
    other.expect(b"[session s1 is not restored: a session of another workspace is live by the id")
    assert other.session != "s1"
    first.send(b"exit\n")
    first.exit()
    until(lambda: not [one for one in gateway.sessions() if one["session"] == "s1"], "its end")
    assert gateway.attach("other", session="s1").run("echo $IN") == b"other\r\n"
    store.close()


@pytest.mark.parametrize("id", ["victim", "a/b"])
def test_a_record_with_another_ones_id_becomes_no_session(
    start: Callable[..., Gateway], tmp_path: Path, id: str
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    with closing(store_of(gateway)) as store:
        value = SessionState(id, "demo", 0, 0, "bash", "/", {}, []).encode()
        store.transact(lambda one: one.set(b"demo/terminal_sessions/s1", value))
    client = gateway.connect()
    message = {"type": "attach", "client": os.urandom(16).hex(), "session": "s1", "resume": None}
    client.send(message | {"cols": 80, "rows": 24, "term": "xterm", "readOnly": False})
    assert client.message()["code"] == "session.unreadable"
    assert gateway.sessions() == []


def test_a_session_that_cannot_be_taken_is_passed_over(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    sessions = []
    for number in range(6):
        client = gateway.attach(session="new")
        client.run(f"N={number}")
        client.detach()
        state_when(gateway, client.session, lambda state, _: bool(state.command_history))
        sessions.append(client.session)
    kill_everything(gateway)
    store = store_of(gateway)
    layer = SessionLayer(store)
    broken = [f"demo/terminal_output/{id}" for id in sessions[3:]]
    broken.append(f"_coditect/leases/demo/{sessions[2]}")
    store.transact(lambda transaction: [transaction.set(key.encode(), b"[") for key in broken])
    layer.acquire("demo", sessions[1], "elsewhere#1", now=1 << 62, ttl=1)
    again = start(shell=gateway.environ["CODITECT_SHELL"])
    client = again.attach()
    assert client.session == sessions[0]
    notice = client.expect(b"; and 2 more]").decode()
    named = re.findall("session ([0-9a-f-]{36}) is not restored: ", notice)
    assert named == [sessions[5], sessions[4], sessions[3]]
    layer.delete("demo", sessions[0])
    store.close()
    again.stop()
    assert start(shell=gateway.environ["CODITECT_SHELL"]).attach().session not in sessions


def test_a_place_that_only_looks_the_same_takes_no_live_session(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    """As where a pod of one name, with one store, is in two clusters."""
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.run("true")
    state_when(gateway, client.session, lambda state, _: bool(state.command_history))
    (tmp_path / "home").rename(tmp_path / "away")
    (tmp_path / "home" / "state").mkdir(mode=0o700, parents=True)
    if (stored := tmp_path / "away" / "state" / "sessions.db").exists():
        gateway.paths.session_store.symlink_to(stored)
    shell = gateway.environ["CODITECT_SHELL"].replace("/home/", "/away/")
    assert start(shell=shell).attach().session != client.session
    assert client.run("echo mine") == b"mine\r\n"


def test_a_shell_without_a_hook_has_its_screen_and_directory(
    start: Callable[..., Gateway],
) -> None:
    gateway = start(shell="/bin/sh")  # noqa: S604 - a setting
    client = gateway.attach()
    client.run("cd /usr; echo seen")
    client.detach()
    state = state_when(gateway, client.session, lambda state, _: state.working_directory == "/usr")
    assert state.shell_type == "sh"
    kill_everything(gateway)
    again = start(shell="/bin/sh").attach()  # noqa: S604 - a setting
    again.expect(b"seen")
    again.expect(b"restored")
    assert again.run("pwd") == b"/usr\r\n"


def test_counts_of_what_was_dropped_are_kept(start: Callable[..., Gateway], tmp_path: Path) -> None:
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    client = gateway.attach()
    client.run("export FOO=1")
    state = state_when(gateway, client.session, lambda state, _: bool(state.environment_vars))
    output = recorded(gateway, client.session)[1]
    assert output is not None
    kill_everything(gateway)
    with closing(store_of(gateway)) as store:
        SessionLayer(store).save(
            replace(state, variables_trimmed=9, history_trimmed=7),
            replace(output, lines=[f"line {n}" for n in range(50)], lines_trimmed=155),
        )
    gateway = start(shell=shell)
    client = gateway.attach()
    for command in ("seq 1100", "seq 10"):  # in the bridge that restored it, and in the next one
        client.run(command)
        state = state_when(
            gateway, client.session, lambda state, _, c=command: c in state.command_history[-1]
        )
        output = recorded(gateway, client.session)[1]
        assert output is not None
        assert (state.variables_trimmed, state.history_trimmed) == (9, 7)
        assert len(output.lines) <= 1024
        assert output.lines_trimmed + len(output.lines) > 155 + 50 + 1100
        assert output.lines_trimmed < 155 + 50 + 1100
        gateway.kill_bridge()
        client = gateway.attach()


def test_what_a_full_screen_program_hides_comes_back(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    client = gateway.attach()
    client.run("echo above; printf '\\e[?1049h\\e[2Jinside'")
    state_when(
        gateway,
        client.session,
        lambda state, output: (
            "inside" in str(state.command_history) and "above" in output.lines[-24:]
        ),
    )
    kill_everything(gateway)
    client = start(shell=shell).attach()
    shown = client.expect(b"restored: processes did not survive")
    assert b"above\x1b[m\r\n" in shown
    assert b"\ninside" not in shown


def test_a_session_comes_back_with_its_own_shell(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell="/bin/sh")  # noqa: S604 - a setting
    client = gateway.attach()
    client.run("cd /usr")
    state = state_when(gateway, client.session, lambda state, _: state.working_directory == "/usr")
    kill_everything(gateway)
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    assert b"not installed" not in client.expect(b"restored: processes did not survive")
    assert client.run('echo "$0"') == b"-sh\r\n"
    kill_everything(gateway)
    with closing(store_of(gateway)) as store:
        SessionLayer(store).save(replace(state, shell_type="nosuchsh"))
    gateway = start(shell=gateway.environ["CODITECT_SHELL"])
    gateway.attach().expect(b"its shell nosuchsh is not installed, this is bash")
    for place in ("/etc", "/usr/share"):  # in the bridge that restored it, and in the next one
        client = gateway.attach()
        client.run(f"cd {place}")
        state = state_when(
            gateway, client.session, lambda state, _, place=place: state.working_directory == place
        )
        assert state.shell_type == "nosuchsh"
        gateway.kill_bridge()
        until(gateway.bridge_pid, "another bridge")
    kill_everything(gateway)
    again = tmp_path / "nosuchsh"
    again.write_text("#!/bin/sh\nexec /bin/sh\n")
    again.chmod(0o755)
    client = start(shell=again).attach()
    assert b"not installed" not in client.expect(b"restored: processes did not survive")
    assert client.run("pwd") == b"/usr/share\r\n"


def test_a_directory_that_is_gone_is_said(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    gone = tmp_path / "gone"
    client.run(f"mkdir {gone}; cd {gone}")
    state_when(gateway, client.session, lambda state, _: state.working_directory == str(gone))
    kill_everything(gateway)
    gone.rmdir()
    client = start(shell=gateway.environ["CODITECT_SHELL"]).attach()
    client.expect(b"/gone is gone")
    assert client.run("pwd") == f"{tmp_path}\r\n".encode()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_sessions_come_back(start: Callable[..., Gateway], tmp_path: Path) -> None:
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    clients = []
    for number in range(100):
        client = gateway.attach(session="new")
        client.run(f"export N={number}; cd /usr/share; echo shown {number}")
        client.detach()
        clients.append(client)
    for number, client in enumerate(clients):
        state_when(gateway, client.session, lambda state, _, n=number: f"N={n};" in str(state))
    kill_everything(gateway)
    again = start(shell=shell)
    for number, client in enumerate(clients):
        back = again.attach(session=client.session)
        back.expect(b"restored: processes did not survive")
        assert back.run("echo $N $PWD") == f"{number} /usr/share\r\n".encode()
        back.detach()
