"""Whatever happens to the frames between two workers, a worker takes the very messages that were sent, or says what it found.

Promise P8. The alterations are made behind TLS, where a party's own transport or a box that ends TLS would make them: with a
valid identity, without the secret of the two workers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from parties.transport.frames import HEADER_BYTES, MAX_FRAME_BYTES, FrameKind
from parties.transport.tags import TAG_BYTES
from protocols.errors import ErrorCode
from tests.support.link_pairs import tagged
from tests.support.recorded_links import FIRST, PAIR, Conversation, Refused, record

ALTERATIONS = 10_000
DETECTED = {ErrorCode.BAD_FRAME, ErrorCode.PEER_LOST, ErrorCode.PEER_SILENT}
RNG = np.random.default_rng(8)
SMALL = (
    [np.arange(3)],
    [RNG.integers(0, 256, (4, 5), dtype=np.uint8), RNG.integers(-(2**63), 2**63 - 1, 40), np.array([7], np.uint16)],
    [],
    [RNG.integers(-(2**63), 2**63 - 1, (2, 30))],
)
LARGE = ([RNG.integers(-(2**63), 2**63 - 1, 330_000)], [np.arange(2)])

Frames = list[bytes]


def flip(frame: bytes, bit: int) -> bytes:
    data = bytearray(frame)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


class Alterer:
    """Makes one alteration after the other of what a party sent; every kind comes up."""

    def __init__(self, rng: random.Random, genuine: Frames, *, own: Frames, others: Sequence[Frames]) -> None:
        self._rng = rng
        self._genuine = genuine
        self._own = own
        self._others = others
        self.kinds: dict[str, Callable[[], Frames]] = {
            "flip in the header": lambda: self._flip(0, HEADER_BYTES),
            "flip anywhere": lambda: self._flip(0, None),
            "flip in the tag": lambda: self._flip(-TAG_BYTES, None),
            "truncate": self._truncate,
            "extend": self._extend,
            "duplicate": self._duplicate,
            "drop": self._drop,
            "swap": self._swap,
            "replay": self._replay,
            "replace by another conversation's": lambda: self._replace(self._rng.choice(self._others)),
            "insert another conversation's": lambda: self._insert(self._rng.choice(self._others)),
            "reflect": lambda: self._insert(self._own),
            "oversize": self._oversize,
            "cut the stream": self._cut,
            "exchange the kind": self._exchange_kind,
            "random bytes": self._random,
        }

    def make(self, kind: str) -> Frames:
        """One altered conversation; never the genuine one."""
        while (frames := self.kinds[kind]()) == self._genuine:
            continue
        return frames

    def _at(self) -> int:
        return self._rng.randrange(len(self._genuine))

    def _with(self, at: int, *frames: bytes) -> Frames:
        return [*self._genuine[:at], *frames, *self._genuine[at + 1 :]]

    def _flip(self, start: int, end: int | None) -> Frames:
        at = self._at()
        positions = range(*slice(start, end).indices(len(self._genuine[at])))
        return self._with(at, flip(self._genuine[at], self._rng.choice(positions) * 8 + self._rng.randrange(8)))

    def _truncate(self) -> Frames:
        at = self._at()
        return self._with(at, self._genuine[at][: self._rng.randrange(len(self._genuine[at]))])

    def _extend(self) -> Frames:
        at = self._at()
        return self._with(at, self._genuine[at] + self._rng.randbytes(self._rng.randint(1, 40)))

    def _duplicate(self) -> Frames:
        at = self._rng.randrange(len(self._genuine) - 1)  # what follows the last message of the plan is never read
        return self._with(at, self._genuine[at], self._genuine[at])

    def _drop(self) -> Frames:
        return self._with(self._at())

    def _swap(self) -> Frames:
        one, other = self._rng.sample(range(len(self._genuine)), 2)
        frames = list(self._genuine)
        frames[one], frames[other] = frames[other], frames[one]
        return frames

    def _replay(self) -> Frames:
        at = self._rng.randrange(1, len(self._genuine))
        return self._with(at, self._rng.choice(self._genuine[:at]), self._genuine[at])

    def _replace(self, other: Frames) -> Frames:
        at = self._at()
        return self._with(at, other[min(at, len(other) - 1)])

    def _insert(self, other: Frames) -> Frames:
        at = self._at()
        return self._with(at, self._rng.choice(other), self._genuine[at])

    def _oversize(self) -> Frames:
        at = self._at()
        return self._with(at, self._genuine[at].ljust(MAX_FRAME_BYTES + self._rng.randint(1, 9), b"\0"))

    def _cut(self) -> Frames:
        return self._genuine[: self._at()]

    def _exchange_kind(self) -> Frames:
        at = self._at()
        data = bytearray(self._genuine[at])
        data[4] = self._rng.choice(list(FrameKind))
        return self._with(at, bytes(data))

    def _random(self) -> Frames:
        at = self._at()
        return self._with(at, self._rng.randbytes(len(self._genuine[at])))


def is_as_sent(conversation: Conversation, accepted: list[list[np.ndarray]]) -> bool:
    return all(
        len(found) == len(sent) and all(np.array_equal(one, other) for one, other in zip(found, sent, strict=True))
        for found, sent in zip(accepted, conversation.messages, strict=False)
    )


def an_alterer(patch: pytest.MonkeyPatch, conversation: Conversation, listener: str, rng: random.Random) -> Alterer:
    (speaker,) = set(PAIR) - {listener}
    again = record(conversation.messages, patch, seed=1)  # the same session and attempt, other secrets
    later = record(conversation.messages, patch, attempt=2)
    elsewhere = record(conversation.messages, patch, session=bytes(16))
    others = [other.frames[speaker] for other in (again, later, elsewhere)]
    return Alterer(rng, conversation.frames[speaker], own=conversation.frames[listener], others=others)


@pytest.mark.parametrize("messages", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("listener", PAIR)
def test_conversation_heard_again_unaltered_is_accepted(
    listener: str, messages: Sequence[list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this the refusals below would prove nothing."""
    conversation = record(messages, monkeypatch)
    (speaker,) = set(PAIR) - {listener}
    accepted = conversation.hear(listener, conversation.frames[speaker], monkeypatch)
    assert len(accepted) == len(messages)
    assert is_as_sent(conversation, accepted)


@pytest.mark.slow
def test_altered_frames_ten_thousand_are_all_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(20)
    conversation = record(SMALL, monkeypatch)
    alterers = {listener: an_alterer(monkeypatch, conversation, listener, rng) for listener in PAIR}
    kinds = list(alterers[FIRST].kinds)
    undetected = []
    for number in range(ALTERATIONS):
        listener, kind = PAIR[number % 2], kinds[number // 2 % len(kinds)]
        try:
            conversation.hear(listener, alterers[listener].make(kind), monkeypatch)
        except Refused as refused:
            if refused.error.code not in DETECTED or not refused.error.party or not is_as_sent(conversation, refused.accepted):
                undetected.append((number, kind, refused.error.what))
        else:
            undetected.append((number, kind, "accepted"))
    assert undetected == []


def test_altered_frames_of_a_large_message_are_all_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(21)
    conversation = record(LARGE, monkeypatch)
    alterer = an_alterer(monkeypatch, conversation, FIRST, rng)
    for kind in ("flip anywhere", "flip in the header", "duplicate", "drop", "swap", "truncate", "extend") * 6:
        with pytest.raises(Refused) as caught:
            conversation.hear(FIRST, alterer.make(kind), monkeypatch)
        assert caught.value.error.code in DETECTED
        assert is_as_sent(conversation, caught.value.accepted)


def test_frame_with_a_tag_that_anybody_can_make_is_refused_once_keys_are_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the first frames is public: it must count for nothing afterwards."""
    conversation = record(SMALL, monkeypatch)
    (speaker,) = set(PAIR) - {FIRST}
    frames = list(conversation.frames[speaker])
    sequence = len(frames) - 1
    frames[-1] = tagged(frames[-1][:-TAG_BYTES], sequence)
    with pytest.raises(Refused) as caught:
        conversation.hear(FIRST, frames, monkeypatch)
    assert caught.value.error.code is ErrorCode.BAD_FRAME
    assert "altered" in caught.value.error.what
    assert len(caught.value.accepted) == len(SMALL) - 1
