"""`confide budget` on a party's own database: what it shows, who may set caps, and what stands in the log then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from governance.audit.entries import EntryKind, read_entry
from governance.budget.amounts import Amount
from governance.people.roles import PersonRole
from governance.policy.budgets import Caps
from governance.policy.rules import Kind
from parties.cli.main import app
from parties.config import load_party_config, write_party_config
from parties.people import make_person
from parties.policy_file import write_policy
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.files import make_folder
from parties.storage.jobs import JobRecord
from privacy.accounting.composition import Composition
from privacy.accounting.normal_bound import UNIT_OF_ROWS, normal_bound

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT, JOB = "dataset/patients", "ab" * 16
CHARGE = {ACCOUNT: Amount(None, Decimal(0), 1, 4)}


@dataclass
class Desk:
    """A party's configuration with two people, and its commands."""

    config: Path
    people: Path
    run: Callable[..., Result]

    def budget(self, *arguments: str) -> Result:
        return self.run("budget", *arguments, "--config", str(self.config), "--format", "json")

    def data(self, *arguments: str) -> dict[str, Any]:
        result = self.budget(*arguments)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout)["data"])

    def set(self, person: str, *more: str) -> Result:
        return self.budget("set", ACCOUNT, "--queries", "1", "--answers", "10", "--person", str(self.people / person), *more)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    people = tmp_path / "people"
    make_folder(people)
    known = [
        make_person(people / "nora", "nora", [PersonRole.PRIVACY_OFFICER]),
        make_person(people / "otto", "otto", [PersonRole.OPERATOR]),
    ]
    write_party_config(tmp_path / "party.yaml", party="hospital-a", listen="localhost:1")
    config = load_party_config(tmp_path / "party.yaml")
    write_policy(config.policy, people=known, decision=Kind.AUTOMATIC)
    make_folder(config.state)
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        tables.jobs.add(JobRecord(JOB, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
        tables.ledger.reserve(JOB, CHARGE, {ACCOUNT: Caps()}, NOW, kind="evaluate")
    database.close()
    runner = CliRunner()
    return Desk(tmp_path / "party.yaml", people, lambda *arguments: runner.invoke(app, list(arguments)))


def test_budget_show_and_history_say_what_is_reserved_and_permitted(desk: Desk) -> None:
    (shown,) = desk.data("show")["budgets"]
    assert shown["account"] == ACCOUNT
    assert shown["spent"] == shown["reserved"] == {"epsilon": None, "delta": "0", "queries": 1, "answers": 4}
    assert (shown["caps"]["queries"], shown["caps"]["epsilon"], shown["authorisation"]) == (50, None, None)
    (entry,) = desk.data("history", ACCOUNT)["entries"]
    assert (entry["step"], entry["job"], entry["answers"]) == ("reserve", JOB, 4)
    assert shown["with_noise"] == {"epsilon": "0", "delta": "0", "queries": 0, "answers": 0}
    text = desk.run("budget", "show", ACCOUNT, "--config", str(desk.config)).stdout
    assert "1 of 50" in text
    assert "no bound of no cap" in text
    assert "the policy" in text


def test_budget_show_says_what_composes_and_all_versions_share_an_account(desk: Desk) -> None:
    bound = normal_bound(UNIT_OF_ROWS, squared=0.0625)
    part = Composition.of(bound, epsilon=Decimal(1), delta=Decimal("0.00001"))
    database = open_database(load_party_config(desk.config).folder.database_file)
    with database.transaction() as tables:
        tables.ledger.refund(JOB, NOW)  # what is open without noise has no epsilon
        for version in (1, 2):
            record = DatasetRecord(
                "patients", version, b"{}", 9, {}, "c" * 64, "", f"{version}.sealed", NOW, None, False, "patients"
            )
            tables.datasets.add(record)
        for job_id in ("c1" * 16, "c2" * 16):
            tables.jobs.add(JobRecord(job_id, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
            amount = Amount(Decimal(1), Decimal("0.00001"), 1, 0, (part,))
            tables.ledger.reserve(job_id, {ACCOUNT: amount}, {ACCOUNT: Caps(epsilon=Decimal(2))}, NOW, kind="evaluate")
    database.close()
    (shown,) = desk.data("show")["budgets"]
    assert (shown["account"], shown["spent"]["epsilon"], shown["spent"]["delta"]) == (ACCOUNT, "2", "0.00002")
    expected = f"{(part + part).epsilon:f}"
    unit = {"unit": UNIT_OF_ROWS, "charges": 2, "added": "2", "epsilon": expected, "at_delta": "0.00001"}
    assert shown["composed"] == {"epsilon": expected, "units": [unit]}
    text = desk.run("budget", "show", "--config", str(desk.config)).stdout
    assert f"{expected} (composed; added up 2)" in text
    assert UNIT_OF_ROWS in text


def test_budget_show_keeps_what_has_a_bound_beside_what_has_none_and_a_cap_that_is_none(desk: Desk) -> None:
    told = "consumer/alice/diagnosis@0123456789ab"
    database = open_database(load_party_config(desk.config).folder.database_file)
    with database.transaction() as tables:
        tables.jobs.add(JobRecord("c1" * 16, "alice", b"{}", bytes(64), None, "{}", "proposed", NOW, NOW))
        noisy = Amount(Decimal("1.5"), Decimal("0.00001"), 1, 0)
        tables.ledger.reserve("c1" * 16, {ACCOUNT: noisy, told: noisy}, {ACCOUNT: Caps(), told: Caps()}, NOW, kind="evaluate")
    database.close()
    consumer, shown = desk.data("show")["budgets"]
    assert shown["spent"]["epsilon"] is None
    assert shown["with_noise"] == {"epsilon": "1.5", "delta": "0.00001", "queries": 1, "answers": 0}
    assert consumer["account"] == told
    text = desk.run("budget", "show", "--config", str(desk.config)).stdout
    assert "no bound (with noise: 1.5) of no cap" in text
    assert "1 of no cap" in text
    assert "1000000000" not in text


def test_budget_set_by_a_privacy_officer_stands_above_the_policy_and_in_the_log(desk: Desk) -> None:
    result = desk.set("nora", "--epsilon", "0.5", "--delta", "0.000001")
    assert result.exit_code == 0, result.output
    (shown,) = desk.data("show")["budgets"]
    assert shown["caps"] == {"queries": 1, "answers": 10, "epsilon": "0.5", "delta": "0.000001", "permits": []}
    database = open_database(load_party_config(desk.config).folder.database_file)
    with database.transaction() as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, 9)]
        assert tables.ledger.shortfalls("cd" * 16, CHARGE, {ACCOUNT: Caps(queries=1)}, kind="evaluate") != ()
    database.close()
    assert [entry.kind for entry in entries] == [EntryKind.RESERVED, EntryKind.AUTHORISATION]
    assert entries[1].facts["person"] == "nora"
    assert entries[1].facts["subject"] == f"{ACCOUNT} queries 1 answers 10 epsilon 0.5 delta 0.000001"
    assert entries[1].facts["authorisation"] == shown["authorisation"]


def test_budget_set_permits_a_type_of_job_beside_a_cap_and_says_what_that_means(desk: Desk) -> None:
    result = desk.set("nora", "--epsilon", "3", "--permit", "evaluate", "--permit", "assess")
    assert result.exit_code == 0, result.output
    (shown,) = desk.data("show")["budgets"]
    assert shown["caps"]["permits"] == ["evaluate", "assess"]
    assert (shown["spent"]["epsilon"], shown["counted"]["epsilon"]) == (None, "0")  # what was spent is an evaluation
    text = " ".join(desk.run("budget", "show", "--config", str(desk.config)).stdout.split())
    assert "0 of 3; beside it evaluate, assess without noise: no formal guarantee" in text
    database = open_database(load_party_config(desk.config).folder.database_file)
    with database.transaction() as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, 9)]
    database.close()
    assert entries[1].facts["subject"] == f"{ACCOUNT} queries 1 answers 10 epsilon 3 delta none permit evaluate,assess"


def test_budget_shows_one_account_for_the_data_sets_of_one_population(desk: Desk) -> None:
    database = open_database(load_party_config(desk.config).folder.database_file)
    with database.transaction() as tables:
        for name in ("patients", "scans"):
            record = DatasetRecord(name, 1, b"{}", 9, {}, "c" * 64, "", f"{name}.sealed", NOW, None, False, "patients")
            tables.datasets.add(record)
    database.close()
    (shown,) = desk.data("show")["budgets"]
    assert (shown["account"], shown["datasets"]) == (ACCOUNT, ["patients", "scans"])
    limits = ("--queries", "0", "--answers", "0", "--person", str(desk.people / "nora"))
    error = json.loads(desk.budget("set", "dataset/scans", *limits).stdout)["error"]
    assert (error["code"], error["remedy"]) == ("UNKNOWN_DATASET", "Name dataset/patients.")
    for verb in ("show", "history"):  # it would look as if nothing had been spent
        error = json.loads(desk.budget(verb, "dataset/scans").stdout)["error"]
        assert (error["code"], error["remedy"]) == ("UNKNOWN_DATASET", "Name dataset/patients.")


def test_budget_set_by_an_operator_is_refused_and_changes_nothing(desk: Desk) -> None:
    result = desk.set("otto")
    assert result.exit_code != 0
    assert "NOT_AUTHORISED" in result.stdout
    (shown,) = desk.data("show")["budgets"]
    assert shown["caps"]["queries"] == 50


@pytest.mark.parametrize(
    "more",
    [
        ["--permit", "assess"],
        ["--epsilon", "1", "--permit", "guess"],
        ["--epsilon", "a lot"],
        ["--epsilon", "-1"],
        ["--delta", "0.1"],
        ["--epsilon", "1", "--delta", "1"],
    ],
)
def test_budget_set_caps_that_do_not_fit_are_refused(desk: Desk, more: list[str]) -> None:
    result = desk.set("nora", *more)
    assert result.exit_code == 2
    assert desk.data("show")["budgets"][0]["caps"]["queries"] == 50


@pytest.mark.parametrize("account", ["patients", "dataset/", "dataset/patients/1"])
def test_budget_of_no_account_is_refused(desk: Desk, account: str) -> None:
    assert desk.budget("show", account).exit_code == 2
    assert desk.budget("history", account).exit_code == 2


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ("dataset/patient", "UNKNOWN_DATASET"),
        ("model/m@0123456789ab", "UNKNOWN_MODEL"),
    ],
)
def test_budget_set_of_what_is_not_held_here_is_refused(desk: Desk, account: str, code: str) -> None:
    """A mistyped name would leave the account that was meant under its old caps, and say nothing."""
    limits = ("--queries", "0", "--answers", "0", "--person", str(desk.people / "nora"))
    assert json.loads(desk.budget("set", account, *limits).stdout)["error"]["code"] == code
    assert [shown["account"] for shown in desk.data("show")["budgets"]] == [ACCOUNT]
