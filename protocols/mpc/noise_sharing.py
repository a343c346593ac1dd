"""The noise of a private training: every owner draws it, commits to it, shares it, and it is tested before anything else happens.

Order, each step after the one before (docs/protocols/noise.md):

1. Every owner commits to two draws; every computing party commits to its parts of two coins.
2. The computing parties compare what they heard, and toss the first coin. Owners that do not compute are told.
3. Of every owner the coin chooses one draw, which the owner opens by its seed. The other one it shares, as it shares rows.
4. The computing parties toss the second coin, which chooses the spares: some coordinates, the same in all steps.
5. They open the spares of every owner for itself, and test them (`protocols.mpc.noise_test`).
6. They tell one another and the owners what they found. Whatever one of them found ends the session at all of them.

What is left, added over the owners, is the noise of the training. No role waits for a message that its sender has not yet reason
to send: everybody sends what a step needs before it receives.

Learns: computing parties and owners the figures of the test; computing parties the spares and the draws that were opened, which
are used for nothing else. Nobody learns an owner's noise that is used, unless all computing parties pool.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import Channel, LinkExchange
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.noise_draws import OPENING_BYTES, Draw, commitment_to, fresh_draw, is_committed, opened_draw
from protocols.mpc.noise_test import Finding, NoiseTest, OwnerFigures, examine
from protocols.mpc.noise_verdict import Verdict, read_verdict, verdict_of
from protocols.plan.noise import COIN_BYTES, DIGEST_BYTES, PlannedNoise
from protocols.prg import AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes
from protocols.sharing import draw_ring, sum_ring

_TAG = b"confide.noise-coin/1"
_DRAWS = 2
_COINS = 2


class NoiseSharing:
    """One party's side of the step; `run` comes before any other message of the session.

    Args:
        design: of the noise, from the plan.
        party: this party.
        computing_parties: of the job, in order.
        keys: this party's key schedule.
        channels: to every other participant, by id.
        random: gives so many random bytes of this party's own.
    """

    def __init__(
        self,
        *,
        design: PlannedNoise,
        party: str,
        computing_parties: Sequence[str],
        keys: SessionKeys,
        channels: Mapping[str, Channel],
        random: Callable[[int], bytes],
    ) -> None:
        self._design = design
        self._party = party
        self._computing = tuple(computing_parties)
        self._keys = keys
        self._channels = channels
        self._random = random
        self._context = keys.handshake
        self._shares: dict[str, RingArray] = {}
        self._spare = np.empty(0, np.intp)
        self.rounds = 0
        self.tested: NoiseTest | None = None

    def run(self) -> None:
        """Draws, shares and tests the noise; a party that neither owns rows nor computes has nothing to do.

        Raises:
            ConfideError: NOISE_MISSING (the fault of the owner named, if any) if the test found something; BAD_FRAME (the fault
                of the party named) if a party told others otherwise, or opens another part of a coin than it committed to; what
                the links raise.
        """
        if self._party in self._computing:
            self._compute()
        elif self._party in self._design.owners:
            self._own()

    def take(self) -> RingArray:
        """Returns this computing party's share of the noise, (steps, used) int64 in units of the grid; once, after `run`."""
        total = sum_ring([self._shares[owner] for owner in self._design.owners])
        self._shares.clear()
        return np.delete(total, self._spare, axis=1)

    def _own(self) -> None:
        """The side of an owner that does not compute."""
        draws = self._draw()
        self._tell(self._computing, self._commitments(draws))
        coins = self._hear(self._computing, COIN_BYTES)
        coin = self._agreed(coins.values(), "told different first coins")
        kept = self._open_one(draws, coin)
        del draws
        self._share(kept)
        self._conclude(self._hear_verdicts(self._computing), self._computing[0])

    def _compute(self) -> None:
        """The side of a computing party, which may own rows too."""
        draws = self._draw() if self._party in self._design.owners else []
        parts = [self._random(COIN_BYTES) for _ in range(_COINS)]
        heard = self._commit(draws, parts)
        coin = self._first_coin(parts[0], heard)
        self._tell(self._outside, coin)
        self.rounds += bool(self._outside)
        openings = self._exchange_draws(draws, coin)
        del draws
        second = self._toss(1, parts[1], heard)
        self._spare = _chosen(second, self._design)
        spares = self._open_spares()
        findings, opened = self._check_openings(openings, coin, heard)
        figures = self._with_findings(examine(spares, opened, self._design.deviation), findings)
        verdict = verdict_of(spares, figures)
        self._tell((*self._peers, *self._outside), verdict.to_bytes())
        self.rounds += 1
        self._conclude({self._party: verdict, **self._hear_verdicts(self._peers)}, self._party)

    # 1 commitments

    def _draw(self) -> list[Draw]:
        design = self._design
        return [fresh_draw(design.num_elements, design.deviation, self._random) for _ in range(_DRAWS)]

    def _commitments(self, draws: Sequence[Draw]) -> bytes:
        return b"".join(
            commitment_to(draw, context=self._context, owner=self._party, index=index) for index, draw in enumerate(draws)
        )

    def _commit(self, draws: Sequence[Draw], parts: Sequence[bytes]) -> dict[str, bytes]:
        """Returns everybody's commitments: of a computing party to its parts of the coins, then of an owner to its draws."""
        said = b"".join(self._coin_commitment(self._party, index, part) for index, part in enumerate(parts))
        said += self._commitments(draws)
        self._tell(self._peers, said)
        self.rounds += 1
        heard = {self._party: said}
        for peer in (*self._peers, *self._outside):
            count = _COINS * (peer in self._computing) + _DRAWS * (peer in self._design.owners)
            heard |= self._hear([peer], count * DIGEST_BYTES)
        return heard

    def _coin_commitment(self, party: str, index: int, part: bytes) -> bytes:
        return _digest((_TAG, self._context.encode(), party.encode(), bytes([index]), part))

    # 2 and 4 coins

    def _first_coin(self, part: bytes, heard: Mapping[str, bytes]) -> bytes:
        # What everybody heard goes with it: a party that commits to different things at different parties shows before anything
        # depends on it.
        everything = _digest(heard[party] for party in (*self._computing, *self._outside))
        return self._toss(0, part, heard, everything)

    def _toss(self, index: int, part: bytes, heard: Mapping[str, bytes], compared: bytes = b"") -> bytes:
        """Opens this party's part of a coin and returns the coin, after all parts have been checked."""
        self._tell(self._peers, compared + part)
        self.rounds += 1
        parts = {self._party: part}
        for peer, said in self._hear(self._peers, len(compared) + COIN_BYTES).items():
            if said[: len(compared)] != compared:
                raise ConfideError(ErrorCode.BAD_FRAME, "participants heard different commitments to the noise", party=peer)
            parts[peer] = said[len(compared) :]
            committed = heard[peer][index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            if not hmac.compare_digest(self._coin_commitment(peer, index, parts[peer]), committed):
                what = f"{peer} opens another part of a coin than it committed to"
                raise ConfideError(ErrorCode.BAD_FRAME, what, party=peer)
        return _digest((_TAG, bytes([index]), *(parts[party] for party in self._computing)))

    # 3 one draw is opened, the other one shared

    def _exchange_draws(self, draws: Sequence[Draw], coin: bytes) -> dict[str, bytes]:
        """Returns what opens one draw of every owner; afterwards this party has a share of the other one."""
        openings = {}
        if draws:
            openings[self._party] = draws[_opened_index(coin, self._party)].opening
            self._share(self._open_one(draws, coin))
        self.rounds += 1
        for owner in self._design.owners:
            if owner != self._party:
                openings |= self._hear([owner], OPENING_BYTES)
                self._shares[owner] = self._share_of(owner)
        return openings

    def _open_one(self, draws: Sequence[Draw], coin: bytes) -> RingArray:
        """Opens the draw that the coin chose to all computing parties, and returns the other one."""
        index = _opened_index(coin, self._party)
        self._tell([party for party in self._computing if party != self._party], draws[index].opening)
        return draws[1 - index].values

    def _share(self, values: RingArray) -> None:
        """Shares this owner's noise: as rows, every party but one expands its share, and that one has what is left."""
        others = [party for party in self._computing if party != self._rest_of(self._party)]
        rest = values - sum_ring([self._expand(self._party, party) for party in others])
        if self._rest_of(self._party) == self._party:
            self._shares[self._party] = self._by_step(rest)
        else:
            self._channels[self._rest_of(self._party)].send_bytes(rest.view(np.uint8))

    def _share_of(self, owner: str) -> RingArray:
        if self._rest_of(owner) == self._party:
            return self._by_step(self._channels[owner].receive_bytes(8 * self._design.num_elements).view(np.int64))
        return self._by_step(self._expand(owner, self._party))

    def _rest_of(self, owner: str) -> str:
        return owner if owner in self._computing else self._computing[-1]

    def _expand(self, owner: str, party: str) -> RingArray:
        return draw_ring(self._keys.open_stream(Label.NOISE, owner, party), (self._design.num_elements,))

    def _by_step(self, values: RingArray) -> RingArray:
        return values.reshape(self._design.steps, self._design.width)

    # 5 spares

    def _open_spares(self) -> dict[str, RingArray]:
        mine = np.stack([self._shares[owner][:, self._spare] for owner in self._design.owners])
        self.rounds += 1
        opened = LinkExchange([self._channels[peer] for peer in self._peers]).open([mine], []).numbers[0]
        return dict(zip(self._design.owners, opened, strict=True))

    def _check_openings(
        self, openings: Mapping[str, bytes], coin: bytes, heard: Mapping[str, bytes]
    ) -> tuple[dict[str, Finding], dict[str, RingArray]]:
        """Samples the opened draws again; returns who opened another one, and of the others' the values at the spares' places."""
        findings, opened = {}, {}
        for owner in self._design.owners:
            draw = opened_draw(openings[owner], self._design.num_elements, self._design.deviation)
            index = _opened_index(coin, owner)
            start = (_COINS * (owner in self._computing) + index) * DIGEST_BYTES
            committed = heard[owner][start : start + DIGEST_BYTES]
            if is_committed(draw, committed, context=self._context, owner=owner, index=index):
                opened[owner] = self._by_step(draw.values)[:, self._spare]
            else:
                findings[owner] = Finding.OTHER_DRAW
        return findings, opened

    @staticmethod
    def _with_findings(figures: Iterable[OwnerFigures], findings: Mapping[str, Finding]) -> tuple[OwnerFigures, ...]:
        return tuple(OwnerFigures.of(each.owner, each.numbers, findings.get(each.owner, each.finding)) for each in figures)

    # 6 verdict

    def _hear_verdicts(self, parties: Iterable[str]) -> dict[str, Verdict]:
        heard = self._hear(parties, self._design.verdict_bytes)
        return {party: read_verdict(said, self._design.owners, party=party) for party, said in heard.items()}

    def _conclude(self, verdicts: Mapping[str, Verdict], by: str) -> None:
        """Keeps the result as the party `by` found it, and ends the session if anybody found anything, or saw other spares.

        Raises:
            ConfideError: NOISE_MISSING or BAD_FRAME; see `run`.
        """
        mine = verdicts[by]
        for each in mine.figures:
            if each.finding is not Finding.NOTHING:
                what = f"the noise of {each.owner} failed its test: {each.finding.in_words}"
                raise ConfideError(ErrorCode.NOISE_MISSING, what, party=each.owner)
        self._agreed([verdict.seen for verdict in verdicts.values()], "opened different spares of the noise")
        for party, verdict in verdicts.items():
            for each in verdict.figures:
                if each.finding is not Finding.NOTHING:
                    # Not seen here, so it accuses nobody: who says it may be wrong.
                    what = f"{party} alone says that the noise of {each.owner} failed its test"
                    raise ConfideError(ErrorCode.NOISE_MISSING, what)
        self.tested = NoiseTest(self._design.steps, self._design.spares, self._design.deviation, mine.figures)

    @staticmethod
    def _agreed(said: Iterable[bytes], what: str) -> bytes:
        first, *others = said
        if any(other != first for other in others):
            raise ConfideError(ErrorCode.BAD_FRAME, f"the computing parties {what}")
        return first

    # messages

    @property
    def _peers(self) -> list[str]:
        return [party for party in self._computing if party != self._party]

    @property
    def _outside(self) -> list[str]:
        return [owner for owner in self._design.owners if owner not in self._computing]

    def _tell(self, parties: Iterable[str], said: bytes) -> None:
        for party in parties:
            self._channels[party].send_bytes(np.frombuffer(said, np.uint8))

    def _hear(self, parties: Iterable[str], count: int) -> dict[str, bytes]:
        return {party: self._channels[party].receive_bytes(count).tobytes() for party in parties}


def _opened_index(coin: bytes, owner: str) -> int:
    """Which of an owner's two draws is opened."""
    return _digest((_TAG, coin, owner.encode()))[0] & 1


def _chosen(coin: bytes, design: PlannedNoise) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Returns the spares in order: `spares` of the `width` coordinates, any choice with the same chance."""
    ranks = draw_ring(AesCtrStream(SecretBytes(coin)), (design.width,))
    return np.sort(np.argsort(ranks, kind="stable")[: design.spares])


def _digest(fields: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()
