"""What was seen at points of the matrix, as it is kept: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.cells import Cell, Fault
from tests.chaos.promises import possible_cells

ROOT = Path(__file__).parents[2]
CAMPAIGNS = ROOT / "build" / "chaos"  # one file a campaign
RECORDED = Path(__file__).with_name("recorded.jsonl")  # the last result of every cell, kept with the code


@dataclass(frozen=True)
class Result:
    """What was seen at one point.

    Attributes:
        cell: where.
        seed: decides the moment and everything else that is random.
        ending: what everybody showed in the end: state, code, party at fault; empty texts where there was no ending.
        within_s: from the fault until all members that were not hit showed it.
        member_s: from the end of the fault until the member that was hit showed it too.
        next_s: how long the next job took.
        violations: what was not as promised; empty if all was.
    """

    cell: Cell
    seed: int
    ending: tuple[str, str, str]
    within_s: float
    member_s: float
    next_s: float
    violations: tuple[str, ...]

    def to_line(self) -> str:
        """Returns the record that is kept."""
        document = {
            "cell": self.cell.name,
            "seed": self.seed,
            "ending": list(self.ending),
            "within_s": round(self.within_s, 1),
            "member_s": round(self.member_s, 1),
            "next_s": round(self.next_s, 1),
            "violations": list(self.violations),
        }
        return json.dumps(document) + "\n"

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> Result:
        """Reads a record."""
        state, code, at_fault = document["ending"]
        return Result(
            cell=Cell.of_name(document["cell"]),
            seed=document["seed"],
            ending=(state, code, at_fault),
            within_s=document["within_s"],
            member_s=document["member_s"],
            next_s=document["next_s"],
            violations=tuple(document["violations"]),
        )


def read_results(file: Path) -> tuple[Result, ...]:
    """Reads the results of a campaign, none if it has not begun; a line that was cut off by a crash is left out."""
    if not file.exists():
        return ()
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(Result.from_document(json.loads(line)) for line in lines if line.endswith("\n"))


def latest(results: Iterable[Result]) -> dict[Cell, Result]:
    """Returns the last result of every cell that still has a promise."""
    possible = set(possible_cells())
    return {result.cell: result for result in results if result.cell in possible}


def chosen_points(count: int, seed: int) -> tuple[tuple[Cell, int], ...]:
    """Returns the same cells and seeds every time: every fault comes before any comes twice; roles and phases are drawn."""
    random = Random(seed)
    left: dict[Fault, list[Cell]] = {}
    for cell in possible_cells():
        left.setdefault(cell.fault, []).append(cell)
    for cells in left.values():
        random.shuffle(cells)
    points: list[tuple[Cell, int]] = []
    while len(points) < count and any(left.values()):
        for cells in left.values():
            if cells and len(points) < count:
                points.append((cells.pop(), random.randrange(1 << 31)))
    return tuple(points)
