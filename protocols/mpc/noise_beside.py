"""The steps of the noise beside a training on shares, which opens nothing that the noise protects.

A computing party waits for the others in every round of an opening. There it takes one step of the noise at a time, after it has
sent its own message of the round and before it receives theirs; what the step tells the others goes with its message of the next
round (`protocols.mpc.round_mail`). So the noise waits for nobody and sends next to no message of its own. Which run has which
steps is the same everywhere; r is the 32nd, or of a training with fewer than 34 runs the last but two, but not before the third:

| run | steps at a computing party | at owners that do not compute |
|---|---|---|
| 1, which opens masked rows | draws, commitments, shares | the same, behind what they deal for it |
| 2, the first step | the coin, what it opens, the share of the noise | |
| r | | what the coin opens, behind what they deal for it |
| r + 1 | opened draws are sampled again; the test and its result | |
| the last | | the result, behind what they deal for it |

What a run has too few rounds for is done at its end, and what a short training has no run for at the end of the last one. If the
first step needs the noise before its rounds have brought it, the steps up to it are taken there, with messages of their own.

A dealer deals ahead of the computing parties, in a fraction of their time. Were r the third run, it would wait there for the
coin, which falls when they are in the second, and what it could have dealt meanwhile it would deal beside more of their steps.
The test comes as late because it takes most of the time that the noise takes: where the parties share processors, by then the
dealer is nearly done. Nothing depends on its result before the end of the training.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.programs.step_noise import StepNoise
from protocols.mpc.round_mail import RoundMail

_COIN = 2
_OPENING = 32


def opening_run(num_runs: int) -> int:
    """Returns behind which run, counted from 1, a dealer opens the draw that the coin chose."""
    return min(_OPENING, max(_COIN + 1, num_runs - 2))


class NoiseBeside:
    """Takes the steps of the noise at a computing party.

    Args:
        noise: this party's side of it, of which nothing has been done.
        into: what takes the share of the noise, before the first step needs it.
        num_runs: of the plan.

    Attributes:
        mail: what the steps tell the other computing parties.
    """

    def __init__(self, noise: NoiseSharing, into: StepNoise, num_runs: int) -> None:
        self.mail: RoundMail = noise.mail
        self._noise = noise
        self._num_runs = num_runs
        self._into = into
        self._opening = opening_run(num_runs)
        self._steps: Mapping[int, Sequence[Callable[[], None]]] = {
            1: (noise.begin,),
            _COIN: (noise.toss, self._open),
            self._opening + 1: (noise.check, noise.test, noise.conclude),
        }
        self._left: deque[Callable[[], None]] = deque()
        into.bring = self._bring

    def begin_run(self, run: int) -> None:
        """Begins a run, counted from 1."""
        self._left.extend(self._steps.get(run, ()))

    def meanwhile(self) -> None:
        """Takes a step while the messages of a round are awaited, unless it needs what comes with them; raises what it raises."""
        if self._left and self.mail.has_arrived:
            self._left.popleft()()

    def end_run(self, run: int) -> None:
        """Takes what steps are left of a run, and of all that would follow if it is the last one; raises what they raise."""
        self._finish(run)
        if run == self._num_runs:
            for later in range(run + 1, self._opening + 2):
                self.begin_run(later)
                self._finish(later)

    def _open(self) -> None:
        self._noise.open()
        self._into.fill(self._noise.take())

    def _bring(self) -> None:
        # All computing parties come here between the same two rounds, so what they send now has one order everywhere.
        while self._left and not self._into.is_filled:
            self._left.popleft()()

    def _finish(self, run: int) -> None:
        while self._left:
            self._left.popleft()()
        if run == 1:
            self._noise.expect_outside()
        if run == self._opening:
            self._noise.expect_openings()


def after_dealing(noise: NoiseSharing, run: int, num_runs: int) -> None:
    """Takes the steps of the noise at a dealer after it has dealt for a run, counted from 1; raises what they raise.

    Nobody waits in a circle: the coin is told in the second run, and the result in the one behind that of the opening.
    """
    if run == 1:
        noise.begin()
    if run == min(opening_run(num_runs), num_runs):
        noise.open()
    if run == num_runs:
        noise.conclude()
