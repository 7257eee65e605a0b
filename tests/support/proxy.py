"""A proxy between a client and a gateway's socket that cuts, and goes dead, as networks do."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Proxy:
    """Listens on `path`, forwards to the socket `upstream`.

    With `cuts`, each of that many connections is dropped after a random number of bytes (seeded,
    at most `longest`), counted over both directions: in the handshake and inside frames, too.
    """

    def __init__(
        self, path: Path, upstream: Path, *, cuts: int = 0, longest: int = 1, seed: int = 0
    ) -> None:
        self.path = path
        self.url = f"ws+unix:{path}"
        self.connections = 0
        self.cuts_done = 0
        self._upstream = upstream
        self._cuts = cuts
        self._longest = longest
        self._random = random.Random(seed)  # noqa: S311 (a test must repeat)
        self._hangs_up = False
        self._forwarding = threading.Event()
        self._forwarding.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._serve(self._accept)

    def go_dead(self) -> None:
        """Carry nothing any more, but keep every connection open."""
        self._forwarding.clear()

    def drop(self) -> None:
        """Drop the connections there are."""
        for pair in list(self._pairs):  # not those that come back meanwhile
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def hang_up(self, *, on_everybody: bool) -> None:
        """Drop the connections there are, and from now on each new one at once; or no longer."""
        self._hangs_up = on_everybody
        if on_everybody:
            self.drop()

    def refuse(self) -> None:
        """Listen no more, and drop the connections there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.path.unlink(missing_ok=True)
        self.drop()

    def listen_again(self) -> None:
        self._listener.close()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(16)
        self._serve(self._accept)

    def close(self) -> None:
        self._forwarding.set()
        with suppress(OSError):
            self.refuse()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _serve(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._hangs_up:
                client.close()
                continue
            gateway = socket.socket(socket.AF_UNIX)
            gateway.connect(str(self._upstream))
            budget = None
            if self.cuts_done < self._cuts:
                self.cuts_done += 1
                budget = self._random.randint(1, self._longest)
            self._pairs.append((client, gateway))
            self._serve(self._forward, client, gateway, budget)

    def _forward(self, client: socket.socket, gateway: socket.socket, budget: int | None) -> None:
        other = {client: gateway, gateway: client}
        with client, gateway, suppress(OSError):
            while True:
                for end in select.select([client, gateway], [], [])[0]:
                    data = end.recv(65_536 if budget is None else min(65_536, budget))
                    if not data:
                        return
                    self._forwarding.wait()
                    other[end].sendall(data)
                    if budget is not None:
                        budget -= len(data)
                        if budget <= 0:
                            return


@contextmanager
def proxy(
    path: Path, upstream: Path, *, cuts: int = 0, longest: int = 1, seed: int = 0
) -> Iterator[Proxy]:
    running = Proxy(path, upstream, cuts=cuts, longest=longest, seed=seed)
    try:
        yield running
    finally:
        running.close()
