"""Times one program on shares over the real path: parties and dealer as processes, confined workers, gRPC, mutual TLS.

    python benchmarks/engine_runner.py --task relu-100k --runs 32

Two passes. In the first the dealer works ahead as in a session, on the same cores: its time is in the seconds of a run. In the
second it deals a run, then waits until the parties have computed it: the seconds of a run are those of the online phase alone.
The last run's result is opened and compared with what it must be. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine_tasks import TASKS, EngineTask
from real_links import ATTEMPT, DIGEST, Place, run_everywhere

from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter, LinkExchange, ZeroExchange
from protocols.mpc.engine import Engine
from protocols.mpc.keys import Label, SessionKeys, derive_keys
from protocols.mpc.material.context import DealerMaterial, ShapeMaterial, ShareMaterial
from protocols.mpc.material.registry import deal
from protocols.mpc.tapes import CheckingTape, RecordingTape
from protocols.plan.operations import Deal, Segment
from protocols.ring import RingArray

DEALER = "dealer"
_GO = np.zeros(1, np.uint8)
_WARM_UP = 2


@dataclass(frozen=True)
class Figures:
    """What a computing party measured: wall seconds and processor seconds of each run, and what its transport counted."""

    seconds: list[float]
    processor: list[float]
    rounds: int
    sent_bytes: int
    shares: list[RingArray]


def plan_of(task: EngineTask) -> Segment:
    """Runs the program on zeros and returns its plan."""
    tape, shapes = RecordingTape(), ShapeMaterial()
    engine = Engine(index=0, parties=task.parties, exchange=ZeroExchange(), material=shapes, tape=tape)
    with engine.segment(None):
        task.compute(engine, [np.zeros_like(values) for values in task.encoded()])
    return Segment("run", tuple(tape.operations), shapes.correction_bytes)


def measure(task: EngineTask, *, runs: int) -> dict[str, Any]:
    """Runs the program in both passes.

    Raises:
        RuntimeError: a party failed, the result is wrong, or the transport counted other rounds or bytes than the plan.
    """
    segment = plan_of(task)
    computing = tuple(f"party-{number}" for number in range(task.parties))
    passes = []
    for alone in (False, True):
        count = runs if not alone else max(_WARM_UP + 3, runs // 3)
        work: dict[str, Any] = {
            name: (lambda place, index=index, alone=alone, count=count: _compute(place, index, task, segment, count, alone))
            for index, name in enumerate(computing)
        }
        work[DEALER] = lambda place, alone=alone, count=count: _deal(place, segment, count, alone)
        answers = run_everywhere(work)
        dealt: tuple[list[float], list[float]] = answers.pop(DEALER)
        _check(task, segment, count, list(answers.values()))
        passes.append((answers[computing[0]], dealt))
    (steady, (dealing, dealt)), (online, _) = passes
    return {
        # The dealer is as fast as the parties take what it deals, or slower: then they empty what it had dealt ahead.
        "seconds": max(steady.seconds[_WARM_UP:], dealing[_WARM_UP:], key=statistics.median),
        "online_seconds": statistics.median(online.seconds[_WARM_UP:]),
        "processor_seconds_per_party": statistics.median(online.processor[_WARM_UP:]),
        "processor_seconds_of_dealer": statistics.median(dealt[_WARM_UP:]),
        "rounds": segment.rounds,
        "sent_bytes_per_party": segment.opened_bytes * (task.parties - 1),
        "dealer_bytes": segment.correction_bytes,
    }


def _check(task: EngineTask, segment: Segment, runs: int, found: Sequence[Figures]) -> None:
    wanted = (runs * segment.rounds, runs * segment.opened_bytes * (task.parties - 1))
    for party in found:
        if (party.rounds, party.sent_bytes) != wanted:
            raise RuntimeError(
                f"the transport counted {party.rounds} rounds and {party.sent_bytes} bytes, the plan says {wanted}"
            )
    for place, expected in enumerate(task.expected):
        opened = sum((party.shares[place] for party in found[1:]), found[0].shares[place])
        error = np.abs(np.asarray(opened) / 2.0**task.scale_bits - expected).max()
        if error > task.max_error:
            raise RuntimeError(f"result {place} is off by {error}, at most {task.max_error} is allowed")


def _compute(place: Place, index: int, task: EngineTask, segment: Segment, runs: int, alone: bool) -> Figures:
    others = [Channel(place.links[name]) for name in place.participants if name not in (place.party, DEALER)]
    is_last = index == task.parties - 1
    dealer = Channel(place.links[DEALER])
    corrections = CorrectionReader(dealer) if is_last else None
    if is_last:
        place.links[DEALER].read_ahead()  # as a worker does
    exchange, tape = LinkExchange(others), CheckingTape()
    stream = _keys(place).open_stream(Label.DEALT, DEALER, place.party)
    material = ShareMaterial(stream, corrections)
    engine = Engine(index=index, parties=task.parties, exchange=exchange, material=material, tape=tape)
    mine = [_share(values, index, task.parties, number) for number, values in enumerate(task.encoded())]
    seconds, processor, shares = [], [], list[RingArray]()
    gc.disable()
    began = time.monotonic()
    for _ in range(runs):
        if corrections is not None:
            corrections.begin_run(segment.correction_bytes)
            if alone:
                corrections.fetch_all()
        if alone:
            if corrections is not None:
                corrections.fetch_all()
            _meet(others)  # nobody starts before the material is there
            began = time.monotonic()
        spent = time.process_time()
        tape.begin_run(segment)
        with engine.segment(None):
            shares = task.compute(engine, mine)
        tape.end_run()
        if corrections is not None:
            corrections.end_run()
        ended = time.monotonic()
        seconds.append(ended - began)
        processor.append(time.process_time() - spent)
        began = ended
        if alone and is_last:
            dealer.send([_GO])
    sent = sum(channel.sent_bytes for channel in others) - (runs * len(others) if alone else 0)
    return Figures(seconds, processor, exchange.rounds, sent, shares)


def _deal(place: Place, segment: Segment, runs: int, alone: bool) -> tuple[list[float], list[float]]:
    """Returns the seconds of every run at the dealer, with its waits for room, and their processor time."""
    computing = [name for name in place.participants if name != DEALER]
    keys = _keys(place)
    last = Channel(place.links[computing[-1]])
    writer = CorrectionWriter(last)
    material = DealerMaterial([keys.open_stream(Label.DEALT, DEALER, name) for name in computing], writer)
    seconds, spent = [], []
    gc.disable()
    began = time.monotonic()
    for _ in range(runs):
        worked = time.thread_time()
        material.begin_segment(None)
        for operation in segment.operations:
            if isinstance(operation, Deal):
                deal(material, operation)
        writer.end_run()
        spent.append(time.thread_time() - worked)
        ended = time.monotonic()
        seconds.append(ended - began)
        began = ended
        if alone:
            last.receive([_spec(_GO)])
    return seconds, spent


def _meet(channels: Sequence[Channel]) -> None:
    for channel in channels:
        channel.send([_GO])
    for channel in channels:
        channel.receive([_spec(_GO)])


def _spec(array: np.ndarray) -> Any:
    from protocols.links import TensorSpec

    return TensorSpec(array.dtype.name, array.shape)


def _share(values: RingArray, index: int, parties: int, seed: int) -> RingArray:
    """One party's share of values that the benchmark made up, from a public seed."""
    random = [np.random.default_rng((seed, party)).integers(-(2**63), 2**63, values.shape) for party in range(parties - 1)]
    return random[index] if index < parties - 1 else values - sum(random, np.zeros_like(values))


def _keys(place: Place) -> SessionKeys:
    return derive_keys(
        party=place.party,
        participants=place.participants,
        pair_secrets=place.agreed.pair_secrets,
        nonces=place.agreed.nonces,
        job_digest=DIGEST,
        attempt=ATTEMPT,
        plan_digest=DIGEST,
    )


def main() -> None:
    """Measures one task and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--runs", type=int, default=32)
    options = parser.parse_args()
    import protocols.mpc.tensor  # noqa: F401  (loaded once, before parties and workers are forked)

    print(json.dumps(measure(TASKS[options.task](), runs=options.runs)), flush=True)


if __name__ == "__main__":
    main()
