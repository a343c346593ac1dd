"""Private sampling: exact probabilities, refused words, and draws that do not fit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from protocols.mpc import noisy_sums_contribution
from protocols.mpc.noisy_sums_contribution import Contributions, clipped_integers
from protocols.mpc.noisy_sums_design import batch_of, trained_numbers
from protocols.mpc.noisy_sums_sampling import draw_sample, overflow_delta, padded_batch, sampling_rate
from tests.support.noisy_sums import a_noisy_sums_job, bytes_of, initial_weights, rows_for


def words(*values: int) -> bytes:
    return np.array(values, "<u8").tobytes()


def test_row_is_taken_where_its_word_is_below_the_batch_size_modulo_the_nominal_rows() -> None:
    drawn = draw_sample(6, batch_size=3, nominal_rows=10, random=lambda count: words(0, 2, 3, 9, 10, 13)[:count])
    assert drawn.tolist() == [True, True, False, False, True, False]


def test_words_that_would_favour_small_numbers_are_drawn_again() -> None:
    top = (1 << 64) - 1  # 2^64 = 6 modulo 10: the last six words are refused
    answers = iter([words(top, 4, top - 5), words(1, top), words(7)])
    asked = []

    def random(count: int) -> bytes:
        asked.append(count)
        return next(answers)

    assert draw_sample(3, batch_size=3, nominal_rows=10, random=random).tolist() == [True, False, False]
    assert asked == [24, 16, 8]


def test_every_word_serves_where_the_nominal_rows_divide_the_words() -> None:
    drawn = draw_sample(2, batch_size=1, nominal_rows=2, random=lambda _: words((1 << 64) - 1, (1 << 64) - 2))
    assert drawn.tolist() == [False, True]


def test_share_of_rows_taken_is_the_rate() -> None:
    count, rate = 200_000, Fraction(3, 40)
    drawn = draw_sample(count, batch_size=3, nominal_rows=40, random=bytes_of("rate"))
    deviation = float(count * rate * (1 - rate)) ** 0.5
    assert abs(drawn.sum() - float(count * rate)) <= 5 * deviation  # beyond with a probability below 1e-6


def test_padding_is_a_little_more_than_what_is_expected() -> None:
    assert padded_batch(10, Fraction(1, 2)) == 10
    # A binomial of mean 256 has a deviation of 16; Chernoff's bound is 2^-60 about 9.5 of them above.
    assert 256 + 8 * 16 <= padded_batch(10_000, Fraction(256, 10_000)) <= 256 + 11 * 16


def test_overflow_is_charged_for_every_step() -> None:
    job = a_noisy_sums_job({"alpha": 30, "beta": 10}, steps=7)
    assert sampling_rate(job) == Fraction(1, 2)
    assert overflow_delta(job) == Fraction(7, 1 << 60)


def test_draw_that_does_not_fit_contributes_nothing() -> None:
    job = a_noisy_sums_job({"alpha": 400, "beta": 100}, batch_size=5)
    assert batch_of(job, "alpha") < 400
    weights = initial_weights(job.model)
    everybody = Contributions(job=job, party="alpha", rows=rows_for(job)["alpha"], random=lambda count: bytes(count))
    assert not everybody.next_sum(weights).any()
    some = Contributions(job=job, party="alpha", rows=rows_for(job)["alpha"], random=bytes_of("some"))
    assert some.next_sum(weights).any()


def test_every_step_computes_with_the_padded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_noisy_sums_job({"alpha": 200, "beta": 100}, batch_size=20, canaries=4)
    shapes, drawn = [], []

    def noting(gradients: np.ndarray, *, bound: int, counts: np.ndarray) -> np.ndarray:
        shapes.append(gradients.shape)
        drawn.append(int(counts.sum()))
        return clipped_integers(gradients, bound=bound, counts=counts)

    monkeypatch.setattr(noisy_sums_contribution, "clipped_integers", noting)
    owner = Contributions(job=job, party="alpha", rows=rows_for(job)["alpha"], random=bytes_of("many"))
    for _ in range(20):
        owner.next_sum(initial_weights(job.model))
    assert set(shapes) == {(batch_of(job, "alpha"), trained_numbers(job))}
    assert len(set(drawn)) > 3
