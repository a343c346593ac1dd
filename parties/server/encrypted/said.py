"""What a researcher says to the desk of enquiries, and what it says of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Standing:
    """How an enquiry stands.

    Attributes:
        enquiry_id: its id.
        is_open: whether it may still be asked.
        reason: why not; empty if it may.
        answers_left: numbers that may still be answered.
        key_bytes: bytes of its evaluation keys that are here.
        expires: when it ends, UTC.
    """

    enquiry_id: str
    is_open: bool
    reason: str
    answers_left: int
    key_bytes: int
    expires: datetime


@dataclass(frozen=True)
class Part:
    """A part of a message; see `Uploads.put`."""

    digest: str
    total: int
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        enquiry_id: of which enquiry.
        request: its id, 32 hexadecimal digits.
        query: its message, or empty if it was put in parts.
        query_digest: digest of the message that was put in parts, or empty.
    """

    enquiry_id: str
    request: str
    query: bytes = field(repr=False)
    query_digest: str
