"""The keeper: parent of every shell, holder of its descriptors, and the bridge's restarter.

    python -m coditect_cli.gateway.keeper --lock PATH --listen ADDR... -- BRIDGE ARGV...

Single-threaded, no network, standard library only: what is this small may live for months.
It holds the listening sockets, so a client that connects while the bridge restarts only waits.
It knows nothing of what it holds: a bridge hands it descriptors by name with each program to
start, and its successor gets them all back.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from coditect_cli.gateway import fork, processes
from coditect_cli.gateway.handover import LOCKED, REFUSED, VERSION, Channel
from coditect_cli.gateway.listeners import bound_address, listen

PR_SET_CHILD_SUBREAPER = 36
_MOST_CRASHES, _CRASH_SECONDS = 5, 10.0
_DRAIN_SECONDS = 10.0
_RETRY_SECONDS = 5.0
_CHECK_SECONDS = 20.0
_MACOS_FILES = 10_240  # setrlimit(2) there: more is refused, though it says unlimited


@dataclass
class Program:
    """One program that was started, and the descriptors kept for it."""

    pid: int
    meta: dict[str, Any]
    fds: dict[str, int] = field(default_factory=dict)
    status: int | None = None


class Keeper:
    """Starts the bridge, and again; forks programs; ends everything."""

    def __init__(self, listeners: dict[str, socket.socket], bridge: list[str]) -> None:
        self.listeners = listeners
        self.bridge = bridge
        self.programs: dict[str, Program] = {}
        self.started_at = time.time()
        self.crashes: list[float] = []
        self.channel: Channel | None = None
        self.hears_bridge = False
        self.retry_in: float | None = None
        self.bridge_pid = 0
        self.stopping = False
        self.exit_status = 0
        self.soft_limit = _raise_file_limit()
        self.selector = selectors.DefaultSelector()
        self.wakeup, wakeup_end = socket.socketpair()
        wakeup_end.setblocking(False)
        self.wakeup.setblocking(False)
        self._wakeup_end = wakeup_end
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        self.selector.register(self.wakeup, selectors.EVENT_READ, self.on_signal)

    def run(self) -> int:
        """Serve until asked to stop; the process's exit status."""
        _become_subreaper()
        self.start_bridge()
        while self.channel is not None or self.retry_in:
            ready = self.selector.select(self.retry_in)
            for key, _ in ready:
                key.data()
            if self.retry_in and not ready:
                self.retry_in = None
                self.start_bridge()
        self.end_everything()
        return self.exit_status

    def start_bridge(self) -> None:
        """Start a bridge and hand over all that is held."""
        ours, theirs = socket.socketpair()
        try:
            child = subprocess.Popen(
                [*self.bridge, "--keeper-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                preexec_fn=_ignore_interrupts,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            ours.close()
            log("bridge_not_started", why=error)
            self.bridge_ended(1)
            return
        finally:
            theirs.close()
        self.bridge_pid = child.pid
        child.returncode = 0  # reaped by wait_for_children, like every other child
        self.channel = Channel(ours)
        self.hears_bridge = True
        self.selector.register(ours, selectors.EVENT_READ, self.on_bridge)
        with suppress(OSError):
            self.hand_over()

    def hand_over(self) -> None:
        for address, listener in self.listeners.items():
            self.say({"type": "listener", "address": address}, [listener.fileno()])
        for name, program in self.programs.items():
            message = {
                "type": "program",
                "id": name,
                "pid": program.pid,
                "meta": program.meta,
                "status": program.status,
                "names": list(program.fds),
            }
            self.say(message, list(program.fds.values()))
        started = {"type": "ready", "keeperPid": os.getpid(), "startedAt": self.started_at}
        self.say({**started, "version": VERSION})

    def say(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if self.channel is not None:
            self.channel.send(message, fds)

    def on_signal(self) -> None:
        with suppress(BlockingIOError):
            for number in self.wakeup.recv(4096):
                if number == signal.SIGCHLD:
                    self.wait_for_children()
                elif number in (signal.SIGTERM, signal.SIGINT):
                    self.stop()

    def wait_for_children(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.bridge_pid:
                self.bridge_ended(os.waitstatus_to_exitcode(status))
                continue
            for name, program in self.programs.items():
                if program.pid == pid and program.status is None:
                    program.status = os.waitstatus_to_exitcode(status)
                    with suppress(OSError):
                        self.say({"type": "exited", "id": name, "status": program.status})

    def bridge_ended(self, status: int) -> None:
        """Start the bridge again: later, or not at all, where it crashes again and again."""
        self.bridge_pid = 0
        if self.channel is not None:
            while self.hears_bridge:
                self.on_bridge()
            self.channel.socket.close()
            self.channel = None
        now = time.monotonic()
        if status not in (0, -signal.SIGKILL, -signal.SIGTERM):
            self.crashes = [at for at in self.crashes if now - at < _CRASH_SECONDS] + [now]
            log("bridge_crashed", status=status, crashes=len(self.crashes))
        if self.stopping:
            self.retry_in = None
        elif status != REFUSED and len(self.crashes) < _MOST_CRASHES:
            self.start_bridge()
        elif any(program.status is None for program in self.programs.values()):
            # They live on until a bridge knows them: the release may be half installed.
            log("waiting", status=status, retry_in=_RETRY_SECONDS)
            self.retry_in = _RETRY_SECONDS
        else:
            log("giving_up", status=status)
            self.exit_status = status or 1

    def on_bridge(self) -> None:
        assert self.channel is not None  # noqa: S101 - registered only while there is one
        channel = self.channel
        try:
            messages = channel.receive()
        except (EOFError, OSError):
            self.selector.unregister(channel.socket)
            self.hears_bridge = False
            if self.bridge_pid:
                os.kill(self.bridge_pid, signal.SIGKILL)
            return
        for message, fds in messages:
            try:
                getattr(self, "on_" + message["type"])(message, fds)
            except OSError as error:
                log("not_done", what=message["type"], why=error)
            except (AttributeError, KeyError, TypeError):
                # A bridge that asks for what we do not know must not end every program.
                log("not_understood", what=message.get("type"))

    def on_spawn(self, message: dict[str, Any], fds: list[int]) -> None:
        """Start a program; `names` says which of its descriptors are its own 0, 1, 2."""
        held = dict(zip(message["names"], fds, strict=True))
        own = {name: held.pop(name) for name in ("0", "1", "2", *message["passed"])}
        answer = {"type": "spawned", "id": message["id"]}
        try:
            pid = fork.start(message, own, self.soft_limit)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            for fd in held.values():
                os.close(fd)
            number = error.errno if isinstance(error, OSError) else None
            self.say({**answer, "pid": None, "errno": number, "error": str(error)})
        else:
            self.programs[message["id"]] = Program(pid, message["meta"], held)
            self.say({**answer, "pid": pid})
        finally:
            for fd in set(own.values()):
                os.close(fd)

    def on_release(self, message: dict[str, Any], _fds: list[int]) -> None:
        """Close one descriptor of a program: its standard input has ended."""
        program = self.programs.get(message["id"])
        if program is not None and (fd := program.fds.pop(message["name"], None)) is not None:
            os.close(fd)

    def on_forget(self, message: dict[str, Any], _fds: list[int]) -> None:
        """Close all that is held for a program that has ended."""
        program = self.programs.pop(message["id"], None)
        if program is not None:
            for fd in program.fds.values():
                os.close(fd)

    def on_restart(self, message: dict[str, Any], _fds: list[int]) -> None:
        """Let another bridge take over, if the one that is installed now can."""
        refused = None
        try:
            subprocess.run(
                [*self.bridge, "--check-handover", str(VERSION), *message["check"]],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CHECK_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines()
            refused = lines[-1] if lines else f"it ended with {error.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            refused = str(error)
        if refused is not None:
            log("restart_refused", why=refused)
        self.say({"type": "restart", "refused": refused})

    def on_stop(self, _message: dict[str, Any], _fds: list[int]) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the bridge take leave of its clients; when it has ended, so does everything."""
        if not self.stopping:
            self.stopping = True
            self.retry_in = None
            signal.setitimer(signal.ITIMER_REAL, _DRAIN_SECONDS)
            signal.signal(signal.SIGALRM, self.stop_waiting)
            self.stop_listening()
            with suppress(OSError):
                self.say({"type": "drain"})

    def stop_listening(self) -> None:
        """From now on whoever connects is refused, and may start a gateway of its own."""
        for address, listener in self.listeners.items():
            listener.close()
            if address.startswith("unix:"):
                with suppress(FileNotFoundError):
                    os.unlink(address.removeprefix("unix:"))
        self.listeners = {}

    def stop_waiting(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            if self.bridge_pid:
                os.kill(self.bridge_pid, signal.SIGKILL)

    def end_everything(self) -> None:
        """Hang up every program and whatever came of it."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        self.wakeup.close()
        self._wakeup_end.close()
        self.stop_listening()
        for program in self.programs.values():
            for fd in program.fds.values():
                os.close(fd)

        def descendants() -> set[int]:
            self.wait_for_children()
            return processes.members({os.getpid()}) - {os.getpid()}

        self.stopping = True
        processes.end(descendants)


def log(event: str, **fields: object) -> None:
    """One line on stderr."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pairs = " ".join(f"{name}={value}" for name, value in fields.items())
    print(f"{stamp} keeper {event} {pairs}".rstrip(), file=sys.stderr, flush=True)


def take_lock(path: str) -> int | None:
    """The lock's descriptor, held while we live; None when another keeper holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.truncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _raise_file_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MACOS_FILES if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a foreground gateway's Ctrl-C is the keeper's


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main(argv: list[str]) -> int:
    """Run a keeper; LOCKED at once when another one holds the lock."""
    parser = argparse.ArgumentParser(prog="coditect-keeper")
    parser.add_argument("--lock")
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("bridge", nargs="+")
    options = parser.parse_args(argv)
    if options.lock and take_lock(options.lock) is None:
        log("already_running", lock=options.lock)
        return LOCKED
    listeners: dict[str, socket.socket] = {}
    for address in options.listen:
        try:
            listener = listen(address)
        except (OSError, ValueError, OverflowError) as error:
            print(f"can't listen on {address}: {error}", file=sys.stderr)
            return 9
        listeners[bound_address(address, listener)] = listener
    log("listening", pid=os.getpid(), on=",".join(listeners))
    return Keeper(listeners, options.bridge).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
