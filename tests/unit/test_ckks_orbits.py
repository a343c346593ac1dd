"""Means are those of the slots that SEAL decodes, exactly modulo the primes, and masks have none."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from protocols.ckks.engine import Engine, SecretKey
from protocols.ckks.orbits import mask, means, orbits
from tests.support.ckks import LARGE

SLOTS, PRIMES, SCALE = LARGE.slots, LARGE.primes[:2], 2.0**30
PERIODS = [1, 4, 64, SLOTS // 2, SLOTS]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(LARGE)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.mark.parametrize("period", PERIODS)
def test_every_place_is_in_one_orbit(period: int) -> None:
    found = orbits(LARGE.ring_degree, period)
    assert found.shape == (period, LARGE.ring_degree // period)
    assert sorted(found.ravel()) == list(range(LARGE.ring_degree))


@pytest.mark.parametrize("period", PERIODS)
def test_mean_is_twice_that_of_real_halves_of_slots_that_are_equal_modulo_the_period(engine: Engine, period: int) -> None:
    rng = np.random.default_rng(period)
    slots = rng.uniform(-1, 1, SLOTS) + 1j * rng.uniform(-1, 1, SLOTS)
    residues = engine.plaintext_residues(engine.encode_complex(slots, 1, SCALE))
    shown = engine.decode(engine.plaintext_from_residues(means(residues, PRIMES, period), SCALE))
    expected = np.resize(2 * slots.real.reshape(-1, period).mean(axis=0), SLOTS)
    # Rounding of the coefficients that are read: twice `period` of them.
    assert np.abs(shown - expected).max() < 2 * 6 * np.sqrt(2 * period / 12) / SCALE


@pytest.mark.parametrize("period", PERIODS)
def test_slots_may_be_as_large_as_the_primes_allow_without_summing_up(engine: Engine, period: int) -> None:
    large = PRIMES[0] / 8 / SCALE
    slots = np.resize(np.linspace(-large, large, period), SLOTS)
    residues = engine.plaintext_residues(engine.encode(slots, 0, SCALE))
    shown = engine.decode(engine.plaintext_from_residues(means(residues, PRIMES[:1], period), SCALE))
    assert np.abs(shown - 2 * slots).max() < 1e-6


@pytest.mark.parametrize("period", PERIODS)
def test_mask_has_no_trace_and_is_uniform_beside_it(period: int) -> None:
    hidden = mask(bytes(32), PRIMES, LARGE.ring_degree, period)
    assert not means(hidden, PRIMES, period).any()
    assert (hidden != mask(b"\1" * 32, PRIMES, LARGE.ring_degree, period)).mean() > 0.99
    assert (hidden == mask(bytes(32), PRIMES, LARGE.ring_degree, period)).all()
    for row, prime in zip(hidden, PRIMES, strict=True):
        assert int(row.max()) < prime
        counts = np.bincount((row / prime * 64).astype(int), minlength=64)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 63 + 4.9 * 11.3  # chi-square of 63 degrees


def test_mask_modulo_a_small_prime_is_uniform_below_it() -> None:
    # Every residue of a prime of 13 bits comes 8192 / prime times; words beyond the prime are drawn again.
    prime = 5_003
    counts = np.bincount(mask(bytes(32), [prime], LARGE.ring_degree, SLOTS)[0].astype(int), minlength=prime)
    assert len(counts) == prime
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < prime + 4.9 * np.sqrt(2 * prime)


def test_means_are_exact_for_the_largest_residues() -> None:
    prime = (1 << 60) - 93
    residues = np.full((1, LARGE.ring_degree), prime - 1, np.uint64)
    assert set(means(residues, [prime], 1)[0].tolist()) == {prime - 2}


@pytest.mark.parametrize("period", [0, 3, 2 * SLOTS])
def test_period_that_does_not_divide_the_slots_is_refused(period: int) -> None:
    with pytest.raises(ValueError, match="no period"):
        orbits(LARGE.ring_degree, period)


@pytest.mark.parametrize("period", PERIODS)
def test_means_are_the_sum_of_images_under_automorphisms_in_whole_numbers(engine: Engine, period: int) -> None:
    """By definition, coefficient by coefficient, with no use of the order of places but the roots that SEAL has there."""
    degree, prime, rng = LARGE.ring_degree, PRIMES[0], np.random.default_rng(9)
    exponents = [pow(3, slot, 2 * degree) for slot in range(SLOTS)]
    monomial = engine.plaintext_residues(engine.encode_complex(np.exp(1j * np.pi * np.array(exponents) / degree), 0, 2.0**20))[0]
    unit = pow(2**20, -1, prime)
    roots = [int(value) * unit % prime for value in monomial]
    assert all(pow(root, degree, prime) == prime - 1 for root in roots)
    terms = {int(place): int(rng.integers(-1000, 1000)) for place in [0, *rng.choice(degree, 7), *range(0, degree, degree // 8)]}
    values = [sum(factor * pow(root, place, prime) for place, factor in terms.items()) % prime for root in roots]
    images = Counter[int]()
    for turn in exponents[::period]:
        for automorphism in (turn, 2 * degree - turn):
            for place, factor in terms.items():
                folds, rest = divmod(place * automorphism, degree)
                images[rest] += -factor if folds % 2 else factor
    count = SLOTS // period
    assert not any(factor % count for factor in images.values())
    found = means(np.array([values], np.uint64), PRIMES[:1], period)[0]
    for at in rng.choice(degree, 16):
        summed = sum(factor // count * pow(roots[at], place, prime) for place, factor in images.items() if factor)
        assert int(found[at]) == summed % prime


@pytest.mark.parametrize(("ring_degree", "period"), [(4, 2), (8, 4)])
def test_mask_takes_every_polynomial_of_trace_zero_equally_often(ring_degree: int, period: int) -> None:
    prime, drawn = (17, 8670) if ring_degree == 4 else (5, 6250)  # thirty, and ten, for each polynomial
    counts = Counter(tuple(mask(key.to_bytes(32, "little"), [prime], ring_degree, period)[0].tolist()) for key in range(drawn))
    polynomials = prime ** (ring_degree - period)
    each = drawn / polynomials
    chi_square = sum((count - each) ** 2 for count in counts.values()) / each + (polynomials - len(counts)) * each
    assert chi_square < polynomials + 4.9 * np.sqrt(2 * polynomials)
    assert all(
        sum(polynomial[at] for at in places) % prime == 0 for polynomial in counts for places in orbits(ring_degree, period)
    )
