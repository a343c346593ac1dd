"""What a party signs about an assessment: which model version it attacked, with which rows, and what it found.

    {format, consortium, owner, model, version, time, log_size, datasets, members, others, shadows, seeds, method, figures}

Figures are decimals with their intervals; which of them a model may have to be released is the policy's to say. Times are whole
seconds: of two reports of the same one, everybody takes that for the later whose owner's log was longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of, finish
from governance.identity.keys import SigningKey
from governance.statement import verify_statement
from privacy.figures import Figures, figures_document, read_figures
from privacy.risk.report import ATTACKED_IN_SHARES, ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import Problem
from protocols.job import ID_PATTERN, MAX_DATASETS, TIME_FORMAT, ModelRef

FORMAT = "confide.risk-report/2"
MAX_SEEDS = 64
_NAMES = {
    "format", "consortium", "owner", "model", "version", "time", "log_size", "datasets", "members", "others", "shadows", "seeds",
    "method", "figures",
}  # fmt: skip
_DATASET = re.compile(rf"{ID_PATTERN.pattern}/{ID_PATTERN.pattern}/[1-9][0-9]{{0,8}}")


@dataclass(frozen=True, eq=False)
class StatedRisk:
    """A risk report as a party signs it; public.

    Attributes:
        consortium: its id.
        owner: who assessed, and signs.
        ref: the model version that was attacked.
        made: when, UTC, whole seconds.
        datasets: `party/name/version` of the rows that took part, ascending.
        report: what was found.
        log_size: how many entries the owner's audit log had before; 0 of one that nobody has stated yet.
    """

    consortium: str
    owner: str
    ref: ModelRef
    made: datetime
    datasets: tuple[str, ...]
    report: RiskReport
    log_size: int = 0

    @property
    def figures(self) -> Figures:
        """What was found, by name."""
        return self.report.figures

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    @cached_property
    def order(self) -> tuple[datetime, int, str]:
        """What reports of one owner are in order by, the same at every party; no two different ones are alike in it."""
        return self.made, self.log_size, self.digest

    def to_document(self) -> dict[str, Any]:
        """Returns the report as a document; `read_risk_report` returns an equal one."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "owner": self.owner,
            "model": self.ref.name,
            "version": self.ref.version,
            "time": self.made.strftime(TIME_FORMAT),
            "log_size": self.log_size,
            "datasets": list(self.datasets),
            "members": self.report.members,
            "others": self.report.others,
            "shadows": self.report.shadows,
            "seeds": list(self.report.seeds),
            "method": self.report.method,
            "figures": figures_document(self.report.figures),
        }


def read_risk_report(document: Document) -> StatedRisk:
    """Reads a report strictly, all problems at once.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    names = fields.items("datasets", most=MAX_DATASETS)
    datasets = tuple(name for name in names if isinstance(name, str) and _DATASET.fullmatch(name))
    if len(datasets) != len(names) or not datasets or sorted(set(datasets)) != list(datasets):
        problems.append(Problem("datasets", "party/name/version of each, ascending, are expected", "ask its author"))
    seeds = fields.items("seeds", most=MAX_SEEDS)
    if not all(type(seed) is int and 0 <= seed < 2**53 for seed in seeds):
        problems.append(Problem("seeds", "whole numbers of at least 0 are expected", "ask its author"))
    method = fields.text("method")
    if method not in (ATTACKED_IN_THE_CLEAR, ATTACKED_IN_SHARES):
        problems.append(Problem("method", f"{ATTACKED_IN_THE_CLEAR} or {ATTACKED_IN_SHARES} is expected", "ask its author"))
    owner, name, version = (fields.text(key) for key in ("owner", "model", "version"))
    for key, text in (("owner", owner), ("model", name), ("version", version)):
        if not ID_PATTERN.fullmatch(text):
            problems.append(Problem(key, "an identifier is expected", "ask its author"))
    stated = StatedRisk(
        consortium=fields.text("consortium"),
        owner=owner,
        ref=ModelRef(name, version),
        made=fields.time("time"),
        datasets=datasets,
        report=RiskReport(
            figures=read_figures(document.get("figures")),
            members=fields.whole("members", least=0),
            others=fields.whole("others", least=0),
            shadows=fields.whole("shadows", least=0),
            seeds=tuple(seed for seed in seeds if type(seed) is int),
            method=method,
        ),
        log_size=fields.whole("log_size", least=0),
    )
    finish(problems, what="the risk report")
    return stated


def sign_risk_report(stated: StatedRisk, key: SigningKey) -> SignedDocument:
    """Signs a report with its owner's key."""
    return sign(stated.to_document(), kind=DocumentKind.RISK_REPORT, signer=stated.owner, key=key)


def verify_risk_report(signed: SignedDocument, directory: Directory) -> StatedRisk:
    """Checks that the owner that a report names has signed it in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.RISK_REPORT,
        read=lambda body: read_risk_report(parse_canonical(body)),
        author=lambda stated: stated.owner,
        what="risk report",
    )
