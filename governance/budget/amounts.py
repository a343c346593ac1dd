"""What jobs spend at an owner: amounts, the accounts they are charged to, and what a job charges.

An owner keeps one account for each population: a data set, all its versions together since they tell about the same people, and
other data sets that are declared to be of them (`of_populations`); one for each model
that it holds a share of, and one for each researcher whom such a model has answered with noise. An account counts in four ways,
each with its own cap: jobs that opened something (queries), numbers that were opened (answers), and the epsilon and delta of
differential privacy. An output opened without noise has no finite epsilon; such a job is permitted only where epsilon has no cap,
and there queries and answers are what bounds it. Epsilons of one unit of privacy compose where that is less than their sum
(`privacy.accounting.composition`). Those of different units add up, and the sum holds for the narrowest of them: who protects a
person protects each of the person's rows. Deltas add up.

Decimals are exact: an amount is rounded up to `PLACES` once, when it is made, and sums are never rounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from functools import reduce

from governance.policy.budgets import Budgets, Caps
from privacy.accounting.composition import Composition, by_unit
from privacy.accounting.noisy_answers import spent_together
from privacy.accounting.normal_bound import NormalBound
from privacy.accounting.training_bound import training_bound
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ID_PATTERN, Job, JobType, ModelRef
from protocols.job_parts import Output, OutputKind, Task
from protocols.mpc.query import RELIABILITY_BINS
from protocols.private_training import PrivateTraining

PLACES = 12
WITHOUT_NOISE = "something is opened without noise"
# Sums of any number of jobs fit: no addition rounds.
EXACT = Context(prec=80, rounding=ROUND_CEILING)
_QUANTUM = Decimal(1).scaleb(-PLACES)
_CONSUMER = re.compile(rf"(?P<researcher>{ID_PATTERN.pattern})/{ID_PATTERN.pattern}@{ID_PATTERN.pattern}")
_MODEL = re.compile(rf"(?P<name>{ID_PATTERN.pattern})@(?P<version>{ID_PATTERN.pattern})")


def rounded_up(value: Decimal) -> Decimal:
    """Returns a decimal, rounded up to `PLACES`: what is spent is never understated.

    Raises:
        ConfideError: INTERNAL (ours): it is not finite, or larger than any budget.
    """
    try:
        return value.quantize(_QUANTUM, context=EXACT).normalize(EXACT)
    except InvalidOperation as error:
        raise ConfideError(ErrorCode.INTERNAL, "an amount is not finite") from error


def _is_exact(value: Decimal) -> bool:
    return value.is_finite() and value >= 0 and value.quantize(_QUANTUM, context=EXACT) == value


@dataclass(frozen=True)
class Amount:
    """What one or several jobs spend on one account; public among the owner's people.

    Attributes:
        epsilon: of differential privacy, added up, at most `PLACES` places; None if something is opened without noise.
        delta: likewise; 0 without noise.
        queries: jobs that open something.
        answers: numbers that are opened: see `charges`.
        parts: of epsilon, what has a bound by which it composes, one for each unit of privacy; the rest only adds up. It follows
            from the same jobs as the numbers, which alone are compared.
    """

    epsilon: Decimal | None
    delta: Decimal
    queries: int
    answers: int
    parts: tuple[Composition, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuses what is no amount.

        Raises:
            ConfideError: INTERNAL (ours): something negative, or a decimal that was not rounded up before.
        """
        negative = self.queries < 0 or self.answers < 0
        if negative or not _is_exact(self.delta) or not (self.epsilon is None or _is_exact(self.epsilon)):
            raise ConfideError(ErrorCode.INTERNAL, "an amount is negative or was not rounded up")

    def __add__(self, other: Amount) -> Amount:
        """Returns the exact sum; without noise once is without noise in all."""
        one, two = self.epsilon, other.epsilon
        return Amount(
            epsilon=None if one is None or two is None else EXACT.add(one, two),
            delta=EXACT.add(self.delta, other.delta),
            queries=self.queries + other.queries,
            answers=self.answers + other.answers,
            parts=() if one is None or two is None else by_unit((*self.parts, *other.parts)),
        )

    @property
    def composed_epsilon(self) -> Decimal | None:
        """What is spent of differential privacy: composed by units where that is less than added up; None without a bound."""
        if self.epsilon is None:
            return None
        saved = (EXACT.subtract(part.added, part.epsilon) for part in self.parts)
        return EXACT.subtract(self.epsilon, sum(saved, Decimal(0)))

    @property
    def epsilon_in_words(self) -> str:
        """What is spent of differential privacy, and which rule gives it, for people."""
        found = self.composed_epsilon
        if self.epsilon is None or found is None:
            return "no bound"
        return f"{self.epsilon:f}" if found == self.epsilon else f"{found:f} (composed; added up {self.epsilon:f})"

    def less(self, part: Amount) -> Amount:
        """Returns what remains of one job's amount without a part of it; without noise, the rest is so too.

        Raises:
            ConfideError: INTERNAL (ours): the part is more than the whole.
        """
        one, two = self.epsilon, part.epsilon
        return Amount(
            epsilon=None if one is None or two is None else EXACT.subtract(one, two),
            delta=EXACT.subtract(self.delta, part.delta),
            queries=self.queries - part.queries,
            answers=self.answers - part.answers,
            parts=tuple(_without(whole, part.parts) for whole in self.parts),
        )

    def over(self, caps: Caps, *, without_bound: str = WITHOUT_NOISE) -> dict[str, str]:
        """Returns in which ways this is more than the caps permit, for the owner's people, by measure; empty if it is not.

        Args:
            caps: the most.
            without_bound: why epsilon has no bound, if it has none, for people.
        """
        found = {}
        if caps.epsilon is not None:
            if self.epsilon is None:
                found["epsilon"] = f"epsilon without bound ({without_bound}), {caps.epsilon:f} permitted"
            elif self.composed_epsilon is not None and self.composed_epsilon > caps.epsilon:
                found["epsilon"] = f"epsilon {self.epsilon_in_words}, {caps.epsilon:f} permitted"
        if caps.delta is not None and self.delta > caps.delta:
            found["delta"] = f"delta {self.delta:f}, {caps.delta:f} permitted"
        if self.queries > caps.queries:
            found["queries"] = f"{self.queries} queries, {caps.queries} permitted"
        if self.answers > caps.answers:
            found["answers"] = f"{self.answers} answers, {caps.answers} permitted"
        return found

    def without_epsilon(self) -> Amount:
        """Returns what a cap on epsilon does not count of a job that is permitted beside it: queries and answers remain."""
        return replace(self, epsilon=Decimal(0), parts=())

    def to_facts(self) -> dict[str, str | int | None]:
        """Returns the amount as facts of an entry in the audit log; decimals are texts, None is without noise."""
        epsilon = None if self.epsilon is None else format(self.epsilon, "f")
        return {"epsilon": epsilon, "delta": format(self.delta, "f"), "queries": self.queries, "answers": self.answers}


NOTHING = Amount(Decimal(0), Decimal(0), 0, 0)


def dataset_account(name: str) -> str:
    """Returns the account of a population: of all data sets of it and all their versions. Undeclared, it is called as its set."""
    return f"dataset/{name}"


def of_populations(charged: Mapping[str, Amount], populations: Mapping[str, str]) -> dict[str, Amount]:
    """Returns charges by the accounts of populations: data sets of the same people have one.

    What a job opens tells of all its rows at once, so two of its data sets of one population are charged once.

    Args:
        charged: by account, as `charges` returns it.
        populations: of an owner's data sets, by name; one that is not named is its own.
    """
    prefix = dataset_account("")

    def account_of(account: str) -> str:
        name = account.removeprefix(prefix)
        return account if name == account else dataset_account(populations.get(name, name))

    return dict(sorted((account_of(account), amount) for account, amount in charged.items()))


def model_account(model: ModelRef) -> str:
    """Returns the account of a model."""
    return f"model/{model.label}"


def consumer_account(researcher: str, model: ModelRef) -> str:
    """Returns the account of what one researcher has been told by a model, with noise or without."""
    return f"consumer/{researcher}/{model.label}"


def charges(job: Job, party: str) -> dict[str, Amount]:
    """Returns what a job spends at a party, by account.

    The outputs of an evaluation, an assessment or a summary tell about the rows of every owner alike, so each owner is charged
    all of them; what an inference opens is charged to the model at every holder of its shares, and to the researcher's account
    of that model; the weights that a release opens likewise, and what an evaluation or an assessment opens, for a model is asked
    by rows too: whose owner brings the rows that the researcher wants an answer about. A serving is charged all that it may
    answer, and what it did not is given back with its end (`served`); a private training is charged the epsilon and delta that it
    claims, to the data sets of every owner alike, in its unit of privacy; another training opens nothing. Every number counts:
    each cell of a confusion table, each mean and size of a group, and of each sample the probability of each class, or of the
    largest where only those are opened.

    Args:
        job: the job.
        party: whose accounts.
    """
    if job.job_type in (JobType.EVALUATE, JobType.ASSESS, JobType.SUMMARISE):
        amount = _spent(job, queries=1, answers=sum(_numbers(job, output) for output in job.outputs))
        own = {dataset_account(dataset.name): amount for dataset in job.datasets if dataset.party == party}
        # Noise on what is opened of rows is for these rows: with another model behind it, every number may be another one.
        of_model = _to_model(job, party, Amount(None, Decimal(0), amount.queries, amount.answers))
        return dict(sorted((own | of_model).items()))
    if job.training is not None and job.training.privacy is not None:
        return _trained(job, party, job.training.privacy)
    if job.job_type is JobType.INFER:
        return _predicted(job, party, queries=1, rows=job.query_rows or 0)
    if job.job_type is JobType.RELEASE:
        return _predicted(job, party, queries=1, rows=1)
    if job.serving is not None:
        return _predicted(job, party, queries=job.serving.max_queries, rows=job.serving.max_rows)
    return {}


def _trained(job: Job, party: str, terms: PrivateTraining) -> dict[str, Amount]:
    """Returns what a private training spends: it is one query, and opens no number that is not covered by its epsilon."""
    epsilon, delta, bound = rounded_up(Decimal(terms.epsilon)), rounded_up(Decimal(terms.delta)), training_bound(job)
    amount = Amount(epsilon, delta, queries=1, answers=0, parts=() if bound is None else _parts(bound, epsilon, delta))
    own = {dataset_account(dataset.name): amount for dataset in job.datasets if dataset.party == party}
    return dict(sorted(own.items()))


def served(job: Job, party: str, *, queries: int, rows: int) -> dict[str, Amount]:
    """Returns what a serving has used of its charges at a party, by account, once it has ended.

    Args:
        job: the serving.
        party: whose accounts.
        queries: that were answered, or may have been.
        rows: of these queries.
    """
    return _predicted(job, party, queries=queries, rows=rows)


def _predicted(job: Job, party: str, *, queries: int, rows: int) -> dict[str, Amount]:
    is_mean = any(output.kind is OutputKind.MEAN for output in job.outputs)
    answers = sum(_numbers(job, output) for output in job.outputs) * (1 if is_mean else rows)
    return _to_model(job, party, _spent(job, rows=rows, queries=queries, answers=answers))


def _to_model(job: Job, party: str, amount: Amount) -> dict[str, Amount]:
    """Returns what a job spends of its model at a party: nothing, unless the party holds a share of it."""
    if job.model_ref is None or party not in job.computing_parties:
        return {}
    # Without noise too: a cap on what one researcher may be told would otherwise end where she asks for exact answers.
    return {consumer_account(job.querier, job.model_ref): amount, model_account(job.model_ref): amount}


def _spent(job: Job, *, queries: int, answers: int, rows: int | None = None) -> Amount:
    """Returns what all outputs spend together, decimals rounded up; without noise on one of them there is no epsilon."""
    found = spent_together(job, rows=rows)
    if found is None:
        return Amount(None, Decimal(0), queries, answers)
    epsilon = rounded_up(found.epsilon)
    return Amount(epsilon, found.delta, queries, answers, _parts(found.bound, epsilon, found.delta))


def _parts(bound: NormalBound, epsilon: Decimal, delta: Decimal) -> tuple[Composition, ...]:
    return (Composition.of(bound, epsilon=epsilon, delta=delta),)


def _without(whole: Composition, parts: tuple[Composition, ...]) -> Composition:
    return reduce(Composition.less, (part for part in parts if part.bound.unit == whole.bound.unit), whole)


def _numbers(job: Job, output: Output) -> int:
    """Returns how many numbers an output opens, of a prediction for each sample."""
    if output.kind is OutputKind.MOMENTS:
        return 2 * job.model.input_features
    if job.summary is not None:
        return job.summary.groups * (job.model.input_features + 1)
    if output.kind is OutputKind.CONFUSION:
        return (job.label_width if job.task is Task.CLASSES else 2) ** 2
    if job.assessment is not None:
        return 2 * len(job.assessment.thresholds)
    if output.kind is OutputKind.RELIABILITY:
        return 3 * RELIABILITY_BINS
    if output.kind is OutputKind.GROUP_CONFUSION:
        return 4 * (len(output.group_edges) + 1)
    if output.kind is OutputKind.SCORE_HISTOGRAM:
        return 2 * (len(output.group_edges) + 1)
    if output.kind is OutputKind.PROBABILITY:
        return output.top_k or job.label_width
    if output.kind is OutputKind.WEIGHTS:
        return sum(math.prod(spec.shape) for spec in job.model.parameters)
    if output.kind in (OutputKind.SCORE, OutputKind.MEAN):
        return job.label_width
    return 1


def policy_caps(budgets: Budgets, account: str) -> Caps:
    """Returns the caps that a policy's budgets set for an account.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): it is no account.
    """
    kind, _, name = account.partition("/")
    if kind == "dataset" and ID_PATTERN.fullmatch(name) is not None:
        return budgets.of_dataset(name)
    if kind == "model" and (found := _MODEL.fullmatch(name)) is not None:
        return budgets.of_model(found["name"], found["version"])
    if kind == "consumer" and (found := _CONSUMER.fullmatch(name)) is not None:
        return budgets.of_consumer(found["researcher"])
    known = "dataset/NAME, model/NAME@VERSION and consumer/RESEARCHER/NAME@VERSION"
    what = f"{account[:128]} is no account; accounts are {known}"
    raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
