"""A recipe: the steps that lead from a raw file to the table that a contract describes; data, never code.

    {api_version, kind: Recipe, name, version, contract, steps: [{step: KIND, ...}, ...]}

A recipe is public among the institutions; its digest stands in the lineage of what was prepared by it. All scalars of the
document are texts. Which kinds of steps there are is a closed list (`catalogue`); a name outside it is refused, never looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from privacy.preparation.columns import key_problems
from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.step import Columns, Step
from privacy.preparation.recipes.steps.augment import Augment
from privacy.preparation.schema import API_VERSION
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem

KIND = "Recipe"
MAX_STEPS = 1_000
MAX_REPORTED = 100
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_KEYS = ("api_version", "kind", "name", "version", "contract", "steps")


@dataclass(frozen=True)
class Recipe:
    """Steps in their order; public.

    Attributes:
        name: what people call it.
        version: which state of it, from 1.
        contract: name of the contract whose columns it makes.
        steps: what is done, in order; possibly nothing.
    """

    name: str
    version: int
    contract: str
    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe's canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def problems(self, columns: Columns) -> Iterable[Problem]:
        """Yields why the steps cannot work on these columns; of the first step that cannot, since the next ones rest on it."""
        for position, step in enumerate(self.steps):
            found = [Problem(f"steps[{position}], {each.where}", each.what, each.remedy) for each in step.problems(columns)]
            if found:
                yield from found
                return
            columns = step.columns_after(columns)

    def columns_after(self, columns: Columns) -> Columns:
        """Returns the columns that the steps leave, of columns without `problems`."""
        for step in self.steps:
            columns = step.columns_after(columns)
        return columns

    def to_document(self) -> dict[str, Any]:
        """Returns the recipe as a document; `from_document` returns an equal recipe."""
        return {
            "api_version": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "version": str(self.version),
            "contract": self.contract,
            "steps": [step.to_document() for step in self.steps],
        }

    @staticmethod
    def from_document(document: Document) -> Recipe:
        """Reads a recipe and accepts only what `to_document` writes.

        Raises:
            ConfideError: INVALID_RECIPE (the author's fault) with up to `MAX_REPORTED` problems and their paths.
        """
        recipe = read_recipe(document)
        if canonical_bytes(recipe.to_document()) != canonical_bytes(document):
            raise ConfideError(ErrorCode.INVALID_RECIPE, "the recipe's values are not in their shortest form")
        return recipe


def read_recipe(document: Mapping[str, Any]) -> Recipe:
    """Reads a recipe whose scalars are all texts, decimals written in any form; reports problems at once, with their paths.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault) with up to `MAX_REPORTED` problems.
    """
    problems = [*key_problems("", document, _KEYS), *_head_problems(document)]
    entries = document.get("steps", [])
    steps: list[Step] = []
    if not isinstance(entries, list) or len(entries) > MAX_STEPS:
        problems.append(Problem("steps", f"must be a list of at most {MAX_STEPS} steps", "list what is to be done, in order"))
        entries = []
    for position, entry in enumerate(entries):
        step, found = _read_step(f"steps[{position}]", entry)
        problems += found
        steps += [step] if step is not None else []
        if isinstance(step, Augment) and position + 1 < len(entries):
            # Copies share the number of their row, and what a step draws follows from that number.
            remedy = "move it to the end, and prepare another data set for another technique"
            problems.append(Problem(f"steps[{position}]", "augment is not the last step", remedy))
    if problems:
        what = f"{len(problems)} problem(s) in the recipe"
        raise ConfideError(ErrorCode.INVALID_RECIPE, what, problems=problems[:MAX_REPORTED])
    return Recipe(document["name"], int(document["version"]), document["contract"], tuple(steps))


def _head_problems(document: Mapping[str, Any]) -> Iterable[Problem]:
    for key, wanted in (("api_version", API_VERSION), ("kind", KIND)):
        if key in document and document[key] != wanted:
            yield Problem(key, "is not what this version reads", f"write {key}: {wanted}")
    for key in ("name", "contract"):
        value = document.get(key, "unnamed")
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            yield Problem(key, "a name is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
    version = document.get("version", "1")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        yield Problem("version", "must be a whole number from 1", "count up with every change")


def _read_step(where: str, entry: object) -> tuple[Step | None, list[Problem]]:
    kind = entry.get("step") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(kind, str) or kind not in STEPS:
        remedy = f"choose one of {', '.join(sorted(STEPS))}"
        return None, [Problem(f"{where}.step", "says no kind of step that there is", remedy)]
    fields = {key: value for key, value in entry.items() if key != "step"}
    return STEPS[kind].read(where, fields)
