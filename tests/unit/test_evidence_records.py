"""A bundle against the records of today: another accountant ends a release only if it gives more than people relied on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import ReasonCode, Verdict
from parties import harness
from parties.storage.database import one_transaction
from privacy.accounting import accountant
from privacy.accounting.accountant import Guarantee
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.evidence import STATEMENT, Case
from tests.support.evidence_holder import PARTIES, Holder, a_holder, reasons
from tests.support.jobs import CREATED
from tests.support.members import a_world
from tests.support.private_training import private_sgd
from tests.support.private_training import terms as private_terms

UPGRADE = "dp-accounting 9.9: PLD, compared with RDP"


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(a_world())


@pytest.fixture
def holder(tmp_path: Path, consortium: Path) -> Iterator[Holder]:
    yield a_holder(shutil.copytree(consortium, tmp_path / "consortium"))
    accountant._guarantee.cache_clear()


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"accountant": UPGRADE},
        {"accountant": UPGRADE, "accounted_epsilon": "1.89", "tpr_at_1_percent": "0.049", "advantage": "0.39"},
        {"accountant": UPGRADE, "rdp_epsilon": "2.2", "distance": "1.000e-12"},
    ],
    ids=["same figures", "less", "the second accountant"],
)
def test_accountant_that_gives_no_more_than_the_bundle_says_ends_nothing(case: Case, changes: dict[str, str]) -> None:
    bundle = case.bundle()
    records = case.bundle(statement=changes).trainings
    assert case.decide(bundle, records=records).verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["accounted_epsilon", "tpr_at_1_percent", "tpr_at_0_1_percent", "advantage"])
def test_accountant_that_gives_more_blocks_and_says_what(case: Case, name: str) -> None:
    more = format(Decimal(getattr(STATEMENT, name)) + Decimal("0.0001"), "f")
    found = case.decide(case.bundle(), records=case.bundle(statement={"accountant": UPGRADE, name: more}).trainings)
    assert [(reason.code, reason.verdict) for reason in found.reasons] == [(ReasonCode.ACCOUNTED_MORE, Verdict.BLOCKED)]
    assert f"is {more} by {UPGRADE}; the bundle says {getattr(STATEMENT, name)}" in found.reasons[0].what


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": "1.95"},
        {"delta": "0.0000001"},
        {"mechanism": "noisy_sums"},
        {"unit": "person_everywhere"},
        {"noise_multiplier": "13.0"},
        {"colluders": 0},
        {"steps": 59},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_claim_is_another_fact_even_if_it_says_less(case: Case, changes: dict[str, Any]) -> None:
    found = case.decide(case.bundle(), records=case.bundle(statement=changes).trainings)
    assert [reason.code for reason in found.reasons] == [ReasonCode.FACTS_DIFFER]


def test_other_jobs_or_data_sets_are_other_facts(case: Case) -> None:
    bundle = case.bundle()
    for records in ((), (replace(bundle.trainings[0], datasets=("hospital-a/hearts/2",)),), bundle.trainings * 2):
        assert [reason.code for reason in case.decide(bundle, records=records).reasons] == [ReasonCode.FACTS_DIFFER]


def upgraded(monkeypatch: pytest.MonkeyPatch, change: Callable[[Guarantee], Guarantee]) -> None:
    """From now on another version of the accountant is installed."""
    compute = accountant.guarantee
    monkeypatch.setattr(accountant, "ACCOUNTANT", UPGRADE)
    monkeypatch.setattr(accountant, "guarantee", lambda *asked, **named: change(compute(*asked, **named)))


def test_upgrade_at_a_holder_ends_a_release_only_if_epsilon_rises(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = private_terms(300, noise_multiplier="40", epsilon="2", delta="0.0001")
    ref = holder.keep("5a", training=private_sgd(10, "0.5", privacy=terms))
    with one_transaction(holder.config.folder.database_file) as tables:
        job = tables.models.get(ref).job_id
        tables.audit.append(EntryKind.NOISE_TESTED, {"job": job, "result": "passed"}, now=CREATED)
    holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.005), person="steward")
    assert holder.run("model", "evidence", "approve", ref.label, person="officer")["verdict"] == "pass"

    with monkeypatch.context() as patch:
        upgraded(patch, lambda found: replace(found, epsilon=found.epsilon - Decimal("0.01")))
        assert holder.run("model", "evidence", "show", ref.label)["verdict"] == "pass"
    with monkeypatch.context() as patch:
        upgraded(patch, lambda found: replace(found, epsilon=found.epsilon + Decimal("0.0001")))
        said = holder.run("model", "evidence", "show", ref.label)
        assert (said["verdict"], reasons(said)) == ("blocked", ["accountant-gives-more"])
    with monkeypatch.context() as patch:  # more than the training claims: nothing can be stated of it any more
        upgraded(patch, lambda found: replace(found, epsilon=Decimal("2.0001")))
        said = holder.run("model", "evidence", "show", ref.label)
        assert (said["verdict"], reasons(said)) == ("blocked", ["accountant-gives-more"])
        assert "2 is claimed; the accountant gives 2.0001" in said["reasons"][0]["what"]


def test_later_versions_are_compared_with_what_people_decided_on_though_a_job_released_one_between(holder: Holder) -> None:
    refs = [holder.keep(nonce) for nonce in ("1a", "2b")]
    for ref in refs:
        holder.run("model", "evidence", "make", ref.label, *holder.reports(ref, 0.01), person="steward")
    with one_transaction(holder.config.folder.database_file) as tables:
        bundles = [tables.evidence.latest(ref).digest for ref in refs]
        for digest in bundles:  # as a release of weights does that passes by itself
            tables.evidence.mark_released(digest, now=CREATED)
        decided = tables.evidence.last_decided(refs[0].name)
    # The first of the model is what there is; one by one, each version's would let a risk rise in steps within chance.
    assert decided is not None
    assert decided.digest == bundles[0]


@pytest.mark.parametrize(
    "whole", [{"whole_epsilon": "a lot"}, {"whole_delta": ""}, {"whole_epsilon": "1.9"}, {"whole_delta": "0"}]
)
def test_what_is_spent_with_preparations_is_a_decimal_and_no_less_than_the_training(case: Case, whole: dict[str, str]) -> None:
    document = parse_canonical(case.bundle().to_bytes())
    document["trainings"][0]["guarantee"] |= whole
    with pytest.raises(ConfideError) as caught:
        EvidenceBundle.from_bytes(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert any(next(iter(whole)) in problem.where for problem in caught.value.problems)
