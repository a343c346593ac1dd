"""How many streams and calls of one member this party serves at once: each occupies a thread, and no member may take them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from governance.identity.names import MemberKind, PeerIdentity
from protocols.errors import ConfideError, ErrorCode

# A party holds one link for every session in common; researchers and operators watch.
MOST_STREAMS: Mapping[MemberKind, int] = {MemberKind.PARTY: 24, MemberKind.RESEARCHER: 8}
# Of one party four messages are on their way at once, some of them after their sender has given up waiting.
MOST_CALLS: Mapping[MemberKind, int] = {MemberKind.PARTY: 32, MemberKind.RESEARCHER: 16}


class CallerLimits:
    """Counts what is open of every member; safe to use from several threads."""

    def __init__(self, most: Mapping[MemberKind, int], *, what: str, code: ErrorCode, remedy: str = "") -> None:
        """Takes the limits, the plural of what is counted, and code and remedy of a refusal."""
        self._most = most
        self._what = what
        self._code = code
        self._remedy = remedy
        self._open: Counter[PeerIdentity] = Counter()
        self._lock = Lock()

    @contextmanager
    def one_more(self, member: PeerIdentity) -> Iterator[None]:
        """Counts one more for the length of a `with` block.

        Raises:
            ConfideError: this object's code (the caller's fault).
        """
        most = self._most[member.kind]
        with self._lock:
            if self._open[member] >= most:
                what = f"{member.id} holds {most} {self._what} open here, as many as a {member.kind.value} may"
                raise ConfideError(self._code, what, remedy=self._remedy)
            self._open[member] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[member] -= 1
                if not self._open[member]:
                    del self._open[member]


def stream_limits() -> CallerLimits:
    """Returns the limits of streams; a refusal says TOO_MANY_STREAMS."""
    return CallerLimits(MOST_STREAMS, what="streams", code=ErrorCode.TOO_MANY_STREAMS)


def call_limits() -> CallerLimits:
    """Returns the limits of other calls; a refusal says PARTY_BUSY, so that it is repeated and no session fails for it."""
    return CallerLimits(MOST_CALLS, what="calls", code=ErrorCode.PARTY_BUSY, remedy="Wait for their answers, then try again.")
