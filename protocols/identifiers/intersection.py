"""Private set intersection of two institutions by Diffie-Hellman on P-256, each step as a function; semi-honest adversary.

    masked(x) = H(x)^a at its owner        doubled(x) = H(x)^(a*b), equal at both for equal x

Meadows 1986; Huberman, Franklin, Hogg 1999; with sizes alone De Cristofaro, Gasti, Tsudik 2012. Each side commits to its masked
set before it sees anything of the other, so that neither can choose its set after the other's; masked sets travel sorted, which
is a random order. The steps, D the side that dials, W the one that waits:

    1  D -> W  size, schema, commitment to D's masked set          W -> D  the same of W, a random session id
    2  D -> W  D's masked set, and the salt of its commitment
    3  W -> D  W's masked set, and its salt
    4  D -> W  a commitment to W's set doubled by D                W -> D  D's set doubled by W
    5  D -> W  W's set doubled by D
    6  D -> W  the outcome that D has found, which W must have found too

Lists doubled for their owner keep its order, so that it knows which rows are common (`Mode.ROWS`); or are sorted, so that it
learns how many alone (`Mode.SIZE`). No value is compared by a filter: there are no false positives but collisions of SHA-256.

Learns: both sides, both sizes and schemas, and the intersection or its size; nobody else anything. Under the decisional
Diffie-Hellman assumption on P-256, H a random oracle, nothing else follows from what a side sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import POINT_BYTES, field, split_points

DIGEST_BYTES = 32
SALT_BYTES = 32
SESSION_BYTES = 16
MAX_ELEMENTS = 1_000_000
PART_ELEMENTS = 32_768  # 1 MiB
_ELEMENT_DOMAIN = b"confide.intersection-element/1\x00"
_SET_DOMAIN = b"confide.intersection-set/1\x00"
_ALIGNMENT_DOMAIN = b"confide.intersection-alignment/1\x00"
_FORMAT = "confide.intersection/1"


class Mode(Enum):
    """What an intersection discloses."""

    ROWS = "rows"  # to each side, which of its own rows the other side has too
    SIZE = "size"  # how many there are, and nothing else


@dataclass(frozen=True)
class Side:
    """What one side tells before anything; public between the two.

    Attributes:
        party: its id.
        size: elements of its set.
        schema_digest: of the columns that it brings, 64 hexadecimal digits.
        commitment: to its masked set, 32 bytes.
    """

    party: str
    size: int
    schema_digest: str
    commitment: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_ELEMENTS:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a set has 1 to {MAX_ELEMENTS} elements")
        if len(self.commitment) != DIGEST_BYTES:
            raise ConfideError(ErrorCode.BAD_FRAME, f"a commitment has {DIGEST_BYTES} bytes", party=self.party)


@dataclass(frozen=True)
class Meeting:
    """One run; public between the two.

    Attributes:
        consortium: its id.
        label: what both call this set of people.
        mode: what is disclosed.
        session: random, 16 bytes, of the side that waits.
        dialling: the side that dials.
        waiting: the side that waits.
    """

    consortium: str
    label: str
    mode: Mode
    session: bytes
    dialling: Side
    waiting: Side

    def to_bytes(self) -> bytes:
        """Its canonical bytes."""
        sides = [
            {"party": s.party, "size": s.size, "schema": s.schema_digest, "commitment": s.commitment.hex()}
            for s in (self.dialling, self.waiting)
        ]
        document = {"format": _FORMAT, "consortium": self.consortium, "label": self.label, "mode": self.mode.value}
        return canonical_bytes(document | {"session": self.session.hex(), "sides": sides})


def element(identifier: str, *, consortium: str, label: str, parties: Sequence[str]) -> bytes:
    """Returns what is hashed to a point, 32 bytes; secret as the identifier is.

    Args:
        identifier: normalised.
        consortium: its id.
        label: of the run; masked sets of other labels or other parties are of other points.
        parties: the ids of both sides, in any order.
    """
    context = b"".join(map(field, (consortium, label, *sorted(parties))))
    return hashlib.sha256(_ELEMENT_DOMAIN + context + field(identifier)).digest()


def commit(points: Sequence[bytes], salt: bytes) -> bytes:
    """Returns the commitment to a list of points, 32 bytes.

    Args:
        points: in their order.
        salt: 32 random bytes; empty for points that the other side cannot guess anyway.
    """
    digest = hashlib.sha256(_SET_DOMAIN + field(salt) + len(points).to_bytes(8, "little"))
    digest.update(b"".join(points))
    return digest.digest()


def check_masked(points: Sequence[bytes], side: Side, salt: bytes) -> None:
    """Checks another side's masked set, but for its points being on the curve, which whoever doubles them finds.

    Raises:
        ConfideError: BAD_FRAME (that side's fault): not sorted, an element twice, or another number than announced;
            COMMITMENT_DIFFERS (likewise): it is not the set that was committed to.
    """
    _check_size(points, side.size, side.party)
    _check_sorted(points, side.party)
    if len(salt) != SALT_BYTES or commit(points, salt) != side.commitment:
        what = f"the set of {side.party} is not the one that it committed to"
        raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, remedy="Treat the party named as faulty.", party=side.party)


def check_doubled(points: Sequence[bytes], mode: Mode, *, size: int, party: str) -> None:
    """Checks a list that another side has doubled.

    Args:
        points: the list.
        mode: of the run.
        size: of the set that was doubled.
        party: who doubled it.

    Raises:
        ConfideError: BAD_FRAME (that side's fault): another number, an element twice, or unsorted where order would tell rows.
    """
    _check_size(points, size, party)
    if mode is Mode.SIZE:
        _check_sorted(points, party)
    elif len(set(points)) != len(points):
        raise ConfideError(ErrorCode.BAD_FRAME, "an element stands twice in a doubled set", party=party)


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a run has shown; secret but for transcript and alignment, and the number in a run that tells sizes.

    Attributes:
        transcript: digest of everything that both sides have seen, 64 hexadecimal digits.
        found: how many elements are common.
        alignment: of the common rows, 64 hexadecimal digits; empty if rows are not told.
        positions: in this side's masked set, of the common elements, in the order that both sides find; likewise.
    """

    transcript: str
    found: int
    alignment: str
    positions: tuple[int, ...]


def outcome_of(
    meeting: Meeting,
    *,
    masked: tuple[Sequence[bytes], Sequence[bytes]],
    doubled: tuple[Sequence[bytes], Sequence[bytes]],
    own: int,
) -> Outcome:
    """Compares the doubled sets.

    The common values are sorted: an order that both sides find and that says nothing. The alignment is bound to the run and to
    the set; nobody who was not part of the run can tell from it who is in the set, since the values are under two secret
    exponents that are destroyed with the run.

    Args:
        meeting: the run.
        masked: the masked sets of the side that dials and of the one that waits.
        doubled: likewise, as the other side doubled them.
        own: which of the two this side's is.
    """
    digest = hashlib.sha256(field(meeting.to_bytes()))
    for points in (*masked, *doubled):
        digest.update(commit(points, b""))
    seen = digest.hexdigest()
    found = sorted(set(doubled[0]) & set(doubled[1]))
    if meeting.mode is Mode.SIZE:
        return Outcome(seen, len(found), "", ())
    aligned = hashlib.sha256(_ALIGNMENT_DOMAIN + field(meeting.label) + digest.digest() + commit(found, b"")).hexdigest()
    where = {value: position for position, value in enumerate(doubled[own])}
    return Outcome(seen, len(found), aligned, tuple(where[value] for value in found))


class Incoming:
    """A list of points that arrives in parts."""

    def __init__(self, size: int, *, party: str) -> None:
        """Takes how many were announced, and who sends them."""
        self._size = size
        self._party = party
        self._points: list[bytes] = []

    @property
    def num_received(self) -> int:
        """How many have arrived."""
        return len(self._points)

    @property
    def is_complete(self) -> bool:
        """Whether all have."""
        return len(self._points) == self._size

    @property
    def points(self) -> Sequence[bytes]:
        """What has arrived."""
        return self._points

    def add(self, offset: int, data: bytes) -> None:
        """Takes one part.

        Raises:
            ConfideError: BAD_FRAME (the sender's fault): cut off, empty, larger than a part, not the next one, or beyond what was
                announced.
        """
        count = len(data) // POINT_BYTES
        if offset != len(self._points):
            raise ConfideError(ErrorCode.BAD_FRAME, "a part of a set is not the next one", party=self._party)
        if not 1 <= count <= PART_ELEMENTS or offset + count > self._size:
            raise ConfideError(ErrorCode.BAD_FRAME, "a part of a set is longer than announced, or empty", party=self._party)
        self._points.extend(split_points(data))


def payload_bytes(first: int, second: int) -> int:
    """Returns how many bytes of points travel between two sides with sets of these sizes, in both directions together."""
    return 2 * POINT_BYTES * (first + second)  # each set masked, and doubled


def part_of(points: Sequence[bytes], offset: int) -> bytes:
    """Returns the part of a list that begins at an offset.

    Raises:
        ConfideError: BAD_FRAME (the asker's fault): no part begins there.
    """
    if offset % PART_ELEMENTS or not 0 <= offset < len(points):
        raise ConfideError(ErrorCode.BAD_FRAME, "no part of a set begins there")
    return b"".join(points[offset : offset + PART_ELEMENTS])


def _check_size(points: Sequence[bytes], size: int, party: str) -> None:
    if len(points) != size:
        raise ConfideError(ErrorCode.BAD_FRAME, "a set has another size than announced", party=party)


def _check_sorted(points: Sequence[bytes], party: str) -> None:
    if any(first >= second for first, second in pairwise(points)):
        raise ConfideError(ErrorCode.BAD_FRAME, "a set is not sorted, or has an element twice", party=party)
