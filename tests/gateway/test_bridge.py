"""The record's own tests, and what it meant by them."""

from __future__ import annotations

import hashlib
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.gateway import Client, Gateway, running_gateway


def test_pty_write_without_error(gateway: Gateway) -> None:
    """One writer per write gave "File exists (os error 17)"; ten writes in a row must succeed."""
    client = gateway.attach()
    for number in range(10):
        client.send(f"echo te''st_{number}\n".encode())
        client.expect(f"test_{number}\r\n".encode())


def test_terminal_session_persistence(gateway: Gateway) -> None:
    """What was set in a session is there for whoever attaches next."""
    first = gateway.attach()
    first.run("export FOO=bar")
    first.run("cd /tmp")
    first.detach()
    second = gateway.attach(session=first.session)
    assert second.run("echo $FOO $PWD") == b"bar /tmp\r\n"
    assert second.session == first.session


def test_concurrent_terminal_sessions(gateway: Gateway) -> None:
    """Ten at once, in ten workspaces, each sees only its own output."""

    def one(number: int) -> Client:
        client = gateway.attach(f"workspace-{number}")
        client.send(f"echo sess''ion_{number}\n".encode())
        client.expect(f"session_{number}\r\n".encode())
        return client

    for number in range(10):
        gateway.workspace(f"workspace-{number}")
    with ThreadPoolExecutor(10) as pool:
        clients = list(pool.map(one, range(10)))
    assert len({client.session for client in clients}) == 10
    for number, client in enumerate(clients):
        assert client.run("echo $WORKSPACE_ID") == f"workspace-{number}\r\n".encode()
        others = [f"session_{other}".encode() for other in range(10) if other != number]
        assert not any(other in client.output for other in others)


def test_ten_thousand_writes_arrive_once_and_in_order(gateway: Gateway) -> None:
    client = gateway.attach()
    client.send(b"stty raw -echo; echo rea''dy; head -c 60000 | sha256sum\n")
    client.expect(b"ready")
    digest = hashlib.sha256()
    for number in range(10_000):
        piece = f"{number:05d}\n".encode()
        digest.update(piece)
        client.send(piece)
    client.expect(digest.hexdigest().encode())


def test_a_large_paste_loses_nothing(gateway: Gateway) -> None:
    """10 MB at once meet EAGAIN and partial writes many times."""
    client = gateway.attach()
    size = 10_000_000
    client.send(f"stty raw -echo; echo rea''dy; head -c {size} | sha256sum\n".encode())
    client.expect(b"ready")
    data = os.urandom(size)
    begun = client.sent
    for at in range(0, size, 60_000):
        while client.sent - max([begun, *acks(client)]) > 200_000:
            client.step()
        client.send(data[at : at + 60_000])
    client.expect(hashlib.sha256(data).hexdigest().encode())


def acks(client: Client) -> list[int]:
    return [heard["offset"] for heard in client.heard if heard["type"] == "ack"]


def test_the_users_own_stty_is_honoured(gateway: Gateway) -> None:
    client = gateway.attach()
    client.run("stty -echo -icanon min 1")
    client.send(b"dd bs=1 count=3 2>/dev/null | od -c\n")
    client.send(b"\x04ab")
    client.expect(b"0000000 004   a   b")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_a_shell_starts_where_few_files_may_be_open(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with running_gateway(tmp_path / "home") as gateway:
            resource.prlimit(gateway.keeper.pid, resource.RLIMIT_NOFILE, (256, 256))
            assert gateway.attach().run("ulimit -n") == b"256\r\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_two_hundred_sessions_at_once(gateway: Gateway) -> None:
    clients = [gateway.attach(session="new") for _ in range(200)]
    assert len({client.session for client in clients}) == 200
    for number, client in enumerate(clients):
        client.send(f"echo nu''mber_{number}_\n".encode())
    for number, client in enumerate(clients):
        client.expect(f"number_{number}_\r\n".encode())
