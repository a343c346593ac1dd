"""Pseudonym projects of this institution: opened for others by its operator, each with its own key that never leaves.

The master secret lies in `keys/pseudonyms.key` of the state folder; the key of a project and rotation follows from it. Whoever
restores the folder from a backup keeps both; whoever loses the secret can make no token of these projects again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from parties.config import PartyConfig
from parties.operating.own import load_own_member
from parties.storage.database import Tables, one_transaction
from parties.storage.files import make_folder, read_secret, write_secret
from parties.storage.linking import ProjectRecord
from parties.storage.state import StateFolder
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.identifiers.group import Exponent
from protocols.identifiers.pseudonyms import MASTER_BYTES, Context, own_check_value, project_key
from protocols.job import ID_PATTERN
from protocols.secrets import SecretBytes

MAX_EVALUATIONS = 100_000_000


def master_file(folder: StateFolder) -> Path:
    """Returns where the master secret of an institution's pseudonym keys lies."""
    return folder.root / "keys" / "pseudonyms.key"


def read_master(folder: StateFolder) -> SecretBytes:
    """Reads the master secret.

    Raises:
        ConfideError: NOT_READY (the operator's fault): no project was opened here yet; INVALID_CONFIG or FILE_MODE: the file.
    """
    path = master_file(folder)
    if not path.exists():
        what = "no pseudonym project has been opened at this institution"
        raise ConfideError(ErrorCode.NOT_READY, what, remedy="Open it with `confide dataset project open`.")
    value = read_secret(path)
    if len(value) != MASTER_BYTES:
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{path} does not hold {MASTER_BYTES} bytes")
    return SecretBytes(value)


def open_project(
    config: PartyConfig, project: str, *, peers: Sequence[str], evaluations: int, rotation: int, now: datetime
) -> ProjectRecord:
    """Opens a project, or changes how many evaluations it allows, or leaves its key for the next rotation's.

    Args:
        config: of this institution.
        project: its name, the same at every institution.
        peers: the other institutions, all of them.
        evaluations: as many may each of them ask for under this rotation.
        rotation: of the keys, the same at every institution.
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault); NOT_ENROLLED: an institution that the directory does not list;
            JOB_CONFLICT: a rotation that was left, or other institutions than before; STATE_DAMAGED: as `own_key`.
    """
    if not ID_PATTERN.fullmatch(project):
        problem = Problem("project", "a name is 1 to 63 of a-z, 0-9 and -, not at the ends", "choose another")
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the project cannot have this name", problems=[problem])
    if not 0 <= evaluations <= MAX_EVALUATIONS:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"0 to {MAX_EVALUATIONS} evaluations can be allowed")
    member = load_own_member(config, now)
    for peer in peers:
        member.directory.party(peer)
    members = tuple(sorted({config.party, *peers}))
    if len(members) != 1 + len(peers):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the other institutions of a project are named once each")
    record = ProjectRecord(project, rotation, members, evaluations, now, None)
    context = context_of(member.directory.consortium, record)  # refuses what cannot be one
    with one_transaction(config.folder.database_file) as tables:
        tables.linking.put_project(record)
        _make_master(config.folder)  # inside, so that two commands at once do not make two
        own_key(tables, config, record, context)
        tables.audit.append(EntryKind.PSEUDONYM_PROJECT, _facts(record, "open"), now=now)
    return record


def close_project(config: PartyConfig, project: str, *, now: datetime) -> ProjectRecord:
    """Closes a project: nothing is evaluated for anybody until it is opened again.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault): there is none of this name.
    """
    with one_transaction(config.folder.database_file) as tables:
        record = tables.linking.find_project(project)
        if record is None:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"no project {project} was opened here")
        if record.closed is None:
            record = replace(record, closed=now)
            tables.linking.put_project(record)
            tables.audit.append(EntryKind.PSEUDONYM_PROJECT, _facts(record, "closed"), now=now)
    return record


def list_projects(config: PartyConfig) -> tuple[tuple[ProjectRecord, dict[str, int]], ...]:
    """Returns all projects, each with the evaluations made for every other member under its rotation."""
    with one_transaction(config.folder.database_file) as tables:
        return tuple(
            (record, {peer: tables.linking.evaluated(record, peer) for peer in record.members if peer != config.party})
            for record in tables.linking.projects()
        )


def context_of(consortium: str, record: ProjectRecord) -> Context:
    """Returns the context of a project's tokens."""
    return Context(consortium, record.project, record.rotation, record.members)


def own_key(tables: Tables, config: PartyConfig, record: ProjectRecord, context: Context) -> Exponent:
    """Returns this institution's key of a project, and checks that it is the one that the project was opened with; secret.

    Raises:
        ConfideError: NOT_READY (the operator's fault): there is no master secret; STATE_DAMAGED (likewise): it is another than
            before, so that no token would match earlier ones.
    """
    key = project_key(read_master(config.folder), context)
    if not tables.linking.check_key(record, config.party, own_check_value(key)):
        what = f"keys/pseudonyms.key is not the secret that project {record.project} was opened with"
        remedy = "Restore it from the backup; if it is lost, open the next rotation at every institution."
        raise ConfideError(ErrorCode.STATE_DAMAGED, what, remedy=remedy)
    return key


def _facts(record: ProjectRecord, standing: str) -> dict[str, Fact]:
    return {
        "project": record.project,
        "standing": standing,
        "rotation": record.rotation,
        "members": record.members,
        "evaluations": record.evaluations,
    }


def _make_master(folder: StateFolder) -> None:
    path = master_file(folder)
    if not path.exists():
        make_folder(path.parent)
        write_secret(path, secrets.token_bytes(MASTER_BYTES))
