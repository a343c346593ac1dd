"""Runs one party's part of a session, in all its roles: data owner, computing party, dealer.

Order at every party: it shares its noise, unless that comes beside the training, and its own rows; then it deals, or takes its
shares and computes. The noise is tested before anything is opened that it protects: of a private training on shares, which opens
no such thing, beside the first runs of the plan, while others are waited for anyway; of any other job before its first run. A
training by noisy sums shares no rows but sums, step by step, and opens them. No role waits for a message that its sender has not
yet reason to send, so the session cannot lock up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.links import Link
from protocols.mpc.channels import CorrectionReader, CorrectionWriter, LinkExchange
from protocols.mpc.checkpoint import Checkpoint, Checkpointer
from protocols.mpc.engine import Engine
from protocols.mpc.inputs import LocalInputs, RowSharing, check_inputs
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.late_channel import LateChannel
from protocols.mpc.material.context import DealerMaterial, ShareMaterial, Window
from protocols.mpc.material.registry import deal
from protocols.mpc.noise_beside import NoiseBeside, after_dealing
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noise_test import NoiseTest
from protocols.mpc.noisy_sums import NoisySums
from protocols.mpc.noisy_sums_contribution import CanaryScores
from protocols.mpc.noisy_sums_design import is_noisy_sums
from protocols.mpc.noisy_sums_plan import SUM
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.programs.program import Program
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.row_bounds import bounds_rows
from protocols.mpc.tapes import CheckingTape
from protocols.mpc.timing import SegmentTiming, Stopwatch
from protocols.mpc.values import SharedValue
from protocols.plan.operations import Deal, Segment
from protocols.plan.plan import Plan, Run
from protocols.ring import RingArray

_LOST = frozenset({ErrorCode.PEER_LOST, ErrorCode.PEER_SILENT})


@dataclass(frozen=True)
class Progress:
    """How far a party is; holds no value of the computation.

    Attributes:
        phase: "noise", "inputs", "dealing", "outputs", or the segment of the plan.
        step: runs of segments done.
        total: runs of segments in all.
        rounds: of openings and of sharing noise so far; 0 at a dealer.
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
        rounds: rounds of openings and of sharing noise that took place.
        sent_bytes: payload bytes sent, by receiver.
        timing: what every segment took at this party; public.
        noise_test: private training: what the test of the noise showed; also at owners that do not compute.
        canaries: training by noisy sums: what an owner saw of the canaries that it planted; secret.
    """

    model_share: Mapping[str, RingArray] | None
    output_shares: Mapping[str, RingArray] | None
    rounds: int
    sent_bytes: Mapping[str, int]
    timing: tuple[SegmentTiming, ...] = ()
    noise_test: NoiseTest | None = None
    canaries: CanaryScores | None = None


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
    random: Callable[[int], bytes],
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
        random: gives so many random bytes of this party's own; for noise.
        stopwatch: times the runs of segments at this party.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) for inputs that do not fit the job; what the links raise; INTERNAL
            (ours) if program and plan differ; NOISE_MISSING (the fault of the owner named) before anything leaves.

    Learns: a data owner and the dealer nothing; a computing party shapes and uniform numbers.
    """
    if plan.job_digest != job.digest:
        raise ConfideError(ErrorCode.PLAN_DIFFERS, "the plan is of another job")
    check_inputs(job, party, inputs)
    channels = {peer: LateChannel(links[peer]) for peer in plan.participants if peer != party}
    try:
        return _Session(job, plan, party, keys, channels, inputs, progress, checkpoint, now, random, stopwatch).run()
    finally:
        keys.erase()


@dataclass(frozen=True, repr=False)
class _Session:
    job: Job
    plan: Plan
    party: str
    keys: SessionKeys
    channels: Mapping[str, LateChannel]
    inputs: LocalInputs
    progress: Callable[[Progress], None]
    checkpoint: Callable[[Checkpoint], None]
    now: Callable[[], float]
    random: Callable[[int], bytes]
    stopwatch: Stopwatch

    def run(self) -> SessionOutputs:
        noise = self._begun_noise()
        try:
            return self._run_beside(noise)
        except ConfideError as error:
            finding = None if noise is None else noise.finding
            if finding is None or error.code not in _LOST:
                raise
            # Another party concluded first and went: that is what follows from the finding, and not what is to be reported.
            raise finding from error

    def _run_beside(self, noise: NoiseSharing | None) -> SessionOutputs:
        if is_noisy_sums(self.job):
            return self._train_on_sums(noise)
        rows = RowSharing(job=self.job, party=self.party, keys=self.keys, channels=self.channels)
        self._report("inputs", 0, 0)
        rows.give(self.inputs.rows, self.inputs.attack_numbers)
        if self.party in self.plan.computing_parties:
            return self._compute(rows, noise)
        if self.party == self.plan.dealer:
            self._deal(noise)
        elif noise is not None:
            if self._tests_beside:
                noise.begin()
            noise.open()
            noise.conclude()
        return SessionOutputs(None, None, 0, self._sent(), self.stopwatch.timings(), None if noise is None else noise.tested)

    def _begun_noise(self) -> NoiseSharing | None:
        if self.plan.noise is None:
            return None
        self._report("noise", 0, 0)
        noise = NoiseSharing(
            design=self.plan.noise,
            party=self.party,
            computing_parties=self.plan.computing_parties,
            keys=self.keys,
            channels=self.channels,
            random=self.random,
        )
        if not self._tests_beside:
            noise.begin()
            noise.expect_outside()
        return noise

    def _train_on_sums(self, noise: NoiseSharing | None) -> SessionOutputs:
        """Runs a training whose steps open noisy sums: it has no engine and needs nothing of the dealer."""
        computing = self.plan.computing_parties
        computes = self.party in computing
        if noise is None or not (computes or self.inputs.rows):
            return SessionOutputs(None, None, 0, self._sent(), self.stopwatch.timings())
        noise.toss()
        noise.open()
        noise.expect_openings()
        noise.check()
        noise.test()
        noise.conclude()
        side = NoisySums(
            job=self.job,
            party=self.party,
            keys=self.keys,
            channels=self.channels,
            inputs=self.inputs,
            noise=noise.take() if computes else None,
            random=self.random,
        )
        for step, run in enumerate(self.plan.runs()):
            with self.stopwatch.computing(run.segment) if computes else nullcontext():
                if run.segment == SUM:
                    side.make_step(step)
                else:
                    side.agree()
            self._report(run.segment, step + 1, noise.rounds + step + 1)
        model = None
        if computes:
            refresher, shares = self._refresher(Label.REFRESH, computing.index(self.party)), side.kept()
            model = {result.name: refresher.refresh(shares[result.name]) for result in self.plan.model}
        rounds, canaries = noise.rounds + self.plan.num_runs, side.trained().canaries
        self._report("outputs", self.plan.num_runs, rounds)
        return SessionOutputs(model, None, rounds, self._sent(), self.stopwatch.timings(), noise.tested, canaries)

    def _deal(self, noise: NoiseSharing | None) -> None:
        streams = [self.keys.open_stream(Label.DEALT, self.party, computing) for computing in self.plan.computing_parties]
        writer = CorrectionWriter(self.channels[self.plan.computing_parties[-1]])
        material = DealerMaterial(streams, writer)
        if noise is not None and not self._tests_beside:
            noise.open()
            noise.conclude()
        for step, run in enumerate(self.plan.runs(), 1):
            with self.stopwatch.dealing(run.segment):
                deal_run(material, self.plan.segment(run.segment), run)
                writer.end_run()
            self._report("dealing", step, 0)
            if noise is not None and self._tests_beside:
                after_dealing(noise, step, self.plan.num_runs)

    def _compute(self, rows: RowSharing, noise: NoiseSharing | None) -> SessionOutputs:
        # Only computing parties need CrypTen.
        from protocols.mpc.tensor import use_engine

        computing = self.plan.computing_parties
        index = computing.index(self.party)
        is_last = index == len(computing) - 1
        exchange = LinkExchange([self.channels[peer] for peer in computing if peer != self.party])
        corrections = CorrectionReader(self.channels[self.plan.dealer], self.stopwatch) if is_last else None
        dealt = self.keys.open_stream(Label.DEALT, self.plan.dealer, self.party)
        tape = CheckingTape()
        material = ShareMaterial(dealt, corrections)
        engine = Engine(index=index, parties=len(computing), exchange=exchange, material=material, tape=tape)
        refresher = self._refresher(Label.REFRESH, index)
        checkpointer = self._checkpointer(index)
        with use_engine(engine):
            share: RingArray | None = None
            step_noise = beside = None
            if noise is not None and self._tests_beside:
                step_noise = StepNoise(noise.design.steps, noise.design.used)
                beside = NoiseBeside(noise, step_noise, self.plan.num_runs)
                exchange.beside = beside
            elif noise is not None:
                noise.toss()
                noise.open()
                share = noise.take()
            program = self._program(engine, rows, share, step_noise)
            if noise is not None and beside is None:
                noise.expect_openings()
                noise.check()
                noise.test()
                noise.conclude()
            for step, run in enumerate(self.plan.runs(), 1):
                segment = self.plan.segment(run.segment)
                done = program.steps_done
                if beside is not None:
                    beside.begin_run(step)
                with self.stopwatch.computing(run.segment), one_run(engine, tape, corrections, segment, run):
                    program.run_segment(run.segment)
                if beside is not None:
                    beside.end_run(step)
                self._report(run.segment, step, exchange.rounds + (0 if noise is None else noise.rounds))
                if checkpointer is not None and program.steps_done > done:
                    checkpointer.after_step(program.steps_done, program.state())
            if noise is not None and (noise.tested is None or not noise.is_taken):
                raise ConfideError(ErrorCode.INTERNAL, "the noise of a job was not tested, or nothing has been added of it")
            results = program.results()
        model = {name: refresher.refresh(value.share) for name, value in self._planned(results.model).items()}
        outputs = {name: refresher.refresh(value.share) for name, value in self._planned(results.outputs).items()}
        rounds = exchange.rounds + (0 if noise is None else noise.rounds)
        tested = None if noise is None else noise.tested
        self._report("outputs", self.plan.num_runs, rounds)
        return SessionOutputs(model or None, outputs or None, rounds, self._sent(), self.stopwatch.timings(), tested)

    @property
    def _tests_beside(self) -> bool:
        """Whether the noise is tested beside the first runs: none of them opens anything that it protects."""
        return bounds_rows(self.job)

    def _program(self, engine: Engine, rows: RowSharing, noise: RingArray | None, step_noise: StepNoise | None) -> Program:
        from protocols.mpc.programs.catalogue import Brought, in_step_order, program_of
        from protocols.mpc.programs.noisy import drawn_from

        features, labels = rows.take() if self.job.datasets else (None, None)
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
                noise=noise,
                step_noise=step_noise,
                draw=drawn_from(self.random),
                attack_numbers=rows.attack_numbers,
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
