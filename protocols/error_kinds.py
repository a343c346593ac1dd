"""What is said of every failure: whose fault it is, its coarse class, and words for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """Whose fault a failure is."""

    REQUEST = "request"  # the person or document that asked
    PEER = "peer"  # another party, or the network to it
    POLICY = "policy"  # nobody's mistake: it is not permitted
    OPERATOR = "operator"  # this institution's set-up
    OURS = "ours"  # a defect of Confide


class Kind(Enum):
    """The coarse class of a failure; it decides the exit code and the gRPC status."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_READY = "not_ready"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    INTEGRITY = "integrity"
    EXHAUSTED = "exhausted"
    ENDED = "ended"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Entry:
    """One entry of the catalogue."""

    fault: Fault
    kind: Kind
    summary: str
    remedy: str
