"""Budgets as people of an institution see and set them; beside a serving party, on the same database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from governance.budget.amounts import Amount, dataset_account, model_account, policy_caps
from governance.budget.ledger import LedgerEntry, Step, spent, spent_under, spent_with_noise
from governance.people.roles import Action
from governance.policy.budgets import Budgets, Caps, check_budgets
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.policy_file import load_policy
from parties.populations import caps_in_force, datasets_by_account
from parties.storage.database import Tables, one_transaction
from parties.storage.ledger import CapsRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef


@dataclass(frozen=True)
class AccountState:
    """How one account stands.

    Attributes:
        account: `dataset/NAME`, `model/NAME@VERSION` or `consumer/RESEARCHER/NAME@VERSION`.
        spent: what is reserved or committed.
        with_noise: how much of it has a bound on epsilon; all, unless something was opened without noise.
        counted: how much of it counts against the caps: what is permitted without noise beside one on epsilon spends none.
        reserved: how much of it is only reserved.
        caps: the most that may ever be spent.
        set_by: the caps that a person has set for this account, or None if they are those of the policy.
        datasets: the data sets whose account it is, in order; empty of a model or consumer.
    """

    account: str
    spent: Amount
    with_noise: Amount
    counted: Amount
    reserved: Amount
    caps: Caps
    set_by: CapsRecord | None
    datasets: tuple[str, ...]


def budgets(config: PartyConfig) -> tuple[AccountState, ...]:
    """Returns every account of a party: of its data sets and models, and whatever was charged before, in order.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault): the policy; as the database.
    """
    policy = load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        datasets = [dataset_account(population) for population in tables.datasets.populations().values()]
        models = [model_account(record.ref) for record in tables.models.usable()]
        accounts = sorted({*datasets, *models, *tables.ledger.accounts()})
        return tuple(_state(tables, policy.budgets, account) for account in accounts)


def budget(config: PartyConfig, account: str) -> AccountState:
    """Returns one account.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): it is no account; UNKNOWN_DATASET: the data set's account is that of
            another population; as `budgets`.
    """
    policy = load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        _require_own(tables, account)
        return _state(tables, policy.budgets, account)


def history(config: PartyConfig, account: str) -> tuple[LedgerEntry, ...]:
    """Returns the entries of an account, in order.

    Raises:
        ConfideError: INVALID_ARGUMENT (the asker's fault): it is no account; UNKNOWN_DATASET: the data set's account is that of
            another population; as the database.
    """
    policy_caps(Budgets(), account)
    with one_transaction(config.folder.database_file) as tables:
        _require_own(tables, account)
        return tables.ledger.of_account(account)


def set_budget(config: PartyConfig, person_folder: Path, account: str, caps: Caps, *, now: datetime) -> AccountState:
    """Has a privacy officer set the caps of one account, above those of the policy; what is spent stays spent.

    Args:
        config: the party's.
        person_folder: hers, with her secret key.
        account: which.
        caps: the most that may ever be spent on it; below what is spent, nothing more is permitted.
        now: the time, UTC.

    Raises:
        ConfideError: NOT_AUTHORISED or BAD_SIGNATURE (the person's fault), see `authorise`; INVALID_ARGUMENT (the asker's): no
            account, or caps that do not fit together; UNKNOWN_DATASET or UNKNOWN_MODEL: nothing of that name is held here, and
            the caps of something else would stay as they are.
    """
    policy = load_policy(config.policy)
    policy_caps(policy.budgets, account)
    problems = [replace(each, where=each.where.rpartition(".")[2]) for each in check_budgets(Budgets(default=caps))]
    if problems:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the caps do not fit together", problems=problems)
    with one_transaction(config.folder.database_file) as tables:
        _require_known(tables, account)
    signed = authorise(config, person_folder, Action.SET_BUDGET, subject_of(account, caps), now)
    with one_transaction(config.folder.database_file) as tables:
        tables.ledger.set_caps(account, caps, authorisation=keep_authorisation(tables, signed, now=now), now=now)
        return _state(tables, policy.budgets, account)


def subject_of(account: str, caps: Caps) -> str:
    """Returns what a person signs when she sets caps: the account and every cap, in words."""
    epsilon, delta = (("none" if cap is None else format(cap, "f")) for cap in (caps.epsilon, caps.delta))
    permits = f" permit {','.join(caps.permits)}" if caps.permits else ""
    return f"{account} queries {caps.queries} answers {caps.answers} epsilon {epsilon} delta {delta}{permits}"


def _require_known(tables: Tables, account: str) -> None:
    if account in tables.ledger.accounts():
        return
    kind, _, label = account.partition("/")
    if kind == "dataset":
        _require_own(tables, account)
        if label not in tables.datasets.populations().values():
            tables.datasets.get(label)
    else:
        name, _, version = label.rpartition("/")[2].partition("@")
        tables.models.get(ModelRef(name, version))


def _require_own(tables: Tables, account: str) -> None:
    """Refuses the name of a data set of another population: such an account would look as if nothing had been spent of it."""
    kind, _, name = account.partition("/")
    populations = tables.datasets.populations()
    is_kept = account in tables.ledger.accounts() or name in populations.values()
    if kind == "dataset" and name in populations and not is_kept:
        what = f"{name} is of the population {populations[name]} and has no account of its own"
        raise ConfideError(ErrorCode.UNKNOWN_DATASET, what, remedy=f"Name {dataset_account(populations[name])}.")


def _state(tables: Tables, known: Budgets, account: str) -> AccountState:
    caps, own = caps_in_force(tables, known, account), tables.ledger.find_caps(account)
    entries = tables.ledger.of_account(account)
    settled = {entry.job_id for entry in entries if entry.step is not Step.RESERVE}
    return AccountState(
        account=account,
        spent=spent(entries),
        with_noise=spent_with_noise(entries),
        counted=spent_under(entries, caps),
        reserved=spent([entry for entry in entries if entry.job_id not in settled]),
        caps=caps,
        set_by=own,
        datasets=datasets_by_account(tables).get(account, ()),
    )
