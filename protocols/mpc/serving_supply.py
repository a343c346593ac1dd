"""Correlated randomness of a serving session: dealt in quanta, one a block, ahead of need, as far as credit reaches.

The last computing party, who gets the corrections, grants the dealer credit for so many blocks, and one more for each that was
used. So the dealer never waits for a query, no query waits for the dealer while some credit is unused, and what was dealt and not
used is bounded (`AHEAD_BYTES`). The dealer learns how many blocks were used and when, and nothing about queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.links import TensorSpec
from protocols.mpc.channels import Channel, CorrectionWriter
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.material.context import DealerMaterial
from protocols.mpc.programs.names import ANSWER, OPEN_MODEL
from protocols.mpc.serving_turns import EndReason
from protocols.mpc.session import deal_run
from protocols.mpc.timing import Stopwatch
from protocols.plan.operations import Segment
from protocols.plan.plan import Plan, Run

AHEAD_BYTES = 32 << 20  # of corrections that were dealt and not used
_MOST_AHEAD = 8  # blocks, however small
_MESSAGE = (TensorSpec("int64", (4,)),)
_REASONS = tuple(EndReason)


class _Kind(IntEnum):
    CREDIT = 1
    REKEY = 2
    END = 3


@dataclass(frozen=True)
class Totals:
    """What was answered in a serving session; public."""

    queries: int = 0
    rows: int = 0
    blocks: int = 0

    def plus(self, *, queries: int, rows: int, blocks: int) -> Totals:
        """Returns the totals after some more."""
        return Totals(self.queries + queries, self.rows + rows, self.blocks + blocks)


def blocks_ahead(plan: Plan) -> int:
    """Returns for how many blocks material is dealt ahead; public."""
    return max(1, min(_MOST_AHEAD, AHEAD_BYTES // max(1, plan.segment(ANSWER).correction_bytes)))


def planned_runs(plan: Plan, segment: str) -> int:
    """Returns how often a segment runs at most, as the agreed plan says; public."""
    return sum(stage.count * part.count for stage in plan.schedule for part in stage.parts if part.segment == segment)


class Supply:
    """The last computing party's end: takes the corrections, grants credit.

    Args:
        channel: to the dealer.
        plan: the agreed plan.
    """

    def __init__(self, channel: Channel, plan: Plan) -> None:
        self._channel = channel
        self._plan = plan
        self._owed = 0  # blocks granted whose corrections have not been taken
        self._unused_credit = 0

    def begin_epoch(self) -> None:
        """Grants the first credit under the keys now in force."""
        self._unused_credit = blocks_ahead(self._plan)
        self.grant()

    def used_block(self) -> None:
        """Notes that the corrections of one block were taken."""
        self._owed -= 1
        self._unused_credit += 1

    def grant(self) -> None:
        """Grants credit for what was used since; without any, it tells the dealer that this party lives."""
        self._send(_Kind.CREDIT, self._unused_credit)
        self._owed += self._unused_credit
        self._unused_credit = 0

    def end_epoch(self) -> None:
        """Has the dealer draw fresh keys, and throws away what it dealt under the old ones."""
        self._send(_Kind.REKEY)
        self._drain()

    def end(self, reason: EndReason, totals: Totals) -> None:
        """Tells the dealer how the session ended, and throws away what it dealt ahead."""
        self._send(_Kind.END, _REASONS.index(reason), totals.queries, totals.rows)
        self._drain()

    def _send(self, kind: _Kind, *numbers: int) -> None:
        message = np.zeros(_MESSAGE[0].shape, np.int64)
        message[0] = kind
        message[1 : 1 + len(numbers)] = numbers
        self._channel.send([message])

    def _drain(self) -> None:
        for _ in range(self._owed):
            self._channel.receive_bytes(self._plan.segment(ANSWER).correction_bytes)
        self._owed = self._unused_credit = 0


class ServingDealer:
    """The dealer's end.

    Args:
        plan: the agreed plan.
        channel: to the last computing party.
        dealt: told after every block how many were dealt so far.
        stopwatch: times the dealing.
    """

    def __init__(self, *, plan: Plan, channel: Channel, dealt: Callable[[int], None], stopwatch: Stopwatch) -> None:
        self._plan = plan
        self._channel = channel
        self._dealt = dealt
        self._stopwatch = stopwatch
        self._writer = CorrectionWriter(channel)
        self._blocks = 0
        self._most = planned_runs(plan, ANSWER)

    def deal_epoch(self, keys: SessionKeys) -> tuple[EndReason, Totals] | None:
        """Deals under one set of keys: for opening the weights, then block by block as credit comes.

        Masks of the weights are remembered until it returns, those of a block until the next one.

        Returns:
            None if fresh keys are due, else how the session ended, and what was answered as the last party says.

        Raises:
            ConfideError: BAD_FRAME (the last computing party's fault) for a message that makes no sense, or more credit than the
                plan has blocks and those that are thrown away with an epoch; what the link raises.
        """
        plan = self._plan
        self._most += blocks_ahead(plan)
        streams = [keys.open_stream(Label.DEALT, keys.party, computing) for computing in plan.computing_parties]
        material = DealerMaterial(streams, self._writer)
        self._deal(material, plan.segment(OPEN_MODEL))
        while True:
            kind, number, queries, rows = (int(value) for value in self._channel.receive(_MESSAGE)[0])
            match kind:
                case _Kind.CREDIT if 0 <= number <= min(_MOST_AHEAD, self._most - self._blocks):
                    for _ in range(number):
                        self._deal(material, plan.segment(ANSWER))
                        self._blocks += 1
                        self._dealt(self._blocks)
                case _Kind.REKEY:
                    return None
                case _Kind.END if 0 <= number < len(_REASONS) and queries >= 0 and rows >= 0:
                    return _REASONS[number], Totals(queries, rows, self._blocks)
                case _:
                    party = plan.computing_parties[-1]
                    raise ConfideError(ErrorCode.BAD_FRAME, "no message of a serving session to its dealer", party=party)

    def _deal(self, material: DealerMaterial, segment: Segment) -> None:
        with self._stopwatch.dealing(segment.name):
            deal_run(material, segment, Run(segment.name, 0, 0))
            self._writer.end_run()
