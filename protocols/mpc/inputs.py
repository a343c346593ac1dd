"""What a party brings to a session, and how rows become shares.

An owner's rows become shares without a round: every computing party but one expands its share from a stream that it and the
owner hold, and the one left gets the correction. That one is the owner itself if it computes (nothing is sent at all), else
the last computing party. Learns: nobody anything but the number of rows, which is public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.fixed_point import VALUE_BITS, encode
from protocols.job import Job, JobType
from protocols.mpc.channels import Channel
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.values import SharedValue
from protocols.plan.plan import PlannedInput
from protocols.prg import AesCtrStream
from protocols.ring import RingArray
from protocols.sharing import draw_ring, sum_ring

ROW_LIMIT = 1.0 + 2.0**-20  # scaling to [-1, 1] may end a rounding error outside

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, repr=False, eq=False)
class LocalInputs:
    """What one party brings; secret except for the initial weights.

    Attributes:
        rows: by position in the job's data sets, for the party's own: features (rows, features) float64 within [-1, 1] and
            labels (rows,) float64 of 0 and 1.
        initial_weights: training only: public start of every parameter, by name.
        model_share: evaluation and inference, at computing parties: this party's int64 share of every parameter, by name.
        query_share: inference, at computing parties: (rows, features) int64, from the querier.
    """

    rows: Mapping[int, Rows] = field(default_factory=dict)
    initial_weights: Mapping[str, NDArray[np.floating]] | None = None
    model_share: Mapping[str, RingArray] | None = None
    query_share: RingArray | None = None


def check_inputs(job: Job, party: str, inputs: LocalInputs) -> None:
    """Checks everything a party brings against the job, before anything is sent.

    Raises:
        ConfideError: INVALID_DATA (this party's fault) with every problem found; values are never named.
    """
    problems = list(_check_rows(job, party, inputs))
    if party in job.computing_parties:
        problems += _check_shares(job, inputs)
    if problems:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{party} does not bring what the job names", problems=problems)


def planned_inputs(job: Job) -> tuple[PlannedInput, ...]:
    """Returns who shares how much, and where the correction goes."""
    width = job.model.input_features + 1
    return tuple(
        PlannedInput(
            dataset.party,
            index,
            dataset.num_rows * width,
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

    def give(self, rows: Mapping[int, Rows]) -> None:
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
                    encode(features, scale_bits=VALUE_BITS, limit=ROW_LIMIT).reshape(-1),
                    encode(labels, scale_bits=VALUE_BITS, limit=1.0).reshape(-1),
                ]
            )
            others = [party for party in self._job.computing_parties if party != planned.correction_to]
            correction = secret - sum_ring([self._expand(planned.owner, party, secret.size) for party in others])
            if planned.correction_to == self._party:
                self._own[planned.dataset] = correction
            else:
                self._channels[planned.correction_to].send_bytes(correction.view(np.uint8))

    def take(self) -> tuple[RingArray, RingArray]:
        """Returns this computing party's shares of all rows, in the job's order: (rows, features) and (rows, 1) int64."""
        features: list[RingArray] = []
        labels: list[RingArray] = []
        for planned in planned_inputs(self._job):
            share = self._share_of(planned)
            num_rows = self._job.datasets[planned.dataset].num_rows
            split = num_rows * self._job.model.input_features
            features.append(share[:split].reshape(num_rows, -1))
            labels.append(share[split:].reshape(num_rows, 1))
        self._own.clear()
        return np.concatenate(features), np.concatenate(labels)

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
        num_rows = job.datasets[index].num_rows
        where = f"data set {job.datasets[index].name}"
        if features.shape != (num_rows, job.model.input_features) or labels.shape != (num_rows,):
            problems.append(Problem(where, "its shape is not the job's", "register it again, then submit a new job"))
        elif not np.isin(labels, (0.0, 1.0)).all():
            problems.append(Problem(where, "a label is neither 0 nor 1", "correct the labels"))
    return problems


def _check_shares(job: Job, inputs: LocalInputs) -> Sequence[Problem]:
    problems = []
    wanted = {parameter.name: parameter.shape for parameter in job.model.parameters}
    trains = job.job_type is JobType.TRAIN
    brought: Mapping[str, NDArray[np.generic]] = (inputs.initial_weights if trains else inputs.model_share) or {}
    if {name: array.shape for name, array in brought.items()} != wanted:
        problems.append(Problem("model", "its parameters have not the names and shapes of the job's model", "choose another"))
    if not trains and any(array.dtype != np.int64 for array in brought.values()):
        problems.append(Problem("model", "a share is not int64", "restore the share file"))
    if job.job_type is JobType.INFER:
        query = inputs.query_share
        shape = (job.query_rows, job.model.input_features)
        if query is None or query.shape != shape or query.dtype != np.int64:
            problems.append(Problem("query", f"a share of {shape} int64 is expected", "share the samples again"))
    return problems
