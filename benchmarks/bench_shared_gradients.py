"""What privacy costs a joint logistic regression: full-batch steps with the owners' noise beside the same without, in turns.

    python benchmarks/bench_shared_gradients.py --turns 30

Three owners, two of them compute and the third deals. Each is a party process with a confined worker, and they are joined by the
real path: frames that are checked, mutual TLS. A session is timed at the computing party that leads, from before its first
share, its own draws of noise included, to its last result; processor time is that of the three workers in the same stretch.

"Steps of the noise" is the time in them at the party that leads, waiting included, and their processor time at all three, over
the session of the same turn whose noise is zero, and that neither draws, shares nor tests any: the median over turns. "Held up"
is less: steps in a round are taken while its messages are on their way, and a party for whose next message it then still waits
for more than 0.1 ms has lost nothing by its step. What is left is a step's time, at the computing party that lost more by it;
nobody loses anything by the steps of a dealer that is ahead. "Whole" is
what a session takes longer than that one: the median over pairs that follow one another, in either order, with the interval of
95 % of their order statistics; what the machine does beside it makes it wide. "Ordinary" is the training of the same model that
claims no privacy: it ends every step with a range check, which a private training has none of. "Adding" is the share of a step
that its noise takes once it is there.

Sessions of the same workers come after one another, so code is loaded and tables are made before the first that counts.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from real_links import Place, run_everywhere

from protocols.job import Job
from protocols.links import Array, Link, TensorSpec
from protocols.mpc import session
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.noise_beside import NoiseBeside
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.planning import derive_plan
from protocols.mpc.timing import Stopwatch
from protocols.plan.plan import Plan
from tests.support.mpc_world import keys_for
from tests.support.private_training import a_private_job, private_sgd, terms
from tests.support.without_noise import WithoutNoise

OWNERS = ("alpha", "beta", "gamma")
LEAD = OWNERS[0]
COMPUTING = OWNERS[:2]
SHAPES = ((569, 30), (5_000, 30), (22_500, 56))
STEPS_OF_NOISE = ("begin", "expect_outside", "toss", "open", "take", "expect_openings", "check", "test", "conclude")
THERE_S = 1e-4  # more than it takes to receive what is there
WARM_UP = 2  # turns that are not counted


@dataclass(frozen=True)
class Session:
    """What is run; `noise` takes the place of the sharing of noise."""

    job: Job
    plan: Plan
    inputs: Mapping[str, LocalInputs]
    noise: type[NoiseSharing] = NoiseSharing


@dataclass(frozen=True)
class Measured:
    """One party's session: seconds of time and of its processor time, and of both what the steps of the noise took."""

    time: float
    processor: float
    noise_time: float
    noise_processor: float
    held_up: Mapping[str, float]


@dataclass
class Spent:
    """What the steps of the noise took at one party in one session: seconds, and by step those that may have held it up."""

    time: float = 0.0
    processor: float = 0.0
    held_up: dict[str, float] = field(default_factory=dict)
    in_round: bool = False
    pending: dict[str, float] = field(default_factory=dict)

    def took(self, step: str, time: float, processor: float) -> None:
        """Counts a step; if it was taken in a round, what is received next says whether it held anybody up."""
        self.time += time
        self.processor += processor
        (self.pending if self.in_round else self.held_up)[step] = time

    def waited(self, seconds: float) -> None:
        """Counts the steps of this round if what came behind them was there already."""
        if seconds < THERE_S:
            self.held_up |= self.pending
        self.pending.clear()


Found = Mapping[str, Measured]


class GoesOn:
    """A link whose messages are counted over all sessions."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent = 0
        self._received = 0
        self.spent = Spent()

    @property
    def peer(self) -> str:
        """The other end."""
        return self._link.peer

    def send(self, operation: int, arrays: Sequence[Array]) -> None:
        """Sends the next message."""
        self._sent += 1
        self._link.send(self._sent, arrays)

    def receive(self, operation: int, layout: Sequence[TensorSpec]) -> list[Array]:
        """Receives the next message."""
        self._received += 1
        began = time.perf_counter()
        received = self._link.receive(self._received, layout)
        self.spent.waited(time.perf_counter() - began)
        return received


def a_job(rows: int, features: int, steps: int) -> Job:
    """A private training of as many rows at three owners."""
    parts = {owner: len(part) for owner, part in zip(OWNERS, np.array_split(np.arange(rows), len(OWNERS)), strict=True)}
    training = private_sgd(steps, "2", privacy=terms(rows, noise_multiplier="10", delta="0.000001"))
    return a_private_job(training, features=features, owners=parts)


def sessions(job: Job) -> list[Session]:
    """The private training, the same without its noise, and the ordinary training of the same model."""
    if job.training is None:
        raise ValueError("a training is compared")
    generator = np.random.default_rng(0)
    weights = {spec.name: np.zeros(spec.shape) for spec in job.model.parameters}
    inputs = {}
    for index, dataset in enumerate(job.datasets):
        features = generator.uniform(-1, 1, (dataset.num_rows, dataset.num_features))
        labels = generator.integers(0, 2, dataset.num_rows).astype(float)
        inputs[dataset.party] = LocalInputs(rows={index: (features, labels)}, initial_weights=weights)
    plan, ordinary = derive_plan(job), replace(job, training=replace(job.training, privacy=None, batch_size=job.num_rows))
    private = Session(job, plan, inputs)
    return [private, replace(private, noise=WithoutNoise), Session(ordinary, derive_plan(ordinary), inputs)]


def take_turns(place: Place, compared: Sequence[Session], turns: int) -> list[list[Measured]]:
    """Runs one party's part of all sessions, every other turn in the reverse order; returns figures by turn and session."""
    links = {peer: GoesOn(link) for peer, link in place.links.items()}
    if place.party == compared[0].plan.computing_parties[-1]:
        place.links[compared[0].plan.dealer].read_ahead()  # as a worker does
    found = []
    for turn in range(turns):
        order = [*range(len(compared))][:: 1 if turn % 2 else -1]
        measured = {index: _measure(place.party, compared[index], links, str(turn)) for index in order}
        found.append([measured[index] for index in range(len(compared))])
    return found


def _measure(party: str, what: Session, links: Mapping[str, GoesOn], seed: str) -> Measured:
    keys, spent = keys_for(what.plan, what.job, seed=seed)[party], Spent()
    session.NoiseSharing = _timed(what.noise, spent)  # type: ignore[misc]
    session.NoiseBeside = _in_rounds(spent)  # type: ignore[misc]
    gc.collect()
    _meet(links)
    for link in links.values():
        link.spent = spent
    began, processor = time.perf_counter(), time.process_time()
    session.run_session(
        job=what.job,
        plan=what.plan,
        party=party,
        keys=keys,
        links=links,
        inputs=what.inputs.get(party, LocalInputs()),
        progress=lambda _: None,
        checkpoint=lambda _: None,
        now=time.monotonic,
        random=os.urandom,
        stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
    )
    measured = Measured(time.perf_counter() - began, time.process_time() - processor, spent.time, spent.processor, spent.held_up)
    _meet(links)  # nobody cleans up beside what the others measure: the dealer has dealt long before they are done
    return measured


def _meet(links: Mapping[str, GoesOn]) -> None:
    go = np.zeros(1, np.uint8)
    for link in links.values():
        link.send(0, [go])
    for link in links.values():
        link.receive(0, [TensorSpec("uint8", (1,))])


def _timed(noise: type[NoiseSharing], spent: Spent) -> type[NoiseSharing]:
    """Returns the same steps, whose time and processor time is added to `spent`."""

    def timed(name: str) -> Callable[[NoiseSharing], Any]:
        step = getattr(noise, name)

        def run(self: NoiseSharing) -> Any:
            began, processor = time.perf_counter(), time.thread_time()
            try:
                return step(self)
            finally:
                spent.took(name, time.perf_counter() - began, time.thread_time() - processor)

        return run

    return type("Timed", (noise,), {name: timed(name) for name in STEPS_OF_NOISE})


def _in_rounds(spent: Spent) -> type[NoiseBeside]:
    """Returns what says of every step whether it is taken in a round."""

    class InRounds(NoiseBeside):
        def meanwhile(self) -> None:
            spent.in_round = True
            try:
                super().meanwhile()
            finally:
                spent.in_round = False

    return InRounds


def run(compared: Sequence[Session], *, turns: int, one_way_s: float = 0.0) -> list[list[Found]]:
    """Runs sessions in turns; returns by turn and session what each party measured."""
    work = {name: lambda place: take_turns(place, compared, turns + WARM_UP) for name in compared[0].plan.participants}
    found = run_everywhere(work, one_way_s=one_way_s)
    by_turn = [[{name: found[name][turn][i] for name in found} for i in range(len(compared))] for turn in range(turns + WARM_UP)]
    return [list(turn) for turn in by_turn[WARM_UP:]]


def of_time(found: Found) -> tuple[float, float]:
    """Seconds at the party that leads: of the session, and of the steps of the noise."""
    return found[LEAD].time, found[LEAD].noise_time


def held_up(found: Found) -> float:
    """Seconds by which the steps of the noise held the computing parties up, at most."""
    return sum(max(found[name].held_up.get(step, 0.0) for name in COMPUTING) for step in STEPS_OF_NOISE)


def of_processor(found: Found) -> tuple[float, float]:
    """Seconds of processor time of all parties: of the session, and of the steps of the noise."""
    return sum(party.processor for party in found.values()), sum(party.noise_processor for party in found.values())


def whole(pairs: Sequence[tuple[float, float]]) -> str:
    """What the first of a pair is more than the second: the median, its interval, and milliseconds."""
    ratios = sorted(private / without - 1 for private, without in pairs)
    more = statistics.median(private - without for private, without in pairs)
    # Of the order statistics of n values, those 0.98 sqrt(n) beside the middle hold the median with a chance of 95 %.
    aside = 0.98 * sqrt(len(ratios))
    low, high = (ratios[min(max(round(len(ratios) / 2 + sign * aside), 0), len(ratios) - 1)] for sign in (-1, 1))
    return f"{statistics.median(ratios):.2%} ({low:.2%} to {high:.2%}), {1e3 * more:.1f}"


def adding_seconds(used: int) -> float:
    """Processor seconds of one addition of a step's noise to a share of the sums."""
    share, noise = np.ones(used, np.int64), np.ones(used, np.int64)
    began = time.thread_time()
    for _ in range(1_000):
        share = share + noise
    return (time.thread_time() - began) / 1_000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=30, help="how often the sessions take turns")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)), help="which of the shapes, from 0")
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="how far apart the parties are, by proxies")
    asked = parser.parse_args()
    one_way_s = asked.round_trip_ms / 2_000
    import protocols.mpc.programs.catalogue  # noqa: F401  (loaded once, before parties and workers are forked)

    print(
        "| rows x features | of | private / without noise / ordinary, ms | steps of the noise | held up | whole, ms | adding it |"
    )
    print("|---|---|---|---|---|---|---|")
    for rows, features in (SHAPES[index] for index in asked.shapes):
        *pair, plain = sessions(a_job(rows, features, asked.steps))
        turns, others = run(pair, turns=asked.turns, one_way_s=one_way_s), run([plain], turns=3, one_way_s=one_way_s)
        for name, measure in (("time", of_time), ("processor time", of_processor)):
            pairs = [(measure(private)[0], measure(without)[0]) for private, without in turns]
            private, without = (statistics.median(values) for values in zip(*pairs, strict=True))
            ordinary = statistics.median(measure(turn[0])[0] for turn in others)
            steps = statistics.median(measure(private)[1] for private, _ in turns)
            share = statistics.median(measure(private)[1] / measure(without)[0] for private, without in turns)
            held = statistics.median(held_up(private) / measure(without)[0] for private, without in turns)
            adding = 2 * adding_seconds(features + 1) * asked.steps / without
            held_share = f"{held:.2%}" if measure is of_time else ""
            print(
                f"| {rows} x {features} | {name} | {1e3 * private:.0f} / {1e3 * without:.0f} / {1e3 * ordinary:.0f} |"
                f" {share:.2%}, {1e3 * steps:.2f} ms | {held_share} | {whole(pairs)} | {adding:.3%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
