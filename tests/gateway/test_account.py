"""Programs of another user: uid 0 with four capabilities starts them, and keeps its own."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import unix_connect

import coditect_cli
from coditect_cli import tokens
from coditect_cli.errors import UsageError
from coditect_cli.gateway import files
from coditect_cli.gateway.account import Account
from tests.support.gateway import PATIENCE, Client, until
from tests.test_signing import key_set, private_key

USER = "nobody"
CAPABILITIES = "setuid,setgid,kill,chown"


def test_this_process_is_its_own_user() -> None:
    account = Account.find(None)
    assert (account.uid, account.is_other, account.as_message()) == (os.getuid(), False, None)
    with account.looking():
        assert os.path.exists("/")


@pytest.mark.root
def test_a_uid_may_have_no_name() -> None:
    code = """if 1:
        import os
        from coditect_cli.gateway.account import Account
        os.setgid(4_000_000); os.setgroups([]); os.setuid(4_000_000)
        print(Account.find(None))
    """
    environ = {**os.environ, "HOME": "/home/own"}
    argv = [sys.executable, "-c", code]
    shown = subprocess.run(argv, env=environ, check=True, text=True, stdout=subprocess.PIPE)
    own = Account("4000000", 4_000_000, [4_000_000], "/home/own", "/bin/bash")
    assert shown.stdout.strip() == str(own)


@pytest.mark.parametrize("run_as", ["no-such-user", "4000000000", "root", "0"])
def test_a_user_that_programs_can_not_run_as_is_refused(run_as: str) -> None:
    with pytest.raises(UsageError) as caught:
        Account.find(run_as)
    assert caught.value.code == "gateway.run_as"


class Pod:
    """`gateway serve --role workspace` as a pod has it: uid 0, without all other capabilities."""

    def __init__(self, folder: Path) -> None:
        self.key = private_key(folder)
        keys, self.volume = folder / "jwks.json", folder / "volume"
        keys.write_bytes(key_set(self.key))
        self.volume.mkdir()
        self.secret = folder / "secret"
        self.secret.touch(0o400)
        self.secret.write_text("for uid 0 only")
        self.socket = folder / "socket"
        self.log = folder / "log"
        environ = {
            "PATH": os.environ["PATH"],
            "USER_ID": "ada",
            "WORKSPACE_ID": "demo",
            "CODITECT_HOME": str(self.volume / ".coditect"),
            "CODITECT_TOKEN_JWKS": str(keys),
            "CODITECT_WORKSPACE_ROOT": str(self.volume),
            "CODITECT_RUN_AS": USER,
            "CODITECT_SHELL": "/bin/bash",
        }
        bounding = "-all," + ",".join(f"+{name}" for name in CAPABILITIES.split(","))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *("setpriv", f"--bounding-set={bounding}", "--no-new-privs", "--clear-groups"),
                    *(sys.executable, "-m", "coditect_cli", "gateway", "serve"),
                    *("--role", "workspace", "--listen", f"unix:{self.socket}"),
                ],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.stack = ExitStack()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def connect(self) -> Client:
        token = tokens.issue(self.key, workspace_id="demo", user_id="ada", ttl=60, now=time.time())
        return Client(
            self.stack.enter_context(
                unix_connect(
                    str(self.socket),
                    uri="ws://localhost/ws",
                    additional_headers={"Authorization": f"Bearer {token}"},
                    subprotocols=["coditect.v2"],  # type: ignore[list-item]
                    compression=None,
                )
            )
        )

    def run(self, *argv: str, **fields: Any) -> tuple[int, bytes, bytes]:
        """Run a program: its status, stdout, stderr."""
        client = self.connect()
        client.exec(*argv, stdin=False, **fields)
        status = client.exit()["status"]
        return (
            status,
            bytes(client.received.get("stdout", b"")),
            bytes(client.received.get("stderr", b"")),
        )

    def readable_code(self) -> str:
        """Our package where its user may read it, as in an image; this checkout may be shut."""
        package = Path(coditect_cli.__file__).parent
        code = shutil.make_archive(
            str(self.volume.parent / "code"), "zip", package.parent, package.name
        )
        os.chmod(code, 0o644)
        return code

    def stop(self) -> None:
        self.stack.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        print(self.log.read_text()[-5000:])


@pytest.fixture
def pod() -> Iterator[Pod]:
    with tempfile.TemporaryDirectory(prefix="coditect-pod-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - pytest's own folders are closed to every other user
        yield from serving(Path(folder))


def serving(folder: Path) -> Iterator[Pod]:
    running = Pod(folder)
    try:
        until(lambda: "serving" in running.log.read_text() or running.ended(), "a gateway")
        assert not running.ended(), running.log.read_text()
        yield running
    finally:
        running.stop()


@pytest.mark.root
def test_a_shell_has_the_users_rights_and_can_never_have_more(pod: Pod) -> None:
    client = pod.connect()
    client.attach()
    assert client.run("id -un") == USER.encode() + b"\r\n"
    status = client.run("grep -E '^(NoNewPrivs|CapEff|CapPrm|CapInh|CapAmb):' /proc/self/status")
    values = dict(line.split(b":") for line in status.split(b"\r\n") if line)
    assert values.pop(b"NoNewPrivs").strip() == b"1"
    assert {int(value, 16) for value in values.values()} == {0}
    assert client.run("touch here && stat -c %U here") == USER.encode() + b"\r\n"
    assert client.run("test -w $(tty) && echo mine") == b"mine\r\n"


@pytest.mark.root
def test_secrets_state_and_the_gateways_memory_are_out_of_reach(pod: Pod) -> None:
    for path in (pod.secret, pod.volume / ".coditect" / "state"):
        status, _, error = pod.run("ls" if path.is_dir() else "cat", str(path))
        assert (status != 0, b"Permission denied" in error) == (True, True)
    assert pod.run("mv", ".coditect", "mine")[0] != 0
    assert pod.run("rm", "-rf", ".coditect")[0] != 0
    keeper = pod.process.pid
    for name in ("environ", "mem", "fd/0"):
        assert pod.run("cat", f"/proc/{keeper}/{name}")[0] != 0
    assert pod.run("kill", "-9", str(keeper))[0] != 0
    assert (pod.volume / ".coditect" / "state").is_dir()


@pytest.mark.root
def test_files_are_the_users_and_so_is_what_may_be_done_with_them(pod: Pod) -> None:
    """A folder that is its user's alone: uid 0 without CAP_DAC_OVERRIDE can't even enter it."""
    script = "mkdir -m 700 bin && printf '#!/bin/sh\\necho ran' > bin/tool && chmod 700 bin/tool"
    assert pod.run("sh", "-c", script)[0] == 0
    assert pod.run("bin/tool")[:2] == (0, b"ran\n")
    assert pod.run("pwd", workdir="bin")[:2] == (0, str(pod.volume / "bin").encode() + b"\n")


@pytest.mark.root
def test_a_copy_of_the_volume_has_the_users_files_alone(pod: Pod) -> None:
    (pod.volume / "lost+found").mkdir(0o700)
    assert pod.run("sh", "-c", "mkdir -m 700 mine && touch mine/f && mkdir -m 0 shut")[0] == 0
    code = pod.readable_code()

    def copied(path: str) -> tuple[list[str], bytes]:
        program = ("env", f"PYTHONPATH={code}", "/usr/bin/python3", "-m", files.__name__)
        status, archive, said = pod.run(*program, "get", str(pod.volume), "--", path)
        assert status == 0, said
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return sorted(tar.getnames()), said

    for top in (".", "/workspace", "mine/.."):
        names, said = copied(top)
        assert [name.partition("/")[2] for name in names if "/" in name] == [
            "mine",
            "mine/f",
            "shut",
        ]
        assert b"shut" in said  # the user's own, which may not be read
        assert b".coditect" not in said
    assert copied("mine")[0] == ["mine", "mine/f"]


@pytest.mark.root
def test_what_a_user_started_ends_when_the_gateway_does(pod: Pod) -> None:
    client = pod.connect()
    client.attach()
    pid = int(client.run("sleep 1000 & echo $!").split()[-1])
    pod.process.terminate()
    assert pod.process.wait(PATIENCE) == 0
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the shell's child")
