"""The facts of a bundle of evidence: trainings with their guarantees, noise tests and audits, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from governance.identity.fields import Fields
from governance.identity.names import check_id
from privacy.accounting.statement import PrivacyStatement, read_statement
from protocols.errors import Problem
from protocols.job_fields import check_decimal, check_hex

MAX_ITEMS = 64
_JOB_DIGITS = 32
_TRAINING = {"job", "datasets", "guarantee", "noise_test", "audits"}
_RATES = ("tpr_at_1_percent", "tpr_at_0_1_percent", "advantage")
_MOST_EPSILON = Decimal(100_000)  # of several trainings together


@dataclass(frozen=True)
class NoiseTest:
    """The test of the owners' noise before a private training, as it stands in the issuer's audit log.

    Attributes:
        entry: its index in the log.
        result: `passed`, or what failed.
    """

    entry: int
    result: str


@dataclass(frozen=True)
class AuditBound:
    """What an owner's canaries showed about a private training.

    Attributes:
        party: the owner that planted them.
        epsilon: decimal: the training's true epsilon is at least this.
        confidence: decimal below 1.
    """

    party: str
    epsilon: str
    confidence: str


@dataclass(frozen=True)
class TrainingEvidence:
    """One training behind a model version.

    Attributes:
        job: its id, 32 hexadecimal digits.
        datasets: `party/name/version` of each data set, sorted.
        guarantee: as the accountant gave it; None if it has no formal guarantee.
        noise_test: of a private training; None if there is none.
        audits: of its canaries, by party.
    """

    job: str
    datasets: tuple[str, ...]
    guarantee: PrivacyStatement | None
    noise_test: NoiseTest | None
    audits: tuple[AuditBound, ...]

    def to_document(self) -> dict[str, Any]:
        """Returns it as a document."""
        return {
            "job": self.job,
            "datasets": list(self.datasets),
            "guarantee": None if self.guarantee is None else self.guarantee.to_document(),
            "noise_test": None if self.noise_test is None else dict(vars(self.noise_test)),
            "audits": [dict(vars(audit)) for audit in self.audits],
        }


def read_training(entry: object, where: str, problems: list[Problem]) -> TrainingEvidence:
    """Reads one training; notes what is wrong."""
    fields = Fields(entry, names=_TRAINING, where=where, problems=problems)
    raw = entry if isinstance(entry, dict) else {}
    datasets = tuple(item if isinstance(item, str) else "" for item in fields.items("datasets", most=MAX_ITEMS))
    guarantee = None
    if raw.get("guarantee") is not None:
        guarantee = _statement(raw["guarantee"], f"{where}.guarantee", problems)
    noise_test = None
    if raw.get("noise_test") is not None:
        test = Fields(raw["noise_test"], names={"entry", "result"}, where=f"{where}.noise_test", problems=problems)
        noise_test = NoiseTest(test.whole("entry", least=0), test.text("result"))
    audits = tuple(_audit(item, f"{where}.audits.{number}", problems) for number, item in _numbered(fields, "audits"))
    found = TrainingEvidence(fields.text("job"), datasets, guarantee, noise_test, audits)
    problems.extend(_check_training(found, where))
    return found


def _statement(entry: object, where: str, problems: list[Problem]) -> PrivacyStatement | None:
    try:
        found = read_statement(entry)
    except ValueError as error:
        problems.append(Problem(where, str(error), "ask its author"))
        return None
    limits = {
        "epsilon": _MOST_EPSILON,
        "accounted_epsilon": _MOST_EPSILON,
        "whole_epsilon": _MOST_EPSILON,
        "delta": Decimal(1),
        "whole_delta": Decimal(1),
        **dict.fromkeys(_RATES, Decimal(1)),
    }
    wrong = [
        problem
        for name, most in limits.items()
        for problem in check_decimal(f"{where}.{name}", getattr(found, name), Decimal(0), most)
    ]
    if not wrong and Decimal(found.epsilon) < Decimal(found.accounted_epsilon):
        what = f"{found.epsilon} is claimed; the accountant gave {found.accounted_epsilon}"
        wrong.append(Problem(f"{where}.epsilon", what, "ask its author"))
    for name in () if wrong else ("epsilon", "delta"):
        whole, alone = getattr(found, f"whole_{name}"), getattr(found, name)
        if Decimal(whole) < Decimal(alone):
            what = f"{whole} with what it was prepared with is less than the {alone} of the training alone"
            wrong.append(Problem(f"{where}.whole_{name}", what, "ask its author"))
    problems.extend(wrong)
    return None if wrong else found


def _audit(entry: object, where: str, problems: list[Problem]) -> AuditBound:
    fields = Fields(entry, names={"party", "epsilon", "confidence"}, where=where, problems=problems)
    return AuditBound(fields.text("party"), fields.text("epsilon"), fields.text("confidence"))


def _numbered(fields: Fields, name: str) -> Iterable[tuple[int, object]]:
    return enumerate(fields.items(name, most=MAX_ITEMS))


def _check_training(found: TrainingEvidence, where: str) -> Iterable[Problem]:
    yield from check_hex(f"{where}.job", found.job, _JOB_DIGITS)
    if not found.datasets or list(found.datasets) != sorted(set(found.datasets)) or not all(map(is_dataset, found.datasets)):
        yield Problem(f"{where}.datasets", "party/name/version of each data set is expected once, sorted", "make it anew")
    for number, audit in enumerate(found.audits):
        yield from check_id(f"{where}.audits.{number}.party", audit.party)
        yield from check_decimal(f"{where}.audits.{number}.epsilon", audit.epsilon, Decimal(0), _MOST_EPSILON)
        yield from check_decimal(f"{where}.audits.{number}.confidence", audit.confidence, Decimal(0), Decimal(1))


def is_dataset(label: str) -> bool:
    """Returns whether a text is `party/name/version`."""
    parts = label.split("/")
    known = len(parts) == 3 and not list(check_id("party", parts[0])) and not list(check_id("name", parts[1]))
    return known and parts[2].isascii() and parts[2].isdigit() and not parts[2].startswith("0") and len(parts[2]) < 10
