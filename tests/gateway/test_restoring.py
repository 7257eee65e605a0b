"""Sessions that come back from the store, after keeper and bridge were killed together."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli import config
from coditect_cli.gateway.saved import Saved, saved_screen
from coditect_cli.gateway.screen import Screen
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.leases import Lease
from coditect_cli.sessions.session import SessionOutput, SessionState
from coditect_cli.stores.foundationdb import FoundationDBStore
from coditect_cli.stores.store import END, SessionStore, open_store
from tests.support.fdbserver import FDBServer, running_fdbserver
from tests.support.gateway import Client, Gateway, until
from tests.support.shell import hooked_shell
from tests.support.stores import empty


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FDBServer]:
    with running_fdbserver(tmp_path_factory.mktemp("fdb") / "server") as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("foundationdb", marks=pytest.mark.foundationdb)])
def store_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Name an empty store of each kind."""
    if request.param == "sqlite":
        return {}
    cluster_file = str(request.getfixturevalue("server").cluster_file)
    empty(FoundationDBStore(cluster_file), b"", END)
    return {"store": "foundationdb", "fdb_cluster_file": cluster_file}


@pytest.fixture
def start(tmp_path: Path, store_settings: dict[str, str]) -> Iterator[Callable[..., Gateway]]:
    with ExitStack() as stack:

        def begin(**settings: Any) -> Gateway:
            gateway = Gateway(tmp_path / "home", **store_settings, **settings)
            stack.callback(gateway.stop)
            return gateway

        yield begin


def kill_everything(gateway: Gateway) -> None:
    """kill -9 keeper and bridge, and wait until the shells have followed them."""
    keeper = psutil.Process(gateway.keeper.pid)
    everyone = keeper.children(recursive=True)
    for pid in (gateway.keeper.pid, gateway.bridge_pid()):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    gateway.keeper.wait()
    _, left = psutil.wait_procs(everyone, timeout=30)
    assert not left


def recorded(gateway: Gateway, id: str) -> tuple[SessionState | None, SessionOutput | None]:
    with closing(store_of(gateway)) as store:
        return SessionLayer(store).load("demo", id)


def store_of(gateway: Gateway) -> SessionStore:
    settings = config.load(gateway.paths, gateway.environ).settings
    return open_store(settings, gateway.paths)


def state_when(
    gateway: Gateway, id: str, condition: Callable[[SessionState, SessionOutput], bool]
) -> SessionState:
    def look() -> SessionState | None:
        state, output = recorded(gateway, id)
        return state if state and output and condition(state, output) else None

    found: SessionState = until(look, "the record")
    return found


def type_lines(client: Client, *lines: str) -> None:
    for line in lines:
        client.run(line)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_directory_variables_history_and_screen_come_back(
    start: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    if not Path("/bin", name).exists():
        pytest.skip(f"needs {name}: apt install {name}")
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


def test_a_record_does_nothing_to_a_terminal_but_draw() -> None:
    lines = ["\x1b[31mred", "a\x1b]2;title\x07", "query\x1b[5n\x1b[c", "\x1b[?1049h\x9b5n\r\n"]
    state = SessionState("s1", "demo", 1, 1, "bash", "/gone\x1b[c")
    output = SessionOutput("s1", lines, (0, 0), (80, 24))
    saved = Saved(state, output, Lease("demo", "s1", "me", 1, 1))
    drawn = saved_screen(saved, "/", "bash").decode()
    assert re.sub(r"\x1b\[\d*m|\r\n|[ -~]", "", drawn) == ""
    assert "a\\x1b]2;title\\x07" in drawn


def test_the_notice_is_one_line_of_a_usual_terminal() -> None:
    state = SessionState("s1", "demo", 1, 1, "bash", "/")
    drawn = saved_screen(Saved(state, None, Lease("demo", "s1", "me", 1, 1)), "/", "bash").decode()
    shown = re.sub(r"\x1b\[\d*m", "", drawn)
    assert shown == "[restored: processes did not survive; state of 1970-01-01 00:00:00 UTC]\r\n"
    assert len(shown) < 80


@pytest.mark.parametrize("cols", [40, 80, 120])
def test_a_screen_has_the_newest_notice_alone(cols: int) -> None:
    state = SessionState("s1", "demo", 1, 1, "bash", "/gone")
    earlier = (
        "[restored: its processes did not survive; this is its state of 2026-01-01 00:00:00 UTC]"
    )
    rows = [earlier[start : start + cols] for start in range(0, len(earlier), cols)]
    lines = ["$ one", "\x1b[2mdim]\x1b[m", *(f"\x1b[2m{row}\x1b[m" for row in rows)]
    for _ in range(3):
        screen = Screen(cols, 10)
        output = SessionOutput("s1", lines, (0, 0), (cols, 10))
        screen.feed(
            saved_screen(Saved(state, output, Lease("demo", "s1", "me", 1, 1)), "/", "bash")
        )
        screen.feed(b"$ two\r\n\x1b[2mdim\x1b[m")
        lines, _ = screen.primary()
    shown = "".join(re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines)
    assert shown.count("did not survive") == shown.count("/gone is gone") == 1
    assert (shown.count("$ one"), shown.count("dim]"), shown.count("$ two")) == (1, 1, 3)
    assert shown.index("did not survive") > shown.index("$ two")


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_what_start_up_files_export_does_not_undo_what_was_unset_or_changed(
    start: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    if not Path("/bin", name).exists():
        pytest.skip(f"needs {name}: apt install {name}")
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


def test_a_shell_that_exits_is_recorded_and_not_restored(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    type_lines(client, "cd /usr")
    client.send(b"exit 3\n")
    assert client.exit()["status"] == 3
    state = state_when(gateway, client.session, lambda state, output: state.ended_at > 0)
    assert state.working_directory == "/usr"
    other = gateway.attach()
    assert other.session != client.session
    back = gateway.attach(session=client.session)
    back.expect(b"restored")
    assert back.run("pwd") == b"/usr\r\n"
    gateway.stop()  # which writes what is left
    assert "not_saved" not in gateway.log.read_text()


def test_a_session_that_is_deleted_as_it_ends_stays_deleted(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.send(b"exit\n")
    client.message("exit")
    state_when(gateway, client.session, lambda state, _: state.ended_at > 0)
    with closing(store_of(gateway)) as store:
        until(lambda: not [*SessionLayer(store).held("demo", 0)], "the lease's end")
        assert SessionLayer(store).delete("demo", client.session)
        client.send({"type": "done"})  # it is saved for the last time
        client.closed()
        gateway.stop()
        everything = store.read(lambda snapshot: snapshot.range(b"", END))
    assert everything == []


def test_a_bridge_that_dies_alone_forgets_nothing(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    type_lines(client, "echo one", "export FOO=1", "echo two")
    state_when(gateway, client.session, lambda state, _: len(state.command_history) >= 3)
    gateway.kill_bridge()
    until(gateway.bridge_pid, "another bridge")
    client = gateway.attach(session=client.session)
    type_lines(client, "echo three")
    state = state_when(gateway, client.session, lambda state, _: "three" in str(state))
    spoken = [line.split("; ")[1] for line in state.command_history]
    assert spoken == ["echo one", "export FOO=1", "echo two", "echo three"]
    assert state.environment_vars["FOO"] == "1"


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


def test_a_gateway_that_says_farewell_gives_its_leases_back(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    session = gateway.attach().session
    state_when(gateway, session, lambda state, _: True)
    gateway.stop()
    store = store_of(gateway)
    assert SessionLayer(store).acquire("demo", session, "elsewhere#1", now=1, ttl=1).token == 2
    store.close()


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


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bash", "exec bash --norc"),
        ("bash", "unset PROMPT_COMMAND"),
        ("bash", "PROMPT_COMMAND=(true)"),
        ("bash", "exec sh"),
        ("zsh", "exec zsh -f"),
        ("zsh", "precmd_functions=()"),
    ],
)
def test_a_shell_that_lost_its_hook_has_its_directory(
    start: Callable[..., Gateway], tmp_path: Path, name: str, command: str
) -> None:
    if not Path("/bin", name).exists():
        pytest.skip(f"needs {name}: apt install {name}")
    gateway = start(shell=hooked_shell(tmp_path, name))
    client = gateway.attach()
    client.run("export KEPT=1")
    state_when(gateway, client.session, lambda state, _: "KEPT" in state.environment_vars)
    client.send(f"{command}\n".encode())
    client.run("cd /usr/share")
    state = state_when(
        gateway, client.session, lambda state, _: state.working_directory == "/usr/share"
    )
    assert state.environment_vars["KEPT"] == "1"


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


@pytest.mark.parametrize("store_settings", [{}], ids=["sqlite"])
def test_a_store_that_cannot_be_used_stops_no_terminal(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    gateway.paths.session_store.mkdir()
    client = gateway.attach()
    assert client.run("echo alive") == b"alive\r\n"
    until(lambda: "not_saved" in gateway.log.read_text(), "the news")
    gateway.paths.session_store.rmdir()
    state_when(gateway, client.session, lambda state, _: "alive" in str(state.command_history))


def test_another_bridge_that_took_the_session_ends_this_ones_shell(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.run("echo mine")
    state_when(gateway, client.session, lambda state, _: "mine" in str(state.command_history))
    store = store_of(gateway)
    later = 1 << 62
    layer = SessionLayer(store)
    layer.acquire("demo", client.session, "elsewhere#1", now=later, ttl=1)
    client.send(b"echo stale\n")
    exit = {"type": "exit", "status": 129, "signal": signal.SIGHUP, "reason": "taken"}
    assert client.message("exit") == exit
    assert "stale" not in str(recorded(gateway, client.session)[0])
    store.close()


def test_without_screens_none_is_recorded(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start(shell=hooked_shell(tmp_path), save_screen="false", secret_names="MINE*")
    client = gateway.attach()
    client.run("export MINE_X=1 GH_TOKEN=open; echo shown")
    state = state_when(gateway, client.session, lambda state, _: bool(state.command_history))
    assert state.environment_vars["GH_TOKEN"] == "open"
    assert "MINE_X" not in state.environment_vars
    output = recorded(gateway, client.session)[1]
    assert output is not None
    assert output.lines == []


@pytest.mark.slow
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


@pytest.mark.slow
def test_killed_while_it_writes_it_loses_no_session(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Ten kills of keeper and bridge; the store's own hundred are in tests/stores."""
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    sessions = [gateway.attach(session="new").session for _ in range(3)]
    reached = 0
    for _ in range(10):
        clients = [gateway.attach(session=id) for id in sessions]
        for _ in range(3):
            reached += 1
            for client in clients:
                client.run(f"export REACHED={reached}")
        time.sleep(1)  # older than a second: this much must be there
        for client in clients:
            client.send(f"export REACHED={reached}.5\n".encode())
        kill_everything(gateway)
        for id in sessions:
            state, output = recorded(gateway, id)
            assert state is not None
            assert output is not None
            assert float(state.environment_vars["REACHED"]) >= reached
        gateway = start(shell=shell)
