"""The noise of a private training: every owner draws it, commits to it, shares it, and it is tested before anything is opened.

Four steps, each of which sends what is its own before it waits for anybody (docs/protocols/noise.md):

1. `begin`: every owner makes two draws, commits to both and shares both, as it shares rows; every computing party commits to its
   part of a coin.
2. `toss`: the computing parties compare what they heard, and toss the coin. It chooses, of every owner, the draw that is opened;
   the other one is used. And it chooses the spares: some coordinates, the same in all steps. Openings and spares are sent.
3. `test`: everybody samples the opened draws again and tests the spares (`protocols.mpc.noise_test`), of every owner for itself.
4. `conclude`: whatever a computing party found ends the session at all parties.

After `toss` a computing party has its share of the noise of the training: the draws that are used, added over the owners, without
the spares. Whoever opens something that the noise protects concludes first; a training that opens nothing of a step makes steps
in between, so that nobody waits for commitments, openings, spares and verdicts.

Learns: computing parties and owners the figures of the test; computing parties the spares and the draws that were opened, which
are used for nothing else. Nobody learns an owner's noise that is used, unless all computing parties pool.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.late_channel import Due, LateChannel
from protocols.mpc.noise_draws import OPENING_BYTES, Draw, commitment_to, fresh_draw, is_committed, opened_draw
from protocols.mpc.noise_test import Finding, NoiseTest, OwnerFigures, examine
from protocols.mpc.noise_verdict import Verdict, read_verdict, verdict_of
from protocols.plan.noise import COIN_BYTES, DIGEST_BYTES, NUM_DRAWS, PlannedNoise
from protocols.prg import AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes
from protocols.sharing import draw_ring, sum_ring

_TAG = b"confide.noise-coin/2"


class NoiseSharing:
    """One party's side of the noise; `begin` comes before any other message of the session.

    A party that neither owns rows nor computes has nothing to do in any of the steps.

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
        channels: Mapping[str, LateChannel],
        random: Callable[[int], bytes],
    ) -> None:
        self.design = design
        self._party = party
        self._computing = tuple(computing_parties)
        self._keys = keys
        self._channels = channels
        self._random = random
        self._context = keys.handshake
        self._draws: list[Draw] = []
        self._part = b""
        self._heard: dict[str, bytes] = {}
        self._coin = b""
        self._opened: Draw | None = None
        self._spare = np.empty(0, np.intp)
        self._shares: dict[str, RingArray] = {}
        self._spare_shares = np.empty(0, np.int64)
        self._due: dict[str, Due] = {}
        self._due_rests: dict[str, Due] = {}
        self._verdict: Verdict | None = None
        self.rounds = 0
        self.is_taken = False
        self.tested: NoiseTest | None = None

    def run(self) -> None:
        """Takes all steps after each other; raises what they raise."""
        self.begin()
        self.toss()
        self.test()
        self.conclude()

    def begin(self) -> None:
        """Draws and shares this party's noise, and commits to it; waits for nobody.

        Raises:
            ConfideError: what the links raise.
        """
        if self._owns:
            self._draws = self._draw()
        if self._computes:
            self._part = self._random(COIN_BYTES)
            said = self._coin_commitment(self._party, self._part) + self._commitments(self._draws)
            self._heard[self._party] = said
            self._tell(self._peers, said)
            self.rounds += 1
            self._expect_commitments()
        elif self._owns:
            self._tell(self._computing, self._commitments(self._draws))
            rests = [self._rest(draw.values, pads) for draw, pads in zip(self._draws, self._pads(), strict=True)]
            self._channels[self._computing[-1]].send_bytes(np.concatenate(rests).view(np.uint8))

    def toss(self) -> None:
        """Opens this party's part of the coin, then what the coin chose; waits for commitments, and for the others' parts.

        Raises:
            ConfideError: BAD_FRAME (nobody's provably) if the computing parties heard different things, or (the fault of the
                party named) if one opens another part of the coin than it committed to; what the links raise.
        """
        if self._computes:
            self._heard |= self._taken()
            # What others shared is here before this party opens its part, so before the coin is known to anybody.
            rests = {owner: due.take().view(np.int64).reshape(NUM_DRAWS, -1) for owner, due in self._due_rests.items()}
            self._coin = self._tossed()
            self._tell(self._outside, self._coin)
            self.rounds += bool(self._outside)
            self._spare = _chosen(self._coin, self.design)
            self._shares = {owner: self._share_of(owner, rests) for owner in self.design.owners}
            self._send_openings()
        elif self._owns:
            self._coin = self._agreed(self._hear(self._computing, COIN_BYTES).values(), "told different coins")
            self._tell(self._computing, self._draws[self._opened_index(self._party)].opening)
        self._draws, self._due_rests = [], {}

    def take(self) -> RingArray:
        """Returns this computing party's share of the noise, (steps, used) int64 in units of the grid; once, after `toss`."""
        total = sum_ring([self._shares[owner] for owner in self.design.owners])
        self._shares = {}
        self.is_taken = True
        return np.delete(total, self._spare, axis=1)

    def test(self) -> None:
        """Tests the spares and the opened draws at a computing party, and tells what it found; waits for them.

        Raises:
            ConfideError: what the links raise.
        """
        if not self._computes:
            return
        openings, spares = self._hear_openings()
        findings, opened = self._check_openings(openings)
        figures = self._with_findings(examine(spares, opened, self.design.deviation), findings)
        self._verdict = verdict_of(spares, figures)
        self._tell((*self._peers, *self._outside), self._verdict.to_bytes())
        self.rounds += 1
        self._due = {peer: self._channels[peer].expect_bytes(self.design.verdict_bytes) for peer in self._peers}

    def conclude(self) -> None:
        """Keeps the result of the test, or ends the session if anybody found anything; waits for what all found.

        Raises:
            ConfideError: NOISE_MISSING (the fault of the owner named, if any) if the test found something; BAD_FRAME (nobody's
                provably) if parties saw different spares; what the links raise.
        """
        if self._computes or self._owns:
            heard = {} if self._verdict is None else {self._party: self._verdict}
            said = self._taken() if self._computes else self._hear(self._computing, self.design.verdict_bytes)
            heard |= {party: read_verdict(each, self.design.owners, party=party) for party, each in said.items()}
            self._conclude(heard, self._party if self._computes else self._computing[0])

    # 1 draws and commitments

    def _draw(self) -> list[Draw]:
        design = self.design
        return [fresh_draw(design.num_elements, design.deviation, self._random) for _ in range(NUM_DRAWS)]

    def _commitments(self, draws: Sequence[Draw]) -> bytes:
        return b"".join(
            commitment_to(draw, context=self._context, owner=self._party, index=index) for index, draw in enumerate(draws)
        )

    def _coin_commitment(self, party: str, part: bytes) -> bytes:
        return _digest((_TAG, self._context.encode(), party.encode(), part))

    def _rest(self, values: RingArray, pads: RingArray) -> RingArray:
        """Shares a draw of this owner: as of rows, every party but one expands its share, and that one has what is left."""
        return values - pads

    def _pads(self) -> RingArray:
        """Returns what the other parties expand of both draws of this owner, (2, elements)."""
        others = [party for party in self._computing if party != self._rest_of(self._party)]
        return sum_ring([self._expand(self._party, party) for party in others])

    def _rest_of(self, owner: str) -> str:
        return owner if owner in self._computing else self._computing[-1]

    def _expand(self, owner: str, party: str) -> RingArray:
        return draw_ring(self._keys.open_stream(Label.NOISE, owner, party), (NUM_DRAWS, self.design.num_elements))

    def _expect_commitments(self) -> None:
        """Expects everybody's commitments, of a computing party to its part of the coin first; and what is left of draws."""
        for party in (*self._peers, *self._outside):
            count = (party in self._computing) + NUM_DRAWS * (party in self.design.owners)
            self._due[party] = self._channels[party].expect_bytes(count * DIGEST_BYTES)
        if self._party == self._computing[-1]:
            count = 8 * NUM_DRAWS * self.design.num_elements
            self._due_rests = {owner: self._channels[owner].expect_bytes(count) for owner in self._outside}

    # 2 the coin, and what it chose

    def _tossed(self) -> bytes:
        """Opens this party's part of the coin and returns the coin, after all parts have been checked."""
        # What everybody heard goes with it: a party that commits to different things at different parties shows before anything
        # depends on it.
        compared = _digest(self._heard[party] for party in (*self._computing, *self._outside))
        self._tell(self._peers, compared + self._part)
        self.rounds += 1
        parts = {self._party: self._part}
        for peer, said in self._hear(self._peers, DIGEST_BYTES + COIN_BYTES).items():
            if said[:DIGEST_BYTES] != compared:
                # Who told them so, this party cannot know: the peer, or a third party that told two of them different things.
                raise ConfideError(ErrorCode.BAD_FRAME, "participants heard different commitments to the noise")
            parts[peer] = said[DIGEST_BYTES:]
            if not hmac.compare_digest(self._coin_commitment(peer, parts[peer]), self._heard[peer][:DIGEST_BYTES]):
                what = f"{peer} opens another part of a coin than it committed to"
                raise ConfideError(ErrorCode.BAD_FRAME, what, party=peer)
        return _digest((_TAG, b"coin", *(parts[party] for party in self._computing)))

    def _opened_index(self, owner: str) -> int:
        """Which of an owner's two draws is opened."""
        return _digest((_TAG, b"draw", self._coin, owner.encode()))[0] & 1

    def _share_of(self, owner: str, rests: Mapping[str, RingArray]) -> RingArray:
        """Returns this party's share of the draw of an owner that is used."""
        kept = 1 - self._opened_index(owner)
        if owner == self._party:
            return self._by_step(self._rest(self._draws[kept].values, self._pads()[kept]))
        shares = rests[owner] if self._rest_of(owner) == self._party else self._expand(owner, self._party)
        return self._by_step(shares[kept])

    def _by_step(self, values: RingArray) -> RingArray:
        return values.reshape(self.design.steps, self.design.width)

    def _send_openings(self) -> None:
        """Sends what opens one draw of this owner, and this party's shares of the spares of all owners."""
        if self._owns:
            self._opened = self._draws[self._opened_index(self._party)]
        opening = b"" if self._opened is None else self._opened.opening
        self._spare_shares = np.stack([self._shares[owner][:, self._spare] for owner in self.design.owners])
        self._tell(self._peers, opening + self._spare_shares.tobytes())
        self.rounds += 1
        self._due = {peer: self._channels[peer].expect_bytes(self._openings_bytes(peer)) for peer in self._peers}

    def _openings_bytes(self, party: str) -> int:
        return OPENING_BYTES * (party in self.design.owners) + self.design.spare_bytes

    # 3 the test

    def _hear_openings(self) -> tuple[dict[str, bytes], dict[str, RingArray]]:
        """Returns what opens a draw of every other owner, and the spares of all."""
        openings, total = {}, self._spare_shares
        for peer, said in self._taken().items():
            size = len(said) - self.design.spare_bytes
            if size:
                openings[peer] = said[:size]
            total = total + np.frombuffer(said, np.int64, offset=size).reshape(total.shape)
        openings |= self._hear(self._outside, OPENING_BYTES)
        return openings, dict(zip(self.design.owners, total, strict=True))

    def _check_openings(self, openings: Mapping[str, bytes]) -> tuple[dict[str, Finding], dict[str, RingArray]]:
        """Samples others' opened draws again; returns who opened another one, and the values at the spares' places.

        What this party opened itself it need not sample: it would believe itself whatever it did.
        """
        findings, opened = {}, {}
        for owner in self.design.owners:
            if owner == self._party:
                draw = self._opened
            else:
                draw = opened_draw(openings[owner], self.design.num_elements, self.design.deviation)
                index = self._opened_index(owner)
                start = ((owner in self._computing) + index) * DIGEST_BYTES
                committed = self._heard[owner][start : start + DIGEST_BYTES]
                if not is_committed(draw, committed, context=self._context, owner=owner, index=index):
                    findings[owner] = Finding.OTHER_DRAW
                    continue
            if draw is not None:
                opened[owner] = self._by_step(draw.values)[:, self._spare]
        return findings, opened

    @staticmethod
    def _with_findings(figures: Iterable[OwnerFigures], findings: Mapping[str, Finding]) -> tuple[OwnerFigures, ...]:
        return tuple(OwnerFigures.of(each.owner, each.numbers, findings.get(each.owner, each.finding)) for each in figures)

    # 4 the result

    def _conclude(self, verdicts: Mapping[str, Verdict], by: str) -> None:
        """Keeps the result as the party `by` found it, and ends the session if anybody found anything, or saw other spares.

        Raises:
            ConfideError: NOISE_MISSING or BAD_FRAME; see `conclude`.
        """
        mine = verdicts[by]
        for index, each in enumerate(mine.figures):
            judges = [party for party in verdicts if party != each.owner]
            accusers = [party for party in verdicts if verdicts[party].figures[index].finding is not Finding.NOTHING]
            # An owner that does not compute has only what others say: one of them alone, whichever it is, proves nothing.
            has_seen = by == self._party and by in accusers
            if has_seen or (len(accusers) > 1 and set(judges) <= set(accusers)):
                finding = verdicts[by if by in accusers else judges[0]].figures[index].finding
                what = f"the noise of {each.owner} failed its test: {finding.in_words}"
                raise ConfideError(ErrorCode.NOISE_MISSING, what, party=each.owner)
        self._agreed([verdict.seen for verdict in verdicts.values()], "opened different spares of the noise")
        for party, verdict in verdicts.items():
            for each in verdict.figures:
                if each.finding is not Finding.NOTHING:
                    # Neither seen here nor said by all that could see it, so it accuses nobody: who says it may be wrong.
                    what = f"{party} alone says that the noise of {each.owner} failed its test"
                    raise ConfideError(ErrorCode.NOISE_MISSING, what)
        self.tested = NoiseTest(self.design.steps, self.design.spares, self.design.deviation, mine.figures)

    @staticmethod
    def _agreed(said: Iterable[bytes], what: str) -> bytes:
        first, *others = said
        if any(other != first for other in others):
            raise ConfideError(ErrorCode.BAD_FRAME, f"the computing parties {what}")
        return first

    # messages

    @property
    def _computes(self) -> bool:
        return self._party in self._computing

    @property
    def _owns(self) -> bool:
        return self._party in self.design.owners

    @property
    def _peers(self) -> list[str]:
        return [party for party in self._computing if party != self._party]

    @property
    def _outside(self) -> list[str]:
        return [owner for owner in self.design.owners if owner not in self._computing]

    def _tell(self, parties: Iterable[str], said: bytes) -> None:
        for party in parties:
            self._channels[party].send_bytes(np.frombuffer(said, np.uint8))

    def _hear(self, parties: Iterable[str], count: int) -> dict[str, bytes]:
        return {party: self._channels[party].receive_bytes(count).tobytes() for party in parties}

    def _taken(self) -> dict[str, bytes]:
        """Takes what is due of the other computing parties."""
        due, self._due = self._due, {}
        return {peer: each.take().tobytes() for peer, each in due.items()}


def _chosen(coin: bytes, design: PlannedNoise) -> NDArray[np.intp]:
    """Returns the spares in order: `spares` of the `width` coordinates, any choice with the same chance."""
    ranks = draw_ring(AesCtrStream(SecretBytes(_digest((_TAG, b"spares", coin)))), (design.width,))
    return np.sort(np.argsort(ranks, kind="stable")[: design.spares])


def _digest(fields: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()
