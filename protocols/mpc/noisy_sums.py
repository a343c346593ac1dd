"""Training by noisy sums, one party's side: the weights are public among the participants, and only noisy sums are ever opened.

In every step each owner shares the clipped sum of the rows that it drew among the computing parties; they add the shares of the
step's noise, which was there before the first step, and open the total to each other. The lead tells it to the owners that do not
compute, and every other computing party a digest of it, so that none can lie to them alone. Everybody divides by the agreed batch
size and makes the same update in IEEE double arithmetic of fixed order; digests of the weights are compared in every step.

Learns: every participant the noisy sum of every step, and so the weights after it; nobody the sum of an owner, nor which rows or
how many were drawn. Whoever leaves ends the training for all: a sum without all of its noise is never opened.
See docs/protocols/noisy-sums.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, encode
from protocols.job import Job
from protocols.model.plain_layers import Float64
from protocols.model.plain_optimisers import State, make_step, state_suffixes
from protocols.mpc.channels import Channel
from protocols.mpc.inputs import PARAMETER_LIMIT, LocalInputs
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.noisy_sums_contribution import CanaryScores, Contributions
from protocols.mpc.noisy_sums_design import SCALE_BITS, num_coordinates, trained_numbers
from protocols.mpc.noisy_sums_plan import contributed_inputs, digest_layout, opened_layout
from protocols.mpc.noisy_sums_sampling import training_of
from protocols.plan.plan import PlannedInput
from protocols.prg import AesCtrStream
from protocols.private_job_checks import contributors
from protocols.ring import RingArray
from protocols.sharing import draw_ring, sum_ring

_WEIGHTS = b"confide.noisy_sums.weights/1:"
_TOLD = b"confide.noisy_sums.told/1:"


@dataclass(frozen=True, repr=False, eq=False)
class Trained:
    """What a training by noisy sums leaves at a participant.

    Attributes:
        weights: float64 parameters by name, known to every participant.
        canaries: at an owner that planted some.
    """

    weights: Mapping[str, Float64]
    canaries: CanaryScores | None


class NoisySums:
    """One participant's side.

    Args:
        job: the agreed job.
        party: this party: an owner, a computing party, or both.
        keys: its key schedule.
        channels: to every other participant, by id.
        inputs: its rows, and the public initial weights.
        noise: at a computing party: its share of all owners' noise, (steps, coordinates) int64; None elsewhere.
        random: gives so many uniform bytes, from the system's generator.
    """

    def __init__(
        self,
        *,
        job: Job,
        party: str,
        keys: SessionKeys,
        channels: Mapping[str, Channel],
        inputs: LocalInputs,
        noise: RingArray | None,
        random: Callable[[int], bytes],
    ) -> None:
        self._job, self._party, self._keys, self._channels = job, party, keys, channels
        self._training = training_of(job)
        self._computing = job.computing_parties
        self._computes = party in job.computing_parties
        self._noise = noise if self._computes else None
        shape = (self._training.epochs, num_coordinates(job))
        if self._computes and (noise is None or noise.shape != shape or noise.dtype != np.int64):
            raise ConfideError(ErrorCode.INTERNAL, f"noise of the shape {shape} was to be there before the first step")
        owns = party in contributors(job)
        self._own = Contributions(job=job, party=party, rows=inputs.rows, random=random) if owns else None
        self._streams: dict[tuple[str, str], AesCtrStream] = {}
        self._state = _start(job, inputs)
        self._next_step = 0
        self._peers = [channels[peer] for peer in self._computing if peer != party]
        self._told = [channels[owner] for owner in contributors(job) if owner not in self._computing and owner != party]

    def make_step(self, step: int) -> None:
        """Makes one step; `step` counts from 0.

        Raises:
            ConfideError: BAD_FRAME (a peer's fault) if parties hold other weights or say different sums; TRAINING_DIVERGED (the
                querier's settings) at all participants alike; INTERNAL (ours) if it is not the step after the last; what the
                links raise.
        """
        if step != self._next_step:
            # The difference of two sums under the same noise would show rows.
            raise ConfideError(
                ErrorCode.INTERNAL, f"step {step + 1} is not the next one: its noise was used, or would be left out"
            )
        self._next_step += 1
        before = self._digest()
        own = None if self._own is None else self._own.next_sum(self._state)
        mine = self._share(own)
        total = self._open(mine, step, before) if self._computes else self._hear(step, before)
        if self._own is not None:
            self._own.see(total)
        self._update(step, total)

    def agree(self) -> None:
        """Compares the weights after the last step with the other computing parties'."""
        mine = self._digest()
        for channel in self._peers if self._computes else ():
            channel.send([mine])
        for peer in self._others() if self._computes else ():
            (theirs,) = self._channels[peer].receive([digest_layout()])
            self._compare(mine, theirs, peer)

    def trained(self) -> Trained:
        """Returns what the last step left."""
        weights = {spec.name: self._state[spec.name] for spec in self._job.model.parameters}
        return Trained(weights, None if self._own is None else self._own.canary_scores())

    def kept(self) -> dict[str, RingArray]:
        """Returns this computing party's share of the parameters at 24 fractional bits, to be refreshed before it is kept."""
        weights = {spec.name: self._state[spec.name] for spec in self._job.model.parameters}
        encoded = {name: encode(value, scale_bits=PARAMETER_BITS, limit=PARAMETER_LIMIT) for name, value in weights.items()}
        leads = self._party == self._computing[0]
        return encoded if leads else {name: np.zeros_like(value) for name, value in encoded.items()}

    def _share(self, own: RingArray | None) -> RingArray | None:
        """Gives shares of this party's sum, and adds up the shares of everybody's; None where nothing is computed."""
        total = np.zeros(num_coordinates(self._job), np.int64)
        for planned in contributed_inputs(self._job):
            if planned.owner == self._party and own is not None:
                total += self._give(planned, own)
        for planned in contributed_inputs(self._job) if self._computes else ():
            if planned.owner != self._party:
                total += self._take(planned)
        return total if self._computes else None

    def _give(self, planned: PlannedInput, own: RingArray) -> RingArray:
        others = [party for party in self._computing if party != planned.correction_to]
        correction = own - sum_ring([self._expand(self._party, party) for party in others])
        if planned.correction_to != self._party:
            self._channels[planned.correction_to].send_bytes(correction.view(np.uint8))
        return correction

    def _take(self, planned: PlannedInput) -> RingArray:
        if planned.correction_to == self._party:
            return self._channels[planned.owner].receive_bytes(8 * num_coordinates(self._job)).view(np.int64)
        return self._expand(planned.owner, self._party)

    def _expand(self, owner: str, party: str) -> RingArray:
        if (owner, party) not in self._streams:
            self._streams[owner, party] = self._keys.open_stream(Label.SUM, owner, party)
        return draw_ring(self._streams[owner, party], (num_coordinates(self._job),))

    def _open(self, mine: RingArray | None, step: int, before: NDArray[np.uint8]) -> RingArray:
        if mine is None or self._noise is None:
            raise ConfideError(ErrorCode.INTERNAL, "a step is opened by computing parties, with its noise")
        mine = mine + self._noise[step]
        for channel in self._peers:
            channel.send([mine, before])
        total = mine
        for peer in self._others():
            theirs, digest = self._channels[peer].receive(opened_layout(self._job))
            self._compare(before, digest, peer)
            total = total + theirs
        said = total if self._party == self._computing[0] else _said(step, before, total)
        for channel in self._told:
            channel.send([np.ascontiguousarray(said)])
        return total

    def _hear(self, step: int, before: NDArray[np.uint8]) -> RingArray:
        (total,) = self._channels[self._computing[0]].receive(opened_layout(self._job)[:1])
        for peer in self._computing[1:]:
            (theirs,) = self._channels[peer].receive([digest_layout()])
            if not np.array_equal(theirs, _said(step, before, total)):
                what = f"{self._computing[0]} and {peer} do not say the same sum of step {step + 1}, or hold other weights"
                raise ConfideError(ErrorCode.BAD_FRAME, what, party=peer)
        return np.asarray(total, np.int64)

    def _compare(self, mine: NDArray[np.uint8], theirs: NDArray[np.generic], peer: str) -> None:
        if not np.array_equal(mine, theirs):
            raise ConfideError(ErrorCode.BAD_FRAME, "it holds other weights after the same sums", party=peer)

    def _others(self) -> list[str]:
        return [party for party in self._computing if party != self._party]

    def _update(self, step: int, total: RingArray) -> None:
        """Every operation is one correctly rounded IEEE operation an element, in one order: equal at every party."""
        mean = total[: trained_numbers(self._job)].astype(np.float64) / 2.0**SCALE_BITS / self._training.batch_size
        gradients, start = {}, 0
        for spec in self._job.model.trained:
            size = int(np.prod(spec.shape))
            gradients[spec.name] = mean[start : start + size].reshape(spec.shape)
            start += size
        optimiser, steps = self._training.optimiser, self._training.epochs
        rate = Fraction(optimiser.learning_rate) * self._training.schedule.multiplier(step, steps)
        make_step(self._state, gradients, optimiser=optimiser, learning_rate=float(rate), step=step + 1)
        if not all(bool((np.abs(self._state[name]) < PARAMETER_LIMIT).all()) for name in gradients):  # False for NaN
            what = f"a parameter left the declared range in step {step + 1}; no model is kept"
            raise ConfideError(ErrorCode.TRAINING_DIVERGED, what)

    def _digest(self) -> NDArray[np.uint8]:
        """SHA-256 of everything that the next step follows from, beside the sum."""
        found = hashlib.sha256(_WEIGHTS)
        for name, values in self._state.items():
            found.update(name.encode())
            found.update(np.ascontiguousarray(values, "<f8").data)
        return np.frombuffer(found.digest(), np.uint8)


def _said(step: int, before: NDArray[np.uint8], total: NDArray[np.generic]) -> NDArray[np.uint8]:
    found = hashlib.sha256(_TOLD + step.to_bytes(8, "little") + before.tobytes())
    found.update(np.ascontiguousarray(total, "<i8").data)
    return np.frombuffer(found.digest(), np.uint8)


def _start(job: Job, inputs: LocalInputs) -> State:
    weights, training = inputs.initial_weights or {}, training_of(job)
    shapes = {spec.name: spec.shape for spec in job.model.parameters}
    if {name: values.shape for name, values in weights.items()} != shapes:
        raise ConfideError(ErrorCode.INVALID_DATA, "the public initial weights are not those of the job's model")
    state = {name: np.array(weights[name], np.float64) for name in shapes}
    suffixes = state_suffixes(training.optimiser)
    kept = [(spec.name + suffix, spec.shape) for spec in job.model.trained for suffix in suffixes]
    return {**state, **{name: np.zeros(shape) for name, shape in kept}}
