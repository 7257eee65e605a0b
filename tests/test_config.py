from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest

from coditect_cli import config
from coditect_cli.errors import CoditectError, NotFound, UsageError
from coditect_cli.paths import Paths
from coditect_cli.settings import Settings


def write(paths: Paths, text: str) -> None:
    paths.config.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(text)


def test_a_fresh_machine_has_the_local_context_with_defaults(paths: Paths) -> None:
    context = config.load(paths, {})
    assert context.name == "local"
    assert context.settings == Settings()
    assert set(context.sources.values()) == {"default"}
    assert set(context.sources) == {setting.name for setting in fields(Settings)}
    assert context.gateway_url(paths) == f"ws+unix:{paths.gateway_socket}"
    assert not paths.config.exists()


def test_flag_beats_variable_beats_file_beats_default(paths: Paths) -> None:
    write(paths, "[contexts.local]\nmax_sessions = 3\nmax_connections = 4\nattach_rate = 5\n")
    environ = {"CODITECT_MAX_SESSIONS": "30", "CODITECT_MAX_CONNECTIONS": "40"}
    context = config.load(paths, environ, {"max_sessions": "300"})
    settings = context.settings
    values = (settings.max_sessions, settings.max_connections, settings.attach_rate)
    assert values == (300, 40, 5)
    assert context.sources["max_sessions"] == "--max-sessions"
    assert context.sources["max_connections"] == "CODITECT_MAX_CONNECTIONS"
    assert context.sources["attach_rate"] == str(paths.config_file)
    assert context.sources["max_message"] == "default"


def test_the_context_is_chosen_by_argument_then_variable_then_file(paths: Paths) -> None:
    write(paths, 'current = "a"\n[contexts.a]\n[contexts.b]\n[contexts.c]\n')
    assert config.load(paths, {}).name == "a"
    assert config.load(paths, {"CODITECT_CONTEXT": "b"}).name == "b"
    assert config.load(paths, {"CODITECT_CONTEXT": "b"}, context="c").name == "c"
    with pytest.raises(NotFound) as caught:
        config.load(paths, {}, context="locl")
    assert caught.value.code == "context.not_found"
    assert caught.value.hint == "did you mean local?"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("OUTPUT_KEPT", "4MiB", 4 << 20),
        ("OUTPUT_KEPT", "640 KiB", 640 << 10),
        ("OUTPUT_KEPT", "589824", 576 << 10),
        ("MAX_MESSAGE", "256KiB", 256 << 10),
        ("GATEWAY_IDLE", "1h", 3600.0),
        ("GATEWAY_IDLE", "1.5m", 90.0),
        ("SESSION_IDLE", "0", 0.0),
        ("TOKEN_COMMAND", "get 'a token'", ("get", "a token")),
        ("ALLOWED_ORIGINS", "https://a.example, http://b:1", ("https://a.example", "http://b:1")),
        ("GATEWAY_URL", "ws+unix:/run/x.sock", "ws+unix:/run/x.sock"),
        ("GATEWAY_URL", "ws+unix:/a?b#c@d.sock", "ws+unix:/a?b#c@d.sock"),
        ("SHELL", "/bin/sh", "/bin/sh"),
        ("CPU", ".5", ".5"),
        ("MEMORY", "1E9", "1E9"),
    ],
)
def test_values_are_read_from_text(paths: Paths, variable: str, text: str, value: object) -> None:
    settings = config.load(paths, {f"CODITECT_{variable}": text}).settings
    assert getattr(settings, variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OUTPUT_KEPT", "4MB"),
        ("OUTPUT_KEPT", "0"),
        ("OUTPUT_KEPT", "575KiB"),
        ("OUTPUT_KEPT", "-1"),
        ("OUTPUT_KEPT", "9999GiB"),
        ("GATEWAY_IDLE", "soon"),
        ("MAX_SESSIONS", "0"),
        ("MAX_SESSIONS", "1.5"),
        ("TOKEN_COMMAND", "'unclosed"),
        ("TOKEN_COMMAND", ""),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "https://a.example/path"),
        ("GATEWAY_URL", "https://a.example"),
        ("GATEWAY_URL", "wss://user:secret@a.example"),
        ("GATEWAY_URL", "wss://a.example/?token=x"),
        ("GATEWAY_URL", "wss://[::1"),
        ("GATEWAY_URL", "ws://localhost:99999"),
        ("GATEWAY_URL", "ws://localhost:http"),
        ("GATEWAY_URL", "ws+unix:relative"),
        ("MAX_MESSAGE", "255KiB"),
        ("PROVIDER", "cloud"),
        ("SHELL", "bash"),
        ("CPU", "\u0661"),
        ("CPU", "."),
        ("MEMORY", "0Gi"),
        ("MEMORY", "4GiB"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(paths: Paths, variable: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(paths, {f"CODITECT_{variable}": text})
    assert f"CODITECT_{variable}" in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_sessions = 0", "max_sessions"),
        ("max_sesions = 1", "max_sesions"),
        ("token_command = [1]", "token_command"),
        ("max_sessions = true", "max_sessions"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_key(paths: Paths, text: str, said: str) -> None:
    write(paths, "[contexts.local]\n" + text)
    with pytest.raises(UsageError) as caught:
        config.load(paths, {})
    assert str(paths.config_file) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize("text", ["= 1", "curent = 'x'", "contexts = 1", "current = 1", "\xff"])
def test_a_malformed_file_is_refused(paths: Paths, text: str) -> None:
    paths.config.mkdir(parents=True)
    paths.config_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        config.load(paths, {})
    assert str(paths.config_file) in caught.value.message


def test_an_unknown_key_names_the_closest(paths: Paths) -> None:
    write(paths, "[contexts.local]\nmax_sesions = 1")
    with pytest.raises(UsageError) as caught:
        config.load(paths, {})
    assert caught.value.hint == "did you mean max_sessions?"


def test_set_keeps_comments_and_other_contexts_and_makes_the_file_private(paths: Paths) -> None:
    write(paths, "# mine\n[contexts.a] # note\nmax_sessions = 2\n")
    config.set_settings(paths, "b", {"output_kept": "2MiB", "token_command": "x y"})
    config.set_settings(paths, "a", {"max_sessions": None, "attach_rate": "7"})
    text = paths.config_file.read_text()
    assert "# mine" in text
    assert "# note" in text
    assert config.load(paths, {}, context="a").settings == Settings(attach_rate=7)
    assert config.load(paths, {}, context="b").settings.output_kept == 2 << 20
    assert config.load(paths, {}, context="b").settings.token_command == ("x", "y")
    assert stat.S_IMODE(paths.config_file.stat().st_mode) == 0o600


def test_set_through_a_link_keeps_the_link(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    real = paths.config.parent / "dotfile.toml"
    real.touch()
    paths.config_file.symlink_to(real)
    config.set_settings(paths, "a", {"max_sessions": "9"})
    assert paths.config_file.is_symlink()
    assert "max_sessions" in real.read_text()


def test_a_refused_change_changes_nothing(paths: Paths) -> None:
    write(paths, "[contexts.a]\n")
    refused: list[tuple[str, dict[str, str | None]]] = [
        ("a", {"max_sessions": "x"}),
        ("a", {"no_such": "1"}),
        ("a", {"no_such": None}),
        ("../a", {"max_sessions": "1"}),
    ]
    for name, changes in refused:
        with pytest.raises(CoditectError):
            config.set_settings(paths, name, changes)
    with pytest.raises(NotFound):
        config.use_context(paths, "b")
    assert paths.config_file.read_text() == "[contexts.a]\n"


def test_concurrent_changes_are_all_kept(paths: Paths) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda n: config.set_settings(paths, f"c{n}", {"attach_rate": "1"}), range(8))
        )
    contexts, _ = config.read_contexts(paths)
    assert set(contexts) == {"local", *(f"c{n}" for n in range(8))}


def test_use_makes_a_context_current(paths: Paths) -> None:
    config.set_settings(paths, "b", {})
    config.use_context(paths, "b")
    assert config.load(paths, {}).name == "b"
