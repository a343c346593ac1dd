"""`EncryptedPlan`: the public document of how a model is asked under encryption, for its owner and for whoever asks.

The owner publishes it with the model. Whoever asks reads from it which keys to make, how to lay out samples, what comes back
and at which precision; the owner's evaluator reads the steps. What in it depends on the values of weights is stated here, so
that nobody is surprised: the bound of the outputs and the predicted error and noise (two digits each), and what follows from
them: scales, the step of the outputs, in the batch lane also the parameter set and how many bits the weights of a map have.

Learns: everybody the architecture, the layouts and these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.parameters import PARAMETER_SETS, ParameterSet
from protocols.errors import ConfideError, ErrorCode

FORMAT = "confide.encrypted-plan/1"
MAX_STEPS = 256
MAX_CIPHERTEXTS = 1 << 16
NOTHING = -1  # a slot that holds zero

Float64 = NDArray[np.float64]
Slots = tuple[tuple[int, ...], ...]


class Lane(Enum):
    """How samples are put into ciphertexts."""

    LATENCY = "latency"  # one ciphertext, few samples
    BATCH = "batch"  # a ciphertext per feature, a slot per sample


@dataclass(frozen=True)
class PlannedStep:
    """One step of the evaluation.

    Attributes:
        name: the layer it computes, or the last of several that are computed at once.
        kind: `linear` or `polynomial`.
        level: of the result.
        scale: of the result, exact.
        order: how the result's numbers follow each other, see `protocols.ckks.layouts`.
        stretch: how many slots in a row hold the same number.
        period: after how many slots everything repeats; `stretch` and `period` count groups of `samples` slots.
        splits: for every source of a linear step: how many diagonals share a rotation of the result; in the batch lane the bits
            of its weights.
        rescale: what a linear step of the latency lane rescales, see `protocols.ckks.schedule.Rescale`; otherwise empty.
    """

    name: str
    kind: str
    level: int
    scale: float
    order: str
    stretch: int
    period: int
    splits: tuple[int, ...]
    rescale: str


@dataclass(frozen=True)
class Predictions:
    """What was predicted before anything was encrypted.

    Attributes:
        server_seconds: of one thread, from the bytes of a query to those of its answer: parsing, evaluation, flooding, mask and
            packing. Encryptions of zero are made ahead and not counted. For a machine like the reference one, unless costs were
            measured.
        upload_bytes: of one query, without headers.
        key_bytes: of the evaluation keys, uploaded once.
        answer_bytes: without headers.
        max_error: of an output, absolute, before flooding and rounding. Derived from the errors of single operations and not
            fitted to models. A statistical bound: six standard deviations of the output that is worst at rows spread over the
            declared range and at its ends. Not a worst case: a sample made to have larger values inside a model can exceed it.
        typical_error: root mean square over the outputs of samples spread evenly over the declared range; from the same errors,
            with the rounding that this model's weights have.
        noise_bound: the part of `max_error` that depends on keys: all but the rounding of weights.
        output_limit: no output of a sample within the declared range is larger in absolute value.
    """

    server_seconds: float
    upload_bytes: int
    key_bytes: int
    answer_bytes: int
    max_error: float
    typical_error: float
    noise_bound: float
    output_limit: float


@dataclass(frozen=True)
class EncryptedPlan:
    """How a model is asked under encryption; see the module. All of it is public.

    Attributes:
        lane: see `Lane`.
        parameters: one of the named sets.
        model_sha256: digest of the manifest of the `ModelSpec`.
        num_features: of a sample.
        num_outputs: of a sample.
        samples: how many fit in one query, and are debited for it, whatever it holds.
        input_low: samples' features are at least this.
        input_high: and at most this.
        fresh_level: level of the query's ciphertexts.
        fresh_scale: their scale.
        input_slots: per ciphertext and slot `sample * num_features + feature`, or `NOTHING`. Empty in the batch lane: there
            ciphertext f holds feature f, slot s the sample s.
        answer_scale: of the answer's ciphertexts, which are at level 0; in the batch lane, where nothing is rescaled, at the top.
        answer_parts: 2, or 3 where products are not relinearised.
        answer_replicas: whoever opens an answer sums up all slots that are equal modulo the least period of `output_slots`: the
            sum is this many times the output.
        precision: the step that opened outputs are rounded to, absolute: declared by the owner. It also says how much answers
            are flooded, see `protocols.ckks.protection`.
        output_slots: per ciphertext and slot `sample * num_outputs + output`, or `NOTHING` for a slot that is zero (where a
            polynomial ends the model, that of zero). Empty in the batch lane: there ciphertext k holds output k, slot s the
            sample s.
        keys: exactly the keys that are made.
        client_activation: `sigmoid` or `softmax` that whoever asks applies to the opened outputs; empty for none.
        steps: of the evaluation.
        predictions: made beforehand.
    """

    lane: Lane
    parameters: ParameterSet
    model_sha256: str
    num_features: int
    num_outputs: int
    samples: int
    input_low: float
    input_high: float
    fresh_level: int
    fresh_scale: float
    input_slots: Slots
    answer_scale: float
    answer_parts: int
    answer_replicas: int
    precision: float
    output_slots: Slots
    keys: KeyManifest
    client_activation: str
    steps: tuple[PlannedStep, ...]
    predictions: Predictions

    @property
    def query_ciphertexts(self) -> int:
        """How many ciphertexts a query has."""
        return len(self.input_slots) or self.num_features

    @property
    def answer_ciphertexts(self) -> int:
        """How many ciphertexts an answer has."""
        return len(self.output_slots) or self.num_outputs

    @cached_property
    def period(self) -> int:
        """How many numbers an answer's ciphertext holds: the least period of its slots, a power of two."""
        period = self.parameters.slots
        while self.output_slots and period > 1 and all(_repeats(slots, period // 2) for slots in self.output_slots):
            period //= 2
        return period

    @property
    def numbers_per_answer(self) -> int:
        """How many numbers whoever holds the key learns from an answer at most, whatever it encrypted: what an answer debits.

        Slots of a period that are no output count too: they are zero for a query of the plan's form alone. One that is not a
        polynomial of small coefficients finds numbers of its own in them, since it is multiplied modulo the primes.
        """
        return self.answer_ciphertexts * self.period

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical document, as 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def lay_out(self, rows: Float64) -> Float64:
        """Returns the values of every slot of a query, `(ciphertexts, slots) float64`; as secret as the samples.

        Args:
            rows: `(rows, num_features) float64`, at most `samples` rows, within the declared range.

        Raises:
            ConfideError: INVALID_ARGUMENT (the caller's fault): another shape, too many rows, or values out of range.
        """
        if rows.ndim != 2 or rows.shape[1] != self.num_features or not 1 <= len(rows) <= self.samples:
            raise ConfideError(
                ErrorCode.INVALID_ARGUMENT,
                f"a query has 1 to {self.samples} rows of {self.num_features} features, not {rows.shape}",
            )
        inside = (rows >= self.input_low) & (rows <= self.input_high)
        if not inside.all():
            row, feature = np.argwhere(~inside)[0]
            raise ConfideError(
                ErrorCode.INVALID_ARGUMENT,
                f"row {row}, feature {feature} is outside the planned range [{self.input_low:g}, {self.input_high:g}]",
                remedy="Scale the features as the model's owner says.",
            )
        if self.lane is Lane.BATCH:
            padded = np.zeros((self.parameters.slots, self.num_features))
            padded[: len(rows)] = rows
            return np.ascontiguousarray(padded.T)
        values = np.zeros(self.samples * self.num_features + 1)  # the last one, which `NOTHING` picks, stays zero
        values[: rows.size] = rows.ravel()
        result: Float64 = values[np.array(self.input_slots)]
        return result

    def read_outputs(self, slots: Float64, num_rows: int) -> Float64:
        """Returns the declared outputs `(num_rows, num_outputs) float64` of an answer's slots `(ciphertexts, slots) float64`."""
        if self.lane is Lane.BATCH:
            return np.ascontiguousarray(slots[:, :num_rows].T)
        found = np.zeros(self.samples * self.num_outputs + 1)
        places = np.array(self.output_slots).ravel()
        # In reverse, so that the first slot of every output is the one that is read.
        found[places[::-1]] = slots.ravel()[::-1]
        return found[:-1].reshape(self.samples, self.num_outputs)[:num_rows]

    def to_document(self) -> dict[str, Any]:
        """Returns the plan as a document; numbers that are not whole are texts that read back exactly."""
        document = {field.name: _written(getattr(self, field.name)) for field in fields(self)}
        return {"format": FORMAT, **document}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> EncryptedPlan:
        """Reads a plan.

        Raises:
            ConfideError: INVALID_DOCUMENT (its author's fault): not a plan of this version, or one that contradicts itself.
        """
        try:
            if set(document) != {"format", *(field.name for field in fields(cls))} or document["format"] != FORMAT:
                raise ValueError("not the fields of a plan")
            named = PARAMETER_SETS[document["parameters"]["name"]]
            values = {
                "parameters": ParameterSet.from_document(document["parameters"]),
                "lane": Lane(document["lane"]),
                "keys": KeyManifest.from_document(document["keys"]),
                "steps": tuple(_read(PlannedStep, step) for step in _bounded(document["steps"], MAX_STEPS)),
                "predictions": _read(Predictions, document["predictions"]),
                "input_slots": _slots(document["input_slots"], named.slots),
                "output_slots": _slots(document["output_slots"], named.slots),
            }
            rest = {field.name: document[field.name] for field in fields(cls) if field.name not in values}
            plan = cls(**values, **{name: _number(name, value) for name, value in rest.items()})
            plan._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"not a plan for encrypted inference: {error}") from error
        return plan

    def _check(self) -> None:
        """Raises ValueError where the plan contradicts itself."""
        if not 0 <= self.fresh_level <= self.parameters.top_level:
            raise ValueError("a fresh level that the parameters do not have")
        if not all(1 <= count <= MAX_CIPHERTEXTS for count in (self.num_features, self.num_outputs, self.samples)):
            raise ValueError("counts out of range")
        if not 1 <= self.answer_replicas <= self.parameters.slots:
            raise ValueError("replicas that the slots do not hold")
        if self.samples > self.parameters.slots or self.answer_parts not in (2, 3):
            raise ValueError("more samples than slots, or an answer of other than two or three parts")
        if any(not 1 <= scale < math.prod(self.parameters.primes) for scale in (self.fresh_scale, self.answer_scale)):
            raise ValueError("scales out of range")
        if not 0 < self.precision <= 1e9:
            raise ValueError("a precision that is none")
        if not -1e9 <= self.input_low < self.input_high <= 1e9:
            raise ValueError("an input range that is none")
        if self.client_activation not in ("", "sigmoid", "softmax"):
            raise ValueError("an activation that is not known")
        if (self.lane is Lane.BATCH) != (not self.input_slots) or (self.lane is Lane.BATCH) != (not self.output_slots):
            raise ValueError("slots are listed in the latency lane alone")
        for slots, width in ((self.input_slots, self.num_features), (self.output_slots, self.num_outputs)):
            held = {place for each in slots for place in each}
            if held and not held <= {NOTHING, *range(self.samples * width)}:
                raise ValueError("slots that hold no value of a sample")
            if slots is self.output_slots and slots and not held >= set(range(self.samples * width)):
                raise ValueError("an output that no slot holds")
        self.keys.check(self.parameters)


def _repeats(slots: tuple[int, ...], period: int) -> bool:
    return slots[period:] == slots[:-period]


def _written(value: object) -> object:
    match value:
        case float():
            return repr(value)
        case Enum():
            return value.value
        case tuple():
            return [_written(item) for item in value]
        case ParameterSet() | KeyManifest():
            return value.to_document()
        case PlannedStep() | Predictions():
            return {field.name: _written(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def _read(kind: Any, document: Any) -> Any:
    if set(document) != {field.name for field in fields(kind)}:
        raise ValueError(f"not the fields of {kind.__name__}")
    return kind(**{name: _number(name, value) for name, value in document.items()})


_REALS = {
    "input_low", "input_high", "fresh_scale", "answer_scale", "scale", "server_seconds", "max_error", "output_limit",
    "precision", "noise_bound", "typical_error",
}  # fmt: skip
_TEXTS = {"model_sha256", "client_activation", "name", "kind", "order", "rescale"}


def _number(name: str, value: Any) -> Any:
    if name == "splits":
        return tuple(_number("split", item) for item in _bounded(value, MAX_STEPS))
    if name in _REALS:
        number = float(value) if isinstance(value, str) and len(value) <= 32 else math.nan
        if not math.isfinite(number) or repr(number) != value:
            raise ValueError(f"{name} is no decimal")
        return number
    if type(value) is not (str if name in _TEXTS else int) or (isinstance(value, str) and len(value) > 128):
        raise ValueError(f"{name} has the wrong type")
    return value


def _slots(value: Any, slots: int) -> Slots:
    found = tuple(tuple(_bounded(each, slots)) for each in _bounded(value, 16))
    if any(len(each) != slots or any(type(place) is not int for place in each) for each in found):
        raise ValueError(f"a ciphertext has {slots} slots")
    return found


def _bounded(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"not a list of at most {most}")
    return value
