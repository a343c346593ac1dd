"""What a party brings to a session, and how rows become shares.

An owner's rows become shares without a round: every computing party but one expands its share from a stream that it and the
owner hold, and the one left gets the correction. That one is the owner itself if it computes (nothing is sent at all), else
the last computing party. Learns: nobody anything but the number of rows and columns, which are public.

Shares of all data sets are joined by every computing party for itself, without a message: below each other, or side by side if
the data sets are different columns of the same rows. What follows is the same session in both cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.attack_numbers import limits_of, number_problems, width_of
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.fixed_point import PARAMETER_LIMIT_BITS, VALUE_BITS, encode
from protocols.job import DatasetRef, Job, JobType, Partition, Task
from protocols.mpc.channels import Channel
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.row_bounds import bounds_rows, shorten_rows, squared_limit
from protocols.mpc.shared_gradients_design import START_LIMIT
from protocols.mpc.training_state import STATES, state_names
from protocols.mpc.values import SharedValue
from protocols.plan.plan import PlannedInput
from protocols.prg import AesCtrStream
from protocols.ring import RingArray
from protocols.sharing import draw_ring, sum_ring

ROW_LIMIT = 1.0 + 2.0**-20  # scaling to [-1, 1] may end a rounding error outside

PARAMETER_LIMIT = 2.0**PARAMETER_LIMIT_BITS  # declared: weights stay below it
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, repr=False, eq=False)
class LocalInputs:
    """What one party brings; secret except for the initial weights.

    Attributes:
        rows: by position in the job's data sets, for the party's own: features (rows, features) float64 within [-1, 1] and
            labels (rows,) float64: 0 or 1, the index of a class, or a number within [-1, 1], as the job's task says; of
            the shape (0,) if another data set brings the labels.
        initial_weights: training from public weights: the start of every parameter, by name.
        training_state: training that continues or resumes, at computing parties: this party's int64 share of every parameter
            and of the optimiser's state, by name (`protocols.mpc.training_state`).
        model_share: evaluation and inference, at computing parties: this party's int64 share of every parameter, by name; the
            optimiser's state may be among them.
        query_share: inference, at computing parties: (rows, features) int64, from the querier.
        attack_numbers: assessment, by position as the rows: (rows, numbers of the attack) float64 (`protocols.attack_numbers`).
    """

    rows: Mapping[int, Rows] = field(default_factory=dict)
    initial_weights: Mapping[str, NDArray[np.floating]] | None = None
    training_state: Mapping[str, RingArray] | None = None
    model_share: Mapping[str, RingArray] | None = None
    query_share: RingArray | None = None
    attack_numbers: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)


def check_inputs(job: Job, party: str, inputs: LocalInputs) -> None:
    """Checks everything a party brings against the job, before anything is sent.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) with every problem found, values are never named; INVALID_MODEL (the
            querier's fault) for public initial weights beyond 2^10.
    """
    problems = list(_check_rows(job, party, inputs))
    if party in job.computing_parties:
        problems += _check_shares(job, inputs)
    if problems:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{party} does not bring what the job names", problems=problems)
    if party in job.computing_parties and starts_from_public_weights(job):
        _check_weights(inputs.initial_weights or {}, limit=START_LIMIT if bounds_rows(job) else PARAMETER_LIMIT)


def starts_from_public_weights(job: Job) -> bool:
    """Whether a job is a training whose parameters start from public weights and not from shares."""
    return job.job_type is JobType.TRAIN and job.model_ref is None and job.resumes is None


def label_columns(job: Job, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (rows, label_width) float64 of labels (rows,): one column, or one per class with a 1 at the label's.

    Args:
        job: whose task says what the labels are; public.
        labels: checked before; secret.
    """
    if job.task is not Task.CLASSES:
        return labels.reshape(-1, 1)
    return np.asarray(labels[:, None] == np.arange(job.label_width)[None, :], np.float64)


def planned_inputs(job: Job) -> tuple[PlannedInput, ...]:
    """Returns who shares how much, and where the correction goes."""
    return tuple(
        PlannedInput(
            dataset.party,
            index,
            dataset.num_rows * (dataset.num_features + _label_width(job, dataset) + width_of(job.assessment)),
            dataset.party if dataset.party in job.computing_parties else job.computing_parties[-1],
        )
        for index, dataset in enumerate(job.datasets)
    )


class RowSharing:
    """One party's side of the input step: gives its own rows, takes shares of everybody's.

    Args:
        job: the agreed job.
        party: this party.
        keys: its key schedule.
        channels: to every other party, by id.
    """

    def __init__(self, *, job: Job, party: str, keys: SessionKeys, channels: Mapping[str, Channel]) -> None:
        self._job = job
        self._party = party
        self._keys = keys
        self._channels = channels
        self._streams: dict[tuple[str, str], AesCtrStream] = {}
        self._own: dict[int, RingArray] = {}
        self._numbers: RingArray | None = None

    def give(self, rows: Mapping[int, Rows], attack_numbers: Mapping[int, NDArray[np.float64]] | None = None) -> None:
        """Shares this party's own rows: sends corrections, keeps its own share if it computes.

        Raises:
            ConfideError: INVALID_DATA (this party's fault) for rows that cannot be encoded; what the links raise.
        """
        for planned in planned_inputs(self._job):
            if planned.owner != self._party:
                continue
            features, labels = rows[planned.dataset]
            secret = np.concatenate(
                [
                    _encode_rows(self._job, planned.dataset, features).reshape(-1),
                    encode(label_columns(self._job, labels), scale_bits=VALUE_BITS, limit=ROW_LIMIT).reshape(-1),
                    *self._encoded(None if attack_numbers is None else attack_numbers.get(planned.dataset)),
                ]
            )
            others = [party for party in self._job.computing_parties if party != planned.correction_to]
            correction = secret - sum_ring([self._expand(planned.owner, party, secret.size) for party in others])
            if planned.correction_to == self._party:
                self._own[planned.dataset] = correction
            else:
                self._channels[planned.correction_to].send_bytes(correction.view(np.uint8))

    def take(self) -> tuple[RingArray, RingArray]:
        """Returns this computing party's shares of all rows, in the job's order: features and labels.

        (rows, features) and (rows, label_width) int64 at 16 fractional bits. Parts that are different columns of the same rows
        stand side by side in the order of the job's data sets, beside the labels of the one that has them.
        """
        features: list[RingArray] = []
        labels: list[RingArray] = []
        numbers: list[RingArray] = []
        width = width_of(self._job.assessment)
        for planned in planned_inputs(self._job):
            share, dataset = self._share_of(planned), self._job.datasets[planned.dataset]
            split = dataset.num_rows * dataset.num_features
            features.append(share[:split].reshape(dataset.num_rows, dataset.num_features))
            if dataset.has_label:
                end = split + dataset.num_rows * self._job.label_width
                labels.append(share[split:end].reshape(dataset.num_rows, self._job.label_width))
            if width:
                numbers.append(share[len(share) - dataset.num_rows * width :].reshape(dataset.num_rows, width))
        self._own.clear()
        self._numbers = np.concatenate(numbers) if numbers else None
        return np.concatenate(features, axis=_AXES[self._job.partition]), np.concatenate(labels)

    @property
    def attack_numbers(self) -> RingArray | None:
        """This party's shares of what shadows say of the rows, at 16 fractional bits, after `take`; None without an attack."""
        return self._numbers

    def _encoded(self, numbers: NDArray[np.float64] | None) -> Sequence[RingArray]:
        if numbers is None or self._job.assessment is None:
            return ()
        limits = limits_of(self._job.assessment)
        columns = [encode(numbers[:, i], scale_bits=VALUE_BITS, limit=float(limit)) for i, limit in enumerate(limits)]
        return (np.stack(columns, axis=1).reshape(-1),)

    def _share_of(self, planned: PlannedInput) -> RingArray:
        if planned.owner == self._party:
            return self._own[planned.dataset]
        if planned.correction_to == self._party:
            return self._channels[planned.owner].receive_bytes(8 * planned.num_elements).view(np.int64)
        return self._expand(planned.owner, self._party, planned.num_elements)

    def _expand(self, owner: str, party: str, count: int) -> RingArray:
        if (owner, party) not in self._streams:
            self._streams[owner, party] = self._keys.open_stream(Label.INPUT, owner, party)
        return draw_ring(self._streams[owner, party], (count,))


def _encode_rows(job: Job, dataset: int, features: NDArray[np.float64]) -> RingArray:
    """Returns rows as integers: rounded, or cut and shortened if the job bounds their length."""
    squared = squared_limit(job, job.datasets[dataset])
    if squared is None:
        return encode(features, scale_bits=VALUE_BITS, limit=ROW_LIMIT)
    return shorten_rows(features, squared=squared, limit=ROW_LIMIT)


def shared_rows(share: RingArray, *, for_session: bool) -> SharedValue:
    """Returns rows or labels as a shared value; absolute values are at most 1."""
    return SharedValue(share, scale_bits=VALUE_BITS, magnitude_bits=VALUE_BITS, for_session=for_session)


def _check_rows(job: Job, party: str, inputs: LocalInputs) -> Sequence[Problem]:
    problems = []
    own = {index for index, dataset in enumerate(job.datasets) if dataset.party == party}
    for index in sorted(own ^ set(inputs.rows)):
        problems.append(Problem(f"data set {index}", "missing or not this party's", "bring exactly the job's data sets"))
    for index in sorted(own & set(inputs.rows)):
        features, labels = inputs.rows[index]
        dataset = job.datasets[index]
        where = f"data set {dataset.name}"
        num_labels = dataset.num_rows if dataset.has_label else 0
        if features.shape != (dataset.num_rows, dataset.num_features) or labels.shape != (num_labels,):
            problems.append(Problem(where, "its shape is not the job's", "register it again, then submit a new job"))
        elif not _are_labels(job, labels):
            problems.append(Problem(where, f"a label is not one of {_EXPECTED[job.task]}", "correct the labels"))
        elif job.assessment is not None:
            numbers = inputs.attack_numbers.get(index)
            problems += number_problems(numbers, rows=dataset.num_rows, assessment=job.assessment, where=where)
    return problems


_AXES = {Partition.ROWS: 0, Partition.COLUMNS: 1}
_EXPECTED = {Task.BINARY: "0 and 1", Task.CLASSES: "the model's classes, counted from 0", Task.REAL: "the numbers from -1 to 1"}


def _label_width(job: Job, dataset: DatasetRef) -> int:
    return job.label_width if dataset.has_label else 0


def _are_labels(job: Job, labels: NDArray[np.float64]) -> bool:
    match job.task:
        case Task.BINARY:
            return bool(np.isin(labels, (0.0, 1.0)).all())
        case Task.CLASSES:
            return bool(np.isin(labels, np.arange(job.label_width)).all())
        case Task.REAL:
            return bool((np.abs(labels) <= ROW_LIMIT).all())  # False for NaN


def _check_shares(job: Job, inputs: LocalInputs) -> Sequence[Problem]:
    problems: list[Problem] = []
    if job.job_type is not JobType.TRAIN:
        problems += _check_model(job, inputs.model_share or {}, whole=False)
    elif not starts_from_public_weights(job):
        problems += _check_model(job, inputs.training_state or {}, whole=job.resumes is not None)
    elif {name: array.shape for name, array in (inputs.initial_weights or {}).items()} != _shapes(job):
        problems.append(_other_model())
    if job.job_type is JobType.INFER:
        query = inputs.query_share
        shape = (job.query_rows, job.model.input_features)
        if query is None or query.shape != shape or query.dtype != np.int64:
            problems.append(Problem("query", f"a share of {shape} int64 is expected", "share the samples again"))
    return problems


def _check_model(job: Job, brought: Mapping[str, RingArray], *, whole: bool) -> Sequence[Problem]:
    """Checks shares of parameters; `whole` if all of the optimiser's state must be there too."""
    shapes = _shapes(job)
    trained = [parameter.name for parameter in job.model.trained]
    states = {f"{name}#{state}": shapes[name] for name in trained for state in STATES}
    found = {name: array.shape for name, array in brought.items()}
    needed = set(shapes)
    if whole and job.training is not None:
        needed |= {f"{name}#{state}" for name in trained for state in state_names(job.training.optimiser)}
    problems = []
    if not needed <= set(found) or any({**shapes, **states}.get(name) != shape for name, shape in found.items()):
        problems.append(_other_model())
    if any(array.dtype != np.int64 for array in brought.values()):
        problems.append(Problem("model", "a share is not int64", "restore the share file"))
    return problems


def _shapes(job: Job) -> dict[str, tuple[int, ...]]:
    return {parameter.name: parameter.shape for parameter in job.model.parameters}


def _other_model() -> Problem:
    return Problem("model", "its parameters have not the names and shapes of the job's model", "choose another")


def _check_weights(weights: Mapping[str, NDArray[np.floating]], *, limit: float) -> None:
    beyond = [name for name, array in weights.items() if not bool((np.abs(array) < limit).all())]
    if beyond:
        problems = [Problem(name, f"a weight is not a number below {limit:g}", "scale the model") for name in beyond]
        raise ConfideError(ErrorCode.INVALID_MODEL, "initial weights beyond the declared magnitude", problems=problems)
