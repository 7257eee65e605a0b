from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import struct
import subprocess
import termios
from pathlib import Path
from unicodedata import east_asian_width

import pytest

from coditect_cli.attach.redactor import BULK, Redactor
from coditect_cli.gateway.screen import Screen
from coditect_cli.settings import SECRET_NAMES
from tests.support.gateway import until

SECRET = "hunter2"
LONG = "h9" * 60

OUTPUTS = [
    f"$ export API_TOKEN={SECRET}; ls\r\n",
    f"TOK\x1b[31mEN\x1b[m=\x1b[32m{SECRET}\x1b[m x\r\n",
    f"$ curl https://ada:{SECRET}@host/ -v\r\n",
    f"\x1b]0;TOKEN={SECRET}\a$ \r\n",
    f"\x1b]0;COOKIE={SECRET}\a$ Session_Cookie=\x1b[1m{SECRET}\x1b[m x\r\n",
    f"\x1b]0;TOKEN={SECRET}\x1b\\$ \r\n",
    f'password: "{SECRET} x"\r\n',
    f"\x1b]52;c;{SECRET}\a$ ",
    f"é日本 SECRET={SECRET}日\r\n",
    f"$ git clone https://ghp_{SECRET}@host/ github_pat_{SECRET} x\r\n",
    f"$ API_TOKEN=$(echo {SECRET} | tr a b); ls\r\n",
    f"$ read -r TOKEN <<< {SECRET}; printf -v KEY '%s' {SECRET}\r\n",
    f"$ curl -u ada:{SECRET} -H 'Cookie: sid={SECRET}; x={SECRET}' u\r\n",
    # readline: typed past the right edge, and edited in the middle
    f"$ export {'A' * 60}_TOKEN={SECRET} \r{SECRET}\r\n",
    f"$ TOKEN={SECRET}\b\b\b\b\b\b\b\x1b[1@{SECRET}\r\n",
    # recalled by arrow-up over what was there: only what differs is written
    f"$ TOKEN=abcdefg\b\b\b\b\b\b\b{SECRET}\r\n",
    # tmux and vim: the cursor goes elsewhere and comes back
    f"\x1b[5;1HTOKEN=\x1b[24;1Hstatus\x1b[5;7H{SECRET}",
]


def kept(output: str, size: int) -> str:
    redactor = Redactor(80, 24, SECRET_NAMES)
    found = "".join(redactor.feed(output[at : at + size]) for at in range(0, len(output), size))
    return found + redactor.flush()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_secret_is_never_kept_however_it_is_cut(output: str, size: int) -> None:
    found = kept(output, size)
    for length in range(3, len(SECRET) + 1):
        assert SECRET[:length] not in found
    assert "•" in found or "]52" in output


@pytest.mark.parametrize("output", OUTPUTS)
def test_nothing_else_on_the_screen_moves(output: str) -> None:
    before, after = Screen(80, 24), Screen(80, 24)
    before.feed(output.encode())
    after.feed(kept(output, 5).encode())
    for was, now in zip(before.text(), after.text(), strict=True):
        assert cells(was) == cells(now)
        assert now == was or "•" in now


def cells(text: str) -> int:
    return sum(2 if east_asian_width(character) == "W" else 1 for character in text)


def test_a_secret_that_the_first_screen_shows_wrapped_is_not_kept() -> None:
    screen = Screen(80, 24)
    screen.feed(f"$ echo TOKEN={LONG}\r\n$ ".encode())
    found = kept(screen.redraw().decode(), 10_000)
    assert "h9" not in found


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_what_is_no_secret_stays_as_it_is(size: int) -> None:
    output = "$ curl http://localhost:8080\r\nhttp://[::1]:80/ \x1b[1mKeyError: 'x'\x1b[m 1:2:3\r\n"
    output += "at http://localhost:80"
    assert kept(output, size) == output


def test_bulk_is_kept_as_it_is_but_for_secrets() -> None:
    lines = [f"line {n}: the quick brown fox\r\n" for n in range(2_000)]
    lines[700] = f"\x1b[1mTOKEN={SECRET}\x1b[m\r\n"
    lines[800] = f"COOKIE={SECRET}\r\n"
    output = "".join(lines)
    found = kept(output, 10 * BULK)
    assert found == output.replace(SECRET, "•" * len(SECRET))


KEY_LINES = ["MIIEow+/AQ" * 7, "Proc-Type: 4,ENCRYPTED", "", "c2VjcmV0" * 5 + "=="]


@pytest.mark.parametrize("prompt", ["", "> ", "quote> ", "  "])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_private_key_is_hidden_to_its_end(prompt: str, size: int) -> None:
    begin, end = (f"-----{word} RSA PRIVATE KEY-----" for word in ("BEGIN", "END"))
    behind = f"{end}'\r\n$ ls\r\n" + "abc\r\n" * BULK
    lines = [f"$ X='{begin}", *(prompt + line for line in KEY_LINES), prompt + behind]
    output = "\r\n".join(lines)
    found = kept(output, size)
    assert not re.search("MII|c2V", found)
    assert found.endswith(behind)
    assert len(found) == len(output)


def test_a_private_key_without_an_end_hides_no_more_than_its_lines() -> None:
    begin = "$ head -2 id\r\n-----BEGIN PRIVATE KEY-----\r\n"
    prompt = "\r\nada@demo:~$ ls\r\nfile\r\n"
    assert kept(f"{begin}MIIEow{prompt}", 1000) == f"{begin}••••••{prompt}"


def test_bulk_that_ends_in_a_name_hides_the_value_behind_it() -> None:
    redactor = Redactor(80, 24, SECRET_NAMES)
    redactor.feed("x\r\n" * BULK + "TOKEN=")
    assert redactor.feed(SECRET) == "•" * len(SECRET)


def test_a_resize_keeps_what_is_known_of_the_line() -> None:
    redactor = Redactor(80, 24, SECRET_NAMES)
    redactor.feed("TOKEN=")
    redactor.resize(60, 20)
    assert redactor.feed(SECRET) == "•" * len(SECRET)


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_secret_that_is_typed_past_the_edge_edited_and_recalled_is_not_kept(
    shell: str, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    left, up, home, end = b"\x1b[D", b"\x1b[A", b"\x01", b"\x05"
    line = b": " + b"a" * 50 + b" API_TOKEN=" + SECRET.encode() * 9
    keys = [line, left * 30, b"X", home, b"Y", end, b"\x7f", b"\r"]
    keys += [up, b"\x15", b"echo do''ne\r"]
    raw = _typed(SHELLS[shell], b"".join(keys), tmp_path)
    assert SECRET in raw
    for size in (1, 50, 100_000):
        assert not re.search("hunt|unte|nter|ter2|er2h", kept(raw, size))


def _typed(argv: list[str], keys: bytes, home: Path) -> str:
    """What a shell on a terminal of 80 columns shows when these keys are typed."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "HOME": str(home)}
    environ |= {"PS1": "$ ", "PROMPT": "$ "}
    shown = bytearray()
    with subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True, cwd=home
    ) as process:
        try:
            os.write(master, keys)
            until(lambda: _read(master, shown) and b"done\r\n" in shown, "the end of the typing")
        finally:
            process.kill()
            os.close(slave)
            os.close(master)
    return shown.decode(errors="replace")


def _read(master: int, shown: bytearray) -> bool:
    if select.select([master], [], [], 1)[0]:
        shown += os.read(master, 65_536)
    return True
