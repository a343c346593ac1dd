"""Runs a program on shared tensors among several parties and a dealer, in one process, after its dry run on zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.channels import Channel, CorrectionReader, CorrectionWriter, LinkExchange, ZeroExchange
from protocols.mpc.engine import Engine
from protocols.mpc.material.context import DealerMaterial, ShapeMaterial, ShareMaterial
from protocols.mpc.material.registry import deal
from protocols.mpc.tapes import CheckingTape, RecordingTape
from protocols.mpc.tensor import SharedTensor, use_engine
from protocols.mpc.values import SharedValue
from protocols.plan.operations import Deal, Operation, Segment
from tests.support.memory_links import connect
from tests.support.mpc_world import in_threads, split, stream

INPUT_BITS = 20  # declared for inputs of tests: below 2^4 at 16 fractional bits
RESULT_BITS = 30
UNIT = 2.0**-VALUE_BITS

Tensors = Mapping[str, SharedTensor]
Program = Callable[[Tensors], Tensors]


@dataclass
class TensorRun:
    """What came of a program: the opened results, and the operations of its plan."""

    values: dict[str, np.ndarray]
    operations: list[Operation]
    rounds: int

    def kinds(self) -> set[str]:
        """Names of the kinds of correlated randomness that the program uses."""
        return {operation.kind for operation in self.operations if isinstance(operation, Deal)}


def run_tensors(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    *,
    parties: int = 2,
    grad: tuple[str, ...] = (),
    magnitude_bits: int = INPUT_BITS,
    result_bits: int = RESULT_BITS,
) -> TensorRun:
    """Shares the inputs, runs the program at every party by the plan of its dry run, and opens what it returns.

    Args:
        program: from tensors by name to tensors by name.
        inputs: float64; encoded at 16 fractional bits.
        parties: how many compute.
        grad: inputs that autograd computes gradients of.
        magnitude_bits: declared bound on the inputs as ring elements; by default they are below 16.
        result_bits: fractional bits at which results are opened.
    """

    def compute(engine: Engine, mine: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, int]]:
        with use_engine(engine), engine.segment(None):
            tensors = {}
            for name, share in mine.items():
                tensors[name] = SharedTensor.of(SharedValue(share, scale_bits=VALUE_BITS, magnitude_bits=magnitude_bits))
                tensors[name].requires_grad = name in grad
            settled = {name: tensor.settle(result_bits) for name, tensor in program(tensors).items()}
            return {name: (value.share, value.scale_bits) for name, value in settled.items()}

    encoded = {name: np.rint(np.asarray(values) * 2.0**VALUE_BITS).astype(np.int64) for name, values in inputs.items()}
    shares = {name: split(values, parties, seed=index + 3) for index, (name, values) in enumerate(encoded.items())}
    tape, shapes = RecordingTape(), ShapeMaterial()
    dry = Engine(index=0, parties=parties, exchange=ZeroExchange(), material=shapes, tape=tape)
    compute(dry, {name: np.zeros_like(values) for name, values in encoded.items()})
    plan = Segment("program", tuple(tape.operations), shapes.correction_bytes)
    names = [f"p{index}" for index in range(parties)]
    links = connect([*names, "dealer"])

    def dealer() -> None:
        writer = CorrectionWriter(Channel(links["dealer"][names[-1]]))
        material = DealerMaterial([stream(f"dealt{index}") for index in range(parties)], writer)
        material.begin_segment(None)
        for operation in plan.operations:
            if isinstance(operation, Deal):
                deal(material, operation)
        writer.end_run()

    def party(index: int) -> dict[str, tuple[np.ndarray, int]]:
        reader = None
        if index == parties - 1:
            reader = CorrectionReader(Channel(links[names[index]]["dealer"]))
            reader.begin_run(plan.correction_bytes)
        exchange = LinkExchange([Channel(links[names[index]][other]) for other in names if other != names[index]])
        keeper = CheckingTape()
        keeper.begin_run(plan)
        material = ShareMaterial(stream(f"dealt{index}"), reader)
        engine = Engine(index=index, parties=parties, exchange=exchange, material=material, tape=keeper)
        result = compute(engine, {name: shares[name][index] for name in shares})
        keeper.end_run()
        return result

    tasks: dict[str, Callable[[], object]] = {"dealer": dealer}
    for index, name in enumerate(names):
        tasks[name] = lambda index=index: party(index)
    results = in_threads(tasks, links)
    values = {}
    for key, (_, scale) in results[names[0]].items():
        total = sum((results[name][key][0] for name in names[1:]), results[names[0]][key][0])
        values[key] = np.asarray(total).astype(np.float64) / 2.0**scale
    return TensorRun(values, tape.operations, plan.rounds)
