"""Runs one party's part of a session, in all its roles: data owner, computing party, dealer.

Order at every party: it shares its own rows; then it deals, or takes its shares and computes. No role waits for a message
that its sender has not yet reason to send, so the session cannot lock up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.links import Link
from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter, LinkExchange
from protocols.mpc.checkpoint import Checkpoint, Checkpointer
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import LocalInputs, RowSharing, check_inputs
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.material.context import DealerMaterial, ShareMaterial, Window
from protocols.mpc.material.registry import deal
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.programs.program import Program
from protocols.mpc.tapes import CheckingTape
from protocols.mpc.timing import SegmentTiming, Stopwatch
from protocols.mpc.values import SharedValue
from protocols.plan.operations import Deal, Segment
from protocols.plan.plan import Plan, Run
from protocols.ring import RingArray


@dataclass(frozen=True)
class Progress:
    """How far a party is; holds no value of the computation.

    Attributes:
        phase: "inputs", "dealing", "outputs", or the segment of the plan.
        step: runs of segments done.
        total: runs of segments in all.
        rounds: of openings so far; 0 at a dealer.
        sent_bytes: payload that this party sent so far.
    """

    phase: str
    step: int
    total: int
    rounds: int
    sent_bytes: int


@dataclass(frozen=True, repr=False, eq=False)
class SessionOutputs:
    """What a computing party holds at the end: refreshed shares, uniform given the values; None if the job has none.

    Attributes:
        model_share: training: int64 share of every parameter and of the optimiser's state, by name.
        output_shares: evaluation and inference: int64 share of every output, by name; goes to the querier and nobody else.
        rounds: rounds of openings that took place.
        sent_bytes: payload bytes sent, by receiver.
        timing: what every segment took at this party; public.
    """

    model_share: Mapping[str, RingArray] | None
    output_shares: Mapping[str, RingArray] | None
    rounds: int
    sent_bytes: Mapping[str, int]
    timing: tuple[SegmentTiming, ...] = ()


def run_session(
    *,
    job: Job,
    plan: Plan,
    party: str,
    keys: SessionKeys,
    links: Mapping[str, Link],
    inputs: LocalInputs,
    progress: Callable[[Progress], None],
    checkpoint: Callable[[Checkpoint], None],
    now: Callable[[], float],
    stopwatch: Stopwatch,
) -> SessionOutputs:
    """Runs all roles of one party, after the parties have compared the plan's digest and exchanged fresh secrets.

    Args:
        job: the countersigned job.
        plan: derived from it by this party.
        party: this party's id.
        keys: its key schedule for this attempt; erased at the end.
        links: to every other participant, by id.
        inputs: what it brings.
        progress: told after every run of a segment.
        checkpoint: given every checkpoint of a training, at computing parties; it must not block for long.
        now: a clock in seconds that never goes back; only the lead's is read, for checkpoints every so many minutes.
        stopwatch: times the runs of segments at this party.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) for inputs that do not fit the job; what the links raise; INTERNAL
            (ours) if program and plan differ.

    Learns: a data owner and the dealer nothing; a computing party shapes and uniform numbers.
    """
    if plan.job_digest != job.digest:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, "the plan is of another job")
    check_inputs(job, party, inputs)
    channels = {peer: Channel(links[peer]) for peer in plan.participants if peer != party}
    try:
        return _Session(job, plan, party, keys, channels, inputs, progress, checkpoint, now, stopwatch).run()
    finally:
        keys.erase()


@dataclass(frozen=True, repr=False)
class _Session:
    job: Job
    plan: Plan
    party: str
    keys: SessionKeys
    channels: Mapping[str, Channel]
    inputs: LocalInputs
    progress: Callable[[Progress], None]
    checkpoint: Callable[[Checkpoint], None]
    now: Callable[[], float]
    stopwatch: Stopwatch

    def run(self) -> SessionOutputs:
        rows = RowSharing(job=self.job, party=self.party, keys=self.keys, channels=self.channels)
        self._report("inputs", 0, 0)
        rows.give(self.inputs.rows)
        if self.party == self.plan.dealer:
            self._deal()
        if self.party in self.plan.computing_parties:
            return self._compute(rows)
        return SessionOutputs(None, None, 0, self._sent(), self.stopwatch.timings())

    def _deal(self) -> None:
        streams = [self.keys.open_stream(Label.DEALT, self.party, computing) for computing in self.plan.computing_parties]
        writer = CorrectionWriter(self.channels[self.plan.computing_parties[-1]])
        material = DealerMaterial(streams, writer)
        for step, run in enumerate(self.plan.runs(), 1):
            with self.stopwatch.dealing(run.segment):
                deal_run(material, self.plan.segment(run.segment), run)
                writer.end_run()
            self._report("dealing", step, 0)

    def _compute(self, rows: RowSharing) -> SessionOutputs:
        # Only computing parties need CrypTen.
        from protocols.mpc.tensor import use_engine

        computing = self.plan.computing_parties
        index = computing.index(self.party)
        is_last = index == len(computing) - 1
        exchange = LinkExchange([self.channels[peer] for peer in computing if peer != self.party])
        corrections = CorrectionReader(self.channels[self.plan.dealer], self.stopwatch) if is_last else None
        dealt = self.keys.open_stream(Label.DEALT, self.plan.dealer, self.party)
        tape = CheckingTape()
        engine = Engine(index=index, exchange=exchange, material=ShareMaterial(dealt, corrections), tape=tape)
        refresher = self._refresher(Label.REFRESH, index)
        checkpointer = self._checkpointer(index)
        with use_engine(engine):
            program = self._program(engine, rows)
            for step, run in enumerate(self.plan.runs(), 1):
                segment = self.plan.segment(run.segment)
                done = program.steps_done
                with self.stopwatch.computing(run.segment), one_run(engine, tape, corrections, segment, run):
                    program.run_segment(run.segment)
                self._report(run.segment, step, exchange.rounds)
                if checkpointer is not None and program.steps_done > done:
                    checkpointer.after_step(program.steps_done, program.state())
            results = program.results()
        model = {name: refresher.refresh(value.share) for name, value in self._planned(results.model).items()}
        outputs = {name: refresher.refresh(value.share) for name, value in self._planned(results.outputs).items()}
        self._report("outputs", self.plan.num_runs, exchange.rounds)
        return SessionOutputs(model or None, outputs or None, exchange.rounds, self._sent(), self.stopwatch.timings())

    def _program(self, engine: Engine, rows: RowSharing) -> Program:
        from protocols.mpc.programs.catalogue import Brought, in_step_order, program_of

        features, labels = (None, None) if self.job.job_type is JobType.INFER else rows.take()
        return program_of(
            self.job,
            engine,
            Brought(
                features=None if features is None else in_step_order(self.job, features),
                labels=None if labels is None else in_step_order(self.job, labels),
                initial_weights=self.inputs.initial_weights or {},
                training_state=self.inputs.training_state or {},
                model_share=self.inputs.model_share or {},
                query_share=self.inputs.query_share,
            ),
        )

    def _checkpointer(self, index: int) -> Checkpointer | None:
        from protocols.mpc.planning import checkpoint_times

        times = checkpoint_times(self.job)
        if times is None:
            return None
        return Checkpointer(
            job=self.job,
            times=times,
            handshake=self.keys.handshake,
            refresher=self._refresher(Label.CHECKPOINT, index),
            channels=[self.channels[peer] for peer in self.plan.computing_parties if peer != self.party],
            leads=index == 0,
            now=self.now,
            take=self.checkpoint,
        )

    def _refresher(self, label: Label, index: int) -> Refresher:
        computing = self.plan.computing_parties
        streams = {
            other: self.keys.open_stream(label, computing[min(index, other)], computing[max(index, other)])
            for other in range(len(computing))
            if other != index
        }
        return Refresher(index, streams)

    def _planned(self, results: Mapping[str, SharedValue]) -> Mapping[str, SharedValue]:
        """Returns results after comparing them with the plan: nothing else may leave."""
        planned = {result.name: (result.shape, result.scale_bits) for result in self.plan.results}
        for name, value in results.items():
            if planned.get(name) != (value.shape, value.scale_bits):
                raise ConfideError(ErrorCode.INTERNAL, f"the result {name!r} is not the one of the plan")
        return results

    def _report(self, phase: str, step: int, rounds: int) -> None:
        self.progress(Progress(phase, step, self.plan.num_runs, rounds, sum(self._sent().values())))

    def _sent(self) -> dict[str, int]:
        return {peer: channel.sent_bytes for peer, channel in self.channels.items()}


def deal_run(material: DealerMaterial, segment: Segment, run: Run) -> None:
    """Deals everything of one run of a segment, in the plan's order."""
    material.begin_segment(_window(run))
    for operation in segment.operations:
        if isinstance(operation, Deal):
            deal(material, operation)


@contextmanager
def one_run(
    engine: Engine, tape: CheckingTape, corrections: CorrectionReader | None, segment: Segment, run: Run
) -> Iterator[None]:
    """Holds what a computing party does for the length of a `with` block to one run of a segment of the plan.

    Raises:
        ConfideError: INTERNAL (ours) if the block does less or something else, or leaves corrections over.
    """
    if corrections is not None:
        corrections.begin_run(segment.correction_bytes)
    tape.begin_run(segment)
    with engine.segment(_window(run)):
        yield
    tape.end_run()
    if corrections is not None:
        corrections.end_run()


def _window(run: Run) -> Window | None:
    return Window(run.start, run.stop) if run.stop else None
