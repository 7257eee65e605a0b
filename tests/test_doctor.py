from __future__ import annotations

import dataclasses
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from coditect_cli import doctor, tokens
from coditect_cli.doctor import CHECKS, LOCAL_CHECKS, Machine, examine
from coditect_cli.finding import Finding
from coditect_cli.paths import Paths, make_private
from coditect_cli.workspaces.local import LocalWorkspaces


@pytest.fixture
def machine(paths: Paths) -> Machine:
    return Machine(paths, {"TERM": "xterm"}, None, on_terminal=False, tell=print)


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


def test_a_full_disk_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1 << 80)  # no disk has as much
    found = finding(machine, "folders")
    assert (found.status, found.fix) == ("fail", "free some space")


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


def test_a_shell_that_lets_nobody_in_is_told_with_what_starts_instead(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = pwd.struct_passwd(("ada", "x", os.getuid(), os.getgid(), "", "/", "/usr/sbin/nologin"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: shut)
    found = finding(machine, "shell")
    assert found.status == "pass"
    assert found.message in (
        "/bin/bash, in the place of /usr/sbin/nologin",
        "/bin/sh, in the place of /usr/sbin/nologin",
    )


def test_a_file_in_the_place_of_the_socket_fails(machine: Machine) -> None:
    make_private(machine.paths.state)
    machine.paths.gateway_socket.touch()
    found = finding(machine, "gateway")
    assert (found.status, str(found.fix).startswith("remove it")) == ("fail", True)


@pytest.mark.parametrize("problem", [OSError(5, "odd", "/odd"), ValueError("odd")])
def test_a_check_that_breaks_does_not_end_the_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def broken(_: Machine) -> Finding:
        raise problem

    monkeypatch.setitem(doctor.CHECKS, "folders", broken)
    monkeypatch.setitem(doctor.LOCAL_CHECKS, "pty", broken)
    findings = examine(machine)
    assert [found.check for found in findings] == [*CHECKS, *LOCAL_CHECKS]
    assert {found.check for found in findings if found.status == "fail"} == {"folders", "pty"}
    assert "odd" in finding(machine, "pty").message


def test_a_home_that_this_user_may_not_enter_is_what_the_report_is_about(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    # uid 0 enters any folder, but not without its capabilities.
    drop = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    run = subprocess.run(
        [*drop, sys.executable, "-m", "coditect_cli", "doctor", "-o", "json"],
        env={"PATH": os.environ["PATH"], "CODITECT_HOME": str(shut / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (8, "")
    found = {item["check"]: item for item in json.loads(run.stdout)["items"]}
    assert list(found) == [*CHECKS, *LOCAL_CHECKS]
    assert found["folders"]["message"] == f"{shut} is not writable"
    assert found["key file"]["status"] == "fail"
    assert found["python"]["status"] == "pass"
