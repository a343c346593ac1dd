"""An owner that does not add its noise is named before anything is trained, by all who can see it alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ErrorCode
from protocols.mpc.noise_draws import Draw, fresh_draws
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.ring import RingArray
from tests.support.mpc_world import own_random
from tests.support.noise_world import COMPUTING, Cheat, Told, share_noise, shares, some_noise

DESIGN = some_noise()
CHANGES: dict[str, Callable[[RingArray], RingArray]] = {
    "zero": np.zeros_like,
    "half of its deviation": lambda noise: noise // 2,
    "85 % of its deviation": lambda noise: np.rint(noise * 0.85).astype(np.int64),
    "ten times its deviation": lambda noise: 10 * noise,
    "the first step again in every step": lambda noise: np.broadcast_to(noise[:1], noise.shape).copy(),
    "one step again": lambda noise: np.concatenate([noise[:-1], noise[3:4]]),
    "one step again, with the other sign": lambda noise: np.concatenate([noise[:-1], -noise[3:4]]),
    "half of the step before in every step": lambda noise: noise // 2 + np.roll(noise, 1, axis=0) // 2 * 173 // 100,
    "the same in all coordinates": lambda noise: np.broadcast_to(noise[:, :1], noise.shape).copy(),
    "a pattern that sums up to nothing": lambda noise: noise - noise.mean(axis=0).astype(np.int64),
}


def all_name(told: Told, owner: str, *, parties: tuple[str, ...], alike: bool = True) -> None:
    """Every party ended in an error that names the owner; the same one, unless they found out differently."""
    ended = {name: (error.code, error.party) for name, error in told.errors.items()}
    assert ended == dict.fromkeys(parties, (ErrorCode.NOISE_MISSING, owner))
    assert not alike or len({error.what for error in told.errors.values()}) == 1


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
        def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
            other = next(draw.values for draw in self._draws if draw.values is not values)
            return super()._rest(other, pads)

    told = share_noise(DESIGN, cheats={"gamma": SharesTheOpened})
    all_name(told, "gamma", parties=("alpha", "beta", "delta", "gamma"))


def another(draws: list[Draw]) -> list[Draw]:
    return fresh_draws(draws[0].values.size, DESIGN.deviation, own_random("a cheat"), context="", owner="")


def of_other_values(draws: list[Draw]) -> list[Draw]:
    return [replace(draw, values=draw.values // 2) for draw in draws]


def with_other_salts(draws: list[Draw]) -> list[Draw]:
    return [replace(draw, salt=bytes(32)) for draw in draws]


def only_others_name(told: Told, owner: str) -> None:
    """Whoever samples the owner's draw again names it; the others were told so by one party alone, which is no proof."""
    assert (told.errors["beta"].code, told.errors["beta"].party) == (ErrorCode.NOISE_MISSING, owner)
    others = {name: (error.code, error.party) for name, error in told.errors.items() if name != "beta"}
    assert others == dict.fromkeys(("alpha", "delta", "gamma"), (ErrorCode.NOISE_MISSING, ""))
    assert all(f"beta alone says that the noise of {owner}" in told.errors[name].what for name in others)


@pytest.mark.parametrize("change", [another, with_other_salts])
def test_computing_owner_that_opens_another_seed_ends_the_session_for_all(change: Callable[..., list[Draw]]) -> None:
    class OpensAnother(Cheat):
        goes_on_with = staticmethod(change)

    only_others_name(share_noise(DESIGN, cheats={"alpha": OpensAnother}), "alpha")


def test_computing_owner_whose_sampler_gives_other_values_than_its_seed_ends_the_session_for_all() -> None:
    class SamplesWrongly(Cheat):
        commits_to = staticmethod(of_other_values)

    told = share_noise(DESIGN, cheats={"alpha": SamplesWrongly})
    # At half of its deviation the noise that it shares shows too, to everybody.
    all_name(told, "alpha", parties=("alpha", "beta", "delta", "gamma"), alike=False)


@pytest.mark.parametrize("owner", ["gamma", "delta"])
@pytest.mark.parametrize("change", [another, with_other_salts])
def test_owner_that_opens_another_seed_than_it_committed_to_is_named(owner: str, change: Callable[..., list[Draw]]) -> None:
    class OpensAnother(Cheat):
        goes_on_with = staticmethod(change)

    told = share_noise(DESIGN, cheats={owner: OpensAnother})
    all_name(told, owner, parties=("alpha", "beta", "delta", "gamma"))


@pytest.mark.parametrize("owner", ["gamma", "delta"])
def test_owner_whose_sampler_gives_other_values_than_its_seed_is_named(owner: str) -> None:
    class SamplesWrongly(Cheat):
        commits_to = staticmethod(of_other_values)

    told = share_noise(DESIGN, cheats={owner: SamplesWrongly})
    all_name(told, owner, parties=("alpha", "beta", "delta", "gamma"))


def test_owners_with_equal_draws_are_named() -> None:
    class Copies(NoiseSharing):
        def _draw(self) -> list[Draw]:
            drawn = [Draw(bytes(32), bytes(32), np.empty(self.design.num_elements, np.int64))] * 2
            return another(drawn)

    told = share_noise(DESIGN, cheats={"gamma": Copies, "delta": Copies})
    all_name(told, "gamma", parties=("alpha", "beta", "delta", "gamma"))


def test_owner_that_commits_to_different_draws_at_different_parties_ends_the_session() -> None:
    class SaysTwoThings(NoiseSharing):
        def _tell(self, parties: list[str], said: bytes) -> None:  # type: ignore[override]
            for party in parties:
                altered = party == "beta" and not self._coin
                super()._tell([party], bytes(64) + said[64:] if altered else said)

    told = share_noise(DESIGN, cheats={"delta": SaysTwoThings})
    # Each of the two heard otherwise than the other, and neither can know that it was a third party that said two things.
    assert {(told.errors[name].code, told.errors[name].party) for name in COMPUTING} == {(ErrorCode.BAD_FRAME, "")}


def test_computing_party_that_opens_another_part_of_a_coin_is_named() -> None:
    class Chooses(NoiseSharing):
        def _open_part(self) -> None:
            self._part = bytes(32)
            super()._open_part()

    told = share_noise(DESIGN, cheats={"beta": Chooses})
    assert (told.errors["alpha"].code, told.errors["alpha"].party) == (ErrorCode.BAD_FRAME, "beta")


def test_computing_party_that_opens_other_shares_of_spares_ends_the_session_for_all() -> None:
    class OpensOthers(NoiseSharing):
        def _post(self, said: bytes, count_of: Callable[[str], int]) -> None:
            if len(said) == DESIGN.spare_bytes:
                said = said[:-8] + bytes([said[-8] ^ 1]) + said[-7:]
            super()._post(said, count_of)

    told = share_noise(DESIGN, cheats={"beta": OpensOthers})
    ended = {name: error.code for name, error in told.errors.items()}
    assert ended == dict.fromkeys(("alpha", "beta", "gamma", "delta"), ErrorCode.BAD_FRAME)


@pytest.mark.parametrize(("accuser", "other"), [("alpha", "beta"), ("beta", "alpha")])
@pytest.mark.parametrize("place", range(len(DESIGN.owners)))
def test_accusation_that_only_one_party_makes_ends_the_session_and_names_nobody(accuser: str, other: str, place: int) -> None:
    class Accuses(NoiseSharing):
        def _tell(self, parties: Iterable[str], said: bytes) -> None:
            super()._tell(parties, self._accusing(said))

        def _post(self, said: bytes, count_of: Callable[[str], int]) -> None:
            super()._post(self._accusing(said), count_of)

        def _accusing(self, said: bytes) -> bytes:
            is_verdict = len(said) == self.design.verdict_bytes
            return said[: 32 + place] + b"\x02" + said[33 + place :] if is_verdict else said

    told = share_noise(DESIGN, cheats={accuser: Accuses})
    for party in (other, "gamma", "delta"):
        error = told.errors[party]
        assert (error.code, error.party) == (ErrorCode.NOISE_MISSING, "")
        assert f"{accuser} alone says that the noise of {DESIGN.owners[place]}" in error.what


def test_last_computing_party_opens_its_part_of_the_coin_after_all_shares_are_there() -> None:
    received: dict[str, int] = {}

    class Counts(NoiseSharing):
        def _open_part(self) -> None:
            received.update({owner: self._channels[owner]._received_messages for owner in ("gamma", "delta")})
            super()._open_part()

    told = share_noise(DESIGN, cheats={"beta": Counts})
    assert told.errors == {}
    # Commitments with what is left of both draws. Whoever shared after it knows the coin could fit its spares to the test.
    assert received == {"gamma": 1, "delta": 1}
