"""What a party signs about an ablation on rows of its own: under each setting of each protection, what attack and analysis gave.

    {format, consortium, owner, time, members, others, classes, shadows, seed, lines, left_out}

It is about the rows and the protections, not about any model: nothing is released by it. Figures are decimals with intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import Fields, fields_of, finish
from governance.identity.keys import SigningKey
from governance.statement import verify_statement
from privacy.ablation.lines import MOST_LINES, Line, Part
from privacy.figures import Figures, figures_document, read_figures
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, Problem
from protocols.job import ID_PATTERN, TIME_FORMAT

FORMAT = "confide.ablation/1"
MAX_TEXT = 256
_NAMES = {
    "format", "consortium", "owner", "time", "members", "others", "classes", "shadows", "seed", "lines", "left_out",
}  # fmt: skip
_LINE = {"part", "setting", "attack", "analysis"}
_PARTS = {part.value: part for part in Part}


@dataclass(frozen=True, eq=False)
class StatedAblation:
    """An ablation as a party signs it; as public as the party makes it.

    Attributes:
        consortium: its id.
        owner: whose rows, who signs.
        made: when, UTC, whole seconds.
        members: rows that shadows were trained on halves of.
        others: rows that predictions were judged on.
        classes: of the label.
        shadows: networks behind each line about a training or answers.
        seed: of everything that was drawn.
        lines: in their order.
        left_out: what was not measured, in words.
    """

    consortium: str
    owner: str
    made: datetime
    members: int
    others: int
    classes: int
    shadows: int
    seed: int
    lines: tuple[Line, ...]
    left_out: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> dict[str, Any]:
        """Returns the report as a document; `read_ablation_report` returns an equal one."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "owner": self.owner,
            "time": self.made.strftime(TIME_FORMAT),
            "members": self.members,
            "others": self.others,
            "classes": self.classes,
            "shadows": self.shadows,
            "seed": self.seed,
            "lines": lines_document(self.lines),
            "left_out": list(self.left_out),
        }


def lines_document(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    """Returns the lines of an ablation as they stand in a document."""
    return [
        {
            "part": line.part.value,
            "setting": line.setting,
            "attack": figures_document(line.attack),
            "analysis": figures_document(line.analysis),
        }
        for line in lines
    ]


def read_ablation_report(document: Document) -> StatedAblation:
    """Reads a report strictly, all problems at once.

    Raises:
        ConfideError: INVALID_DOCUMENT (the author's fault).
    """
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    consortium, owner = fields.text("consortium"), fields.text("owner")
    for name, text in (("consortium", consortium), ("owner", owner)):
        if not ID_PATTERN.fullmatch(text):
            problems.append(Problem(name, "an identifier is expected", "ask its author"))
    lines = tuple(_line(entry, number, problems) for number, entry in enumerate(fields.items("lines", most=MOST_LINES)))
    left_out = fields.items("left_out", most=MOST_LINES)
    if not all(isinstance(text, str) and 0 < len(text) <= MAX_TEXT for text in left_out):
        problems.append(Problem("left_out", "a list of sentences is expected", "ask its author"))
    stated = StatedAblation(
        consortium=consortium,
        owner=owner,
        made=fields.time("time"),
        members=fields.whole("members", least=1),
        others=fields.whole("others", least=1),
        classes=fields.whole("classes", least=2),
        shadows=fields.whole("shadows", least=1),
        seed=fields.whole("seed", least=0),
        lines=lines,
        left_out=tuple(text for text in left_out if isinstance(text, str)),
    )
    finish(problems, what="the report on an ablation")
    return stated


def sign_ablation_report(stated: StatedAblation, key: SigningKey) -> SignedDocument:
    """Signs a report with its owner's key."""
    return sign(stated.to_document(), kind=DocumentKind.ABLATION_REPORT, signer=stated.owner, key=key)


def verify_ablation_report(signed: SignedDocument, directory: Directory) -> StatedAblation:
    """Checks that the owner that a report names has signed it in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.ABLATION_REPORT,
        read=lambda body: read_ablation_report(parse_canonical(body)),
        author=lambda stated: stated.owner,
        what="report on an ablation",
    )


def _line(entry: object, number: int, problems: list[Problem]) -> Line:
    where = f"lines.{number}"
    fields = Fields(entry, names=_LINE, where=where, problems=problems)
    part, setting = fields.text("part"), fields.text("setting")
    if part not in _PARTS:
        problems.append(Problem(f"{where}.part", f"one of {', '.join(_PARTS)} is expected", "ask its author"))
    if not 0 < len(setting) <= MAX_TEXT:
        problems.append(Problem(f"{where}.setting", "a setting in words is expected", "ask its author"))
    found: dict[str, Figures] = {}
    for name in ("attack", "analysis"):
        try:
            found[name] = read_figures(entry.get(name) if isinstance(entry, dict) else None)
        except ConfideError as error:
            problems.append(Problem(f"{where}.{name}", error.what, "ask its author"))
    return Line(_PARTS.get(part, Part.TRAINING), setting, found.get("attack", {}), found.get("analysis", {}))
