"""`coditect gateway probe` and `selftest`: whether what is typed comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from coditect_cli.attach.credentials import Credentials
from coditect_cli.errors import Conflict, Failed, NotFound, UsageError
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.tokens import local_user
from coditect_cli.workspaces.local import LocalWorkspaces


def probe(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", help="The gateway's URL; else the one in effect.")
    ] = None,
    service: Annotated[
        Literal["staging", "production"] | None,
        typer.Option(
            "--service",
            metavar="staging|production",
            help="The Cloud Run service that migrations deploy to, in place of --url.",
        ),
    ] = None,
    writes: Annotated[
        int, typer.Option("--writes", metavar="N", min=1, max=1_000_000, help="How many.")
    ] = 100,
    workspace: Annotated[
        str, typer.Option("--workspace", metavar="ID", help="Where to open the session.")
    ] = "probe",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token unencrypted to another host.")
    ] = False,
) -> Result:
    """Type into a session of its own, one write after the other's echo, and check each echo.

    --service takes project, region and name from the settings of coditect migrate phase1.

    On this machine a workspace that is not there is made for the probe, and removed after it. No
    gateway is started.

    Examples:
      coditect gateway probe
      coditect gateway probe --service staging
      coditect gateway probe --url wss://gateway.example.com --workspace demo --writes 1000

    Exit codes: 0 all came back once and in order, 2 --url beside --service, 3 no such service,
    4 not authenticated, 8 they did not, 9 the gateway does not answer
    """
    from coditect_cli.attach.link import Link
    from coditect_cli.attach.probe import probe as run

    runtime: Runtime = ctx.obj
    if url is not None and service is not None:
        raise UsageError("--url and --service both say where: give only one")
    if service is not None:
        from coditect_cli.migrations.driving import service_url

        url = service_url(runtime, service)
    address = url or runtime.context.gateway_url(runtime.paths)
    credentials = Credentials(runtime.context, runtime.paths, workspace, os.environ)
    with _borrowed_workspace(runtime, workspace):
        link = Link.open(address, workspace, credentials.token(), insecure=insecure)
        echoes = run(link, writes)
    p50, p99 = echoes.percentile(50), echoes.percentile(99)
    fields = {"gatewayUrl": address, "writes": writes, "lost": echoes.lost}
    fields |= {"doubled": echoes.doubled, "p50Ms": p50, "p99Ms": p99, "ok": echoes.ok}
    text = f"{writes} writes: {echoes.lost} lost, {echoes.doubled} doubled"
    if not (echoes.ok or echoes.lost or echoes.doubled):
        text += ", but not in order or with other bytes between"
    if p50 is not None and p99 is not None:
        text += f"; echo p50 {p50:.3f} ms, p99 {p99:.3f} ms"
    exit_code = 0 if echoes.ok else Failed.exit_code
    return Result("GatewayProbe", fields, text=text, name="ok", exit_code=exit_code)


def selftest(ctx: typer.Context) -> Result:
    """Try this installation on a gateway of its own, which is gone afterwards.

    Examples:
      coditect gateway selftest
      coditect gateway selftest -o json

    Exit codes: 0 all passed, 8 one failed, 9 the gateway does not start
    """
    from coditect_cli.attach.selftest import run

    items = [
        {
            "name": outcome.name,
            "status": "fail" if outcome.error else "pass",
            "durationMs": round(outcome.seconds * 1000, 1),
            "message": outcome.error.message if outcome.error else "",
        }
        for outcome in run()
    ]
    ok = all(item["status"] == "pass" for item in items)
    columns = {"TEST": "name", "STATUS": "status", "MS": "durationMs", "MESSAGE": "message"}
    return Result(
        "GatewaySelftest",
        {"ok": ok, "items": items},
        columns,
        name="name",
        exit_code=0 if ok else Failed.exit_code,
    )


@contextmanager
def _borrowed_workspace(runtime: Runtime, id: str) -> Iterator[None]:
    """A workspace to be used for a moment; one that was not there is removed again.

    A directory that an earlier delete kept stays. A gateway elsewhere has to have it.
    """
    if runtime.context.is_remote:
        yield
        return
    workspaces = LocalWorkspaces(runtime.paths)
    try:
        workspaces.root(id)
        kept = True
    except NotFound:
        kept = False
    try:
        workspaces.create(id, local_user())
    except Conflict:
        yield
        return
    try:
        yield
    finally:
        workspaces.delete(id, purge=not kept)
