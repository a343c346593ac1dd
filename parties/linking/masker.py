"""The program of a process that raises points to one secret exponent: the primitive holds the interpreter's lock, so that only
processes make use of several cores.

It is confined as a session worker is, and speaks on its pipes alone:

    in    exponent (32), then any number of: operation (1) | count (4, little-endian) | count values (32 each)
    out   for each: `+` and count points (32 each), or `-` if a value is no point of the curve

Operations: `h` hashes a value to a point and raises it, `p` raises a point. The end of its input ends it.
"""

from __future__ import annotations

import sys

from parties.worker.confinement import confine, name_process
from protocols.errors import ConfideError
from protocols.identifiers.group import POINT_BYTES, Exponent, split_points

NAME = "confide-masker"
HASH, POINT = b"h", b"p"
DONE, REFUSED = b"+", b"-"
COUNT_BYTES = 4


def main() -> None:
    """Serves one pipe."""
    confine()
    name_process(NAME)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    exponent = Exponent.from_secret_bytes(source.read(POINT_BYTES))
    while head := source.read(1 + COUNT_BYTES):
        raised = exponent.power_of_hash if head[:1] == HASH else exponent.power
        values = source.read(POINT_BYTES * int.from_bytes(head[1:], "little"))
        try:
            answer = DONE + b"".join(map(raised, split_points(values)))
        except ConfideError:
            answer = REFUSED
        sink.write(answer)
        sink.flush()


if __name__ == "__main__":
    main()
