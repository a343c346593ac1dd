"""The noise of a private training: every owner draws it, commits to it, shares it, and it is tested before anything is opened.

Steps, each of which sends what is its own at its end and hears at its beginning what the others sent in the one before
(docs/protocols/noise.md):

1. `begin`: every owner makes two draws, commits to both and shares both, as it shares rows; every computing party commits to its
   part of a coin.
2. `toss`: every computing party opens its part of the coin, once all commitments and shares are here.
3. `open`: the coin chooses, of every owner, the draw that is opened; the other one is used. And it chooses the spares: some
   coordinates, the same in all steps. Openings and spares are sent.
4. `check` and `test`: everybody samples the opened draws again and tests the spares (`protocols.mpc.noise_test`), of every owner
   for itself.
5. `conclude`: whatever a computing party found ends the session at all parties.

After `open` a computing party has its share of the noise of the training: the draws that are used, added over the owners, without
the spares. Whoever opens something that the noise protects concludes first; a training that opens nothing of a step makes steps
in between, so that nobody waits for any of this (`protocols.mpc.noise_beside`).

Learns: computing parties and owners the figures of the test; computing parties the spares and the draws that were opened, which
are used for nothing else. Nobody learns an owner's noise that is used, unless all computing parties pool.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.keys import Label, SessionKeys
from protocols.mpc.late_channel import Due, LateChannel
from protocols.mpc.noise_coin import Choice, choice_of, coin_of, commitment_to_part, fresh_part
from protocols.mpc.noise_draws import OPENING_BYTES, Draw, commitment_to, digest_of, fresh_draws, is_committed, opened_draws
from protocols.mpc.noise_test import Finding, NoiseTest, OwnerFigures, examine
from protocols.mpc.noise_verdict import Verdict, check_verdicts, finding_of, read_verdict, verdict_of
from protocols.mpc.round_mail import RoundMail
from protocols.plan.noise import COIN_BYTES, DIGEST_BYTES, NUM_DRAWS, PlannedNoise
from protocols.ring import RingArray
from protocols.sharing import draw_ring, sum_ring


class NoiseSharing:
    """One party's side of the noise.

    A party that neither owns rows nor computes has nothing to do in any of the steps; one that does not compute has nothing to do
    in `toss`, `check` and `test`. At a computing party `expect_outside` says that the next messages of owners that do not compute
    are what they send in `begin`, and `expect_openings` that they are what they send in `open`: where other messages come in
    between, all parties have these at the same places of the order.

    Args:
        design: of the noise, from the plan.
        party: this party.
        computing_parties: of the job, in order.
        keys: this party's key schedule.
        channels: to every other participant, by id.
        random: gives so many random bytes of this party's own.

    Attributes:
        design: see above.
        mail: what computing parties tell one another.
        rounds: of messages of computing parties so far.
        is_taken: whether the share of the noise was taken.
        tested: the result of the test, once it has passed.
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
        self._computes = party in self._computing
        self._owns = party in design.owners
        self._peers = [name for name in self._computing if name != party]
        self._outside = [owner for owner in design.owners if owner not in self._computing]
        self.mail = RoundMail({peer: channels[peer] for peer in self._peers if self._computes})
        self._context = keys.handshake
        self._draws: list[Draw] = []
        self._part = b""
        self._heard: dict[str, bytes] = {}
        self._compared = b""
        self._coin = b""
        self._choice = Choice({}, np.empty(0, np.intp), np.empty(0, np.intp))
        self._rests: dict[str, RingArray] = {}
        self._opened: Draw | None = None
        self._shares: RingArray | None = None
        self._spare_shares = np.empty(0, np.int64)
        self._due_outside: dict[str, Due] = {}
        self._spares = np.empty(0, np.int64)
        self._findings: dict[str, Finding] = {}
        self._opened_spares: dict[str, RingArray] = {}
        self._figures: tuple[OwnerFigures, ...] = ()
        self._verdict: Verdict | None = None
        self.rounds = 0
        self.is_taken = False
        self.tested: NoiseTest | None = None

    def run(self) -> None:
        """Takes all steps after each other; raises what they raise."""
        self.begin()
        self.expect_outside()
        self.toss()
        self.open()
        self.expect_openings()
        self.check()
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
            self._part = fresh_part(self._random, context=self._context, party=self._party)
            bound = commitment_to_part(self._part, context=self._context, party=self._party)
            said = bound + self._commitments(self._draws)
            self._heard[self._party] = said
            self._post(said, self._commitments_bytes)
        elif self._owns:
            said = self._commitments(self._draws)
            self._tell(self._computing[:-1], said)
            rests = [self._rest(draw.values, pads).tobytes() for draw, pads in zip(self._draws, self._pads(), strict=True)]
            self._tell(self._computing[-1:], said + b"".join(rests))

    def expect_outside(self) -> None:
        """Says that owners that do not compute send commitments and shares next; waits for nobody."""
        if not self._computes:
            return
        rests = 8 * NUM_DRAWS * self.design.num_elements if self._party == self._computing[-1] else 0
        for owner in self._outside:
            self._due_outside[owner] = self._channels[owner].expect_bytes(self._commitments_bytes(owner) + rests)

    def toss(self) -> None:
        """Opens a computing party's part of the coin; waits for commitments and for what is left of draws.

        Raises:
            ConfideError: what the links raise.
        """
        if not self._computes:
            return
        self._heard |= self.mail.take()
        # What others shared is here before this party opens its part, so before the coin is known to anybody.
        for owner, said in self._taken_outside().items():
            size = self._commitments_bytes(owner)
            self._heard[owner] = said[:size]
            if len(said) > size:
                self._rests[owner] = np.frombuffer(said, np.int64, offset=size).reshape(NUM_DRAWS, -1)
        self._open_part()

    def open(self) -> None:
        """Sends what the coin chose; waits for the others' parts of it, or for the coin.

        Raises:
            ConfideError: BAD_FRAME (nobody's provably) if the computing parties heard different things, or (the fault of the
                party named) if one opens another part of the coin than it committed to; what the links raise.
        """
        if self._computes:
            self._coin = self._tossed()
            self._tell(self._outside, self._coin)
            self.rounds += bool(self._outside)
            self._choice = choice_of(self._coin, self.design)
            self._shares = self._taken_shares()
            self._send_openings(self._shares)
        elif self._owns:
            self._coin = self._agreed(self._hear(self._computing, COIN_BYTES).values(), "told different coins")
            self._choice = choice_of(self._coin, self.design)
            self._tell(self._computing, self._draws[self._choice.opened[self._party]].opening)
        self._draws, self._rests = [], {}

    def take(self) -> RingArray:
        """Returns this computing party's share of the noise, (steps, used) int64 in units of the grid; once, after `open`."""
        if self._shares is None:
            raise ConfideError(ErrorCode.INTERNAL, "noise that is not there was taken")
        total: RingArray = self._shares.sum(axis=0)
        self._shares = None
        self.is_taken = True
        return total.take(self._choice.used, axis=1)

    def expect_openings(self) -> None:
        """Says that owners that do not compute send what opens a draw next; waits for nobody."""
        if self._computes:
            self._due_outside = {owner: self._channels[owner].expect_bytes(OPENING_BYTES) for owner in self._outside}

    def check(self) -> None:
        """Opens the spares at a computing party and samples the others' opened draws again; waits for what was opened.

        Raises:
            ConfideError: what the links raise.
        """
        if not self._computes:
            return
        openings, total = self._taken_outside(), self._spare_shares
        for peer, said in self.mail.take().items():
            size = len(said) - self.design.spare_bytes
            total = total + np.frombuffer(said, np.int64, offset=size).reshape(total.shape)
            if size:
                openings[peer] = said[:size]
        self._spares = total
        self._check_openings(openings)
        if self._opened is not None:
            # What this party opened itself it need not sample: it would believe itself whatever it did.
            self._opened_spares[self._party] = self._spares_of(self._opened)

    def test(self) -> None:
        """Tests the noise at a computing party, and tells what it found; waits for nobody.

        Raises:
            ConfideError: INTERNAL (ours) if nobody has looked at what an owner opened; what the links raise.
        """
        if not self._computes:
            return
        if {*self._opened_spares, *self._findings} != set(self.design.owners):
            raise ConfideError(ErrorCode.INTERNAL, "the noise of an owner was not sampled again")
        owners, deviation = self.design.owners, self.design.deviation
        self._figures = self._with_findings(examine(self._spares, self._opened_spares, owners=owners, deviation=deviation))
        self._verdict = verdict_of(self._spares, self._figures)
        said = self._verdict.to_bytes()
        self._tell(self._outside, said)
        self._post(said, lambda _: self.design.verdict_bytes)

    def conclude(self) -> None:
        """Keeps the result of the test, or ends the session if anybody found anything; waits for what all found.

        Raises:
            ConfideError: NOISE_MISSING (the fault of the owner named, if any) if the test found something; BAD_FRAME (nobody's
                provably) if parties saw different spares; what the links raise.
        """
        if self._computes or self._owns:
            heard = {} if self._verdict is None else {self._party: self._verdict}
            said = self.mail.take() if self._computes else self._hear(self._computing, self.design.verdict_bytes)
            heard |= {party: read_verdict(each, self.design.owners, party=party) for party, each in said.items()}
            check_verdicts(heard, party=self._party)
            figures = self._figures or heard[self._computing[0]].figures
            self.tested = NoiseTest(self.design.steps, self.design.spares, self.design.deviation, figures)

    @property
    def finding(self) -> ConfideError | None:
        """What this party has found and told: NOISE_MISSING (the fault of the owner named), or None."""
        return None if self._verdict is None else finding_of(self._verdict)

    # 1 draws and commitments

    def _draw(self) -> list[Draw]:
        design = self.design
        return fresh_draws(design.num_elements, design.deviation, self._random, context=self._context, owner=self._party)

    def _commitments(self, draws: Sequence[Draw]) -> bytes:
        return b"".join(
            commitment_to(draw, context=self._context, owner=self._party, index=index) for index, draw in enumerate(draws)
        )

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

    def _commitments_bytes(self, party: str) -> int:
        """Bytes of a party's commitments: of a computing party to its part of the coin first."""
        return ((party in self._computing) + NUM_DRAWS * (party in self.design.owners)) * DIGEST_BYTES

    # 2 and 3 the coin, and what it chose

    def _open_part(self) -> None:
        # What everybody heard goes with it: a party that commits to different things at different parties shows before anything
        # depends on it.
        self._compared = digest_of(self._heard[party] for party in (*self._computing, *self._outside))
        self._post(self._compared + self._part, lambda _: DIGEST_BYTES + COIN_BYTES)

    def _tossed(self) -> bytes:
        """Returns the coin, after all parts have been checked."""
        parts = {self._party: self._part}
        for peer, said in self.mail.take().items():
            if said[:DIGEST_BYTES] != self._compared:
                # Who told them so, this party cannot know: the peer, or a third party that told two of them different things.
                raise ConfideError(ErrorCode.BAD_FRAME, "participants heard different commitments to the noise")
            parts[peer] = said[DIGEST_BYTES:]
            bound = commitment_to_part(parts[peer], context=self._context, party=peer)
            if not hmac.compare_digest(bound, self._heard[peer][:DIGEST_BYTES]):
                what = f"{peer} opens another part of a coin than it committed to"
                raise ConfideError(ErrorCode.BAD_FRAME, what, party=peer)
        return coin_of(parts[party] for party in self._computing)

    def _taken_shares(self) -> RingArray:
        """Returns this party's shares of the draws that are used, (owners, steps, width)."""
        shares = np.empty((len(self.design.owners), self.design.num_elements), np.int64)
        for owner, share in zip(self.design.owners, shares, strict=True):
            kept = 1 - self._choice.opened[owner]
            if owner == self._party:
                share[:] = self._rest(self._draws[kept].values, self._pads()[kept])
            else:
                share[:] = (self._rests[owner] if self._rest_of(owner) == self._party else self._expand(owner, self._party))[kept]
        return shares.reshape(-1, self.design.steps, self.design.width)

    def _spares_of(self, draw: Draw) -> RingArray:
        return draw.values.reshape(self.design.steps, self.design.width).take(self._choice.spares, axis=1)

    def _send_openings(self, shares: RingArray) -> None:
        """Sends what opens one draw of this owner, and this party's shares of the spares of all owners."""
        if self._owns:
            self._opened = self._draws[self._choice.opened[self._party]]
        opening = b"" if self._opened is None else self._opened.opening
        self._spare_shares = shares.take(self._choice.spares, axis=2)
        self._post(opening + self._spare_shares.tobytes(), self._openings_bytes)

    def _openings_bytes(self, party: str) -> int:
        return OPENING_BYTES * (party in self.design.owners) + self.design.spare_bytes

    # 4 the test

    def _check_openings(self, openings: Mapping[str, bytes]) -> None:
        """Samples opened draws again: keeps of every owner the values at the spares' places, or that it is another draw."""
        draws = opened_draws([*openings.values()], self.design.num_elements, self.design.deviation)
        for owner, draw in zip(openings, draws, strict=True):
            index = self._choice.opened[owner]
            start = ((owner in self._computing) + index) * DIGEST_BYTES
            committed = self._heard[owner][start : start + DIGEST_BYTES]
            if is_committed(draw, committed, context=self._context, owner=owner, index=index):
                self._opened_spares[owner] = self._spares_of(draw)
            else:
                self._findings[owner] = Finding.OTHER_DRAW

    def _with_findings(self, figures: tuple[OwnerFigures, ...]) -> tuple[OwnerFigures, ...]:
        if not self._findings:
            return figures
        return tuple(OwnerFigures.of(each.owner, each.numbers, self._findings.get(each.owner, each.finding)) for each in figures)

    @staticmethod
    def _agreed(said: Iterable[bytes], what: str) -> bytes:
        first, *others = said
        if any(other != first for other in others):
            raise ConfideError(ErrorCode.BAD_FRAME, f"the computing parties {what}")
        return first

    # messages

    def _tell(self, parties: Iterable[str], said: bytes) -> None:
        for party in parties:
            self._channels[party].send_bytes(np.frombuffer(said, np.uint8))

    def _hear(self, parties: Iterable[str], count: int) -> dict[str, bytes]:
        return {party: self._channels[party].receive_bytes(count).tobytes() for party in parties}

    def _post(self, said: bytes, count_of: Callable[[str], int]) -> None:
        """Tells the other computing parties; `count_of` gives how many bytes each of them tells in the same step."""
        self.mail.post(said, {peer: count_of(peer) for peer in self._peers})
        self.rounds += 1

    def _taken_outside(self) -> dict[str, bytes]:
        """Takes what is due of owners that do not compute."""
        due, self._due_outside = self._due_outside, {}
        return {owner: each.take().tobytes() for owner, each in due.items()}
