from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coditect_cli import tokens
from coditect_cli.doctor import CHECKS, LOCAL_CHECKS, Machine, examine
from coditect_cli.finding import Finding
from coditect_cli.paths import Paths, make_private
from coditect_cli.workspaces.local import LocalWorkspaces


@pytest.fixture
def machine(paths: Paths) -> Machine:
    return Machine(paths, {"TERM": "xterm"}, None, on_terminal=False)


def finding(machine: Machine, check: str) -> Finding:
    return {found.check: found for found in examine(machine)}[check]


def test_a_fresh_machine_is_well_and_left_as_it_is(machine: Machine) -> None:
    findings = examine(machine)
    assert len(findings) == len(CHECKS) + len(LOCAL_CHECKS)
    worse = {found.check for found in findings if found.status != "pass"}
    assert worse <= {"socket path"}  # the folder of a test may have a long one
    assert not machine.paths.config.parent.exists()


def test_an_exposed_key_fails(machine: Machine) -> None:
    tokens.local_key(machine.paths)
    machine.paths.key_file.chmod(0o644)
    found = finding(machine, "key file")
    assert found.status == "fail"
    assert "chmod 600" in (found.fix or "")


def test_a_damaged_workspace_fails(machine: Machine) -> None:
    for id in ("bad", "good"):
        LocalWorkspaces(machine.paths).create(id, "ada")
    assert finding(machine, "workspaces").status == "pass"
    (machine.paths.workspaces / "bad" / "workspace.json").write_text("{")
    found = finding(machine, "workspaces")
    assert (found.status, "workspace bad" in found.message) == ("fail", True)


def test_a_folder_that_others_may_enter_is_warned_of(machine: Machine) -> None:
    make_private(machine.paths.state)
    machine.paths.state.chmod(0o755)
    found = finding(machine, "folders")
    assert (found.status, found.fix) == ("warn", f"chmod 700 {machine.paths.state}")


def test_a_bad_config_fails_once_and_the_other_checks_go_on(machine: Machine) -> None:
    make_private(machine.paths.config)
    machine.paths.config_file.write_text("nonsense = 1")
    found = finding(machine, "config")
    assert found.status == "fail"
    assert str(machine.paths.config_file) in found.message
    assert finding(machine, "shell").status == "pass"


def test_a_config_that_others_may_write_is_warned_of(machine: Machine) -> None:
    make_private(machine.paths.config)
    machine.paths.config_file.touch()
    machine.paths.config_file.chmod(0o666)
    assert finding(machine, "config").status == "warn"


def test_a_long_socket_path_is_no_silent_trouble(machine: Machine, tmp_path: Path) -> None:
    long = Paths(tmp_path, tmp_path, tmp_path / ("x" * 120))
    assert finding(dataclasses.replace(machine, paths=long), "socket path").status != "pass"


def test_a_stale_socket_is_seen(machine: Machine) -> None:
    import socket

    make_private(machine.paths.state)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(machine.paths.gateway_socket))
    found = finding(machine, "gateway")
    assert found.status == "warn"
    assert str(machine.paths.gateway_log) in found.message


def test_a_gateway_elsewhere_that_does_not_answer_fails(machine: Machine) -> None:
    environ = {"CODITECT_GATEWAY_URL": "ws+unix:/nonexistent/socket"}
    found = finding(dataclasses.replace(machine, environ=environ), "gateway")
    assert found.status == "fail"


@pytest.mark.parametrize("term", ["", "no-such-terminal"])
def test_an_unknown_terminal_is_warned_of(machine: Machine, term: str) -> None:
    here = dataclasses.replace(machine, environ={"TERM": term}, on_terminal=True)
    assert finding(here, "terminal").status == "warn"


def test_a_shell_that_is_not_there_fails(machine: Machine) -> None:
    environ = {"CODITECT_SHELL": "/no/such/shell"}
    assert finding(dataclasses.replace(machine, environ=environ), "shell").status == "fail"
