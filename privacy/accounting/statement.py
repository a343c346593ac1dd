"""What is said of a job's privacy wherever an epsilon would stand: a statement, or that there is none.

Epsilon and delta are those that the job claims and that are charged; the figures of the accountants stand beside them. A job that
claims less than they give has no statement: it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from privacy.accounting.samplers import PrivatePoisson, TruncatedPoisson
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType
from protocols.job_fields import read_object, read_text, read_whole
from protocols.preparations import whole_epsilon
from protocols.private_job_checks import contributors
from protocols.private_training import RELATION, Mechanism, PrivateTraining, Unit

if TYPE_CHECKING:
    from privacy.accounting.accountant import Guarantee

NO_GUARANTEE = "no formal guarantee"
_MAX_TEXT = 128
_UNITS = {
    Unit.ROW: "one row",
    Unit.PERSON: "one person with at most {rows} row(s) at one institution, as the owners declare or have counted",
    Unit.PERSON_EVERYWHERE: "one person with at most {rows} row(s) at each institution, as the owners declare or have counted",
}
_WHOLES = ("steps", "colluders", "owners", "nominal_rows", "nominal_people", "rows_per_person", "prepared_with")


@dataclass(frozen=True)
class PrivacyStatement:
    """See the module; public. Decimals are texts, rounded up where they are figures of an accountant.

    Attributes:
        epsilon: claimed by the job, and charged.
        delta: likewise.
        relation: between neighbouring data sets.
        unit: what is protected as one: `row`, `person` or `person_everywhere`.
        rows_per_person: that a person has at most, at an institution.
        mechanism: `shared_gradients` or `noisy_sums`.
        sampler: the type of `privacy.accounting.samplers` by which it is accounted.
        noise_multiplier: sigma: of the noise of the owners that do not collude, in units of the sensitivity of one unit.
        sampling_rate: q, with which a row is in a step, as a fraction; "1" if all rows are in all steps.
        steps: T.
        colluders: how many owners may pool.
        owners: how many draw noise.
        nominal_rows: agreed.
        nominal_people: agreed.
        accounted_epsilon: by privacy loss distributions, for this delta.
        rdp_epsilon: by Renyi differential privacy, for this delta.
        distance: of what is drawn from what is accounted, in total variation; charged to delta.
        tpr_at_1_percent: the most members that any attack finds, at one false alarm in 100 others.
        tpr_at_0_1_percent: likewise in 1,000.
        advantage: the largest difference of the two rates.
        accountant: the libraries and their versions.
        prepared_with: how many jobs' outcomes went into the training before its first step.
        whole_epsilon: of the training and of all of these, added up.
        whole_delta: likewise.
    """

    epsilon: str
    delta: str
    relation: str
    unit: str
    rows_per_person: int
    mechanism: str
    sampler: str
    noise_multiplier: str
    sampling_rate: str
    steps: int
    colluders: int
    owners: int
    nominal_rows: int
    nominal_people: int
    accounted_epsilon: str
    rdp_epsilon: str
    distance: str
    tpr_at_1_percent: str
    tpr_at_0_1_percent: str
    advantage: str
    accountant: str
    prepared_with: int
    whole_epsilon: str
    whole_delta: str

    def to_document(self) -> dict[str, Any]:
        """Returns the statement as a document."""
        return dict(vars(self))

    def in_words(self) -> str:
        """Returns the statement in one line for people: relation and unit always stand beside epsilon and delta."""
        whole = f"; with the {self.prepared_with} job(s) that it was prepared with epsilon {self.whole_epsilon} at delta"
        return (
            f"{self.epsilon} at delta {self.delta}, "
            f"{protected_in_words(Unit(self.unit), rows=self.rows_per_person, colluders=self.colluders, owners=self.owners)}"
            f"; no attack finds more than {_percent(self.tpr_at_1_percent)} of members at 1 % false alarms"
            + (f"{whole} {self.whole_delta} in all" if self.prepared_with else "")
        )


def protected_in_words(unit: Unit, *, rows: int, colluders: int, owners: int) -> str:
    """Returns what stands beside an epsilon for people: relation, unit, and against whom.

    Args:
        unit: what is protected as one.
        rows: that a person has at most, at an institution.
        colluders: how many owners may pool.
        owners: how many draw noise.
    """
    return _protected(unit, rows=rows, colluders=colluders, owners=f"{owners}")


def protected_by_each_in_words(statements: Sequence[PrivacyStatement], unit: Unit) -> str:
    """Returns what stands beside the sum of several statements for people: what every one of them protects.

    Args:
        statements: at least one.
        unit: that every one of them protects at least.
    """
    owners = sorted({statement.owners for statement in statements})
    return _protected(
        unit,
        rows=min(statement.rows_per_person for statement in statements),
        colluders=min(statement.colluders for statement in statements),
        owners=f"{owners[0]}" if len(owners) == 1 else f"{owners[0]} to {owners[-1]}",
    )


def statement_of(job: Job) -> PrivacyStatement | None:
    """Returns what is said of a job's privacy; None for a job without terms of differential privacy.

    Args:
        job: whose checks have passed.

    Raises:
        ConfideError: INVALID_JOB (the querier's fault): it claims less than the accountant gives, or nothing can be claimed.
    """
    terms = terms_of(job)
    if terms is None:
        return None
    # The accountants take a second to import: a party that never sees a private job need not wait for them.
    from privacy.accounting.accountant import ACCOUNTANT
    from privacy.accounting.jobs import noise_of, sampler_of

    found = _guarantee(job, terms)
    if problems := tuple(_claims(terms, found)):
        raise ConfideError(ErrorCode.INVALID_JOB, "the job claims more privacy than it gives", problems=problems)
    sampler, whole = sampler_of(job), whole_epsilon(job, terms)
    return PrivacyStatement(
        epsilon=terms.epsilon,
        delta=terms.delta,
        relation=RELATION,
        unit=terms.unit.value,
        rows_per_person=terms.rows_per_person,
        mechanism=terms.mechanism.value,
        sampler=type(sampler).__name__,
        noise_multiplier=noise_of(job).multiplier,
        sampling_rate=str(sampler.rate) if isinstance(sampler, PrivatePoisson | TruncatedPoisson) else "1",
        steps=0 if job.training is None else job.training.epochs,
        colluders=terms.colluders,
        owners=len(contributors(job)),
        nominal_rows=terms.nominal_rows,
        nominal_people=terms.nominal_people,
        accounted_epsilon=f"{found.epsilon:f}",
        rdp_epsilon=f"{found.rdp_epsilon:f}",
        distance=f"{found.distance:.3e}",
        tpr_at_1_percent=f"{found.tpr_at_1_percent:f}",
        tpr_at_0_1_percent=f"{found.tpr_at_0_1_percent:f}",
        advantage=f"{found.advantage:f}",
        accountant=ACCOUNTANT,
        prepared_with=len(job.prepared_with),
        whole_epsilon=f"{whole[0]:f}",
        whole_delta=f"{whole[1]:f}",
    )


def claim_problems(job: Job) -> Iterable[Problem]:
    """Yields why a job's claim of privacy does not hold, with the number that would; nothing for a job without one.

    Args:
        job: whose checks have passed.
    """
    terms = terms_of(job)
    if terms is None:
        return
    try:
        yield from _claims(terms, _guarantee(job, terms))
    except ConfideError as error:
        if error.code is not ErrorCode.INVALID_JOB:
            raise
        fallback = Problem("training.privacy", error.what, error.remedy or "correct the terms")
        yield from error.problems or (fallback,)


def privacy_in_words(job: Job) -> str:
    """Returns what is said of a training wherever an epsilon would stand.

    A training without terms has no guarantee, and neither has one whose claim does not hold: that one is refused.
    """
    try:
        statement = statement_of(job)
    except ConfideError as error:
        return f"{NO_GUARANTEE}: {error.what}"
    return NO_GUARANTEE if statement is None else statement.in_words()


def privacy_in_short(job: Job) -> str:
    """Returns what a training that was agreed to claims, for a line of a list; nothing is computed again."""
    terms = terms_of(job)
    if terms is None:
        return NO_GUARANTEE
    return f"epsilon {terms.epsilon} at delta {terms.delta}, {RELATION}, {terms.unit.value.replace('_', ' ')}"


def terms_of(job: Job) -> PrivateTraining | None:
    """Returns the terms of differential privacy of a job, if it has any."""
    return job.training.privacy if job.job_type is JobType.TRAIN and job.training is not None else None


def read_statement(entry: Any) -> PrivacyStatement:
    """Reads what `to_document` returned; refuses unknown and missing fields and other types.

    Raises:
        ValueError: it is no statement.
    """
    document = read_object(entry)
    if set(document) != set(PrivacyStatement.__annotations__):
        raise ValueError(f"a statement has the fields {', '.join(PrivacyStatement.__annotations__)}")
    read: dict[str, Any] = {name: (read_whole if name in _WHOLES else read_text)(value) for name, value in document.items()}
    if any(isinstance(value, str) and len(value) > _MAX_TEXT for value in read.values()):
        raise ValueError(f"a text of a statement has at most {_MAX_TEXT} characters")
    Unit(read["unit"]), Mechanism(read["mechanism"])
    if read["relation"] != RELATION:  # it is worded with this one
        raise ValueError(f"a statement is about the relation {RELATION}")
    return PrivacyStatement(**read)


def _protected(unit: Unit, *, rows: int, colluders: int, owners: str) -> str:
    return f"{RELATION}, for {_UNITS[unit].format(rows=rows)}, against {colluders} of {owners} owners together"


def _guarantee(job: Job, terms: PrivateTraining) -> Guarantee:
    from privacy.accounting.accountant import guarantee
    from privacy.accounting.jobs import noise_of, sampler_of

    noise = noise_of(job)
    return guarantee(sampler_of(job), noise_multiplier=noise.multiplier, delta=terms.delta, distance=noise.distance)


def _claims(terms: PrivateTraining, found: Guarantee) -> Iterable[Problem]:
    if Decimal(terms.epsilon) < found.epsilon:
        what = f"{terms.epsilon} is claimed; the accountant gives {found.epsilon:f} at delta {terms.delta}"
        yield Problem("training.privacy.epsilon", what, f'write "{found.epsilon:f}" or more, or use more noise or fewer steps')


def _percent(rate: str) -> str:
    return f"{Decimal(rate) * 100:.1f} %"
