"""Releases while a party serves: what `released` stands for is judged again on a schedule, and when the policy changes.

A risk report is too old some day without anything happening. So every few minutes by the party's clock, and at once under a new
policy or directory, every version that stands is judged by the gate; one that is blocked falls. Some time before an assessment is
too old, the log says so once a day.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from governance.evidence.gate import Verdict
from governance.identity.directory import Directory
from parties.evidence import warm_statements
from parties.model_registry import Holder
from parties.server.party import Party
from parties.server.repeating import Repeating
from parties.standing_releases import StandingRelease, review_release, standing_releases
from protocols.job import ModelRef

PAUSE_S = 1.0
EVERY = timedelta(minutes=3)
_WARNED_EVERY = timedelta(days=1)
_log = structlog.get_logger()


class ReleaseWatch:
    """Judges the standing releases of a serving party, on a thread of its own."""

    def __init__(self, party: Party, *, ended: Callable[[], None], every: timedelta = EVERY, pause_s: float = PAUSE_S) -> None:
        """Takes the party, whose clock it goes by, and what to call for each release that ends."""
        self._party = party
        self._ended = ended
        self._every = every
        self._looked: datetime | None = None
        self._under: tuple[str, Directory] | None = None
        self._warned: dict[ModelRef, datetime] = {}
        self._repeating = Repeating(self.look, name="releases", pause_s=pause_s)

    def start(self) -> None:
        """Begins; the first look is at once, on the thread."""
        self._repeating.start()

    def stop(self) -> None:
        """Stops the thread."""
        self._repeating.stop()

    def look(self) -> None:
        """Looks once: whether it is time, and if so, which releases stand."""
        party, now = self._party, self._party.now()
        policy, directory = party.policy, party.directory
        under = (policy.digest, directory)
        # A clock that was set back must not keep the watch waiting.
        if under == self._under and self._looked is not None and timedelta(0) <= now - self._looked < self._every:
            return
        with party.database.transaction() as tables:
            standing = standing_releases(tables, policy)
        holder = Holder.of(party.member, directory)
        for release in standing:
            warm_statements(party.database.transaction, release.ref, party=party.id, now=now)
            with party.database.transaction() as tables:
                if release.ref not in {each.ref for each in standing_releases(tables, policy)}:
                    continue  # moved meanwhile
                found = review_release(tables, holder, release.ref, policy=policy, directory=directory, now=now)
            if found.verdict is Verdict.BLOCKED:
                self._ended()
        # A new bundle may carry a version since it was judged.
        with party.database.transaction() as tables:
            left = standing_releases(tables, policy)
        self._warn(left, now)
        self._looked, self._under = now, under

    def _warn(self, standing: tuple[StandingRelease, ...], now: datetime) -> None:
        due = {each.ref: each for each in standing if each.is_due(now)}
        for ref, release in due.items():
            if ref not in self._warned or now - self._warned[ref] >= _WARNED_EVERY:
                self._warned[ref] = now
                _log.warning("release_ends_soon", model=ref.label, what=release.in_words(now))
        self._warned = {ref: when for ref, when in self._warned.items() if ref in due}
