"""Noise of owners, shared and tested before a training: what comes out, what it costs, and who is named if it is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ErrorCode
from protocols.mpc.noise_draws import Draw, fresh_draws
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noise_test import Finding
from tests.support.mpc_world import own_random
from tests.support.noise_world import COMPUTING, OWNERS, Told, share_noise, some_noise

DESIGN = some_noise()


def draws_of(owner: str, told: Told, seed: str = "") -> list[Draw]:
    """Both draws of an owner in that session, whose own randomness was of this seed."""
    random, context = own_random(owner, seed), told.parties[owner]._context
    count, deviation = DESIGN.num_elements, DESIGN.deviation
    return fresh_draws(count, deviation, random, context=context, owner=owner)


def test_shared_noise_has_the_variance_of_all_owners_together() -> None:
    noise = share_noise(DESIGN).noise()
    assert noise.shape == (DESIGN.steps, DESIGN.used)
    # The variance of 600 values is within 5 * sqrt(2 / 600) of its mean, with a chance of all but 1e-6.
    assert np.mean((noise / DESIGN.deviation) ** 2) == pytest.approx(len(OWNERS), rel=5 * (2 / noise.size) ** 0.5)


def test_shared_noise_is_the_sum_of_the_draws_that_were_not_opened() -> None:
    told = share_noise(DESIGN)
    spare = told.parties["alpha"]._choice.spares
    noise, candidates = told.noise(), []
    for owner in OWNERS:
        draws = [draw.values.reshape(DESIGN.steps, -1) for draw in draws_of(owner, told)]
        candidates.append([np.delete(draw, spare, axis=1) for draw in draws])
    sums = [a + b + c for a in candidates[0] for b in candidates[1] for c in candidates[2]]
    assert sum(np.array_equal(noise, each) for each in sums) == 1


@pytest.mark.parametrize("computing", [("alpha", "beta"), ("alpha", "beta", "delta"), ("beta", "epsilon")])
def test_sharing_noise_sends_and_takes_rounds_as_the_plan_says(computing: tuple[str, ...]) -> None:
    told = share_noise(DESIGN, computing=computing)
    assert told.errors == {}
    sent = {(a, b): link.sent_bytes for a, mine in told.links.items() for b, link in mine.items()}
    assert sent == {(a, b): DESIGN.sent_bytes(a, b, computing) for a, b in sent}
    assert {told.parties[name].rounds for name in computing} == {DESIGN.rounds(computing)}


def test_all_parties_but_a_dealer_without_rows_know_the_same_result_of_the_test() -> None:
    told = share_noise(replace(DESIGN, owners=("alpha", "delta")))
    tested = [told.parties[name].tested for name in ("alpha", "beta", "delta")]
    assert tested[0] is not None
    assert tested[0].has_passed
    assert tested[1:] == tested[:1] * 2
    assert told.parties["gamma"].tested is None


def test_result_of_the_test_survives_its_document() -> None:
    tested = share_noise(DESIGN).parties["delta"].tested
    assert tested is not None
    assert type(tested).from_document(tested.to_document()) == tested


def test_seed_of_noise_that_is_used_is_sent_to_nobody() -> None:
    told = share_noise(DESIGN)
    for owner in OWNERS:
        seeds = [draw.seed for draw in draws_of(owner, told)]
        sent = [b"".join(a.tobytes() for _, arrays in link.log for a in arrays) for link in told.links[owner].values()]
        assert sorted(any(seed in each for each in sent) for seed in seeds) == [False, True]


def test_draws_of_equal_randomness_differ_in_attempt_owner_and_number() -> None:
    def draws(context: str, owner: str) -> list[Draw]:
        return fresh_draws(40, 1 << 20, lambda count: bytes(count), context=context, owner=owner)

    drawn = [*draws("one attempt", "alpha"), *draws("another", "alpha"), *draws("one attempt", "beta")]
    for part in ("seed", "salt"):
        assert len({getattr(each, part) for each in drawn}) == len(drawn)
    assert len({each.values.tobytes() for each in drawn}) == len(drawn)
    assert [each.opening for each in draws("one attempt", "alpha")] == [each.opening for each in drawn[:2]]


def test_machine_that_was_set_back_opens_no_draw_that_it_used_in_another_attempt() -> None:
    told = [share_noise(DESIGN, seed=seed, own_seed="set back") for seed in ("first", "second")]
    for owner in OWNERS:
        sent = [
            b"".join(a.tobytes() for link in each.links[owner].values() for _, arrays in link.log for a in arrays)
            for each in told
        ]
        for attempt, other in ((0, 1), (1, 0)):
            seeds = [draw.seed for draw in draws_of(owner, told[attempt], "set back")]
            assert any(seed in sent[attempt] for seed in seeds)
            assert not any(seed in sent[other] for seed in seeds)


def test_machines_that_were_set_back_toss_another_coin_in_another_attempt() -> None:
    first, second = (share_noise(DESIGN, seed=seed, own_seed="set back").parties for seed in ("first", "second"))
    assert first["alpha"]._coin == first["beta"]._coin != second["alpha"]._coin
    # A part that was opened in one attempt would be known to the others before they commit to theirs in the next.
    assert first["beta"]._part != second["beta"]._part


def test_noise_does_not_pass_unless_what_every_owner_opened_was_sampled_again() -> None:
    class Expects(NoiseSharing):
        """Forgets that owners that do not compute open a draw too."""

        def expect_openings(self) -> None:
            pass

    errors = share_noise(DESIGN, cheats=dict.fromkeys(("alpha", "beta"), Expects)).errors
    assert [errors[name].code for name in ("alpha", "beta")] == [ErrorCode.INTERNAL] * 2


def test_spares_are_another_choice_in_every_session() -> None:
    chosen = [tuple(share_noise(DESIGN, seed=str(number)).parties["alpha"]._choice.spares) for number in range(3)]
    assert len(set(chosen)) == 3
    assert all(len(set(each)) == DESIGN.spares for each in chosen)


def test_every_finding_has_words() -> None:
    assert len({finding.in_words for finding in Finding}) == len(Finding)


def test_shares_of_noise_of_one_computing_party_look_uniform() -> None:
    told = share_noise(DESIGN)
    share = told.parties[COMPUTING[0]].take().reshape(-1)
    ones = np.unpackbits(share.view(np.uint8)).mean()
    assert ones == pytest.approx(0.5, abs=5 * 0.5 / (64 * share.size) ** 0.5)
