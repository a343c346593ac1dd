"""What a party lets be spent on its data sets and models: caps, which the ledger enforces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import reduce

from protocols.errors import Problem
from protocols.job_fields import ID_PATTERN
from protocols.job_parts import JobType

DEFAULT_QUERIES = 50
DEFAULT_ANSWERS = 100_000
# A model is there to be asked: each inference is a query, and what bounds its extraction are the numbers that are opened.
DEFAULT_MODEL_QUERIES = 1_000
MAX_COUNT = 1_000_000_000
_MAX_DECIMAL_TEXT = 20
_PLACES = 12  # of a decimal; the ledger adds them exactly
_MODEL = re.compile(rf"{ID_PATTERN.pattern}(@[0-9a-f]{{12}})?")
ENQUIRY = "enquiry"
"""The kind of what an encrypted enquiry spends; of a job it is its type."""

PERMITTED = (*(kind.value for kind in JobType), ENQUIRY)


@dataclass(frozen=True)
class Caps:
    """The most that may ever be spent on one data set or model; public among the party's people.

    Attributes:
        queries: jobs that open something about it.
        answers: opened numbers about it.
        epsilon: of differential privacy; None for no cap. With a cap, jobs that open without noise are refused.
        delta: likewise; None for no cap.
        permits: kinds of jobs that may open without noise beside a cap on epsilon, with no formal guarantee for what they open.
    """

    queries: int = DEFAULT_QUERIES
    answers: int = DEFAULT_ANSWERS
    epsilon: Decimal | None = None
    delta: Decimal | None = None
    permits: tuple[str, ...] = ()

    @property
    def in_words(self) -> tuple[str, str, str, str]:
        """Queries, answers, epsilon and delta for people; as many as can be written is no cap."""
        queries, answers = ("no cap" if cap == MAX_COUNT else f"{cap}" for cap in (self.queries, self.answers))
        epsilon, delta = ("no cap" if cap is None else f"{cap:f}" for cap in (self.epsilon, self.delta))
        return queries, answers, epsilon, delta

    def narrowed(self, other: Caps) -> Caps:
        """Returns caps that permit nothing which either does not."""
        bound = [caps for caps in (self, other) if caps.epsilon is not None]
        permits = [kind for kind in PERMITTED if all(kind in caps.permits for caps in bound)] if bound else []
        return Caps(
            queries=min(self.queries, other.queries),
            answers=min(self.answers, other.answers),
            epsilon=min((caps.epsilon for caps in bound if caps.epsilon is not None), default=None),
            delta=min((caps.delta for caps in bound if caps.delta is not None), default=None),
            permits=tuple(permits),
        )

    def to_document(self) -> dict[str, object]:
        """Returns the caps as a document; decimals are texts."""
        return {
            "queries": self.queries,
            "answers": self.answers,
            "epsilon": None if self.epsilon is None else format(self.epsilon, "f"),
            "delta": None if self.delta is None else format(self.delta, "f"),
            "permits": list(self.permits),
        }


@dataclass(frozen=True)
class Budgets:
    """The caps of a party.

    Attributes:
        default: of every data set that is not named.
        datasets: by name; all versions of a data set count together.
        models: by `name` or `name@version`; the latter comes first.
        default_model: of every model that is not named.
        consumers: by researcher: of what each of the models may answer her with noise, above the model's own caps.
        default_consumer: of every researcher who is not named.
    """

    default: Caps = Caps()
    datasets: Mapping[str, Caps] = field(default_factory=dict)
    models: Mapping[str, Caps] = field(default_factory=dict)
    default_model: Caps = Caps(DEFAULT_MODEL_QUERIES)
    consumers: Mapping[str, Caps] = field(default_factory=dict)
    default_consumer: Caps = Caps(MAX_COUNT, MAX_COUNT)

    def of_dataset(self, name: str) -> Caps:
        """Returns the caps of a data set."""
        return self.datasets.get(name) or self.default

    def of_population(self, population: str, datasets: Iterable[str]) -> Caps:
        """Returns the caps of a population: the least of what is written for it and for data sets of it, by measure.

        Args:
            population: as its account is called.
            datasets: that are declared to be of it. A cap that is written for one of them is not lost by that.
        """
        written = [self.datasets[name] for name in sorted({population, *datasets}) if name in self.datasets]
        return reduce(Caps.narrowed, written) if written else self.default

    def of_model(self, name: str, version: str) -> Caps:
        """Returns the caps of a version of a model."""
        return self.models.get(f"{name}@{version}") or self.models.get(name) or self.default_model

    def of_consumer(self, researcher: str) -> Caps:
        """Returns the caps of what one model may answer a researcher with noise."""
        return self.consumers.get(researcher) or self.default_consumer

    def to_document(self) -> dict[str, object]:
        """Returns the budgets as a document."""
        return {
            "default": self.default.to_document(),
            "datasets": {name: caps.to_document() for name, caps in self.datasets.items()},
            "models": {name: caps.to_document() for name, caps in self.models.items()},
            "default_model": self.default_model.to_document(),
            "consumers": {name: caps.to_document() for name, caps in self.consumers.items()},
            "default_consumer": self.default_consumer.to_document(),
        }


def read_decimal(text: str) -> Decimal:
    """Reads a decimal that is not negative, written plainly, with at most 12 places.

    Raises:
        ValueError: it is none.
    """
    try:
        value = Decimal(text) if len(text) <= _MAX_DECIMAL_TEXT and set(text) <= set("0123456789.") else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or -int(value.as_tuple().exponent) > _PLACES:
        raise ValueError(f'a decimal such as "0.5" with at most {_PLACES} places is expected')
    return value


def check_budgets(budgets: Budgets) -> Iterable[Problem]:
    """Yields what is wrong with budgets; a name that nothing can have would leave what it means under the default caps."""
    for name in budgets.datasets:
        if not ID_PATTERN.fullmatch(name):
            remedy = "write its name without party or version: all versions count together"
            yield Problem(f"budgets.datasets.{name}", "no data set is called so", remedy)
    for name in budgets.models:
        if not _MODEL.fullmatch(name):
            yield Problem(f"budgets.models.{name}", "no model is called so", "write name or name@version, of 12 digits")
    for name in budgets.consumers:
        if not ID_PATTERN.fullmatch(name):
            yield Problem(f"budgets.consumers.{name}", "no researcher is called so", "write the researcher's id")
    named = {f"budgets.datasets.{name}": caps for name, caps in budgets.datasets.items()}
    named |= {f"budgets.models.{name}": caps for name, caps in budgets.models.items()}
    named |= {f"budgets.consumers.{name}": caps for name, caps in budgets.consumers.items()}
    named |= {"budgets.default": budgets.default, "budgets.default_model": budgets.default_model}
    named |= {"budgets.default_consumer": budgets.default_consumer}
    for where, caps in named.items():
        if caps.delta is not None and (caps.epsilon is None or caps.delta >= 1):
            yield Problem(f"{where}.delta", "a cap on delta stands beside one on epsilon and is below 1", "correct it")
        if caps.permits and caps.epsilon is None:
            yield Problem(f"{where}.permits", "without a cap on epsilon every kind of job is permitted", "leave it out")
        if unknown := sorted(set(caps.permits) - set(PERMITTED)):
            yield Problem(f"{where}.permits", f"no job is of the kind {unknown[0]}", f"write some of {', '.join(PERMITTED)}")
