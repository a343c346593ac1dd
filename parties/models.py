"""Models at a holder: what its people decide about them, and what its database says about them.

Every function works while the party serves: what it writes is in the shared database, and in force with the transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from governance.evidence.gate import Decision
from governance.lineage.alias import AliasName, AliasStatement
from governance.lineage.blast import HolderAlias
from governance.lineage.card import ModelCard
from governance.lineage.graph import Lineage, lineage_of, lineage_text
from governance.lineage.standing import trainings_behind
from governance.people.roles import Action
from governance.privacy_claims import claims_in_words, claims_of
from parties.agreements import load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.evidence import require_release, warm_statements
from parties.lineage import aliases_everywhere, explain_model, find_training, model_card, model_records, trainings_behind_job
from parties.model_registry import (
    Holder,
    destroy_marked,
    holders_of,
    mark_model,
    require_usable,
    roll_back_alias,
    set_alias,
    why_marked,
)
from parties.policy_file import load_policy
from parties.storage.database import Tables, one_transaction, open_database
from parties.storage.registry import MarkRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.job_fields import check_hex, check_id

_VERSION_DIGITS = 12
T = TypeVar("T")


@dataclass(frozen=True)
class HeldModel:
    """A model version that this party holds, or held, shares of; public in the consortium.

    Attributes:
        ref: the version.
        holders: who holds shares, in order.
        created: when this party kept its share, UTC.
        steps: training steps behind it.
        aliases: what this party calls it.
        why_not: why it is not used any more; empty if it may be used.
        deleted: whether this party has destroyed its share.
        privacy: what all trainings behind it claim of differential privacy, in words.
    """

    ref: ModelRef
    holders: tuple[str, ...]
    created: datetime
    steps: int
    aliases: tuple[str, ...]
    why_not: tuple[str, ...]
    deleted: bool
    privacy: str


def read_label(label: str) -> ModelRef:
    """Reads `name@version`.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault).
    """
    name, _, version = label.partition("@")
    if list(check_id("model", name)) or list(check_hex("model", version, _VERSION_DIGITS)):
        what = f"{label[:130]!r} is no model version"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Write name@version, as `confide model list` shows it.")
    return ModelRef(name, version)


def read_alias(label: str) -> tuple[str, AliasName]:
    """Reads `name@alias`.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault).
    """
    name, _, alias = label.partition("@")
    if list(check_id("model", name)) or alias not in {known.value for known in AliasName}:
        choice = ", ".join(known.value for known in AliasName)
        what = f"{label[:130]!r} is no alias of a model"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Write name@alias; an alias is one of {choice}.")
    return name, AliasName(alias)


def held_models(config: PartyConfig) -> tuple[HeldModel, ...]:
    """Returns the models that this party holds, the latest first."""
    return _read(config, _held)


def held_model(config: PartyConfig, ref: ModelRef) -> HeldModel:
    """Returns one of them.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """
    for model in held_models(config):
        if model.ref == ref:
            return model
    raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"no share of {ref.label} is held here", party=config.party)


def lineage(config: PartyConfig, ref: ModelRef, *, now: datetime) -> tuple[Lineage, str]:
    """Returns the lineage of a model as a graph and as a tree, from this party's records.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault): it knows no completed training of it.
    """

    def read(tables: Tables) -> tuple[Lineage, str]:
        records = model_records(tables, party=config.party, now=now)
        find_training(records, ref)
        return lineage_of(ref, records), lineage_text(ref, records)

    return _read(config, read)


def explain(config: PartyConfig, ref: ModelRef, *, now: datetime) -> tuple[str, ...]:
    """Returns in sentences why a model may be used now, or why not.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """

    def read(tables: Tables) -> tuple[str, ...]:
        return explain_model(tables, model_records(tables, party=config.party, now=now), ref, party=config.party, now=now)

    return _read(config, read)


def card(config: PartyConfig, ref: ModelRef, *, now: datetime) -> ModelCard:
    """Returns the card of a model from this party's records.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """

    def read(tables: Tables) -> ModelCard:
        return model_card(tables, model_records(tables, party=config.party, now=now), ref, party=config.party, now=now)

    return _read(config, read)


def aliases(config: PartyConfig) -> tuple[HolderAlias, ...]:
    """Returns what every alias stands for here and, by the last word that has arrived, at the other holders."""
    return _read(config, lambda tables: aliases_everywhere(tables, party=config.party))


def move_alias_forward(
    config: PartyConfig, person_folder: Path, ref: ModelRef, alias: AliasName, *, now: datetime
) -> AliasStatement:
    """Has an alias stand for a version at this holder; it resolves when every holder has done the same.

    Args:
        config: the holder's.
        person_folder: of the person who has it done; a data steward or privacy officer.
        ref: the version.
        alias: which alias.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL, MODEL_REVOKED, EVIDENCE_MISSING, see `set_alias`; NOT_AUTHORISED (the person's fault).
    """

    def decide(tables: Tables, holder: Holder, authorisation: str) -> AliasStatement:
        passed = None
        if alias is AliasName.RELEASED:
            require_usable(tables, ref, party=holder.party)
            passed = _ask_gate(config, tables, ref, now)
        return set_alias(tables, holder, ref, alias, authorisation=authorisation, now=now, passed=passed)

    if alias is AliasName.RELEASED:
        warm_statements(lambda: one_transaction(config.folder.database_file), ref, party=config.party, now=now)
    return _decide(config, person_folder, Action.SET_ALIAS, f"{ref.label} as {alias.value}", decide, now)


def move_alias_back(config: PartyConfig, person_folder: Path, model: str, alias: AliasName, *, now: datetime) -> AliasStatement:
    """Has an alias stand for the version before, here at once and at the other holders within seconds.

    `released` moves back only to a version that the gate on evidence passes now.

    Raises:
        ConfideError: UNKNOWN_MODEL, MODEL_REVOKED, EVIDENCE_MISSING, see `roll_back_alias`; NOT_AUTHORISED (the person's fault).
    """

    def before(tables: Tables) -> ModelRef | None:
        version = tables.registry.alias_history(model, alias).before if alias is AliasName.RELEASED else None
        return None if version is None else ModelRef(model, version)

    def decide(tables: Tables, holder: Holder, authorisation: str) -> AliasStatement:
        passed, ref = None, before(tables)
        if ref is not None:
            require_usable(tables, ref, party=holder.party)
            passed = _ask_gate(config, tables, ref, now)
        return roll_back_alias(tables, holder, model, alias, authorisation=authorisation, now=now, passed=passed)

    if (asked := _read(config, before)) is not None:
        warm_statements(lambda: one_transaction(config.folder.database_file), asked, party=config.party, now=now)
    return _decide(config, person_folder, Action.ROLL_BACK_ALIAS, f"{model}@{alias.value}", decide, now)


def withdraw_model(config: PartyConfig, person_folder: Path, ref: ModelRef, *, now: datetime) -> None:
    """Has this holder take part in no use of a version any more; without its share nobody can use it.

    Raises:
        ConfideError: UNKNOWN_MODEL; MODEL_REVOKED: it is not used any more already; NOT_AUTHORISED (the person's fault).
    """

    def decide(tables: Tables, holder: Holder, authorisation: str) -> None:
        require_usable(tables, ref, party=holder.party)
        mark_model(tables, holder, _own_mark(holder, ref, now, delete=False), authorisation=authorisation)

    _decide(config, person_folder, Action.REVOKE_MODEL, ref.label, decide, now)


def delete_model(config: PartyConfig, person_folder: Path, ref: ModelRef, *, now: datetime) -> None:
    """Destroys this holder's share of a version, and tells the others by a receipt.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault); NOT_AUTHORISED (the person's); DISK_FULL (the operator's): the
            serving process goes on with it.
    """

    def decide(tables: Tables, holder: Holder, authorisation: str) -> None:
        tables.models.get(ref)
        mark_model(tables, holder, _own_mark(holder, ref, now, delete=True), authorisation=authorisation)

    _decide(config, person_folder, Action.DELETE_MODEL, ref.label, decide, now)
    member = load_member(config, now)
    with closing(open_database(config.folder.database_file)) as database:
        destroy_marked(database, config.folder.open_sealed(), Holder.of(member, member.directory), now=now)


def _ask_gate(config: PartyConfig, tables: Tables, ref: ModelRef, now: datetime) -> Decision:
    policy, directory = load_policy(config.policy), load_member(config, now).directory
    found = require_release(tables, party=config.party, policy=policy, directory=directory, ref=ref, now=now)
    tables.evidence.mark_decided(found.bundle)  # the person who moves the alias decides, whoever else had to approve
    return found


def _own_mark(holder: Holder, ref: ModelRef, now: datetime, *, delete: bool) -> MarkRecord:
    return MarkRecord(ref, holder.party, ref.label, ErrorCode.MODEL_REVOKED, delete, now)


def _held(tables: Tables) -> tuple[HeldModel, ...]:
    return tuple(
        HeldModel(
            ref=record.ref,
            holders=holders_of(tables, record),
            created=record.created,
            steps=record.steps,
            aliases=tuple(alias.value for alias in tables.registry.aliases_of(record.ref)),
            why_not=tuple(why_marked(mark) for mark in tables.registry.marks(record.ref)),
            deleted=tables.registry.deletion(record.ref) is not None,
            privacy=_privacy(tables, record.job_id),
        )
        for record in tables.models.usable()
    )


def _privacy(tables: Tables, job_id: str) -> str:
    behind = trainings_behind(job_id, trainings_behind_job(tables, job_id))
    return claims_in_words(claims_of(facts.job for facts in behind))


def _read(config: PartyConfig, read: Callable[[Tables], T]) -> T:
    with one_transaction(config.folder.database_file) as tables:
        return read(tables)


def _decide(
    config: PartyConfig,
    person_folder: Path,
    action: Action,
    subject: str,
    decide: Callable[[Tables, Holder, str], T],
    now: datetime,
) -> T:
    member = load_member(config, now)
    authorisation = authorise(config, person_folder, action, subject, now)
    with one_transaction(config.folder.database_file) as tables:
        kept = keep_authorisation(tables, authorisation, now=now)
        return decide(tables, Holder.of(member, member.directory), kept)
