"""The test of noise, by simulation: how often it alarms for sound noise, and how often it finds what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy.stats import beta, chi2, kstest  # type: ignore[import-untyped]

from protocols.mpc.noise_test import (
    ALARM,
    MILLION,
    MIN_SPARES,
    POWER,
    Finding,
    NoiseTest,
    OwnerFigures,
    examine,
    spares_for,
)
from protocols.ring import RingArray

DEVIATION = 1 << 20
TRIALS = 2_000
Change = Callable[[RingArray], RingArray]


def draw(rng: np.random.Generator, steps: int, spares: int) -> RingArray:
    """Rounded normal values: at this deviation nothing tells them from a discrete Gaussian."""
    return np.rint(rng.normal(0, DEVIATION, (steps, spares))).astype(np.int64)


def examined(
    drawn: Mapping[str, RingArray], opened: Mapping[str, RingArray], deviation: int = DEVIATION
) -> tuple[OwnerFigures, ...]:
    return examine(np.stack([*drawn.values()]), opened, owners=[*drawn], deviation=deviation)


def findings(
    change: Change, *, steps: int, trials: int, owners: int = 3, seed: int = 0
) -> tuple[Counter[Finding], Counter[Finding]]:
    """What the first owner, whose noise is changed, and the others are found out of."""
    rng = np.random.default_rng(seed)
    changed: Counter[Finding] = Counter()
    others: Counter[Finding] = Counter()
    for _ in range(trials):
        drawn = {f"owner-{i}": draw(rng, steps, spares_for(steps, owners)) for i in range(owners)}
        opened = {owner: draw(rng, *values.shape) for owner, values in drawn.items()}
        drawn["owner-0"] = change(drawn["owner-0"])
        first, *rest = examined(drawn, opened)
        changed[first.finding] += 1
        others.update(figures.finding for figures in rest)
    return changed, others


def unchanged(noise: RingArray) -> RingArray:
    return noise


@pytest.mark.parametrize("steps", [1, 20, 300])
def test_sound_noise_raises_no_alarm(steps: int) -> None:
    changed, others = findings(unchanged, steps=steps, trials=TRIALS)
    # A chance of an alarm of `ALARM` a job makes 0.002 of them in 2,000 jobs; 10 would be 0.5 % of them.
    assert TRIALS * ALARM < 0.002
    assert changed + others == Counter({Finding.NOTHING: 3 * TRIALS})


@pytest.mark.parametrize("steps", [1, 20, 300])
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (np.zeros_like, Finding.VARIANCE),
        (lambda noise: noise // 2, Finding.VARIANCE),
        (lambda noise: 2 * noise, Finding.VARIANCE),
    ],
)
def test_missing_or_scaled_noise_is_always_found(change: Change, finding: Finding, steps: int) -> None:
    changed, others = findings(change, steps=steps, trials=200)
    assert changed == Counter({finding: 200})
    assert set(others) == {Finding.NOTHING}


@pytest.mark.parametrize("steps", [2, 20, 300])
def test_replayed_noise_is_always_found(steps: int) -> None:
    def replay(noise: RingArray) -> RingArray:
        return np.broadcast_to(noise[:1], noise.shape).copy()

    changed, others = findings(replay, steps=steps, trials=TRIALS // 4)
    assert Finding.NOTHING not in changed
    assert set(others) == {Finding.NOTHING}


@pytest.mark.parametrize("steps", [1, 20, 60])
def test_owner_at_85_percent_of_its_deviation_is_found_with_the_power_that_the_spares_are_for(steps: int) -> None:
    changed, _ = findings(lambda noise: np.rint(0.85 * noise).astype(np.int64), steps=steps, trials=TRIALS)
    missed = changed[Finding.NOTHING]
    # Misses are Poisson with a mean of at most 2; more than 12 have a chance below 1e-6.
    assert missed <= 12
    assert pytest.approx(2.0) == TRIALS * (1 - POWER)


def test_spares_are_the_fewest_with_that_power() -> None:
    for owners in (2, 5, 40):
        count = spares_for(1, owners)
        limit = ALARM / 2 / 4 / owners / 2
        powers = [chi2.cdf(chi2.ppf(limit, n) / 0.85**2, n) for n in (count - 1, count)]
        assert powers[0] < POWER <= powers[1]
        assert spares_for(7, owners) == -(-count // 7)
        assert spares_for(10_000, owners) == MIN_SPARES


@pytest.mark.parametrize("steps", [20, 60])
def test_noise_correlated_from_step_to_step_is_found(steps: int) -> None:
    def correlate(noise: RingArray) -> RingArray:
        mixed = noise.astype(np.float64)
        for step in range(1, len(mixed)):
            mixed[step] = 0.5 * mixed[step - 1] + 0.75**0.5 * noise[step]
        return np.rint(mixed).astype(np.int64)

    changed, _ = findings(correlate, steps=steps, trials=200)
    assert changed == Counter({Finding.CORRELATED: 200})


@pytest.mark.parametrize("steps", [1, 5, 60, 300])
@pytest.mark.parametrize("numbers", [1, 4, 15])
def test_few_numbers_in_many_coordinates_are_always_found(numbers: int, steps: int) -> None:
    rng = np.random.default_rng(6)

    def repeat(noise: RingArray) -> RingArray:
        places = rng.integers(0, numbers, noise.shape[1])
        return noise[:, places] * rng.choice([-1, 1], noise.shape)

    changed, others = findings(repeat, steps=steps, trials=100)
    assert Finding.NOTHING not in changed
    assert set(others) == {Finding.NOTHING}


@pytest.mark.parametrize("deviation", [16, 300, 1 << 12, 1 << 16])
@pytest.mark.parametrize("steps", [1, 300])
def test_sound_noise_on_a_coarse_grid_is_not_found_to_repeat_itself(deviation: int, steps: int) -> None:
    rng = np.random.default_rng(7)
    shape = (steps, spares_for(steps, 2))
    for _ in range(100):
        drawn = {name: np.rint(rng.normal(0, deviation, shape)).astype(np.int64) for name in ("a", "b")}
        assert {figures.finding for figures in examined(drawn, {}, deviation)} == {Finding.NOTHING}


def test_a_row_of_another_owner_names_both() -> None:
    rng = np.random.default_rng(3)
    drawn = {name: draw(rng, 20, 170) for name in ("a", "b", "c")}
    drawn["b"][7] = -drawn["c"][3]
    found = examined(drawn, {})
    assert [figures.finding for figures in found] == [Finding.NOTHING, Finding.REPEATED, Finding.REPEATED]


def test_a_row_of_an_opened_draw_is_found() -> None:
    rng = np.random.default_rng(4)
    drawn = {name: draw(rng, 20, 170) for name in ("a", "b")}
    opened = {"b": drawn["a"][::-1].copy()}
    assert {figures.owner for figures in examined(drawn, opened) if figures.finding} == {"a", "b"}


def test_probabilities_of_sound_noise_are_uniform() -> None:
    rng = np.random.default_rng(5)
    shown = [examined({"a": draw(rng, 21, 40)}, {})[0] for _ in range(TRIALS)]
    for values in ([figures.variance_p for figures in shown], [figures.means_p for figures in shown]):
        assert kstest(np.array(values) / MILLION, "uniform").pvalue > 1e-6
    # The smaller of two probabilities of overlapping pairs: below x with a chance of at most 2 x, and at least x.
    smallest = np.mean(np.array([figures.pairs_p for figures in shown]) < 0.05 * MILLION)
    allowed = 5 * (0.1 / TRIALS) ** 0.5
    assert 0.05 - allowed < smallest < 0.1 + allowed


def two_sided(below: float) -> float:
    return min(1.0, 2 * min(below, 1 - below))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 21, 60])
def test_figures_are_those_of_the_distributions_computed_from_the_values_one_by_one(steps: int) -> None:
    rng, width = np.random.default_rng(8), 16
    drawn = {name: draw(rng, steps, width) for name in ("a", "b")}
    drawn["b"][1:] += drawn["b"][:-1] // 2  # so that the pairs say something
    for figures in examined(drawn, {}):
        rows = drawn[figures.owner] / DEVIATION
        variance_p = two_sided(chi2.cdf((rows**2).sum(), rows.size))
        means_p = two_sided(chi2.cdf((rows.sum(axis=0) ** 2).sum() / steps, width)) if steps > 1 else 1.0
        pairs_p = 1.0
        for start in (0, 1):
            pairs = [(rows[step], rows[step + 1]) for step in range(start, steps - 1, 2)]
            if pairs:
                sums, differences = (sum(((x + sign * y) ** 2).sum() for x, y in pairs) for sign in (1, -1))
                half = len(pairs) * width / 2
                pairs_p = min(pairs_p, two_sided(beta.cdf(sums / (sums + differences), half, half)))
        expected = [(rows**2).mean(), variance_p, means_p, pairs_p]
        # Rounded to millionths, behind sums of a thousand doubles: a digit may round the other way.
        assert np.abs(np.array(figures.numbers) - MILLION * np.array(expected)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("shape", [(60, 24), (60, 57)])
@pytest.mark.parametrize(("repeats", "finding"), [(24, Finding.NOTHING), (25, Finding.REPEATED)])
def test_repeats_are_counted_exactly_where_last_bits_agree(
    repeats: int, finding: Finding, shape: tuple[int, int], bits: int
) -> None:
    deviation, rng = 1 << 55, np.random.default_rng(9)
    values = np.rint(rng.normal(0, deviation, shape)).astype(np.int64)
    values = values >> bits << bits  # all of them agree in their last bits, and differ in others
    flat = values.reshape(-1)
    while flat.size - np.unique(np.abs(flat)).size < repeats:
        flat[rng.integers(1, flat.size)] = -flat[0]
    assert examined({"a": values}, {}, deviation)[0].finding is finding


def test_variance_is_shown_in_millionths() -> None:
    rows = np.full((4, 20), 2 * DEVIATION)
    assert examined({"a": rows}, {})[0].variance == 4 * MILLION


@pytest.mark.parametrize(
    "change", [{"owners": [{}]}, {"owners": None}, {"steps": "1"}, {"spares": True}, {"owners": [{"owner": "a", "variance": 1}]}]
)
def test_document_that_is_no_result_is_refused(change: dict[str, object]) -> None:
    document = NoiseTest(3, 16, 100, ()).to_document() | change
    with pytest.raises((KeyError, TypeError, ValueError)):
        NoiseTest.from_document(document)
