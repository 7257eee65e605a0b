from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.proxy import Proxy

SIZE = 20_000_000
CUTS = 200
LONGEST = 350_000  # bytes until a cut: 200 of them fall within what is moved

COUNTING_CAT = "stty raw -echo; echo ready; head -c {size} | tee {copy}"


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "coditect_cli", *args]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_pipes_move_20_mb_each_way_across_200_cuts_exactly_once(
    gateway: Gateway, start_proxy: Callable[..., Proxy], tmp_path: Path, seed: int
) -> None:
    proxy = start_proxy(cuts=CUTS, longest=LONGEST, seed=seed)
    data = random.Random(seed).randbytes(SIZE)  # noqa: S311 (a test must repeat)
    copy = tmp_path / "copy"
    done = subprocess.run(
        command("exec", "demo", "--", "tee", str(copy)),
        input=data,
        check=False,
        capture_output=True,
        env=gateway.environ,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert digest(copy.read_bytes()) == digest(data)
    assert digest(done.stdout) == digest(data)
    assert proxy.cuts_done == CUTS
    assert proxy.connections > CUTS


@pytest.mark.timeout(300)
def test_a_terminal_moves_20_mb_each_way_across_200_cuts_exactly_once(
    gateway: Gateway, start_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    proxy = start_proxy(cuts=CUTS, longest=LONGEST, seed=3)
    noise = random.Random(3).randbytes(SIZE)  # noqa: S311 (a test must repeat)
    data = base64.encodebytes(noise)[:SIZE]  # text: what the screen's model is quick at
    copy = tmp_path / "copy"
    script = COUNTING_CAT.format(size=SIZE, copy=copy)
    with subprocess.Popen(
        command("exec", "-t", "demo", "--", "sh", "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=gateway.environ,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline().strip() == b"ready"
        typing = threading.Thread(target=client.stdin.write, args=(data,))
        typing.start()
        output = client.stdout.read(SIZE)
        typing.join()
        client.stdin.close()
        rest = client.stdout.read()
    assert (client.returncode, rest) == (0, b"")
    assert digest(copy.read_bytes()) == digest(data)
    assert digest(output) == digest(data)
    assert proxy.cuts_done == CUTS
