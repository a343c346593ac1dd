"""A model held as shares, applied to rows block by block, so that the memory of a run is bounded whatever the number of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from protocols.job import Job
from protocols.mpc.inputs import shared_rows
from protocols.mpc.programs.names import OPEN_MODEL as OPEN_MODEL
from protocols.mpc.programs.optimisers import parameter_of
from protocols.mpc.tensor import SharedModule, SharedTensor, build_module, crypten, current_engine
from protocols.mpc.values import SharedValue
from protocols.plan.plan import Part, Stage
from protocols.ring import RingArray

FORWARD = "forward"
LAST_FORWARD = "last forward"
_BLOCK_ELEMENTS = 1 << 18  # of the widest layer, or compared pairs, in a block of rows
_MAX_BLOCK_ROWS = 4096


def forward_stages(job: Job, num_rows: int) -> tuple[Stage, ...]:
    """Returns the stages that apply a job's model to rows: at once if they fit into a block, else opening the weights first."""
    block = _block_rows(job)
    if num_rows <= block:
        return (Stage(1, (Part(FORWARD, 1, num_rows),)),)
    whole, rest = divmod(num_rows, block)
    parts = (Part(FORWARD, whole, block), *([Part(LAST_FORWARD, 1, rest)] if rest else []))
    return Stage(1, (Part(OPEN_MODEL, 1, 0),)), Stage(1, parts)


class HeldModel:
    """A model held as shares, applied to whatever rows come.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits, by name; other entries are not used.
        for_session: whether the masks of its weights serve all later segments, after `open`, or only the current one.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], for_session: bool) -> None:
        self._parameters = {
            spec.name: _parameter(model_share[spec.name], for_session=for_session) for spec in job.model.parameters
        }
        tensors = {name: SharedTensor.of(value) for name, value in self._parameters.items()}
        self._module = build_module(job.model, tensors, trains=False)
        self._for_session = for_session

    def open(self) -> None:
        """Opens everything masked that rows are multiplied with; biases are added and need no mask."""
        engine = current_engine()
        with crypten.no_grad():
            factors = self._module.prepare(for_session=self._for_session)
        engine.run(SharedValue.open_masked(engine, factors))

    def block(self, rows: RingArray) -> Block:
        """Returns rows, a share (rows, features) at 16 bits, with the model's answers to them."""
        return Block(self._module, shared_rows(rows, for_session=False))


class Block:
    """Rows, and what a model makes of them; all that is computed of the rows uses one mask of them.

    Args:
        module: the model's.
        rows: (rows, features) at 16 fractional bits, secret.

    Attributes:
        rows: see the arguments.
    """

    def __init__(self, module: SharedModule, rows: SharedValue) -> None:
        self._module = module
        self.rows = rows

    def logits(self) -> SharedTensor:
        """Returns (rows, outputs): the input of a final sigmoid or softmax, else the output."""
        with crypten.no_grad():
            return self._module(SharedTensor.of(self.rows))

    def outputs(self) -> SharedTensor:
        """Returns (rows, outputs): the output of the whole model."""
        with crypten.no_grad():
            return self._module.outputs(SharedTensor.of(self.rows))


class Forward:
    """One party's side of applying a model to rows.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits, by name; other entries are not used.
        features: (rows, features) int64 share at 16 fractional bits.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray], features: RingArray) -> None:
        # In several blocks the weights' masks serve all of them: they are opened once.
        several = len(features) > _block_rows(job)
        self._model = HeldModel(job=job, model_share=model_share, for_session=several)
        self._features = features

    def open_model(self) -> None:
        """Opens every weight matrix masked; biases are added and need no mask."""
        self._model.open()

    def block(self) -> Block:
        """Returns the engine's current rows, with the model's answers to them."""
        window = current_engine().window
        return self._model.block(self._features if window is None else self._features[window.start : window.stop])

    def logits(self) -> SharedTensor:
        """Returns (block, outputs) of the engine's current rows: the input of a final sigmoid or softmax, else the output."""
        return self.block().logits()

    def outputs(self) -> SharedTensor:
        """Returns (block, outputs) of the engine's current rows: the output of the whole model."""
        return self.block().outputs()


def _block_rows(job: Job) -> int:
    widest = max(math.prod(shape) for shape in job.model.shapes.values())
    if any(output.top_k for output in job.outputs):  # all pairs of a row's probabilities are compared
        widest = max(widest, job.label_width * (job.label_width - 1) // 2)
    if any(output.abstain_beyond != "0" for output in job.outputs):  # both ends of every feature's range are compared
        widest = max(widest, 2 * job.model.input_features)
    return max(1, min(_MAX_BLOCK_ROWS, _BLOCK_ELEMENTS // widest))


def _parameter(share: RingArray, *, for_session: bool) -> SharedValue:
    value = parameter_of(share)
    return SharedValue(share, scale_bits=value.scale_bits, magnitude_bits=value.magnitude_bits, for_session=for_session)
