"""What every test may use: a home of its own, the command line, and a check that nothing stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest

from coditect_cli.main import main
from coditect_cli.paths import Paths
from coditect_cli.streams import Streams
from tests.support.cluster import Cluster
from tests.support.shared_cluster import shared_cluster

RunCli = Callable[..., tuple[int, str, str]]

# Set where every part that tests need was installed: there a test that skips has failed.
ALL_PARTS = "CODITECT_ALL_PARTS" in os.environ

os.environ.pop("PYTHONUNBUFFERED", None)  # the programs' streams are to be as users have them
# What is ignored here, as in the background or by nohup, all programs would ignore.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    report = yield
    in_no_registry = item.get_closest_marker("foundationdb") is not None
    if ALL_PARTS and report.skipped and not hasattr(report, "wasxfail") and not in_no_registry:
        report.outcome = "failed"
        report.longrepr = f"skipped, though every part should be here: {report.longrepr}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real control plane, started once and shared by the workers of a run."""
    base = tmp_path_factory.getbasetemp()
    with shared_cluster(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty CODITECT_HOME; whatever runs in it when the test ends fails the test."""
    for name in [name for name in os.environ if name.startswith("CODITECT_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("CODITECT_HOME", str(folder))
    yield folder
    if (folder / "state" / "gateway.sock").exists():
        main(["gateway", "stop", "--force"], Streams.test())
    _, survivors = psutil.wait_procs(_processes_in(folder), timeout=10)
    names = [str(process) for process in survivors]
    for process in survivors:
        process.kill()
    assert not names, f"processes were left behind: {names}"


def _processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            here = process.environ().get("CODITECT_HOME") == str(folder)
            here = here or Path(process.cwd()).is_relative_to(folder)
        except (psutil.Error, OSError):
            continue
        if here and process.pid != os.getpid():
            found.append(process)
    return found


@pytest.fixture
def paths(home: Path) -> Paths:
    """The folders below the test's home."""
    return Paths.from_environ({"CODITECT_HOME": str(home)})


@pytest.fixture
def run_cli(home: Path) -> RunCli:
    """Run a command line through main(): `run_cli(*args, stdin=b"") -> (code, stdout, stderr)`."""

    def run(*args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        streams = Streams.test(stdin)
        code = main(list(args), streams)
        outputs = []
        for stream in (streams.stdout, streams.stderr):
            stream.seek(0)
            outputs.append(stream.read())
        return code, outputs[0], outputs[1]

    return run
