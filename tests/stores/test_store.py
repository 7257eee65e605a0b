from __future__ import annotations

from pathlib import Path

import pytest

from coditect_cli.errors import UsageError
from coditect_cli.paths import Paths
from coditect_cli.settings import Settings
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import END, open_store, prefix_end


def test_the_end_of_a_prefix_is_the_first_key_that_does_not_start_with_it() -> None:
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"") == prefix_end(b"\xff") == END


def test_the_settings_choose_the_store(paths: Paths, tmp_path: Path) -> None:
    store = open_store(Settings(), paths)
    assert isinstance(store, SQLiteStore)
    assert paths.session_store.exists()
    store.close()
    missing = str(tmp_path / "fdb.cluster")
    with pytest.raises(UsageError) as caught:
        open_store(Settings(store="foundationdb", fdb_cluster_file=missing), paths)
    assert caught.value.code == "store.cluster_file"
    assert missing in caught.value.message
    with pytest.raises(UsageError) as caught:
        open_store(Settings(store="foundationdb", fdb_tls_key_file=missing), paths)
    assert caught.value.code == "store.tls_file"
