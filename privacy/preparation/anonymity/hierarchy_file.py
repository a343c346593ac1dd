"""Reads from YAML what may be made of quasi-identifiers: for each column its rules, from the finest to the coarsest.

api_version: confide/v1
kind: Hierarchies
columns:
  postcode: [{keep: 3}, {keep: 2}]
  admitted: [{date: month}, {date: year}]
"""

from __future__ import annotations

from collections.abc import Mapping

from privacy.preparation.anonymity.generalisations import Generalisation, read_rule
from privacy.preparation.columns import key_problems
from privacy.preparation.recipes.entry import EntryReader
from privacy.preparation.schema import API_VERSION
from privacy.preparation.yaml_tree import mapping_from_yaml
from protocols.errors import ConfideError, ErrorCode, Problem

KIND = "Hierarchies"
MAX_HIERARCHY_BYTES = 1024 * 1024
_MAX_LEVELS = 32


def hierarchies_from_yaml(data: bytes) -> Mapping[str, tuple[Generalisation, ...]]:
    """Reads a file of hierarchies; returns the rules by column.

    Args:
        data: the file's bytes, UTF-8, at most `MAX_HIERARCHY_BYTES`.

    Raises:
        ConfideError: INVALID_RECIPE (the author's fault): not YAML (with the line), or every problem with its path.
    """
    tree = mapping_from_yaml(data, max_bytes=MAX_HIERARCHY_BYTES, what="hierarchies", code=ErrorCode.INVALID_RECIPE)
    problems = list(key_problems("", tree, ("api_version", "kind", "columns")))
    for key, expected in (("api_version", API_VERSION), ("kind", KIND)):
        if key in tree and tree[key] != expected:
            problems.append(Problem(key, f"must be {expected}", "correct it"))
    columns = tree.get("columns", {})
    if not isinstance(columns, dict) or not columns:
        problems.append(Problem("columns", "must be a mapping of columns to lists of rules", "name a column with its rules"))
        columns = {}
    found = {}
    for name, rules in columns.items():
        where = f"columns.{name}"
        if not isinstance(rules, list) or not 1 <= len(rules) <= _MAX_LEVELS:
            problems.append(Problem(where, f"must be a list of 1 to {_MAX_LEVELS} rules", "for example [{keep: 3}, {keep: 2}]"))
            continue
        found[name] = tuple(rule for level, entry in enumerate(rules) if (rule := _read(f"{where}[{level}]", entry, problems)))
    if problems:
        what = f"{len(problems)} problem(s) in the hierarchies"
        raise ConfideError(ErrorCode.INVALID_RECIPE, what, problems=problems)
    return found


def _read(where: str, entry: object, problems: list[Problem]) -> Generalisation | None:
    if not isinstance(entry, dict):
        problems.append(Problem(where, "must be a mapping", "for example {keep: 3}"))
        return None
    reader = EntryReader(where, entry)
    rule = read_rule(reader)
    reader.done()
    problems += reader.problems
    return rule
