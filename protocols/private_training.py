"""The terms of a differentially private training: mechanism, noise, unit of privacy, and the guarantee that is claimed.

All of them are public and stand in the job. Every party derives the guarantee again from them and refuses a job that claims
less than they give (`privacy.accounting`). What is protected is one unit of any owner against everybody else: the other owners,
`colluders` of them together, the querier, and whoever uses the model.

The neighbouring relation is zero-out: the data sets have the same public sizes, and the rows of one unit are replaced by rows
that contribute nothing. Nothing is ever divided by a size that is not agreed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from enum import Enum
from typing import Any

from protocols.errors import Problem
from protocols.job_fields import check_decimal, read_object, read_text, read_whole

MAX_PEOPLE = 1_000_000_000
MAX_ROWS_PER_PERSON = 1_000
MAX_CANARIES = 10_000
MAX_PRIVATE_STEPS = 10_000
RELATION = "zero-out"


class Mechanism(Enum):
    """How a private training works; each has one sampler and one accountant (`privacy.accounting`)."""

    SHARED_GRADIENTS = "shared_gradients"
    """Linear and logistic models: gradients of all rows in every step, on shares of rows of bounded norm; the weights stay
    shared. Parties may hold different people or different columns."""
    NOISY_SUMS = "noisy_sums"
    """Any model without batch norm: in every step each owner draws its sample in private, clips per row, and only the noisy sum
    over all owners is opened. Owners hold different people."""


class Unit(Enum):
    """What is protected as one."""

    ROW = "row"
    PERSON = "person"  # with at most `rows_per_person` rows, all at one institution
    PERSON_EVERYWHERE = "person_everywhere"  # with at most so many at each of the institutions


@dataclass(frozen=True)
class PrivateTraining:
    """See the module. A training with these terms has full meaning only beside `Training`: its epochs count steps, and its
    batch size is the expected number of rows of a step, by which sums are divided.

    Attributes:
        mechanism: which.
        noise_multiplier: decimal: standard deviation of the noise of the owners that do not collude, all together, in units of
            the sensitivity of one unit.
        colluders: how many owners may pool what they know; the others' noise alone has that deviation.
        nominal_rows: agreed number of rows over all owners, in place of the true one: sampling rate = batch size / nominal rows.
        nominal_people: agreed number of people, from which the largest delta follows.
        epsilon: decimal, claimed.
        delta: decimal, claimed.
        unit: what is protected.
        rows_per_person: how many rows a person has at most at an institution; 1 for rows.
        norm_bound: decimal: shared gradients: of the Euclidean norm of the features of a row, which its owner shortens; noisy
            sums: of the gradient of a row, which its owner clips.
        canaries: noisy sums: coordinates that hold nothing but planted contributions, for an audit; 0 for none.
    """

    mechanism: Mechanism
    noise_multiplier: str
    colluders: int
    nominal_rows: int
    nominal_people: int
    epsilon: str
    delta: str
    unit: Unit
    rows_per_person: int
    norm_bound: str
    canaries: int

    def to_document(self) -> dict[str, Any]:
        """Returns the terms as a document."""
        return {**vars(self), "mechanism": self.mechanism.value, "unit": self.unit.value}


def read_private_training(entry: Any) -> PrivateTraining:
    """Reads a document; refuses unknown and missing fields and other types.

    Raises:
        ValueError: these are no such terms.
    """
    document = read_object(entry)
    if set(document) != set(PrivateTraining.__annotations__):
        raise ValueError(f"the terms of a private training are {', '.join(PrivateTraining.__annotations__)}")
    return PrivateTraining(
        mechanism=Mechanism(document["mechanism"]),
        noise_multiplier=read_text(document["noise_multiplier"]),
        colluders=read_whole(document["colluders"]),
        nominal_rows=read_whole(document["nominal_rows"]),
        nominal_people=read_whole(document["nominal_people"]),
        epsilon=read_text(document["epsilon"]),
        delta=read_text(document["delta"]),
        unit=Unit(document["unit"]),
        rows_per_person=read_whole(document["rows_per_person"]),
        norm_bound=read_text(document["norm_bound"]),
        canaries=read_whole(document["canaries"]),
    )


def check_delta(terms: PrivateTraining, people: int) -> Iterable[Problem]:
    """Yields why a delta is too large for so many people: who publishes every person with that probability would keep to it.

    Args:
        terms: with a delta that is a decimal.
        people: public; 1 or more.
    """
    if Decimal(terms.delta) * people > Decimal("0.1"):
        largest = (Decimal("0.1") / people).quantize(Decimal("0.000000001"), ROUND_FLOOR)
        what = f"with {people} people it must be at most one tenth of 1 / {people}"
        yield Problem("training.privacy.delta", what, f"write {largest:f} or less")


def check_private_training(terms: PrivateTraining) -> Iterable[Problem]:
    """Yields what is wrong with the terms alone; what they are beside the job's other fields is checked with the job."""
    where = "training.privacy."
    for name, value, least, most in (
        ("colluders", terms.colluders, 1, 63),
        ("nominal_rows", terms.nominal_rows, 2, MAX_PEOPLE),
        ("nominal_people", terms.nominal_people, 2, terms.nominal_rows),
        ("rows_per_person", terms.rows_per_person, 1, MAX_ROWS_PER_PERSON),
        ("canaries", terms.canaries, 0, MAX_CANARIES),
    ):
        if not least <= value <= most:
            yield Problem(f"{where}{name}", f"{value} is outside {least} to {most}", "choose a value inside")
    yield from check_decimal(f"{where}noise_multiplier", terms.noise_multiplier, Decimal("0.1"), Decimal(10_000))
    yield from check_decimal(f"{where}epsilon", terms.epsilon, Decimal("0.001"), Decimal(100))
    yield from check_decimal(f"{where}norm_bound", terms.norm_bound, Decimal("0.001"), Decimal(1_000))
    wrong = tuple(check_decimal(f"{where}delta", terms.delta, Decimal("0.000000001"), Decimal("0.01")))
    yield from wrong
    if not wrong:
        yield from check_delta(terms, terms.nominal_people)
    if terms.unit is Unit.ROW and terms.rows_per_person != 1:
        yield Problem(f"{where}rows_per_person", "rows are protected one by one", "write 1, or protect persons")
    if terms.mechanism is Mechanism.SHARED_GRADIENTS and terms.canaries:
        yield Problem(f"{where}canaries", "nothing of a step is opened that could show them", "write 0, or use noisy_sums")
