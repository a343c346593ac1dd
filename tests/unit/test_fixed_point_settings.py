"""The fixed-point settings stand in every plan, and a plan of other settings is another plan."""

from dataclasses import replace
from typing import Any

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import FIXED_POINT, FixedPoint
from protocols.mpc.planning import derive_plan
from protocols.plan.plan import Plan
from tests.support.jobs import a_training

PLAN = derive_plan(a_training())


def test_plan_states_the_settings_that_this_version_computes_with() -> None:
    assert PLAN.numbers == FIXED_POINT
    assert PLAN.to_document()["numbers"] == {
        "value_bits": 16,
        "parameter_bits": 24,
        "value_limit_bits": 20,
        "parameter_limit_bits": 10,
        "update_limit_bits": 7,
        "gradient_limit_bits": 5,
    }


@pytest.mark.parametrize("name", FIXED_POINT.to_document())
def test_plan_of_other_settings_has_another_digest_and_is_read_back(name: str) -> None:
    other = replace(PLAN, numbers=replace(FIXED_POINT, **{name: 9}))
    assert other.digest != PLAN.digest
    assert Plan.from_document(other.to_document()) == other


@pytest.mark.parametrize("broken", [None, [], {}, {"value_bits": 16}, 64, -1, True, "16", 16.0])
def test_settings_that_are_none_are_refused(broken: Any) -> None:
    settings = broken if not isinstance(broken, int | str | float) else {**FIXED_POINT.to_document(), "value_bits": broken}
    with pytest.raises(ValueError, match="fixed-point settings"):
        FixedPoint.from_document(settings)
    with pytest.raises(ConfideError) as caught:
        Plan.from_document({**PLAN.to_document(), "numbers": settings})
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
