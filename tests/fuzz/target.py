"""What a fuzzing target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocols.errors import ConfideError

Decode = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """A decoder under test.

    Attributes:
        name: how it is called on the command line; its corpus has this name too.
        decode: what takes the bytes.
        seeds: makes inputs that it accepts.
        declared: the only exceptions that may come out.
    """

    name: str
    decode: Decode
    seeds: Callable[[], Sequence[bytes]]
    declared: tuple[type[Exception], ...] = (ConfideError,)

    def is_accepted(self, data: bytes) -> bool:
        """Decodes; False if it was refused with a declared exception, any other one passes through."""
        try:
            self.decode(data)
        except self.declared:
            return False
        return True
