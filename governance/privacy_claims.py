"""What the trainings behind a model claim of differential privacy, as it stands in every list and document about the model.

A claim is what the training's job says and every party has checked before it countersigned; nothing is computed again here. A
model has a guarantee only if all trainings behind it have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from governance.identity.fields import Fields
from privacy.accounting.statement import NO_GUARANTEE, terms_of
from protocols.errors import Problem
from protocols.job import Job
from protocols.job_fields import check_decimal, check_hex
from protocols.preparations import whole_epsilon
from protocols.private_training import MAX_ROWS_PER_PERSON, RELATION, Unit

MAX_TRAININGS = 64
_JOB_DIGITS = 32
_MOST_EPSILON = Decimal(100_000)  # of several trainings together
_NAMES = {"job", "epsilon", "delta", "relation", "unit", "rows_per_person"}
_UNITS = (Unit.ROW, Unit.PERSON, Unit.PERSON_EVERYWHERE)  # the narrowest first


@dataclass(frozen=True)
class TrainingClaim:
    """What one training claims; public.

    Attributes:
        job: its id, 32 hexadecimal digits.
        epsilon: decimal; empty if it has no formal guarantee, and then so are the three below.
        delta: decimal.
        relation: between neighbouring data sets.
        unit: what is protected as one: a value of `Unit`.
        rows_per_person: that one has at most, at an institution; 0 without a guarantee.
    """

    job: str
    epsilon: str = ""
    delta: str = ""
    relation: str = ""
    unit: str = ""
    rows_per_person: int = 0

    @property
    def in_words(self) -> str:
        """The claim in a line: epsilon and delta never stand without relation and unit."""
        if not self.epsilon:
            return NO_GUARANTEE
        unit = self.unit.replace("_", " ") + (f" of at most {self.rows_per_person} rows" if self.rows_per_person > 1 else "")
        return f"epsilon {self.epsilon} at delta {self.delta}, {self.relation}, {unit}"

    def to_document(self) -> dict[str, Any]:
        """Returns the claim as a document."""
        return dict(vars(self))


def claim_of(job: Job) -> TrainingClaim:
    """Returns what a training claims, with all that it was prepared with.

    Args:
        job: of type `train`, countersigned by all.
    """
    terms = terms_of(job)
    if terms is None:
        return TrainingClaim(job.job_id)
    epsilon, delta = whole_epsilon(job, terms)
    return TrainingClaim(job.job_id, f"{epsilon:f}", f"{delta:f}", RELATION, terms.unit.value, terms.rows_per_person)


def claims_of(behind: Iterable[Job]) -> tuple[TrainingClaim, ...]:
    """Returns what all trainings behind a model claim, in their order."""
    return tuple(claim_of(job) for job in behind)


def together(claims: Sequence[TrainingClaim]) -> TrainingClaim | None:
    """Returns what several trainings claim together; None if one of them has no guarantee, or there are none.

    Epsilons and deltas are added up, which is never too little; protected is the narrowest of the units.
    """
    if not claims or not all(claim.epsilon for claim in claims):
        return None
    unit = min((Unit(claim.unit) for claim in claims), key=_UNITS.index)
    return TrainingClaim(
        job=claims[0].job,
        epsilon=f"{sum(Decimal(claim.epsilon) for claim in claims):f}",
        delta=f"{sum(Decimal(claim.delta) for claim in claims):f}",
        relation=claims[0].relation,
        unit=unit.value,
        rows_per_person=min(claim.rows_per_person for claim in claims),
    )


def claims_in_words(claims: Sequence[TrainingClaim]) -> str:
    """Returns what is said of a model's privacy in one line; `no formal guarantee` unless every training behind it has one."""
    found = together(claims)
    if found is None:
        return NO_GUARANTEE
    return found.in_words + (f" ({len(claims)} trainings, added up)" if len(claims) > 1 else "")


def read_claims(entries: Sequence[object], problems: list[Problem], *, where: str) -> tuple[TrainingClaim, ...]:
    """Reads claims of a document; notes what is wrong."""
    found = []
    for number, entry in enumerate(entries):
        here = f"{where}.{number}"
        fields = Fields(entry, names=_NAMES, where=here, problems=problems)
        claim = TrainingClaim(
            job=fields.text("job"),
            epsilon=fields.text("epsilon"),
            delta=fields.text("delta"),
            relation=fields.text("relation"),
            unit=fields.text("unit"),
            rows_per_person=fields.whole("rows_per_person", least=0),
        )
        problems.extend(check_claim(claim, here))
        found.append(claim)
    return tuple(found)


def check_claim(claim: TrainingClaim, where: str) -> Iterable[Problem]:
    """Yields what is wrong with a claim alone."""
    yield from check_hex(f"{where}.job", claim.job, _JOB_DIGITS)
    if not claim.epsilon:
        if claim != TrainingClaim(claim.job):
            yield Problem(where, "says more than that there is no guarantee", "ask its author")
        return
    yield from check_decimal(f"{where}.epsilon", claim.epsilon, Decimal(0), _MOST_EPSILON)
    yield from check_decimal(f"{where}.delta", claim.delta, Decimal(0), Decimal(1))
    if claim.relation != RELATION:
        yield Problem(f"{where}.relation", f"must be {RELATION}", "ask its author")
    if claim.unit not in {unit.value for unit in Unit}:
        yield Problem(f"{where}.unit", "is no unit of privacy", "ask its author")
    if not 1 <= claim.rows_per_person <= MAX_ROWS_PER_PERSON:
        yield Problem(f"{where}.rows_per_person", f"must be 1 to {MAX_ROWS_PER_PERSON}", "ask its author")
