"""10,000 workspaces: all of them listed, in pages, in memory that does not grow with them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coditect_cli.settings import Settings
from coditect_cli.workspaces.manifest import build
from tests.cluster.conftest import IMAGE
from tests.gateway.test_edge import Edge
from tests.support.cluster import Cluster

COUNT = 10_000
MEASURED = """
import resource, sys
from coditect_cli.main import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def fill(cluster: Cluster, namespace: str, count: int) -> None:
    """Make stopped workspaces, so that nobody has to run their pods."""
    local, host = threading.local(), urlsplit(cluster.url).netloc
    connections: list[http.client.HTTPSConnection] = []
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    settings = Settings(namespace=namespace, image=IMAGE)
    _, template = build("w-0", "ada", settings)
    template["spec"]["replicas"] = 0
    text = json.dumps(template)

    def make(number: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPSConnection(host, context=cluster.tls)
            connections.append(local.connection)
        body = text.replace('"w-0"', f'"w-{number:05}"')
        local.connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = local.connection.getresponse()
        content = answer.read()
        assert answer.status == 201, content

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(count)))
    for connection in connections:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_are_listed_in_constant_memory(
    cluster: Cluster, namespace: str, provider: None, tmp_path: Path
) -> None:
    def listed(form: str) -> tuple[list[str], int]:
        line = [sys.executable, "-c", MEASURED, "workspace", "list", "-o", form]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        return done.stdout.splitlines(), int(done.stderr.split()[-1])

    forms: list[tuple[str, Callable[[str], str]]] = [
        ("name", str),
        ("ndjson", lambda line: str(json.loads(line)["id"])),
    ]
    base = {form: listed(form)[1] for form, _ in forms}
    fill(cluster, namespace, COUNT)
    expected = [f"w-{number:05}" for number in range(COUNT)]
    for form, id_of in forms:
        lines, memory = listed(form)
        assert [id_of(line) for line in lines] == expected
        assert memory - base[form] < 40 * 1024, "KiB more than for none"
    few = most_memory_of_an_edge(Edge(cluster, tmp_path))
    many = most_memory_of_an_edge(Edge(cluster, tmp_path, namespace=namespace))
    assert many - few < 80 * 1024, "KiB more than for none; an object is 6 KiB"
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}")


def most_memory_of_an_edge(edge: Edge) -> int:
    """KiB, until it is ready: it knows every workspace then."""
    try:
        status = Path(f"/proc/{edge.start().pid}/status").read_text()
    finally:
        edge.stop()
    [line] = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])
