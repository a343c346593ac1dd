"""The facts of a bundle of evidence: trainings with their guarantees, noise tests and audits, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from governance.canary_audit import CanaryAudit, read_canary_audit
from governance.documents import SignedDocument
from governance.identity.fields import Fields
from governance.identity.names import check_id
from privacy.accounting.statement import PrivacyStatement, read_statement
from protocols.canonical import Document
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_fields import check_decimal, check_hex
from protocols.private_training import MAX_CANARIES

MAX_ITEMS = 64
MAX_REPORT = 256 * 1024  # of a signed document in a bundle, as a text
_JOB_DIGITS = 32
_TRAINING = {"job", "datasets", "guarantee", "noise_test", "canaries", "audits"}
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
class TrainingEvidence:
    """One training behind a model version.

    Attributes:
        job: its id, 32 hexadecimal digits.
        datasets: `party/name/version` of each data set, sorted.
        guarantee: as the accountant gave it; None if it has no formal guarantee.
        noise_test: of a private training; None if there is none.
        audits: what owners told of their canaries, signed by them; one of each, sorted by owner.
        canaries: how many each owner has by the job, of those that have some.
    """

    job: str
    datasets: tuple[str, ...]
    guarantee: PrivacyStatement | None
    noise_test: NoiseTest | None
    audits: tuple[SignedDocument, ...]
    canaries: Mapping[str, int] = field(default_factory=dict)

    @property
    def owners(self) -> tuple[str, ...]:
        """Who brought rows, sorted."""
        return tuple(sorted({name.partition("/")[0] for name in self.datasets}))

    @cached_property
    def bounds(self) -> tuple[CanaryAudit, ...]:
        """What the audits say; who signed them is not verified by reading."""
        return tuple(read_canary_audit(audit.document) for audit in self.audits)

    def to_document(self) -> dict[str, Any]:
        """Returns it as a document."""
        return {
            "job": self.job,
            "datasets": list(self.datasets),
            "guarantee": None if self.guarantee is None else self.guarantee.to_document(),
            "noise_test": None if self.noise_test is None else dict(vars(self.noise_test)),
            "canaries": dict(self.canaries),
            "audits": [audit.to_bytes().decode() for audit in self.audits],
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
    audits = read_signed(fields, "audits", read_canary_audit, problems, where=where, most=MAX_ITEMS)
    canaries = _canaries(raw.get("canaries"), where, problems)
    found = TrainingEvidence(fields.text("job"), datasets, guarantee, noise_test, audits, canaries)
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


def _canaries(entry: object, where: str, problems: list[Problem]) -> dict[str, int]:
    if isinstance(entry, dict) and len(entry) <= MAX_ITEMS:
        known = (not list(check_id("", name)) and type(n) is int and 1 <= n <= MAX_CANARIES for name, n in entry.items())
        if all(known):
            return dict(entry)
    problems.append(Problem(f"{where}.canaries", "how many canaries each owner has is expected", "ask its author"))
    return {}


def read_signed(
    fields: Fields, name: str, read: Callable[[Document], object], problems: list[Problem], *, most: int, where: str = ""
) -> tuple[SignedDocument, ...]:
    """Reads a list of signed documents, each as a text; notes what is wrong. Who signed them is not verified.

    Args:
        fields: of the document that has the list.
        name: of the list.
        read: reads one of them strictly.
        problems: are added to.
        most: how many there may be.
        where: of the document that has the list; empty for a whole one.
    """
    found = []
    for number, entry in enumerate(fields.items(name, most=most)):
        place = ".".join(part for part in (where, name, str(number)) if part)
        try:
            if not isinstance(entry, str) or len(entry) > MAX_REPORT:
                raise ConfideError(ErrorCode.INVALID_DOCUMENT, "a signed document is expected, as a text")
            signed = SignedDocument.from_bytes(entry.encode())
            read(signed.document)
        except (ConfideError, UnicodeEncodeError) as error:
            what = error.what if isinstance(error, ConfideError) else "not a text"
            problems.append(Problem(place, what, "ask its author"))
            inner = error.problems if isinstance(error, ConfideError) else ()
            problems.extend(Problem(f"{place}.{each.where}", each.what, each.remedy) for each in inner)
        else:
            found.append(signed)
    return tuple(found)


def _check_training(found: TrainingEvidence, where: str) -> Iterable[Problem]:
    yield from check_hex(f"{where}.job", found.job, _JOB_DIGITS)
    if not found.datasets or list(found.datasets) != sorted(set(found.datasets)) or not all(map(is_dataset, found.datasets)):
        yield Problem(f"{where}.datasets", "party/name/version of each data set is expected once, sorted", "make it anew")
    told = [audit.owner for audit in found.bounds]
    if told != sorted(set(told)) or not set(told) <= set(found.owners) or any(a.job != found.job for a in found.bounds):
        yield Problem(
            f"{where}.audits", "audits of this training by owners of its rows are expected, one of each", "make it anew"
        )
    if not set(found.canaries) <= set(found.owners):
        yield Problem(f"{where}.canaries", "somebody without rows has some", "make it anew")


def is_dataset(label: str) -> bool:
    """Returns whether a text is `party/name/version`."""
    parts = label.split("/")
    known = len(parts) == 3 and not list(check_id("party", parts[0])) and not list(check_id("name", parts[1]))
    return known and parts[2].isascii() and parts[2].isdigit() and not parts[2].startswith("0") and len(parts[2]) < 10
