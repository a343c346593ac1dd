"""What a worker says of an owner's canaries, and what of it the party takes into its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.canary_audit import CanaryAudit, read_canary_audit, sign_canary_audit
from governance.documents import DocumentKind, SignedDocument, verify
from governance.identity.keys import generate_signing_key
from parties.model_registry import Holder
from parties.server.canary_audits import note_canary_audit
from parties.storage.database import Tables
from parties.told_audits import told_audits
from parties.worker.canary_audit import MIN_CANARIES, canary_audit
from privacy.audit.one_run import epsilon_lower_bound
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.noisy_sums_contribution import CanaryScores
from tests.support.databases import a_database
from tests.support.noisy_sums import a_noisy_sums_job

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = generate_signing_key()
JOB = a_noisy_sums_job({"alpha": 30, "beta": 10}, canaries=400)


def found(count: int, *, gap: float) -> CanaryScores:
    """Scores of canaries, with a distance between those that are in and those that are not."""
    generator = np.random.default_rng(4)
    included = generator.integers(0, 2, count).astype(np.bool_)
    return CanaryScores(generator.normal(0, 1, count) + gap * included, included)


def test_bound_is_that_of_the_one_run_audit_and_nothing_else_is_said() -> None:
    scores = found(400, gap=10.0)
    said = canary_audit(JOB, scores)
    wanted = epsilon_lower_bound(scores.scores, scores.included, delta=1e-7)
    assert said is not None
    assert set(said) == {"epsilon", "confidence", "canaries", "guesses", "correct"}
    assert said["epsilon"] == f"{wanted.epsilon:.4f}"
    assert wanted.epsilon > 2
    assert (said["canaries"], said["correct"]) == (400, wanted.correct)


def test_scores_without_any_difference_show_nothing() -> None:
    said = canary_audit(JOB, found(400, gap=0.0))
    assert said is not None
    assert said["epsilon"] == "0.0000"


@pytest.mark.parametrize("few", [None, found(MIN_CANARIES - 1, gap=9.0)])
def test_no_or_too_few_canaries_make_no_audit(few: CanaryScores | None) -> None:
    assert canary_audit(JOB, few) is None


def logged(folder: Path, document: Any) -> list[dict[str, Any]]:
    database = a_database(folder / "party.sqlite")
    try:
        with database.transaction() as tables:
            note_canary_audit(tables, Holder("alpha", "cardio", KEY), JOB, document, now=NOW)
        with database.transaction() as tables:
            entries = [read_entry(entry.body) for entry in tables.audit.naming({JOB.job_id})]
        return [dict(entry.facts) for entry in entries if entry.kind is EntryKind.CANARIES_SCORED]
    finally:
        database.close()


def test_bound_stands_in_the_log_of_its_owner(tmp_path: Path) -> None:
    said = canary_audit(JOB, found(400, gap=10.0))
    assert said is not None
    assert logged(tmp_path, said) == [{"job": JOB.job_id, **said}]


def test_bound_is_signed_and_told_to_the_other_parties(tmp_path: Path) -> None:
    said = canary_audit(JOB, found(400, gap=10.0))
    assert said is not None
    database = a_database(tmp_path / "party.sqlite")
    try:
        with database.transaction() as tables:
            note_canary_audit(tables, Holder("alpha", "cardio", KEY), JOB, said, now=NOW)
        with database.transaction() as tables:
            (record,) = tables.statements.after(0, party="alpha", limit=9)
    finally:
        database.close()
    document = verify(record.document, kind=DocumentKind.CANARY_AUDIT, signer="alpha", key=KEY.public)
    bound = {name: said[name] for name in ("epsilon", "confidence", "canaries")}
    assert document == {"format": "confide.canary-audit/1", "consortium": "cardio", "owner": "alpha", "job": JOB.job_id} | bound


def an_audit(owner: str, epsilon: str = "0.5", **changes: Any) -> SignedDocument:
    return sign_canary_audit(replace(CanaryAudit("cardio", owner, JOB.job_id, epsilon, "0.999", 200), **changes), KEY)


def known(folder: Path, party: str, told: Callable[[Tables], None]) -> list[tuple[str, str]]:
    """Owners and bounds that a party knows of, after it was told something."""
    database = a_database(folder / "party.sqlite")
    try:
        with database.transaction() as tables:
            told(tables)
            audits = [read_canary_audit(signed.document) for signed in told_audits(tables, JOB, party=party)]
        return [(audit.owner, audit.epsilon) for audit in audits]
    finally:
        database.close()


def test_party_knows_its_own_audit_and_those_that_owners_told(tmp_path: Path) -> None:
    def told(tables: Tables) -> None:
        tables.statements.hear(an_audit("beta", "0.5"), now=NOW)
        tables.statements.hear(an_audit("beta", "9", job="77" * 16), now=NOW)  # of another training
        tables.statements.hear(an_audit("gamma", "9"), now=NOW)  # has no rows in it
        tables.statements.hear(an_audit("beta", "9", canaries=199), now=NOW)  # of other canaries than the job's
        tables.statements.hear(an_audit("beta", "9", confidence="0.99"), now=NOW)
        tables.statements.say(an_audit("alpha", "0.25"), now=NOW)

    assert known(tmp_path, "alpha", told) == [("alpha", "0.25"), ("beta", "0.5")]


@pytest.mark.parametrize("bounds", [("0.5", "10", "9"), ("10", "9", "0.5")])
def test_worst_that_an_owner_told_counts_whatever_it_told_after(tmp_path: Path, bounds: tuple[str, ...]) -> None:
    def told(tables: Tables) -> None:
        for epsilon in bounds:
            tables.statements.hear(an_audit("beta", epsilon), now=NOW)

    assert known(tmp_path, "gamma", told) == [("beta", "10")]


@pytest.mark.parametrize(
    "change",
    [{"epsilon": "-1"}, {"epsilon": "65"}, {"confidence": "1.5"}, {"canaries": 7}, {"canaries": 10_001}, {"job": "short"}],
)
def test_audit_that_says_what_no_audit_can_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfideError) as caught:
        read_canary_audit(an_audit("beta", **change).document)
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_training_without_canaries_leaves_no_entry(tmp_path: Path) -> None:
    assert logged(tmp_path, None) == []


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": "-1"},
        {"epsilon": 1.5},
        {"confidence": "2"},
        {"canaries": -1},
        {"canaries": 7},
        {"guesses": "8"},
        {"correct": True},
    ],
)
def test_something_else_than_a_bound_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    said = {"epsilon": "0.5", "confidence": "0.999", "canaries": 20, "guesses": 10, "correct": 7}
    with pytest.raises(ConfideError) as caught:
        logged(tmp_path, said | change)
    assert caught.value.code is ErrorCode.INTERNAL
    with pytest.raises(ConfideError):
        logged(tmp_path, {name: value for name, value in said.items() if name not in change})
