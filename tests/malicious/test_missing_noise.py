"""An owner that does not add its noise is named before anything is trained, by all who can see it alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ErrorCode
from protocols.mpc.noise_draws import Draw, fresh_draw
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.ring import RingArray
from tests.support.mpc_world import own_random
from tests.support.noise_world import COMPUTING, Cheat, Told, share_noise, shares, some_noise

DESIGN = some_noise()
CHANGES: dict[str, Callable[[RingArray], RingArray]] = {
    "zero": np.zeros_like,
    "half of its deviation": lambda noise: noise // 2,
    "90 % of its deviation": lambda noise: np.rint(noise * 0.9).astype(np.int64),
    "ten times its deviation": lambda noise: 10 * noise,
    "the first step again in every step": lambda noise: np.broadcast_to(noise[:1], noise.shape).copy(),
    "one step again": lambda noise: np.concatenate([noise[:-1], noise[3:4]]),
    "one step again, with the other sign": lambda noise: np.concatenate([noise[:-1], -noise[3:4]]),
    "half of the step before in every step": lambda noise: noise // 2 + np.roll(noise, 1, axis=0) // 2 * 173 // 100,
    "the same in all coordinates": lambda noise: np.broadcast_to(noise[:, :1], noise.shape).copy(),
    "a pattern that sums up to nothing": lambda noise: noise - noise.mean(axis=0).astype(np.int64),
}


def all_name(told: Told, owner: str, *, parties: tuple[str, ...]) -> None:
    """Every party ended in the same error, which names the owner."""
    ended = {name: (error.code, error.party) for name, error in told.errors.items()}
    assert ended == dict.fromkeys(parties, (ErrorCode.NOISE_MISSING, owner))
    assert len({error.what for error in told.errors.values()}) == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("owner", ["alpha", "gamma", "delta"])
def test_owner_that_shares_other_noise_is_named_by_all(owner: str, change: Callable[[RingArray], RingArray]) -> None:
    told = share_noise(DESIGN, cheats={owner: shares(change, DESIGN)})
    all_name(told, owner, parties=("alpha", "beta", "delta", "gamma"))


def test_owner_that_adds_noise_in_one_step_alone_is_named() -> None:
    without = lambda noise: np.concatenate([noise[:-1] * 0, noise[-1:]])  # noqa: E731
    told = share_noise(DESIGN, cheats={"delta": shares(without, DESIGN)})
    all_name(told, "delta", parties=("alpha", "beta", "delta", "gamma"))


def test_owner_that_shares_the_draw_that_it_opens_is_named() -> None:
    class SharesTheOpened(NoiseSharing):
        def _open_one(self, draws: list[Draw], coin: bytes) -> RingArray:  # type: ignore[override]
            kept = super()._open_one(draws, coin)
            return next(draw.values for draw in draws if draw.values is not kept)

    told = share_noise(DESIGN, cheats={"gamma": SharesTheOpened})
    all_name(told, "gamma", parties=("alpha", "beta", "delta", "gamma"))


def another(draws: list[Draw]) -> list[Draw]:
    random = own_random("a cheat")
    return [fresh_draw(draw.values.size, DESIGN.deviation, random) for draw in draws]


def of_other_values(draws: list[Draw]) -> list[Draw]:
    return [replace(draw, values=draw.values // 2) for draw in draws]


def with_other_salts(draws: list[Draw]) -> list[Draw]:
    return [replace(draw, salt=bytes(32)) for draw in draws]


@pytest.mark.parametrize("owner", ["alpha", "delta"])
@pytest.mark.parametrize("change", [another, with_other_salts])
def test_owner_that_opens_another_seed_than_it_committed_to_is_named(owner: str, change: Callable[..., list[Draw]]) -> None:
    class OpensAnother(Cheat):
        goes_on_with = staticmethod(change)

    told = share_noise(DESIGN, cheats={owner: OpensAnother})
    all_name(told, owner, parties=("alpha", "beta", "delta", "gamma"))


@pytest.mark.parametrize("owner", ["alpha", "delta"])
def test_owner_whose_sampler_gives_other_values_than_its_seed_is_named(owner: str) -> None:
    class SamplesWrongly(Cheat):
        commits_to = staticmethod(of_other_values)

    told = share_noise(DESIGN, cheats={owner: SamplesWrongly})
    all_name(told, owner, parties=("alpha", "beta", "delta", "gamma"))


def test_owners_with_equal_randomness_are_named() -> None:
    class Copies(NoiseSharing):
        def _draw(self) -> list[Draw]:
            random = own_random("both")
            return [fresh_draw(self._design.num_elements, self._design.deviation, random) for _ in range(2)]

    told = share_noise(DESIGN, cheats={"gamma": Copies, "delta": Copies})
    all_name(told, "gamma", parties=("alpha", "beta", "delta", "gamma"))


def test_owner_that_commits_to_different_draws_at_different_parties_ends_the_session() -> None:
    class SaysTwoThings(NoiseSharing):
        def _tell(self, parties: list[str], said: bytes) -> None:  # type: ignore[override]
            for party in parties:
                altered = len(said) == 64 and party == "beta" and self.rounds == 0
                super()._tell([party], bytes(64) if altered else said)

    told = share_noise(DESIGN, cheats={"delta": SaysTwoThings})
    assert {told.errors[name].code for name in COMPUTING} == {ErrorCode.BAD_FRAME}


def test_computing_party_that_opens_another_part_of_a_coin_is_named() -> None:
    class Chooses(NoiseSharing):
        def _toss(self, index: int, part: bytes, heard: dict[str, bytes], compared: bytes = b"") -> bytes:  # type: ignore[override]
            return super()._toss(index, bytes(32) if index == 1 else part, heard, compared)

    told = share_noise(DESIGN, cheats={"beta": Chooses})
    assert (told.errors["alpha"].code, told.errors["alpha"].party) == (ErrorCode.BAD_FRAME, "beta")


def test_computing_party_that_opens_other_shares_of_spares_ends_the_session_for_all() -> None:
    class OpensOthers(NoiseSharing):
        def _open_spares(self) -> dict[str, RingArray]:
            share = self._shares["delta"]
            self._shares["delta"] = share + 1
            opened = super()._open_spares()
            self._shares["delta"] = share
            return opened | {"delta": opened["delta"] - 1}

    told = share_noise(DESIGN, cheats={"beta": OpensOthers})
    ended = {name: error.code for name, error in told.errors.items()}
    assert ended == dict.fromkeys(("alpha", "beta", "gamma", "delta"), ErrorCode.BAD_FRAME)


def test_accusation_that_only_one_party_makes_ends_the_session_and_names_nobody_elsewhere() -> None:
    class Accuses(NoiseSharing):
        def _tell(self, parties: list[str], said: bytes) -> None:  # type: ignore[override]
            if len(said) == self._design.verdict_bytes:
                said = said[:32] + b"\x02" + said[33:]
            super()._tell(parties, said)

    told = share_noise(DESIGN, cheats={"beta": Accuses})
    error = told.errors["alpha"]
    assert (error.code, error.party) == (ErrorCode.NOISE_MISSING, "")
    assert "beta alone says" in error.what
