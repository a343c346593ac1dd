"""The contract of a task with the people in a table: which columns it may have, what each is, and for what it is needed.

A contract says more than the schema that jobs know: which columns name people, which link them to other tables, which could give
them away together, and which are sensitive. The schema follows from it; what it does not name is dropped while the file is read.
It is public among the institutions, and its digest stands in the lineage of every data set that was prepared under it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from privacy.preparation.columns import Column, Role, key_problems, read_column_entry
from privacy.preparation.schema import API_VERSION, MAX_COLUMNS, MAX_REPORTED, TableSchema
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem

KIND = "DataContract"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PURPOSE_CHARS = 256
_KEYS = ("api_version", "kind", "name", "purpose", "columns")


class DataRole(Enum):
    """What a column is, as far as people are concerned."""

    DIRECT_IDENTIFIER = "direct-identifier"  # names a person by itself: dropped while the file is read
    LINKAGE_KEY = "linkage-key"  # the same person has the same one elsewhere: leaves a preparation as a pseudonym at most
    QUASI_IDENTIFIER = "quasi-identifier"  # gives people away together with others
    SENSITIVE = "sensitive"  # what nobody should learn of a person
    FEATURE = "feature"  # an input of the model, and none of the above
    LABEL = "label"  # what the model predicts, and none of the above


_USES = {role: {DataRole.FEATURE: Role.FEATURE, DataRole.LABEL: Role.LABEL}.get(role) for role in DataRole}
_MAY_BE_USED = (DataRole.QUASI_IDENTIFIER, DataRole.SENSITIVE)


@dataclass(frozen=True)
class ContractColumn:
    """One column that a task may have; public.

    Attributes:
        name: as in the header of the file, exactly.
        role: what it is.
        purpose: why the task needs it, for people; empty where the contract's own purpose says it.
        shared: the column as the schema describes it, with type and public range, a feature or label; None if it is not shared.
    """

    name: str
    role: DataRole
    purpose: str
    shared: Column | None

    def to_document(self) -> dict[str, Any]:
        """Returns the column as it stands in a contract."""
        document: dict[str, Any] = {"name": self.name, "role": self.role.value}
        if self.purpose:
            document["purpose"] = self.purpose
        if self.shared is not None:
            described = self.shared.to_document()
            use = described.pop("role")
            document |= described | ({"use": use} if self.role in _MAY_BE_USED else {})
        return document


@dataclass(frozen=True)
class DataContract:
    """Which columns a task may have; public. The order is that of the schema's columns."""

    name: str
    purpose: str
    columns: tuple[ContractColumn, ...]

    @cached_property
    def schema(self) -> TableSchema:
        """What jobs know of it: the shared columns, and a linkage key, if there is one, as identifier."""
        columns = []
        for column in self.columns:
            if column.shared is not None:
                columns.append(column.shared)
            elif column.role is DataRole.LINKAGE_KEY:
                columns.append(Column(column.name, Role.IDENTIFIER))
        return TableSchema(self.name, tuple(columns))

    @property
    def digest(self) -> str:
        """SHA-256 of the contract's canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def names(self, *roles: DataRole) -> tuple[str, ...]:
        """Returns the names of the columns with one of these roles, in order; of all columns if none is given."""
        return tuple(column.name for column in self.columns if not roles or column.role in roles)

    def without(self, names: Iterable[str]) -> DataContract:
        """Returns the contract without some of its columns."""
        dropped = set(names)
        return replace(self, columns=tuple(column for column in self.columns if column.name not in dropped))

    def to_document(self) -> dict[str, Any]:
        """Returns the contract as a document; `from_document` returns an equal contract."""
        columns = [column.to_document() for column in self.columns]
        return {"api_version": API_VERSION, "kind": KIND, "name": self.name, "purpose": self.purpose, "columns": columns}

    @staticmethod
    def from_document(document: Document) -> DataContract:
        """Reads a contract and accepts only what `to_document` writes.

        Raises:
            ConfideError: INVALID_CONTRACT (the author's fault) with up to `MAX_REPORTED` problems and their paths.
        """
        contract = read_contract(document)
        if canonical_bytes(contract.to_document()) != canonical_bytes(document):
            raise ConfideError(ErrorCode.INVALID_CONTRACT, "the contract's decimals are not in their shortest form")
        return contract


def read_contract(document: Mapping[str, Any]) -> DataContract:
    """Reads a contract, decimals written in any form, scalars as texts.

    Raises:
        ConfideError: INVALID_CONTRACT (the author's fault) with up to `MAX_REPORTED` problems and their paths.
    """
    problems = [*key_problems("", document, _KEYS), *_head_problems(document)]
    entries = document.get("columns")
    columns: list[ContractColumn] = []
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_COLUMNS:
        problems.append(Problem("columns", f"must be a list of 1 to {MAX_COLUMNS} columns", "describe every column of the task"))
        entries = []
    for position, entry in enumerate(entries):
        column, wrong = _read_entry(f"columns[{position}]", entry)
        problems += wrong
        if column is not None:
            columns.append(column)
    if not problems:
        problems += _table_problems(columns)
    if problems:
        what = f"{len(problems)} problem(s) in the contract"
        raise ConfideError(ErrorCode.INVALID_CONTRACT, what, problems=problems[:MAX_REPORTED])
    return DataContract(document["name"], document["purpose"], tuple(columns))


def _head_problems(document: Mapping[str, Any]) -> Iterable[Problem]:
    for key, expected in (("api_version", API_VERSION), ("kind", KIND)):
        if key in document and document[key] != expected:
            yield Problem(key, f"must be {expected}", "correct it")
    name, purpose = document.get("name", ""), document.get("purpose", "")
    if "name" in document and not (isinstance(name, str) and _NAME.fullmatch(name)):
        yield Problem("name", "must be 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another name")
    if "purpose" in document:
        if not purpose:
            yield Problem("purpose", "is empty", "say for what people's data is needed")
        yield from _purpose_problems("purpose", purpose)


def _purpose_problems(where: str, purpose: object) -> Iterable[Problem]:
    if not isinstance(purpose, str) or len(purpose) > _MAX_PURPOSE_CHARS or not purpose.isprintable():
        yield Problem(where, f"must be a text of at most {_MAX_PURPOSE_CHARS} printable characters", "shorten it")


def _read_entry(where: str, entry: object) -> tuple[ContractColumn | None, list[Problem]]:
    if not isinstance(entry, dict):
        return None, [Problem(where, "must be a mapping", "write name and role")]
    roles = {role.value: role for role in DataRole}
    role = roles.get(entry["role"]) if isinstance(entry.get("role"), str) else None
    if role is None:
        return None, [Problem(f"{where}.role", f"must be one of {', '.join(roles)}", "say what the column is")]
    purpose = entry.get("purpose", "")
    problems = list(_purpose_problems(f"{where}.purpose", purpose))
    described = {key: value for key, value in entry.items() if key != "purpose"}
    use = _USES[role]
    if role in _MAY_BE_USED and "use" in described:
        use = {"feature": Role.FEATURE, "label": Role.LABEL}.get(str(described.pop("use")))
        if use is None:
            problems.append(Problem(f"{where}.use", "must be feature or label", "leave it out if the column is not shared"))
            return None, problems
    # What is not shared has a name and a role alone, which is how a schema describes what it drops.
    column, wrong = read_column_entry(where, described | {"role": (use or Role.IGNORED).value})
    problems += wrong
    if problems or column is None:
        return None, problems
    return ContractColumn(column.name, role, purpose, column if use is not None else None), []


def _table_problems(columns: list[ContractColumn]) -> Iterable[Problem]:
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            yield Problem(f"columns.{name}", f"described {count} times", "describe each column once")
    uses = Counter(column.shared.role for column in columns if column.shared is not None)
    if uses[Role.LABEL] > 1:
        yield Problem("columns", f"{uses[Role.LABEL]} columns are used as label", "use one at most")
    if not uses:
        yield Problem("columns", "no column is used as feature or label", "use at least one")
    keys = sum(column.role is DataRole.LINKAGE_KEY for column in columns)
    if keys > 1:
        yield Problem("columns", f"{keys} columns have the role linkage-key", "link people by one column")
