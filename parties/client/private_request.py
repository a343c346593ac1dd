"""The terms of differential privacy of a request: what a researcher says of them, and how they become those of a job.

training:
  epochs: 60                      # steps
  learning_rate: "0.5"
  privacy:
    mechanism: shared_gradients   # noisy_sums for other models than linear ones; batch_size is then the rows expected in a step
    colluders: 1
    nominal_rows: 900             # agreed, in place of the true number; nominal_people: as many, if nothing is said
    norm_bound: "1"
    max_tpr: "0.02"               # no attack finds more of the members ...
    at_fpr: "0.01"                # ... at so many false alarms; or epsilon: "1"; or noise_multiplier: "25"
    unit: person                  # row | person | person_everywhere; rows_per_person: 1
    delta: "0.00001"              # else one tenth of 1 / nominal_people
    canaries: 0                   # noisy_sums: planted for an audit

What is left out is calibrated: noise that keeps the limit, and the epsilon that it gives. Nothing is asked of anybody for that.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, check
from protocols.private_training import Mechanism, PrivateTraining, Unit

if TYPE_CHECKING:
    from privacy.accounting.samplers import Sampler

DecimalText = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$")]
_DELTA_PLACES = Decimal("0.000000001")
_MOST_DELTA = Decimal("0.00001")  # if the request says nothing, and fewer people would permit more
_STEP = Decimal("0.001")
_TRIES = 100  # of a thousandth more noise


class PrivacyRequest(BaseModel):
    """See the module; decimals are quoted so that everybody reads the same digits."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mechanism: Literal["shared_gradients", "noisy_sums"]
    colluders: int
    nominal_rows: Annotated[int, Field(ge=2)]
    norm_bound: DecimalText
    nominal_people: int | None = None
    unit: Literal["row", "person", "person_everywhere"] = "row"
    rows_per_person: int = 1
    delta: DecimalText | None = None
    noise_multiplier: DecimalText | None = None
    epsilon: DecimalText | None = None
    max_tpr: DecimalText | None = None
    at_fpr: DecimalText | None = None
    canaries: int = 0

    @model_validator(mode="after")
    def _one_limit(self) -> PrivacyRequest:
        given = [self.noise_multiplier is not None, self.epsilon is not None, self.max_tpr is not None]
        if sum(given) != 1:
            raise PydanticCustomError("not_one_limit", "noise_multiplier, epsilon and max_tpr stand for one another: give one")
        if (self.max_tpr is None) != (self.at_fpr is None):
            raise PydanticCustomError("half_a_limit", "max_tpr and at_fpr stand beside one another")
        return self


def with_privacy(job: Job, request: PrivacyRequest) -> Job:
    """Returns a training with complete terms of differential privacy.

    Args:
        job: complete but for them.
        request: what the researcher says.

    Raises:
        ConfideError: INVALID_JOB (the researcher's to mend): the terms do not fit the job, or protect nobody; INVALID_ARGUMENT
            likewise: no noise keeps the limit.
    """
    draft = _with_noise(job, _draft(request), request.noise_multiplier or "1", epsilon=request.epsilon or "1")
    if problems := tuple(check(draft)):
        raise ConfideError(ErrorCode.INVALID_JOB, f"{len(problems)} problem(s) in the request", problems=problems)
    return _calibrated(draft, request)


def _calibrated(draft: Job, request: PrivacyRequest) -> Job:
    # The accountants take a second to import; a request without these terms need not wait for them.
    from privacy.accounting.accountant import attack_ceiling, guarantee
    from privacy.accounting.calibration import MOST_NOISE
    from privacy.accounting.jobs import noise_of, sampler_of

    terms, sampler = _terms(draft), sampler_of(draft)
    noise = Decimal(request.noise_multiplier or _chosen(draft, request, sampler))
    # What is drawn is rounded to the grid: where that costs a little, a little more noise is drawn.
    for _ in range(_TRIES):
        job = _with_noise(draft, terms, f"{noise:f}", epsilon="1")
        drawn = noise_of(job)
        found = guarantee(sampler, noise_multiplier=drawn.multiplier, delta=terms.delta, distance=drawn.distance)
        claimed = request.epsilon or f"{found.epsilon:f}"
        holds = found.epsilon <= Decimal(claimed)
        if request.max_tpr is not None:
            rate = attack_ceiling(
                sampler, noise_multiplier=drawn.multiplier, distance=drawn.distance, at_fpr=request.at_fpr or "1"
            )
            holds = rate <= Decimal(request.max_tpr)
        if holds or request.noise_multiplier is not None:
            return _with_noise(draft, terms, f"{noise:f}", epsilon=claimed)
        noise = min(noise + _STEP, MOST_NOISE)
    raise ConfideError(ErrorCode.INVALID_JOB, "no noise keeps the limit", remedy="Permit more, or train with fewer steps.")


def _chosen(draft: Job, request: PrivacyRequest, sampler: Sampler) -> str:
    from privacy.accounting.calibration import choose_noise, choose_noise_for_attack

    if request.epsilon is not None:
        return choose_noise(sampler, epsilon=request.epsilon, delta=_terms(draft).delta)
    return choose_noise_for_attack(sampler, max_tpr=request.max_tpr or "1", at_fpr=request.at_fpr or "1")


def _draft(request: PrivacyRequest) -> PrivateTraining:
    people = request.nominal_rows if request.nominal_people is None else request.nominal_people
    return PrivateTraining(
        mechanism=Mechanism(request.mechanism),
        noise_multiplier="1",
        colluders=request.colluders,
        nominal_rows=request.nominal_rows,
        nominal_people=people,
        epsilon="1",
        delta=delta_for(people) if request.delta is None else request.delta,
        unit=Unit(request.unit),
        rows_per_person=request.rows_per_person,
        norm_bound=request.norm_bound,
        canaries=request.canaries,
    )


def delta_for(people: int) -> str:
    """Returns the delta of a request that says nothing of it: a tenth of 1 / people, and never above 0.00001."""
    most = (Decimal(1) / (10 * max(people, 1))).quantize(_DELTA_PLACES, rounding=ROUND_FLOOR)
    return f"{min(most, _MOST_DELTA).normalize():f}"


def _terms(job: Job) -> PrivateTraining:
    if job.training is None or job.training.privacy is None:
        raise ConfideError(ErrorCode.INTERNAL, "a draft without terms")
    return job.training.privacy


def _with_noise(job: Job, terms: PrivateTraining, noise: str, *, epsilon: str) -> Job:
    if job.training is None:
        raise ConfideError(ErrorCode.INTERNAL, "terms of a training stand in another job")
    changed = replace(terms, noise_multiplier=noise, epsilon=epsilon)
    return replace(job, training=replace(job.training, privacy=changed))
