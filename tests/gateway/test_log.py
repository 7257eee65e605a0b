from __future__ import annotations

import stat
from pathlib import Path

from coditect_cli.gateway.log import LARGEST
from tests.conftest import RunCli
from tests.support.gateway import running_gateway


def test_a_large_log_moves_aside_and_every_writer_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "home" / "state"
    state.mkdir(mode=0o700, parents=True)
    log, old = state / "gateway.log", state / "gateway.log.1"
    with open(log, "w") as file:
        file.write("the first line\n")
        file.truncate(LARGEST)
    with running_gateway(tmp_path / "home") as gateway:
        gateway.sessions()
        assert old.read_bytes().startswith(b"the first line\n\0")
        assert stat.S_IMODE(old.stat().st_mode) == 0o600
        gateway.kill_bridge()
        gateway.sessions()
    lines = log.read_text().splitlines()
    assert log.stat().st_size < LARGEST
    assert any("coditect.bridge INFO serving" in line for line in lines)
    assert not any("\0" in line for line in lines)


def test_both_parts_are_printed(run_cli: RunCli, home: Path) -> None:
    state = home / "state"
    state.mkdir(mode=0o700, parents=True)
    assert run_cli("gateway", "logs")[0] == 3
    (state / "gateway.log.1").write_text("one\ntwo\n")
    (state / "gateway.log").write_text("three\n")
    assert run_cli("gateway", "logs", "-n", "2")[:2] == (0, "two\nthree\n")
