"""From argv to exit code: the only place where an exception becomes one."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from coditect_cli import __version__

if TYPE_CHECKING:
    from coditect_cli.runtime import Runtime
    from coditect_cli.streams import Streams

SIGPIPE_STATUS = 141  # what a shell reports for a program that SIGPIPE ended


def entry() -> None:
    """The program `coditect`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # While modules are loaded an interrupt would be a traceback, or lost in their loader.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # until a command runs: its passes over modules are a tenth of a start
    status = main(sys.argv[1:])
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one is no traceback
    _let_go(sys.stdout)
    _let_go(sys.stderr)
    atexit._run_exitfuncs()  # as multiprocessing ends its children
    # A thread that still waits for the network would meet an interpreter, and a TLS library, that
    # are being taken down: that has ended commands with SIGSEGV.
    os._exit(status)


def main(argv: Sequence[str], streams: Streams | None = None) -> int:
    """Run one command line and return its exit code; raises nothing."""
    if list(argv) in (["--version"], ["version"]) and streams is None and _printed_version():
        return 0
    from coditect_cli.runtime import Runtime
    from coditect_cli.streams import Streams

    runtime = Runtime(streams or Streams.system())
    try:
        return _run(argv, runtime)
    except BrokenPipeError:  # whoever read our output has gone
        return SIGPIPE_STATUS
    except (Exception, KeyboardInterrupt) as problem:
        return _report(problem, runtime)


def _printed_version() -> bool:
    """The fast path: no command tree. Whatever is wrong with stdout is told by the slow one."""
    try:
        os.write(sys.stdout.fileno(), f"coditect {__version__}\n".encode())
    except (OSError, AttributeError):
        return False
    return True


def _let_go(stream: TextIO | None) -> None:
    """Write what a stream still holds. What can't be written has been told, or nobody can be told:
    the interpreter would try again as it ends, and end with a status of its own.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: Sequence[str], runtime: Runtime) -> int:
    from contextlib import redirect_stderr, redirect_stdout

    from coditect_cli.app import run
    from coditect_cli.output import Result, emit

    streams = runtime.streams
    with redirect_stdout(streams.stdout), redirect_stderr(streams.stderr):
        result = run(argv, runtime)
        if isinstance(result, Result):
            emit(result, runtime.output, streams)
            return result.exit_code
        streams.stdout.flush()
        return result if isinstance(result, int) else 0


def _report(problem: BaseException, runtime: Runtime) -> int:
    from contextlib import suppress

    from coditect_cli.errors import as_error
    from coditect_cli.output import emit_error

    error = as_error(problem)
    with suppress(OSError):  # nobody may be left to tell; the exit code still does
        if runtime.debug:
            import traceback

            runtime.streams.say("".join(traceback.format_exception(problem)).rstrip())
        emit_error(error, runtime.output, runtime.streams)
    return error.exit_code
