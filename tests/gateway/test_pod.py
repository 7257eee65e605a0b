"""The gateway of a pod: one workspace, public keys only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.signing import REFETCH_SECONDS, PrivateKey
from tests.gateway.test_access import refused
from tests.support.gateway import Gateway, until
from tests.test_signing import key_set, private_key

ROLE = ("--role", "workspace", "--workspace-id", "demo")


class Pod(Gateway):
    """A pod's gateway, and the platform's key that signs for it."""

    key: PrivateKey

    def workspace(self, id: str = "demo") -> str:
        return id


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pod]:
    monkeypatch.setenv("USER_ID", Pod.user)
    volume, keys = tmp_path / "volume", tmp_path / "jwks.json"
    volume.mkdir()
    key = private_key(tmp_path)
    keys.write_bytes(key_set(key))
    settings = {"token_jwks": keys, "workspace_root": volume}
    gateway = Pod(tmp_path / "home", role=ROLE, **settings)
    gateway.key = key
    try:
        yield gateway
    finally:
        gateway.stop()


def test_a_shell_starts_in_the_volume(pod: Pod, tmp_path: Path) -> None:
    client = pod.connect(token=pod.token("demo", key=pod.key))
    client.attach()
    assert client.run("pwd; echo $WORKSPACE_ID $USER_ID").split() == [
        str(tmp_path / "volume").encode(),
        b"demo",
        Pod.user.encode(),
    ]


def test_only_its_own_workspace_owner_and_keys_get_in(pod: Pod) -> None:
    for workspace in ("other", "_gateway"):
        found = refused(pod.connect, token=pod.token(workspace, key=pod.key))
        assert (found[0], found[1]["code"]) == (403, "workspace.forbidden")
    eve = pod.token("demo", user="eve", key=pod.key)
    assert refused(pod.connect, token=eve)[1]["code"] == "workspace.forbidden"
    assert refused(pod.connect, token=pod.token("demo"))[1]["code"] == "token.algorithm"
    assert not pod.paths.key_file.exists() or "serving" in pod.log.read_text()


@pytest.mark.slow
def test_a_new_key_is_found_when_its_first_token_comes(pod: Pod, tmp_path: Path) -> None:
    new = private_key(tmp_path)
    (tmp_path / "jwks.json").write_bytes(key_set(pod.key, new))

    def gets_in() -> bool:
        try:
            pod.connect(token=pod.token("demo", key=new)).attach()
        except Exception:
            return False
        return True

    until(gets_in, "the new key's token is let in", REFETCH_SECONDS * 4)


def test_a_pod_without_a_key_set_or_an_owner_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USER_ID", raising=False)
    keys = tmp_path / "jwks.json"
    keys.write_bytes(key_set(private_key(tmp_path)))
    for settings, code in (({}, "gateway.no_keys"), ({"token_jwks": keys}, "gateway.no_owner")):
        gateway = Pod(tmp_path / "home", role=ROLE, **settings)
        assert gateway.keeper.wait(30) != 0
        assert code in gateway.log.read_text()
        gateway.stop()
    assert json.loads(keys.read_text())["keys"]
