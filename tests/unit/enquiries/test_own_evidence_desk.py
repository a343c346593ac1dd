"""A model of an institution's own answers enquiries for as long as the gate on evidence passes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from governance.evidence.bundle import EvidenceBundle, sign_evidence
from governance.evidence.own import OwnModel, own_ref
from governance.policy.release import ReleaseTerms
from governance.risk_report import StatedRisk, sign_risk_report
from parties.server.workers import Template
from parties.storage.evidence import EvidenceRecord
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.errors import ErrorCode
from tests.support.consent import NOW
from tests.support.enquiry_world import OWNER, EnquiryWorld
from tests.support.evidence import CLASS
from tests.support.refusals import refusal

ROWS = f"{OWNER}/hearts/1"
FIGURE = "membership.lira.auc"
TERMS = ReleaseTerms(
    {
        "open": replace(
            CLASS,
            requires_guarantee=False,
            max_figures={FIGURE: CLASS.max_figures["group.accuracy_gap"]},
            approvals=None,
            min_figures={},
        )
    },
    "open",
)

pytestmark = pytest.mark.outside_world  # starts evaluators


@pytest.fixture
def world(tmp_path: Path, template: Template) -> Iterator[EnquiryWorld]:
    world = EnquiryWorld(tmp_path / "party", template, origin=None)
    world.permit()
    yield world
    world.close()


def attacked(world: EnquiryWorld, value: float) -> None:
    """Keeps evidence of an attack that found so much."""
    keys, ref = world.consent.keys[OWNER].signing, own_ref(world.model.name, world.model.commitment)
    found = RiskReport({FIGURE: Figure(value, value, value)}, 400, 400, 64, (7,), ATTACKED_IN_THE_CLEAR)
    report = sign_risk_report(StatedRisk("cardio", OWNER, ref, NOW, (ROWS,), found), keys)
    bundle = EvidenceBundle(
        consortium="cardio",
        issuer=OWNER,
        ref=ref,
        time=NOW,
        previous=None,
        trainings=(),
        architecture="a1" * 32,
        parameters=31,
        preparations={},
        risk_reports=(report,),
        utility=(),
        own=OwnModel(world.model.commitment, (ROWS,), (), {}, {}),
    )
    with world.party.database.transaction() as tables:
        tables.own_evidence.add(EvidenceRecord(bundle.digest, ref, sign_evidence(bundle, keys), NOW))


def test_model_published_before_there_was_a_policy_answers_once_there_is_evidence_and_until_it_is_old(
    world: EnquiryWorld,
) -> None:
    asker = world.asker()
    enquiry_id, query = world.open(asker), asker.query(world.rows())
    world.ask(enquiry_id, query)
    world.policy.release = TERMS
    world.at(NOW + timedelta(seconds=2))
    refused = refusal(lambda: world.ask(enquiry_id, query))
    assert refused.code is ErrorCode.EVIDENCE_MISSING
    assert "owner-without-risk-report" in str(refused)
    world.desk.look_after()
    assert world.desk.standing(enquiry_id, "alice").reason == "evidence-missing"
    attacked(world, 0.05)
    again = world.open(asker)
    world.ask(again, query)
    world.at(NOW + timedelta(days=31))
    old = refusal(lambda: world.open(asker, created=NOW + timedelta(days=31), expires=NOW + timedelta(days=31, minutes=30)))
    assert "assessment-too-old" in str(old)


def test_figure_over_a_limit_is_not_told_to_whoever_asks(world: EnquiryWorld) -> None:
    world.policy.release = TERMS
    attacked(world, 0.61)
    refused = str(refusal(lambda: world.open(world.asker())))
    assert "figure-over-the-limit" in refused
    assert "0.61" not in refused
