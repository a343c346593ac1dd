"""The standing assessment as a document: one form, every fault at once, and the day on which the next one is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from governance.documents import DocumentKind, sign_bytes
from governance.evidence.standing import MAX_DAYS, StandingAssessment, due_at, sign_order, verify_order
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import NOW, World, a_world
from tests.support.orders import an_order


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


def test_order_is_read_back_as_it_was_signed(world: World) -> None:
    for order in (an_order(), an_order(thresholds=())):
        assert StandingAssessment.from_bytes(order.to_bytes()) == order
        assert verify_order(sign_order(order, world.hospital_a.signing), world.directory) == order


def test_order_of_another_party_and_of_another_consortium_is_not_believed(world: World) -> None:
    signed = sign_order(an_order(), world.hospital_a.signing)
    with pytest.raises(ConfideError) as refused:
        verify_order(replace(signed, signer="hospital-b"), world.directory)
    assert refused.value.code is ErrorCode.BAD_SIGNATURE
    as_b = sign_bytes(signed.body, kind=DocumentKind.STANDING_ASSESSMENT, signer="hospital-b", key=world.hospital_b.signing)
    with pytest.raises(ConfideError) as refused:
        verify_order(as_b, world.directory)
    assert refused.value.code is ErrorCode.BAD_SIGNATURE
    with pytest.raises(ConfideError) as refused:
        verify_order(sign_order(an_order(consortium="another"), world.hospital_a.signing), world.directory)
    assert refused.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"datasets": ("hospital-a/hearts", "hospital-a/hearts")}, "datasets"),
        ({"datasets": ("hospital-a/hearts", "hearts"), "members": ("hospital-a/hearts",)}, "datasets"),
        ({"members": ()}, "members"),
        ({"members": ("hospital-a/hearts", "hospital-a/others")}, "members"),
        ({"members": ("hospital-b/hearts",)}, "members"),
        ({"attack": "guessing"}, "attack"),
        ({"thresholds": ("1", "0")}, "thresholds"),
        ({"shadows": 4}, "shadows"),
        ({"shadows": 100_000}, "shadows"),
        ({"min_cell": 1}, "min_cell"),
        ({"every_days": 0}, "every_days"),
        ({"every_days": MAX_DAYS + 1}, "every_days"),
        ({"max_runs": 0}, "max_runs"),
        ({"max_runs": 1_001}, "max_runs"),
        ({"expires_in_minutes": 7 * 24 * 60 + 1}, "expires_in_minutes"),
        ({"until": NOW}, "until"),
        ({"until": NOW + timedelta(days=MAX_DAYS, seconds=1)}, "until"),
        ({"agreement": "harness"}, "agreement"),
        ({"computing_parties": ("hospital-a",)}, "computing_parties"),
        ({"querier": "Alice"}, "querier"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_order_that_no_job_could_follow_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfideError) as refused:
        StandingAssessment.from_bytes(an_order(**changes).to_bytes())
    assert refused.value.code is ErrorCode.INVALID_DOCUMENT
    assert where in {problem.where for problem in refused.value.problems}


def test_unknown_field_and_another_form_are_refused() -> None:
    document = an_order().to_document()
    for changed in (document | {"by": "force"}, document | {"format": "confide.standing-assessment/1"}):
        with pytest.raises(ConfideError) as refused:
            StandingAssessment.from_bytes(canonical_bytes(changed))
        assert refused.value.code is ErrorCode.INVALID_DOCUMENT


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("last", "every", "age", "due"),
    [
        (None, 30, 30, NOW),  # never assessed: at once
        (NOW, 10, 30, NOW + 10 * DAY),
        (NOW, 30, 30, NOW + 20 * DAY),  # two thirds of the age that the policy takes
        (NOW, 30, 90, NOW + 30 * DAY),
        (NOW, 30, None, NOW + 30 * DAY),
        (NOW - 40 * DAY, 30, 30, NOW - 20 * DAY),  # long ago: once, not once for each day that was missed
    ],
)
def test_next_assessment_is_due_by_the_order_or_before_the_policy_needs_it(
    last: datetime | None, every: int, age: int | None, due: datetime
) -> None:
    assert due_at(an_order(every_days=every), last=last, max_age_days=age) == due
