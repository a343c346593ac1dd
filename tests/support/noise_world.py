"""Noise shared by owners among computing parties, in memory, with owners that do not keep to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from protocols.errors import ConfideError
from protocols.mpc.keys import SessionKeys, derive_keys
from protocols.mpc.late_channel import LateChannel
from protocols.mpc.noise_draws import Draw
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.plan.noise import PlannedNoise
from protocols.ring import RingArray
from tests.support.memory_links import MemoryLink, as_links, connect
from tests.support.mpc_world import in_threads, own_random, stream

COMPUTING = ("alpha", "beta")
OWNERS = ("alpha", "gamma", "delta")  # computes; deals; does neither
Made = Callable[[list[Draw]], list[Draw]]


def some_noise(
    *, owners: tuple[str, ...] = OWNERS, steps: int = 60, used: int = 10, spares: int = 60, deviation: int = 1 << 20
) -> PlannedNoise:
    return PlannedNoise(owners, steps, used, spares, 20, 1 << 20, deviation)


def keys_of(participants: tuple[str, ...], seed: str = "") -> dict[str, SessionKeys]:
    """The key schedules of all participants."""
    source = stream(f"noise{seed}")
    secret = {frozenset((a, b)): source.take(32).tobytes() for i, a in enumerate(participants) for b in participants[i + 1 :]}
    nonces = {name: source.take(32).tobytes() for name in participants}
    return {
        name: derive_keys(
            party=name,
            participants=participants,
            pair_secrets={peer: secret[frozenset((name, peer))] for peer in participants if peer != name},
            nonces=nonces,
            job_digest="a" * 64,
            attempt=1,
            plan_digest="b" * 64,
        )
        for name in participants
    }


class Cheat(NoiseSharing):
    """An owner whose draws are changed: what it commits to, and what it opens or shares."""

    commits_to: Made = staticmethod(lambda draws: draws)
    goes_on_with: Made = staticmethod(lambda draws: draws)

    def _draw(self) -> list[Draw]:
        return self.commits_to(super()._draw())

    def _commitments(self, draws: list[Draw]) -> bytes:  # type: ignore[override]
        said = super()._commitments(draws)
        draws[:] = self.goes_on_with(draws)
        return said


def shares(change: Callable[[RingArray], RingArray], design: PlannedNoise) -> type[Cheat]:
    """An owner that commits to sound draws and shares changed ones; `change` gets and gives (steps, width)."""

    class Shares(Cheat):
        def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
            return super()._rest(change(values.reshape(design.steps, -1)).reshape(-1), pads)

    return Shares


@dataclass
class Told:
    """What came of it: at every party the step, or the error in which it ended."""

    parties: dict[str, NoiseSharing]
    errors: dict[str, ConfideError]
    links: dict[str, dict[str, MemoryLink]]

    def noise(self, computing: tuple[str, ...] = COMPUTING) -> RingArray:
        return np.sum([self.parties[name].take() for name in computing], axis=0)


def share_noise(
    design: PlannedNoise,
    *,
    computing: tuple[str, ...] = COMPUTING,
    cheats: Mapping[str, type[NoiseSharing]] | None = None,
    seed: str = "",
    own_seed: str | None = None,
) -> Told:
    """Runs the steps at all parties, whose own randomness has the same seed unless told otherwise; none cuts another off."""
    participants = tuple(dict.fromkeys((*computing, "gamma", *design.owners)))
    links, keys = connect(participants), keys_of(participants, seed)
    parties = {
        name: (cheats or {}).get(name, NoiseSharing)(
            design=design,
            party=name,
            computing_parties=computing,
            keys=keys[name],
            channels={peer: LateChannel(link) for peer, link in as_links(links[name]).items()},
            random=own_random(name, seed if own_seed is None else own_seed),
        )
        for name in participants
    }
    errors: dict[str, ConfideError] = {}

    def run(name: str) -> None:
        try:
            parties[name].run()
        except ConfideError as error:
            errors[name] = error
            for link in links[name].values():  # what it sent before still arrives
                link.cut()

    in_threads({name: lambda name=name: run(name) for name in participants}, links)
    return Told(parties, errors, links)
