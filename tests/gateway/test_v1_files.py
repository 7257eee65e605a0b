"""File operations of a client that speaks only coditect.v1+json, against a real gateway."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.gateway.v1 import MOST_FILES
from coditect_cli.protocol import gateway_message as g
from tests.support.earlier import EarlierClient
from tests.support.gateway import PATIENCE, Gateway, until


@pytest.fixture
def client(gateway: Gateway) -> EarlierClient:
    return EarlierClient(gateway)


def root(gateway: Gateway) -> Path:
    return gateway.paths.workspaces / "demo/root"


def test_files_are_written_read_listed_and_removed(gateway: Gateway, client: EarlierClient) -> None:
    gateway.workspace()
    client.send(
        g.FileMkdir("a"),
        g.FileWrite("a/text", "grüße\n"),
        g.FileWrite("/workspace/a/bytes", base64.b64encode(b"\0\xff").decode(), "base64"),
        g.FileRead("a/text"),
        g.FileRead("a/bytes"),
        g.FileList("a"),
        g.FileDelete("a/text"),
        g.FileList("."),
    )
    answers = [client.step() for _ in range(8)]
    assert answers[:5] == [
        g.FileCreated("a"),
        g.FileWritten("a/text", 8),
        g.FileWritten("/workspace/a/bytes", 2),
        g.FileContent("a/text", "grüße\n", "utf-8"),
        g.FileContent("a/bytes", "AP8=", "base64"),
    ]
    assert isinstance(answers[5], g.FileEntries)
    assert [one["name"] for one in answers[5].entries] == ["bytes", "text"]
    assert [one["size"] for one in answers[5].entries] == [2, 8]
    assert answers[6] == g.FileDeleted("a/text")
    assert isinstance(answers[7], g.FileEntries)
    assert [(one["name"], one["type"]) for one in answers[7].entries] == [("a", "directory")]
    assert os.listdir(root(gateway) / "a") == ["bytes"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (g.FileRead("nothing"), "path.not_found"),
        (g.FileRead("folder"), "path.is_directory"),
        (g.FileRead("../../workspace.json"), "path.outside"),
        (g.FileRead("/etc/passwd"), "path.outside"),
        (g.FileRead("link/passwd"), "path.outside"),
        (g.FileWrite("../x", ""), "path.outside"),
        (g.FileWrite("nothing/x", ""), "path.not_found"),
        (g.FileList("nothing"), "path.not_found"),
        (g.FileDelete("."), "path.forbidden"),
        (g.FileDelete("full"), "path.not_empty"),
        (g.FileMkdir("folder"), "path.exists"),
        (g.FileRead("large"), "file.too_large"),
        (g.FileList("many"), "file.too_large"),
        (g.FileWrite("x", "a" * (g.LARGEST_FILE + 1)), "file.too_large"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else f"{type(value).__name__}-{value.path[:20]}"
    ),
)
def test_a_file_operation_that_fails_says_why(
    gateway: Gateway, client: EarlierClient, message: Any, code: str
) -> None:
    here = root(gateway)
    for folder in ("folder", "full", "many"):
        (here / folder).mkdir()
    (here / "full/file").touch()
    (here / "link").symlink_to("/etc")
    (here / "large").write_bytes(b"a" * (g.LARGEST_FILE + 1))
    if message == g.FileList("many"):
        for number in range(3_000):
            (here / f"many/{number:0200d}").touch()
    before = sorted(here.rglob("*"))
    client.send(message, g.Ping())
    answers = [client.step(), client.step()]
    error = next(one for one in answers if isinstance(one, g.Error))
    assert (error.code, error.path) == (code, message.path)
    assert g.Pong() in answers
    assert sorted(here.rglob("*")) == before


def test_the_largest_file_fits(gateway: Gateway, client: EarlierClient) -> None:
    content = '"\n' * (g.LARGEST_FILE // 2)
    client.send(g.FileWrite("x", content))
    assert client.step() == g.FileWritten("x", g.LARGEST_FILE)
    client.send(g.FileRead("x"))
    received = client.connection.recv(timeout=PATIENCE)
    assert len(received) < 1 << 20
    assert g.parse_gateway(received) == g.FileContent("x", content, "utf-8")


def test_a_name_that_is_no_utf8_is_listed(gateway: Gateway, client: EarlierClient) -> None:
    (root(gateway) / os.fsdecode(b"a\xff")).touch()
    client.send(g.FileList("."))
    assert [one["name"] for one in client.message(g.FileEntries).entries] == ["a\ufffd"]


def test_terminals_go_on_while_files_are_worked_on(client: EarlierClient) -> None:
    session = client.create()
    client.send(*[g.FileList(".")] * MOST_FILES, g.Ping())
    client.type("echo a''b\n")
    client.message(g.Pong)
    answered = [one for one in client.heard if isinstance(one, g.FileEntries)]
    assert len(answered) < MOST_FILES
    client.expect("ab\r\n", session)
    while len([one for one in client.heard if isinstance(one, g.FileEntries)]) < MOST_FILES:
        client.step()


def test_too_many_file_operations_are_refused(client: EarlierClient) -> None:
    client.send(*[g.FileList(".")] * (3 * MOST_FILES))
    answers = [client.step() for _ in range(3 * MOST_FILES)]
    codes = {one.code for one in answers if isinstance(one, g.Error)}
    assert codes == {"limit.files"}
    assert len([one for one in answers if isinstance(one, g.FileEntries)]) >= MOST_FILES


def test_what_was_asked_for_before_the_end_is_done(gateway: Gateway, client: EarlierClient) -> None:
    client.send(g.FileMkdir("a"), g.FileMkdir("a/b"), g.FileWrite("a/b/c", "all of it"))
    client.connection.close()
    file = root(gateway) / "a/b/c"
    until(file.exists, "the file")
    assert file.read_text() == "all of it"
