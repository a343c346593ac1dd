"""A researcher's profiles: which of her identities a program uses, and whom she lets compute unless she says otherwise.

~/.config/confide/config.toml, or the file that CONFIDE_CONFIG names:

    api_version = "confide.profiles/1"
    active = "cardio"

    [profiles.cardio]
    researcher = "alice/researcher.yaml"              # relative paths count from this file
    computing_parties = ["hospital-a", "hospital-b"]  # optional, with the dealer
    dealer = "hospital-c"

The profile is the one that the caller names; else the one that CONFIDE_PROFILE names; else the active one. Nothing in Confide
writes this file or changes which profile is active.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from parties.config import MemberId
from parties.storage.files import read_public
from protocols.errors import ConfideError, ErrorCode, Problem

FORMAT = "confide.profiles/1"
FILE_VARIABLE, PROFILE_VARIABLE = "CONFIDE_CONFIG", "CONFIDE_PROFILE"
MAX_FILE_BYTES = 64 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Entry(_Strict):
    researcher: Annotated[str, Field(min_length=1)]
    computing_parties: list[MemberId] = []
    dealer: MemberId | None = None


class _File(_Strict):
    api_version: Literal["confide.profiles/1"]
    active: str | None = None
    profiles: dict[MemberId, _Entry]


@dataclass(frozen=True)
class Profile:
    """One of a researcher's identities.

    Attributes:
        name: of the profile.
        researcher_config: her researcher.yaml.
        computing_parties: who computes unless a request says otherwise; may be empty.
        dealer: who deals unless a request says otherwise; may be empty.
    """

    name: str
    researcher_config: Path
    computing_parties: tuple[str, ...] = ()
    dealer: str = ""


def load_profile(name: str | None = None, path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> Profile:
    """Reads one profile.

    Args:
        name: its name; else what the environment or the file says.
        path: the file; else what the environment says, else the usual place.
        environment: the variables of the process.

    Raises:
        ConfideError: INVALID_CONFIG (the researcher's to mend): the file, with every problem, or no such profile;
            INVALID_ARGUMENT: the file cannot be read.
    """
    file = path or profiles_file(environment)
    content = _read(file)
    wanted = name or environment.get(PROFILE_VARIABLE) or content.active
    if not wanted:
        remedy = f"Name one, set {PROFILE_VARIABLE}, or write `active = ...` into the file."
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{file} has no active profile and none is named", remedy=remedy)
    entry = content.profiles.get(wanted)
    if entry is None:
        known = ", ".join(sorted(content.profiles)) or "none"
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{file} has no profile {wanted[:63]!r}", remedy=f"Choose among {known}.")
    return Profile(
        name=wanted,
        researcher_config=(file.parent / Path(entry.researcher).expanduser()).absolute(),
        computing_parties=tuple(entry.computing_parties),
        dealer=entry.dealer or "",
    )


def profiles_file(environment: Mapping[str, str]) -> Path:
    """Returns where the profiles stand: what the environment names, else `~/.config/confide/config.toml`."""
    named = environment.get(FILE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "confide" / "config.toml"


def _read(file: Path) -> _File:
    data = read_public(file, max_bytes=MAX_FILE_BYTES)
    try:
        return _File.model_validate(tomllib.loads(data.decode("utf-8")))
    except ValidationError as error:
        problems = [_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {file}", problems=problems) from error
    except ValueError as error:  # not UTF-8, or not TOML; the parser's text may quote the file
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{file} is not TOML") from error


def _problem(file: Path, field: tuple[str | int, ...], kind: str, message: str) -> Problem:
    where = f"{file} {'.'.join(str(part) for part in field)}".rstrip()
    match kind:
        case "extra_forbidden":
            return Problem(where, "unknown field", "remove it or correct its name")
        case "missing":
            return Problem(where, "missing field", "add it")
        case _:
            return Problem(where, message.removeprefix("Value error, "), "correct it")
