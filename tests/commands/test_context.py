from __future__ import annotations

import json
from dataclasses import fields

import pytest

from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.paths import Paths
from coditect_cli.settings import Settings
from tests.conftest import RunCli


def test_show_has_every_setting_with_its_source(
    run_cli: RunCli, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("context", "set", "local", "attach_rate=7")
    monkeypatch.setenv("CODITECT_MAX_SESSIONS", "5")
    code, out, _ = run_cli("context", "show", "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert set(document) == {"apiVersion", "kind", "name", "gatewayUrl", "settings"}
    assert document["gatewayUrl"] == f"ws+unix:{paths.gateway_socket}"
    settings = document["settings"]
    names = {setting.name for setting in fields(Settings)}
    assert set(settings) == names | {f"migrate.{s.name}" for s in fields(MigrateSettings)}
    assert settings["attach_rate"] == {"value": 7, "source": str(paths.config_file)}
    assert settings["max_sessions"] == {"value": 5, "source": "CODITECT_MAX_SESSIONS"}
    assert settings["max_message"] == {"value": 1 << 20, "source": "default"}


def test_the_table_has_the_value_last_and_the_file_once(run_cli: RunCli, paths: Paths) -> None:
    run_cli("context", "set", "local", "attach_rate=7")
    lines = [line.split() for line in run_cli("context", "show")[1].splitlines()]
    assert lines[0] == ["SETTING", "SOURCE", "VALUE"]
    assert ["attach_rate", "config.toml", "7"] in lines
    assert ["config", "file", "-", str(paths.config_file)] in lines


def test_the_url_in_effect_is_the_one_that_was_set(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "wss://gateway.example/ws")
    document = json.loads(run_cli("context", "show", "-o", "json")[1])
    assert document["gatewayUrl"] == "wss://gateway.example/ws"


def test_contexts_are_made_listed_and_chosen(run_cli: RunCli) -> None:
    assert run_cli("context", "set", "far", "gateway_url=wss://far.example/ws")[0] == 0
    assert run_cli("context", "use", "far")[0] == 0
    items = json.loads(run_cli("context", "list", "-o", "json")[1])["items"]
    assert [(item["name"], item["current"]) for item in items] == [("local", False), ("far", True)]
    assert json.loads(run_cli("context", "show", "local", "-o", "json")[1])["name"] == "local"
    assert run_cli("context", "set", "far", "gateway_url=")[0] == 0
    source = json.loads(run_cli("context", "show", "-o", "json")[1])["settings"]["gateway_url"]
    assert source == {"value": None, "source": "default"}


def test_a_chosen_context_that_is_gone_is_in_the_way_of_no_other_choice(
    run_cli: RunCli, paths: Paths
) -> None:
    run_cli("context", "set", "far", "max_sessions=1")
    paths.config_file.write_text('current = "gone"\n')
    code, _, err = run_cli("workspace", "list")
    assert code == 3
    assert "coditect context use" in err
    code, out, _ = run_cli("context", "list", "-o", "json")
    assert code == 0
    assert [item["current"] for item in json.loads(out)["items"]] == [False]
    assert run_cli("context", "use", "local")[0] == 0


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("use", "none"), 3, "none"),
        (("show", "none"), 3, "none"),
        (("set", "local", "max_sesions=1"), 2, "did you mean max_sessions?"),
        (("set", "local", "max_sessions"), 2, "SETTING=VALUE"),
        (("set", "local", "max_sessions=many"), 2, "whole number"),
        (("set", "../x", "max_sessions=1"), 2, "name"),
    ],
)
def test_mistakes_are_told(
    run_cli: RunCli, paths: Paths, args: tuple[str, ...], status: int, said: str
) -> None:
    code, out, err = run_cli("context", *args)
    assert (code, out) == (status, "")
    assert said in err
    assert not paths.config_file.exists()


def test_settings_of_migrations_are_a_section_with_its_own_rules(
    run_cli: RunCli, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        run_cli("context", "set", "local", "migrate.project=acme-prod", "migrate.bake=2h")[0] == 0
    )
    monkeypatch.setenv("CODITECT_MIGRATE_CANARY_PERCENT", "25")
    settings = json.loads(run_cli("context", "show", "-o", "json")[1])["settings"]
    here = str(paths.config_file)
    assert settings["migrate.project"] == {"value": "acme-prod", "source": here}
    assert settings["migrate.bake"] == {"value": 7200.0, "source": here}
    variable = "CODITECT_MIGRATE_CANARY_PERCENT"
    assert settings["migrate.canary_percent"] == {"value": 25, "source": variable}
    assert run_cli("context", "set", "local", "migrate.project=")[0] == 0
    code, _, err = run_cli("context", "set", "local", "migrate.proyect=x")
    assert (code, "did you mean migrate.project?" in err) == (2, True)
    code, _, err = run_cli("context", "set", "local", "migrate.canary_percent=0")
    assert (code, "a percentage from 1 to 100" in err) == (2, True)
    paths.config_file.write_text("[contexts.local.migrate]\nbaek = '1h'\n")
    code, _, err = run_cli("context", "show")
    assert (code, "did you mean bake?" in err) == (2, True)
    paths.config_file.write_text("[contexts.local]\nmigrate = '1h'\n")
    code, _, err = run_cli("context", "show")
    assert (code, "migrate is not a table" in err) == (2, True)
