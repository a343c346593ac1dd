"""What an alias such as `diagnosis@live` stands for: the one version that every holder names by it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from governance.lineage.alias import AliasName
from parties.wire.generated.confide.v1 import party_pb2
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_fields import check_hex

ALIASES = frozenset(alias.value for alias in AliasName)
_VERSION_DIGITS = 12


def resolve_alias(held: Mapping[str, Sequence[party_pb2.Model]], name: str, alias: AliasName) -> str:
    """Returns the version that an alias stands for, if all holders that are asked say the same.

    Every holder answers for itself: none of them can bring a version into use that the others have not put behind the alias.

    Args:
        held: what each holder says of the models that it holds, by party.
        name: the model's name.
        alias: which alias.

    Raises:
        ConfideError: ALIAS_DIFFERS, with what each holder says.
    """
    said = {party: _versions(models, name, alias) for party, models in held.items()}
    versions = {version for found in said.values() for version in found}
    if len(versions) == 1 and all(len(found) == 1 for found in said.values()):
        return versions.pop()
    problems = [Problem(party, _words(found), "ask its data steward to move the alias") for party, found in said.items()]
    what = f"{name}@{alias.value} does not stand for one version at all holders"
    raise ConfideError(ErrorCode.ALIAS_DIFFERS, what, problems=problems)


def _versions(models: Sequence[party_pb2.Model], name: str, alias: AliasName) -> list[str]:
    named = [model.version for model in models if model.name == name and alias.value in model.aliases]
    return [version for version in named if not list(check_hex("version", version, _VERSION_DIGITS))]


def _words(versions: Sequence[str]) -> str:
    if not versions:
        return "names no version by it"
    return f"names {' and '.join(versions)} by it"
