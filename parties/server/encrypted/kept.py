"""Answers that wait for their researcher: in memory, until they are fetched once, or for a quarter of an hour.

One researcher's may take half of the memory, so that whoever does not fetch keeps no other from being answered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from protocols.errors import ConfideError, ErrorCode

KEPT_FOR = timedelta(minutes=15)
MOST_OF_ENQUIRY = 32
MOST_BYTES = 256 << 20


@dataclass(eq=False)
class _Kept:
    owner: str
    until: datetime
    size: int
    answer: bytes | None = field(default=None, repr=False)
    failure: ConfideError | None = None


class KeptAnswers:
    """Answers by enquiry and request; safe to use from several threads."""

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        """Takes the bytes that all answers may take together, half of them one researcher's."""
        self._most, self._most_of_one = most_bytes, most_bytes // 2
        self._lock = Lock()
        self._kept: dict[tuple[str, str], _Kept] = {}

    def expect(self, owner: str, enquiry: str, request: str, *, size: int, now: datetime) -> None:
        """Sets room aside for an answer, and for what is computed of it.

        Args:
            owner: whose it is.
            enquiry: of which enquiry.
            request: its id.
            size: bytes of the answer, and of the query until then.
            now: the time, UTC.

        Raises:
            ConfideError: JOB_CONFLICT: the request is known; PARTY_BUSY: too many are kept, of this enquiry, hers or in all.
        """
        with self._lock:
            if (enquiry, request) in self._kept:
                raise ConfideError(ErrorCode.JOB_CONFLICT, f"request {request} was made before; an id serves once")
            of_enquiry = Counter(each for each, _ in self._kept)[enquiry]
            hers = sum(each.size for each in self._kept.values() if each.owner == owner) + size
            of_all = sum(each.size for each in self._kept.values()) + size
            if of_enquiry >= MOST_OF_ENQUIRY or hers > self._most_of_one or of_all > self._most:
                what = f"{of_enquiry} answers of this enquiry are kept, {len(self._kept)} in all"
                raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Fetch answers, then ask again.")
            self._kept[enquiry, request] = _Kept(owner, now + KEPT_FOR, size)

    def put(self, enquiry: str, request: str, outcome: bytes | ConfideError, now: datetime) -> None:
        """Keeps what became of a request, if it is still expected."""
        with self._lock:
            found = self._kept.get((enquiry, request))
            if found is None:
                return
            found.until = now + KEPT_FOR
            if isinstance(outcome, ConfideError):
                found.failure, found.size = outcome, 0
            else:
                found.answer, found.size = outcome, len(outcome)

    def get(self, enquiry: str, request: str) -> bytes:
        """Returns an answer; `forget` it when it has left.

        Raises:
            ConfideError: UNKNOWN_OUTPUT (the researcher's fault): nothing is kept; NOT_READY; or what the request failed with.
        """
        with self._lock:
            found = self._kept.get((enquiry, request))
            if found is None:
                what = f"no answer to {request[:32]} is kept: it was fetched, or never asked for, or is too old"
                raise ConfideError(ErrorCode.UNKNOWN_OUTPUT, what, remedy="Ask again with another request id.")
            if found.failure is not None:
                del self._kept[enquiry, request]
                raise found.failure
            if found.answer is None:
                raise ConfideError(ErrorCode.NOT_READY, "the answer is being computed", remedy="Fetch it in a moment.")
            return found.answer

    def forget(self, enquiry: str, request: str | None = None) -> None:
        """Forgets an answer, or all of an enquiry."""
        with self._lock:
            for found in list(self._kept):
                if found == (enquiry, request) or (request is None and found[0] == enquiry):
                    del self._kept[found]

    def sweep(self, now: datetime) -> None:
        """Forgets what nobody fetched in time; what is being computed stays."""
        with self._lock:
            for key, found in list(self._kept.items()):
                found.until = min(found.until, now + KEPT_FOR)  # the clock may have been set back
                if now >= found.until and (found.answer is not None or found.failure is not None):
                    del self._kept[key]
