"""`coditect doctor`."""

from __future__ import annotations

import os
from dataclasses import asdict

import typer

from coditect_cli.doctor import Machine, examine
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime


def doctor(ctx: typer.Context) -> Result:
    """Check this machine and the context's cluster, and say how to fix what is wrong.

    Nothing is changed, and no gateway is started. In a context on Kubernetes the cluster is asked
    for the user, their permissions, the namespace and the storage class, and the gateway whether it
    is ready.

    Examples:
      coditect doctor
      coditect doctor --context prod -o json

    Exit codes: 0 nothing failed (there may be warnings), 8 a check failed
    """
    runtime: Runtime = ctx.obj
    streams = runtime.streams
    on_terminal = streams.stdout.isatty()
    machine = Machine(runtime.paths, os.environ, runtime.context_name, on_terminal, streams.say)
    findings = [asdict(finding) for finding in examine(machine)]
    failed = sum(finding["status"] == "fail" for finding in findings)
    columns = {"CHECK": "check", "STATUS": "status", "FOUND": "message", "FIX": "fix"}
    return Result(
        "DoctorReport",
        {"ok": not failed, "items": findings},
        columns,
        below="FIX",
        name="check",
        exit_code=8 if failed else 0,
    )
