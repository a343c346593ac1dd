"""Targets of a serving session: what its parties say to each other between blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.mpc.serving_turns import (
    Announcement,
    EndReason,
    Message,
    Query,
    Reply,
    Turn,
    choice_from_message,
    choice_to_message,
)
from tests.fuzz.target import Target

OFFERED = 3


def _message(data: bytes) -> Message:
    return np.frombuffer(data, np.uint8)


def _announcements() -> Sequence[bytes]:
    queries = tuple(Query(f"{number:032x}", 1 + number) for number in range(OFFERED))
    announced = (Announcement(Turn.OFFER, queries), Announcement(Turn.REKEY), Announcement(Turn.END, (), EndReason.IDLE))
    return [each.to_message().tobytes() for each in announced]


def _replies() -> Sequence[bytes]:
    return [Reply(held, stops=held[0]).to_message().tobytes() for held in ((True, False, True), (False, True, False))]


def _choices() -> Sequence[bytes]:
    return [choice_to_message(chosen).tobytes() for chosen in ((True, False, False), (False, False, True))]


TARGETS = (
    Target("serving-announcement", lambda data: Announcement.from_message(_message(data), "alpha"), _announcements),
    Target("serving-reply", lambda data: Reply.from_message(_message(data), offered=OFFERED, party="beta"), _replies),
    Target("serving-choice", lambda data: choice_from_message(_message(data), held=(True, False, True), lead="alpha"), _choices),
)
