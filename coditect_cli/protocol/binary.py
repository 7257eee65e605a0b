"""WebSocket frames of terminal bytes, as RFC 6455 (section 5.2) lays them out.

Both ends leave the protocol to their library. It makes an object of each frame, though, which
costs more than all else that a keystroke needs: so these ends write binary frames themselves,
and read those that a keystroke and its echo are.
"""

from __future__ import annotations

import os
import struct
from types import GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from websockets.protocol import Protocol

_FINAL_BINARY = 0x82
_MASKED = 0x80
_OPEN = 1  # State.OPEN of websockets, which is loaded when there is a connection
_SHORT = 125  # bytes; what is longer has its length in a field of its own


def frame(payload: bytes, *, masked: bool) -> bytes:
    """A binary frame with `payload`, masked as a client's must be."""
    length, mask_bit = len(payload), _MASKED if masked else 0
    if length <= _SHORT:
        head = bytes((_FINAL_BINARY, mask_bit | length))
    elif length < 1 << 16:
        head = struct.pack("!BBH", _FINAL_BINARY, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", _FINAL_BINARY, mask_bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return b"".join((head, mask, _mask(payload, mask)))


def lone_payload(data: bytes, *, masked: bool) -> bytes | None:
    """The payload where `data` is one short binary frame and nothing else."""
    start = 6 if masked else 2
    if not start < len(data) <= start + _SHORT or data[0] != _FINAL_BINARY:
        return None
    if data[1] != len(data) - start + (_MASKED if masked else 0):
        return None
    return _mask(data[6:], data[2:6]) if masked else data[2:]


def at_boundary(protocol: Protocol) -> bool:
    """Whether the next byte that `protocol` receives begins a message.

    Its parser is a generator, and says by where it waits what it waits for.
    """
    if protocol.state != _OPEN or protocol.current_size is not None:
        return False
    parser: Any = protocol.parser
    while isinstance(parser.gi_yieldfrom, GeneratorType):
        parser = parser.gi_yieldfrom
    return bool(parser.__name__ == "at_eof")


def _mask(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
    return mixed.to_bytes(length, "little")
