"""The assessment of a model by one owner: a model that knows its rows by heart and one that does not differ in every figure."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest

from privacy.figures import Figure
from privacy.risk.assess import Canaries, Plan, assess_model
from privacy.risk.canaries import draw_canaries
from privacy.risk.rates import figures_of_scores
from privacy.risk.report import MEASURED, RiskReport
from privacy.risk.rmia import log_ratios, pairwise_scores
from privacy.risk.shadow_numbers import OTHER_HIDDEN, log_probabilities, schedule_for, shadow_numbers
from privacy.risk.shadows import Schedule, ShadowRows, train_shadows, train_shadows_on
from privacy.risk.target import AttackedRows
from protocols.attack_numbers import LIRA, RMIA, limits_of
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Assessment
from protocols.model.layers import Linear, Relu, Sigmoid
from protocols.model.spec import ModelSpec

COLUMNS, MEMBERS, CLASSES, SENSITIVE = 9, 800, 2, 8
BAD = Schedule(hidden=128, steps=2000)
GOOD = Schedule(hidden=0, steps=300, weight_decay=2e-2)
SHADOWS = 32  # half of the usual ones
WHOLE_ASSESSMENT_S = 30.0  # two cores for thirty seconds, halved


def some_rows() -> AttackedRows:
    """Numbers and one column of two values, all independent; three labels in ten are flipped."""
    drawn = np.random.default_rng(5)
    features = drawn.uniform(-1, 1, (2 * MEMBERS, COLUMNS))
    features[:, SENSITIVE] = np.sign(features[:, SENSITIVE])
    labels = (features @ drawn.normal(size=COLUMNS) > 0) ^ (drawn.random(2 * MEMBERS) < 0.3)
    found = labels.astype(np.int64)
    return AttackedRows(ShadowRows(features[:MEMBERS], found[:MEMBERS]), ShadowRows(features[MEMBERS:], found[MEMBERS:]))


@cache
def assessed(schedule: Schedule) -> tuple[RiskReport, float]:
    """The report on a model that was trained so on the members and 120 canaries, and the processor time that it took."""
    rows, drawn = some_rows(), np.random.default_rng(6)
    planted, references = (draw_canaries(count, features=COLUMNS, classes=CLASSES, generator=drawn) for count in (120, 1000))
    both = ShadowRows(
        np.concatenate([rows.members.features, planted.features]), np.concatenate([rows.members.labels, planted.labels])
    )
    model = train_shadows([both], classes=CLASSES, schedule=schedule, seed=3)
    like_it = Schedule(schedule.hidden, 700, weight_decay=schedule.weight_decay)
    plan = Plan(CLASSES, like_it, SENSITIVE, (0, 1, 2, 3), shadows=SHADOWS, seed=1)
    began = time.process_time()
    report = assess_model(lambda asked: model.logits(asked)[0], rows, plan, canaries=Canaries(planted, references))
    return report, time.process_time() - began


@pytest.mark.parametrize(
    "name",
    [
        "membership.lira.auc",
        "membership.lira.tpr_at_1_percent",
        "membership.lira.tpr_at_0_1_percent",
        "membership.rmia.auc",
        "membership.rmia.tpr_at_1_percent",
        "membership.rmia.tpr_at_0_1_percent",
        "attribute_inference.gain",
        "reconstruction.gain",
        "canaries.exposed",
        "canaries.exposure",
        "capacity.gap",
        "capacity.excess",
    ],
)
def test_model_that_knows_its_rows_by_heart_is_told_by_every_figure(name: str) -> None:
    bad, good = (assessed(schedule)[0].figures[name] for schedule in (BAD, GOOD))
    assert bad.value > good.value
    if "tpr" not in name:  # whose intervals hold the doubt about the threshold too
        assert bad.low > good.value
        assert bad.value > good.high


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("membership.lira.auc", 0.5),
        ("membership.lira.tpr_at_1_percent", 0.01),
        ("membership.rmia.tpr_at_1_percent", 0.01),
        ("reconstruction.gain", 0.0),
        ("canaries.exposed", 0.1),
    ],
)
def test_figures_of_a_model_without_secrets_are_those_of_guessing(name: str, chance: float) -> None:
    found = assessed(GOOD)[0].figures[name]
    assert found.low <= chance <= found.high


def test_assessment_takes_no_more_than_thirty_seconds_of_two_cores() -> None:
    assert assessed(BAD)[1] < WHOLE_ASSESSMENT_S


def test_names_of_figures_are_those_that_people_know() -> None:
    assert {name for name in assessed(GOOD)[0].figures if not name.startswith("table.")} == {
        name for name in MEASURED if not name.startswith("table.")
    }


def test_report_says_what_it_was_made_of_and_is_the_same_again() -> None:
    report = assessed(GOOD)[0]
    assert (report.members, report.others, report.shadows, report.seeds) == (MEMBERS, MEMBERS, SHADOWS, (1,))
    again = assessed.__wrapped__(GOOD)[0]
    assert {n: f.to_document() for n, f in again.figures.items()} == {n: f.to_document() for n, f in report.figures.items()}


def test_thresholds_on_pairwise_scores_find_whom_thresholds_on_ratios_find() -> None:
    drawn = np.random.default_rng(7)
    members = np.arange(400) < 200
    ratios = log_ratios(drawn.normal(members, 1.0), drawn.normal(0, 1, (16, 400)))
    others = np.concatenate([ratios[~members], drawn.normal(0, 2, 10_000)])
    pairwise = pairwise_scores(ratios, others)
    # Sorted by one, sorted by the other: equal but for ties of the shares.
    assert (np.diff(pairwise[np.argsort(ratios)]) >= 0).all()
    first, second = (figures_of_scores(scores, members, prefix="m")["m.auc"] for scores in (ratios, pairwise))
    # A tie of a member and another is of shares 1 / 10,200 apart at most: few pairs of 40,000 tie.
    assert abs(first.value - second.value) < 0.01


def test_logarithm_of_a_probability_keeps_its_digits() -> None:
    logits = np.array([[[0.0, 800.0], [3.0, 3.0]]])
    np.testing.assert_allclose(log_probabilities(logits, np.array([0, 1])), [[-800.0, -np.log(2)]], rtol=1e-12)


def test_shadows_of_chosen_rows_are_those_of_the_rows_themselves() -> None:
    rows = some_rows().members
    inside = np.random.default_rng(1).random((4, MEMBERS)) < 0.5
    schedule = Schedule(hidden=4, steps=20)
    apart = [ShadowRows(rows.features[own], rows.labels[own]) for own in inside]
    expected = train_shadows(apart, classes=2, schedule=schedule, seed=9).logits(rows.features[:10])
    found = train_shadows_on(rows, inside, classes=2, schedule=schedule, seed=9).logits(rows.features[:10])
    np.testing.assert_array_equal(found, expected)


def test_one_affine_map_learns_what_logistic_regression_learns() -> None:
    rows = some_rows().members
    model = train_shadows([rows], classes=2, schedule=Schedule(hidden=0, steps=500, learning_rate=0.05), seed=1)
    right = (model.logits(rows.features)[0].argmax(axis=1) == rows.labels).mean()
    # Seven labels in ten follow the plane; of 800 rows the share is within 3 deviations, 0.05, of that.
    assert right > 0.65


@pytest.mark.parametrize("attack", [LIRA, RMIA])
def test_numbers_of_an_owner_are_within_their_limits(attack: str) -> None:
    rows = some_rows().members
    assessment = Assessment((0,), ("0",), attack, 8)
    model = ModelSpec.chain(COLUMNS, first=Linear(32), between=Relu(), second=Linear(1), last=Sigmoid())
    numbers = shadow_numbers(rows.features, rows.labels, model=model, assessment=assessment, seed=4)
    assert numbers.shape == (MEMBERS, 2 if attack == LIRA else 1)
    assert (np.abs(numbers) < limits_of(assessment)).all()


def test_shadows_are_like_the_model_that_they_stand_for() -> None:
    assert schedule_for(ModelSpec.chain(4, linear=Linear(1), last=Sigmoid())).hidden == 0
    assert schedule_for(ModelSpec.chain(4, first=Linear(24), between=Relu(), second=Linear(3))).hidden == 24
    deeper = ModelSpec.chain(4, first=Linear(8), a=Relu(), second=Linear(8), b=Relu(), third=Linear(3))
    assert schedule_for(deeper).hidden == 8
    assert OTHER_HIDDEN == 64


def test_too_few_rows_of_others_are_refused() -> None:
    rows = some_rows()
    few = AttackedRows(rows.members, ShadowRows(rows.others.features[:5], rows.others.labels[:5]))
    with pytest.raises(ConfideError) as refused:
        assess_model(lambda asked: np.zeros((len(asked), 2)), few, Plan(2, GOOD, SENSITIVE, (0,), shadows=4))
    assert refused.value.code is ErrorCode.INVALID_DATA


def test_figures_hold_their_values_within_their_intervals() -> None:
    for found in assessed(BAD)[0].figures.values():
        assert isinstance(found, Figure)
        assert found.low <= found.value <= found.high
