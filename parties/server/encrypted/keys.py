"""What researchers have uploaded: evaluation keys, kept while they are good, and large queries until they are asked.

Messages arrive in parts and are known by the digest of the whole. Everything is in memory only: what an owner keeps of a
researcher's ciphertexts is nothing. One researcher's uploads are another's business in no way: each has her own, of a bounded
size. Where memory does not suffice, whoever holds most loses what she used longest ago, and her program uploads it again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from protocols.errors import ConfideError, ErrorCode

MAX_PART_BYTES = 1 << 20
STALLED_AFTER = timedelta(minutes=2)
"""An upload that does not grow for so long is forgotten."""


@dataclass(eq=False)
class _Upload:
    owner: str
    digest: str
    total: int
    enquiry: str
    touched: datetime
    good_until: datetime
    data: bytearray = field(default_factory=bytearray, repr=False)
    users: int = 0
    is_unwanted: bool = False

    @property
    def is_complete(self) -> bool:
        return len(self.data) == self.total


class Uploads:
    """The uploads of all researchers; safe to use from several threads."""

    def __init__(self, *, most_bytes: int, forgotten: Callable[[str], None] = lambda digest: None) -> None:
        """Takes the bytes that all uploads may take together, half of them one researcher's, and who is told of a lost one."""
        self._most = most_bytes
        self._most_of_one = most_bytes // 2
        self._forgotten = forgotten
        self._lock = Lock()
        self._uploads: dict[tuple[str, str], _Upload] = {}  # the one that was used longest ago first

    def put(
        self,
        owner: str,
        digest: str,
        *,
        total: int,
        offset: int,
        data: bytes,
        good_until: datetime,
        now: datetime,
        enquiry: str = "",
    ) -> int:
        """Takes a part and returns how many bytes have arrived; an empty part only asks.

        Args:
            owner: who uploads.
            digest: SHA-256 of the whole, 64 hexadecimal digits.
            total: bytes of the whole, as the plan says.
            offset: where the part begins.
            data: at most 1 MiB.
            good_until: then it is forgotten.
            now: the time, UTC.
            enquiry: with whose end it is forgotten; empty for keys, which serve others.

        Raises:
            ConfideError: INVALID_ARGUMENT (the researcher's fault): parts out of order, too large, of a message of another size
                than before, or not those of the digest, in which case all of them are forgotten; QUOTA_EXHAUSTED: it is
                larger than her part of the memory; PARTY_BUSY: that, or all, is in use.
        """
        with self._lock:
            found = self._uploads.get((owner, digest))
            received = 0 if found is None else len(found.data)
            if not data:
                return received
            if len(data) > MAX_PART_BYTES or offset + len(data) > total:
                raise ConfideError(
                    ErrorCode.INVALID_ARGUMENT, f"a part of {len(data)} bytes at {offset} of {total}; parts have at most 1 MiB"
                )
            if found is not None and found.total != total:
                # It must never grow beyond what it is complete with: somebody may be reading it.
                what = f"the message {digest[:12]} has {found.total} bytes here, not {total}"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
            if offset + len(data) <= received:
                return received  # it was lost on the way back
            if offset != received:
                what = f"a part at {offset} where {received} bytes have arrived; parts come in order"
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Go on from what has arrived.")
            if found is None:
                found = _Upload(owner, digest, total, enquiry, now, good_until)
            self._make_room(found, len(data))
            self._uploads.pop((owner, digest), None)
            self._uploads[owner, digest] = found
            found.data += data
            found.touched = now
            if found.is_complete and hashlib.sha256(found.data).hexdigest() != digest:
                del self._uploads[owner, digest]
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the parts are not those of the message of this digest")
            return len(found.data)

    def received(self, owner: str, digest: str) -> int:
        """Returns how many bytes of a message have arrived and are kept."""
        with self._lock:
            found = self._uploads.get((owner, digest))
            return 0 if found is None else len(found.data)

    @contextmanager
    def hold(self, owner: str, digest: str, *, now: datetime, once: bool) -> Iterator[bytearray]:
        """Gives a whole message for the length of a `with` block, during which nothing displaces it.

        Args:
            owner: whose.
            digest: which.
            now: the time, UTC.
            once: forget it afterwards, unless the block ends with PARTY_BUSY: then the same is asked again.

        Raises:
            ConfideError: NOT_READY (the researcher's fault): it is not here, or not all of it.
        """
        with self._lock:
            found = self._uploads.get((owner, digest))
            if found is None or not found.is_complete:
                has = 0 if found is None else len(found.data)
                what = f"of the message {digest[:12]} {has} bytes are here"
                raise ConfideError(ErrorCode.NOT_READY, what, remedy="Upload it, from where the upload stands; then ask again.")
            found.users += 1
            found.touched = now
            self._uploads[owner, digest] = self._uploads.pop((owner, digest))
        try:
            yield found.data
        except ConfideError as error:
            once = once and error.code is not ErrorCode.PARTY_BUSY
            raise
        finally:
            with self._lock:
                found.users -= 1
                found.is_unwanted = found.is_unwanted or once
                if found.is_unwanted and not found.users and self._uploads.get((owner, digest)) is found:
                    self._forget(found)

    def sweep(self, now: datetime) -> None:
        """Forgets what is good no more, and uploads that have stalled."""
        with self._lock:
            for upload in list(self._uploads.values()):
                upload.touched = min(upload.touched, now)  # the clock may have been set back
                stalled = not upload.is_complete and now >= upload.touched + STALLED_AFTER
                if not upload.users and (stalled or now >= upload.good_until):
                    self._forget(upload)

    def end(self, enquiry: str) -> None:
        """Forgets the queries of an enquiry that has ended; those in use once they no longer are."""
        with self._lock:
            for upload in [each for each in self._uploads.values() if each.enquiry == enquiry]:
                upload.is_unwanted = True
                if not upload.users:
                    self._forget(upload)

    @property
    def num_bytes(self) -> int:
        """How many bytes of all researchers are kept."""
        with self._lock:
            return sum(len(each.data) for each in self._uploads.values())

    def _make_room(self, upload: _Upload, more: int) -> None:
        while self._held_by(upload.owner) + more > self._most_of_one:
            if not self._displace(upload.owner, but=upload):
                what = f"{upload.owner} may have {self._most_of_one} bytes of keys and queries here"
                if any(each.users for each in self._uploads.values() if each.owner == upload.owner):
                    raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Wait for answers, then go on.")
                raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what, remedy="Use smaller requests.")
        while sum(len(each.data) for each in self._uploads.values()) + more > self._most:
            sizes = Counter[str]()
            for each in self._uploads.values():
                sizes[each.owner] += len(each.data)
            if not any(self._displace(owner, but=upload) for owner, _ in sizes.most_common()):
                what = "the memory for keys and queries is in use"
                raise ConfideError(ErrorCode.PARTY_BUSY, what, remedy="Try again later.")

    def _held_by(self, owner: str) -> int:
        return sum(len(each.data) for each in self._uploads.values() if each.owner == owner)

    def _displace(self, owner: str, *, but: _Upload) -> bool:
        for each in self._uploads.values():
            if each.owner == owner and each is not but and not each.users:
                self._forget(each)
                return True
        return False

    def _forget(self, upload: _Upload) -> None:
        del self._uploads[upload.owner, upload.digest]
        # Before it is complete a digest is what somebody says: it must not unload what another researcher's is.
        if upload.is_complete and not upload.enquiry:
            self._forgotten(upload.digest)
