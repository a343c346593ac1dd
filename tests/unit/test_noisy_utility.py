"""Figures of utility from counts with noise: near those of the rows, with intervals that hold them, and said to be noisy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from governance.budget.amounts import charges
from governance.consent.limits import OutputRule, check_output_rules
from parties.cli.job_words import describe_outputs, outputs_in_words
from parties.client.output_request import pooling_owners
from privacy.accounting.noisy_answers import DELTA, spent_in_words, spent_together
from privacy.figures import Figure
from privacy.utility.diagram import diagram_svg, diagram_text
from privacy.utility.groups import group_figures, noisy_group_figures
from privacy.utility.noisy import count_range, noisy_area, noisy_f1, noisy_mean, noisy_share
from privacy.utility.opened import Evaluation, figures_of
from privacy.utility.report import read_utility_report, utility_report
from protocols.job import Job, Output, OutputKind, check
from tests.support.jobs import a_dataset, an_evaluation
from tests.unit.test_utility import cells_of, diagram_of, some_rows, table_of

KIND = OutputKind
ROWS = 3_000
SIGMA = 15.0


def noisy_outputs(*kinds: OutputKind, min_cell: int = 1, noise: str = "10") -> tuple[Output, ...]:
    groups = {"group_by": "radius", "group_edges": ("-0.5",)}
    return tuple(
        Output(kind.value.replace("_", "-"), kind, "alice", min_cell, noise=noise, noise_colluders=1)
        if kind is not KIND.GROUP_CONFUSION
        else Output("groups", kind, "alice", min_cell, noise=noise, noise_colluders=1, **groups)  # type: ignore[arg-type]
        for kind in kinds
    )


def a_noisy_evaluation(*kinds: OutputKind, **limits: object) -> Job:
    job = an_evaluation(outputs=noisy_outputs(*kinds, **limits))  # type: ignore[arg-type]
    assert list(check(job)) == []
    return job


def measured(seed: int, rows: int = ROWS, *, sigma: float = 0.0) -> Evaluation:
    labels, probabilities, groups = some_rows(seed, rows)
    predicted = (probabilities >= 0.5).astype(int)
    tables = [table_of(labels, predicted), diagram_of(labels, probabilities), cells_of(labels, predicted, groups)]
    if sigma:
        generator = np.random.default_rng(seed + 10_000)
        tables = [table + generator.normal(0, sigma, table.shape) for table in tables]
    return Evaluation(rows, 1, confusion=tables[0], reliability=tables[1], groups=tables[2], deviation=sigma)


def all_figures(evaluation: Evaluation) -> dict[str, Figure]:
    assert evaluation.groups is not None
    if not evaluation.deviation:
        return figures_of(evaluation) | group_figures(evaluation.groups.astype(np.int64))
    groups = noisy_group_figures(evaluation.groups, deviation=evaluation.deviation, rows=evaluation.num_rows)
    return figures_of(evaluation) | groups


def test_intervals_of_noisy_counts_hold_the_truth_at_least_as_often_as_they_say() -> None:
    """The truth is that of a large sample. The intervals are conservative: 95 % of 200 are 190, less three deviations of 3.1."""
    truth = all_figures(measured(0, 2_000_000))
    held = dict.fromkeys(truth, 0)
    for seed in range(1, 201):
        found = all_figures(measured(seed, sigma=SIGMA))
        assert set(found) == set(truth)
        for name, figure in found.items():
            assert figure.low <= figure.value <= figure.high
            held[name] += figure.low <= truth[name].value <= figure.high
    assert min(held.values()) >= 190 - 9, held


def test_noise_widens_every_interval_and_next_to_none_leaves_it() -> None:
    plain, noisy = all_figures(measured(1)), all_figures(measured(1, sigma=SIGMA))
    still = all_figures(measured(1, sigma=1e-6))
    for name, figure in plain.items():
        assert noisy[name].high - noisy[name].low > figure.high - figure.low, name
        assert still[name].value == pytest.approx(figure.value, abs=1e-6), name


def test_macro_f1_has_the_variance_of_rows_and_noise_together() -> None:
    generator = np.random.default_rng(3)
    labels, predicted = generator.integers(0, 4, 5_000), generator.integers(0, 4, 5_000)
    predicted[:2_500] = labels[:2_500]
    table = table_of(labels, predicted, 4)
    plain = figures_of(Evaluation(5_000, 1, confusion=table))["f1"]
    alone = figures_of(Evaluation(5_000, 1, confusion=table, deviation=1e-9))["f1"]
    # The analytic slopes are those of the finite differences.
    assert (alone.low, alone.high) == (pytest.approx(plain.low, abs=1e-5), pytest.approx(plain.high, abs=1e-5))
    drawn = [
        figures_of(Evaluation(5_000, 1, confusion=table + generator.normal(0, 20, (4, 4)), deviation=20.0))["f1"]
        for _ in range(300)
    ]
    half = np.mean([figure.high - figure.low for figure in drawn]) / 2
    spread = np.std([figure.value for figure in drawn])  # of the noise alone; 300 draws tell it to 4 %
    assert math.sqrt(half**2 - (plain.high - plain.low) ** 2 / 4) / 1.96 == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(("rows", "deviation"), [(300, 5.0), (300, 28.0), (200, 14.0), (100, 28.0)])
def test_macro_f1_of_small_classes_is_held_as_often_as_its_interval_says(rows: int, deviation: float) -> None:
    """Noise near the size of a class is beyond the delta method. 95 % of 400 are 380, less three deviations of 4.4."""
    generator = np.random.default_rng(11)
    shares = np.array([[0.60, 0.02, 0.01], [0.03, 0.20, 0.02], [0.01, 0.01, 0.10]])
    truth = np.mean(2 * np.diag(shares) / (shares.sum(axis=0) + shares.sum(axis=1)))
    held = 0
    for _ in range(400):
        table = generator.multinomial(rows, shares.reshape(-1)).reshape(3, 3) + generator.normal(0, deviation, (3, 3))
        figure = noisy_f1(table, deviation=deviation, rows=rows)
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        held += figure.low <= truth <= figure.high
    assert held >= 380 - 13


EDGES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])


def histogram_of(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    ranges = np.digitize(probabilities, EDGES)
    return np.stack([np.bincount(ranges[labels == label], minlength=len(EDGES) + 1) for label in (0, 1)], axis=1).astype(float)


@pytest.mark.parametrize(("min_cell", "widest"), [(1, 0.35), (20, 0.45)])
def test_area_of_a_noisy_histogram_is_held_as_often_as_its_interval_says(min_cell: int, widest: float) -> None:
    """The truth is that of a large sample and of all orders. 95 % of 200 are 190, less three deviations of 3.1."""
    truth = roc_auc_score(*some_rows(0, 400_000)[:2])
    held, widths = 0, []
    for seed in range(1, 201):
        table = histogram_of(*some_rows(seed, ROWS)[:2]) + np.random.default_rng(seed).normal(0, SIGMA, (len(EDGES) + 1, 2))
        table[table < min_cell if min_cell > 1 else np.zeros_like(table, bool)] = np.nan
        figure = noisy_area(table, deviation=SIGMA, min_cell=min_cell)
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        held += figure.low <= truth <= figure.high
        widths.append(figure.high - figure.low)
    assert held >= 190 - 9
    assert np.mean(widths) < widest  # of 1, which would say nothing


def test_area_of_next_to_no_noise_is_that_of_the_ranges_and_of_too_few_rows_unknown() -> None:
    labels, probabilities, _ = some_rows(2, ROWS)
    figure = noisy_area(histogram_of(labels, probabilities), deviation=1e-9, min_cell=1)
    assert figure.value == pytest.approx(roc_auc_score(labels, np.digitize(probabilities, EDGES)), abs=1e-9)
    # The order within ranges is not known: the interval reaches to that of the rows themselves.
    assert figure.low < roc_auc_score(labels, probabilities) < figure.high
    few = noisy_area(histogram_of(labels[:40], probabilities[:40]), deviation=SIGMA, min_cell=1)
    assert (few.low, few.high) == (0.0, 1.0)


def test_noise_of_a_histogram_has_the_spread_that_its_interval_counts() -> None:
    labels, probabilities, _ = some_rows(3, ROWS)
    table = histogram_of(labels, probabilities)
    generator = np.random.default_rng(4)
    drawn = [noisy_area(table + generator.normal(0, SIGMA, table.shape), deviation=SIGMA, min_cell=1) for _ in range(400)]
    still = noisy_area(table, deviation=1e-9, min_cell=1)
    # At 97.5 % either way; both intervals have the part of the rows and of the order, to what noise changes of it.
    counted = (np.mean([each.high - each.low for each in drawn]) - (still.high - still.low)) / 2 / 2.2414
    # 400 draws tell a deviation to 1 / sqrt(800) = 3.5 %; the ends of the interval are cut at 1.
    assert counted == pytest.approx(np.std([each.value for each in drawn]), rel=0.25)


def test_noisy_mean_is_held_as_often_as_its_interval_says() -> None:
    generator, held, most = np.random.default_rng(5), 0, 3.0
    losses = np.minimum(generator.exponential(0.7, 200_000), most)
    for _ in range(200):
        mean = generator.choice(losses, 500).mean() + generator.normal(0, 0.1)
        figure = noisy_mean(mean, deviation=0.1, rows=500, most=most)
        held += figure.low <= losses.mean() <= figure.high
        assert 0 <= figure.low <= figure.value <= figure.high <= most
    assert held >= 190 - 9
    # A loss that few rows have, and next to no noise: the sample's own variance would be 0 in a third of the draws.
    few = [noisy_mean(each / 500, deviation=1e-4, rows=500, most=1.0) for each in generator.binomial(500, 0.002, 200)]
    assert sum(each.low <= 0.002 <= each.high for each in few) >= 190 - 9
    beyond = noisy_mean(-0.4, deviation=0.1, rows=500, most=most)
    assert (beyond.value, beyond.low) == (0.0, 0.0)


def test_counts_out_of_range_give_shares_within_theirs() -> None:
    assert count_range(-40.0, deviation=1.0, rows=100) == (0, 0)
    assert count_range(900.0, deviation=1.0, rows=100) == (100, 100)
    share = noisy_share([-5.0], [3.0], deviation=2.0, rows=100)
    assert (share.value, share.low) == (0.0, 0.0)
    nothing = noisy_share([-50.0], [-50.0], deviation=1.0, rows=100)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    table = np.full((10, 3), -4.0)
    table[3] = (50.2, 61.0, 70.0)
    assert "no rows" in diagram_text(table)
    assert "1.000 right, 1.000 predicted, 50 rows" in diagram_text(table)
    assert diagram_svg(table).count("<circle") == 1


def test_report_says_its_noise_and_a_drop_between_noisy_reports_is_wider() -> None:
    job = a_noisy_evaluation(KIND.CORRECT_COUNT)
    report = utility_report(job, {"correct-count": np.array([job.num_rows - 60.3])}, groups=())
    # Three owners draw for two that do not collude.
    assert float(report.noise) == pytest.approx(10 * math.sqrt(3 / 2), rel=1e-4)
    assert read_utility_report(report.to_bytes()).to_bytes() == report.to_bytes()
    low, high = report.correct
    assert low < job.num_rows - 60 < high
    plain_job = replace(job, outputs=(Output("correct-count", KIND.CORRECT_COUNT, "alice", 1),), nonce="ee" * 16)
    plain = utility_report(plain_job, {"correct-count": np.array([job.num_rows - 90])}, groups=())
    assert plain.noise == "0"
    drop = plain.after_shift(report).figures["shift.accuracy_drop"]
    assert drop.value == pytest.approx(30 / job.num_rows, abs=1 / job.num_rows)
    same = replace(report, noise="0", correct=(job.num_rows - 60,) * 2)
    exact = plain.after_shift(same).figures["shift.accuracy_drop"]
    assert drop.low < exact.low < exact.high < drop.high


def test_withheld_noisy_counts_leave_their_figures_out() -> None:
    evaluation = Evaluation(300, 20, correct=math.nan, confusion=np.array([[100.0, np.nan], [30, 120]]), deviation=5.0)
    assert figures_of(evaluation) == {}
    groups = np.array([[100.0, 20, 30, 100], [40, np.nan, 20, 50]])
    found = noisy_group_figures(groups, deviation=5.0, rows=400)
    assert "group.1.fnr" in found
    assert "group.2.fpr" in found
    assert not {"group.2.fnr", "group.fnr_gap", "group.2.accuracy"} & set(found)


def test_people_read_the_noise_beside_the_counts() -> None:
    job = a_noisy_evaluation(KIND.CORRECT_COUNT, KIND.CONFUSION, min_cell=5)
    values = {"correct-count": np.array([251.6]), "confusion": np.array([[100.4, np.nan], [30.0, 120.0]])}
    text = outputs_in_words(job, values)
    assert "about 252 of 300 rows; noise of deviation 12.2" in text
    assert "every number has noise of deviation 12.2; what tells of fewer than 5 rows is withheld" in text
    assert describe_outputs(values)["confusion"] == [[100.4, None], [30.0, 120.0]]
    assert describe_outputs({"out": np.array([-3.5])}) == {"out": [-3.5]}
    withheld = outputs_in_words(job, values | {"correct-count": np.array([np.nan])})
    assert "withheld: with its noise it is below 5 rows" in withheld


# What it costs, and what owners may demand.


def test_noisy_evaluation_charges_its_epsilon_to_every_owner() -> None:
    job = a_noisy_evaluation(KIND.CORRECT_COUNT, KIND.CONFUSION)
    spent = spent_together(job)
    assert spent is not None
    for party in ("hospital-a", "hospital-b", "hospital-c"):
        amount = charges(job, party)["dataset/patients"]
        assert (amount.epsilon, amount.delta) == (spent.epsilon.normalize(), DELTA)
        assert (amount.queries, amount.answers) == (1, 5)
    said = f"{spent.epsilon:f} (delta {DELTA:f}) for one row, counted or left out, against 1 of 3 owners who pool"
    assert spent_in_words(job) == said
    without = an_evaluation(outputs=(Output("correct", KIND.CORRECT_COUNT, "alice", 1),))
    assert charges(without, "hospital-a")["dataset/patients"].epsilon is None


def test_grant_may_demand_noise_of_counts() -> None:
    rule = OutputRule(KIND.CONFUSION, min_cell=1, noise="10", noise_colluders=1)
    assert not list(check_output_rules("outputs", (rule,)))
    (output,) = noisy_outputs(KIND.CONFUSION)
    assert not list(rule.problems(output))
    assert [problem.where for problem in rule.problems(replace(output, noise="9"))] == ["outputs.confusion.noise"]
    assert list(check_output_rules("outputs", (OutputRule(KIND.ROC_AUC, noise="1", noise_colluders=1),)))


@pytest.mark.parametrize(
    ("owners", "computing", "dealer", "expected"),
    [
        (("a", "b", "c"), ("a", "b"), "c", 1),
        (("a", "b", "c"), ("a", "b", "c"), "d", 2),
        (("a", "b", "c", "d"), ("a", "b", "c"), "d", 1),
        (("a", "b"), ("a", "b", "c"), "d", 1),
    ],
)
def test_noise_holds_against_as_many_owners_as_can_be(
    owners: tuple[str, ...], computing: tuple[str, ...], dealer: str, expected: int
) -> None:
    refs = [a_dataset(owner) for owner in owners]
    assert pooling_owners("5", None, datasets=refs, computing=computing, dealer=dealer) == expected
    assert pooling_owners("0", None, datasets=refs, computing=computing, dealer=dealer) == 0
    assert pooling_owners("5", 3, datasets=refs, computing=computing, dealer=dealer) == 3
