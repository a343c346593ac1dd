"""A computing party's side of a serving session while one set of keys is in force: the opened weights, and block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.channels import Channel, CorrectionReader, LinkExchange
from protocols.mpc.engine import Engine
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.material.context import ShareMaterial
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.programs.names import ANSWER, OPEN_MODEL
from protocols.mpc.serving_supply import Supply
from protocols.mpc.session import one_run
from protocols.mpc.tapes import CheckingTape
from protocols.mpc.timing import Stopwatch
from protocols.plan.plan import Plan, Run
from protocols.ring import RingArray

if TYPE_CHECKING:  # only computing parties need CrypTen
    from protocols.mpc.programs.serve import ServeProgram


class Epoch:
    """Everything that depends on one set of keys; thrown away with them.

    Args:
        job: the agreed job.
        plan: its plan.
        keys: in force.
        channels: to every other participant, by id.
        model_share: int64 share of every parameter, by name; secret.
        supply: at the last computing party, its credit at the dealer.
        fresh: gives so many random bytes of this party's own; for noise.
        stopwatch: times the runs.
    """

    def __init__(
        self,
        *,
        job: Job,
        plan: Plan,
        keys: SessionKeys,
        channels: Mapping[str, Channel],
        model_share: Mapping[str, RingArray],
        supply: Supply | None,
        fresh: Callable[[int], bytes],
        stopwatch: Stopwatch,
    ) -> None:
        computing = plan.computing_parties
        index = computing.index(keys.party)
        self._job = job
        self._plan = plan
        self._model_share = model_share
        self._supply = supply
        self._fresh = fresh
        self._stopwatch = stopwatch
        self._exchange = LinkExchange([channels[peer] for peer in computing if peer != keys.party])
        self._corrections = None if supply is None else CorrectionReader(channels[plan.dealer], stopwatch)
        self._tape = CheckingTape()
        material = ShareMaterial(keys.open_stream(Label.DEALT, plan.dealer, keys.party), self._corrections)
        self._engine = Engine(index=index, parties=len(computing), exchange=self._exchange, material=material, tape=self._tape)
        self._refresher = _refresher(keys, computing, index)
        self._program: ServeProgram | None = None

    @property
    def rounds(self) -> int:
        """Rounds of openings so far."""
        return self._exchange.rounds

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Makes this epoch's engine the one that tensors use, for the length of a `with` block."""
        from protocols.mpc.programs.noisy import drawn_from
        from protocols.mpc.programs.serve import ServeProgram
        from protocols.mpc.tensor import use_engine

        with use_engine(self._engine):
            self._program = ServeProgram(job=self._job, model_share=self._model_share, draw=drawn_from(self._fresh))
            yield

    def open_model(self) -> None:
        """Opens the weights under masks of this epoch, and grants the dealer its first credit."""
        if self._supply is not None:
            self._supply.begin_epoch()
        self._run(OPEN_MODEL)

    def answer(self, rows: RingArray) -> tuple[RingArray, int]:
        """Computes what the job's output is of rows, in as many blocks as they take.

        Args:
            rows: share (n, features) int64, secret.

        Returns:
            This party's refreshed share of the answer, its first dimension n; how many blocks it took.
        """
        block_rows = self._plan.outputs[0].shape[0]
        answered = []
        for start in range(0, len(rows), block_rows):
            if start:  # the last block's credit waits until the answers are out
                self.refill()
            piece = rows[start : start + block_rows]
            self._held().put(piece)
            self._run(ANSWER)
            answered.append(self._result()[: len(piece)])
        return self._refresher.refresh(np.concatenate(answered)), len(answered)

    def refill(self) -> None:
        """Grants the dealer credit for what was used."""
        if self._supply is not None:
            self._supply.grant()

    def _run(self, name: str) -> None:
        segment = self._plan.segment(name)
        with (
            self._stopwatch.computing(name),
            one_run(self._engine, self._tape, self._corrections, segment, Run(name, 0, 0)),
        ):
            self._held().run_segment(name)
        if self._supply is not None and name == ANSWER:
            self._supply.used_block()

    def _result(self) -> RingArray:
        """Returns the share of the last block's result after comparing it with the plan: nothing else may leave."""
        planned = self._plan.outputs[0]
        value = self._held().results().outputs[planned.name]
        if (value.shape, value.scale_bits) != (planned.shape, planned.scale_bits):
            raise ConfideError(ErrorCode.INTERNAL, f"the result {planned.name!r} is not the one of the plan")
        return value.share

    def _held(self) -> ServeProgram:
        if self._program is None:
            raise ConfideError(ErrorCode.INTERNAL, "an epoch that is not in force")
        return self._program


def _refresher(keys: SessionKeys, computing: tuple[str, ...], index: int) -> Refresher:
    return Refresher(
        index,
        {
            other: keys.open_stream(Label.REFRESH, computing[min(index, other)], computing[max(index, other)])
            for other in range(len(computing))
            if other != index
        },
    )
