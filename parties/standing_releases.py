"""Releases that stand: what `released` stands for is judged again, and falls when its evidence does not carry it any more.

A version stands by the last bundle about it. One that waits for people's approval carries nothing yet: until they approve, the
version stands by the bundle under which it was released, and no longer than that one lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import Decision, Reason, ReasonCode, Verdict
from governance.evidence.renewal import Renewal, next_renewal
from governance.identity.directory import Directory
from governance.lineage.alias import AliasName
from governance.policy.rules import Policy
from parties.evidence import judge, note_decision, note_pass
from parties.model_registry import Holder, fall_from_release
from parties.storage.database import Tables
from parties.storage.evidence import EvidenceRecord
from protocols.errors import ConfideError
from protocols.job import ModelRef

_log = structlog.get_logger()


@dataclass(frozen=True)
class StandingRelease:
    """A version that `released` stands for at this party.

    Attributes:
        ref: the version.
        renewal: which assessment is too old first, of the bundle under which it was last released; None without one, or if the
            policy says nothing about releases any more.
        unknown: why that cannot be said; empty if it can.
    """

    ref: ModelRef
    renewal: Renewal | None
    unknown: str = ""

    def in_words(self, now: datetime) -> str:
        """Returns until when it stands, and whose assessment is to be renewed."""
        if self.renewal is None:
            return f"{self.ref.label} stands by no evidence" + (f" that can be read: {self.unknown}" if self.unknown else "")
        days = (self.renewal.ends - now).days
        left = f"in {days} day(s)" if self.renewal.ends >= now else "now"
        return (
            f"{self.ref.label} ends {left}, at {self.renewal.ends:%Y-%m-%d %H:%M} UTC: "
            f"{self.renewal.owner}'s risk report (class {self.renewal.class_name})"
        )

    def is_due(self, now: datetime) -> bool:
        """Returns whether people should assess it anew now."""
        return self.renewal is None or self.renewal.due <= now


def standing_releases(tables: Tables, policy: Policy) -> tuple[StandingRelease, ...]:
    """Returns every version that `released` stands for here; nothing is judged."""
    refs = sorted(
        (ModelRef(name, version) for (name, alias), version in tables.registry.aliases().items() if alias is AliasName.RELEASED),
        key=lambda ref: ref.label,
    )
    return tuple(_standing(tables, ref, policy) for ref in refs)


def _standing(tables: Tables, ref: ModelRef, policy: Policy) -> StandingRelease:
    try:
        return StandingRelease(ref, _renewal(_carrying(tables, ref), policy))
    except ConfideError as error:  # of one version, and no reason to say nothing of the others
        return StandingRelease(ref, None, f"{error.code.name}: {error.what}")


def review_release(
    tables: Tables, holder: Holder, ref: ModelRef, *, policy: Policy, directory: Directory, now: datetime
) -> Decision:
    """Judges a version that `released` stands for again; if the gate blocks it, the alias falls, with an entry in the audit log.

    What cannot be judged is not released either. A new bundle that passes carries the version from now on.

    Args:
        tables: of the transaction.
        holder: this party.
        ref: the version.
        policy: in force.
        directory: whose keys are believed.
        now: the time, UTC.
    """
    try:
        found = _judge_standing(tables, ref, party=holder.party, policy=policy, directory=directory, now=now)
    except ConfideError as error:
        why = Reason(ReasonCode.NOT_BELIEVED, Verdict.BLOCKED, f"{error.code.name}: {error.what}")
        found = Decision(ref, "", Verdict.BLOCKED, (why,))
    if found.verdict is Verdict.PASS:
        note_pass(tables, found, now=now)
    if found.verdict is Verdict.BLOCKED:
        note_decision(tables, ref, found, policy=policy, now=now)
        fall_from_release(tables, holder, ref, now=now)
        first = found.reasons[0]
        _log.warning("release_ended", model=ref.label, reason=first.code.value, what=first.what, reasons=len(found.reasons))
    return found


def _judge_standing(
    tables: Tables, ref: ModelRef, *, party: str, policy: Policy, directory: Directory, now: datetime
) -> Decision:
    last = tables.evidence.latest(ref)
    found = judge(tables, last, party=party, policy=policy, directory=directory, now=now)
    carrying = _carrying(tables, ref)
    if found.verdict is not Verdict.NEEDS_OFFICER or carrying is None or carrying.digest == last.digest:
        return found
    earlier = judge(tables, carrying, party=party, policy=policy, directory=directory, now=now)
    return earlier if earlier.verdict is Verdict.BLOCKED else found


def _carrying(tables: Tables, ref: ModelRef) -> EvidenceRecord | None:
    """The last bundle under which a version was released."""
    released = [each for each in tables.evidence.of_model(ref.name) if each.ref == ref and each.released is not None]
    return released[-1] if released else None


def _renewal(record: EvidenceRecord | None, policy: Policy) -> Renewal | None:
    if record is None or policy.release is None:
        return None
    return next_renewal(EvidenceBundle.from_bytes(record.signed.body), policy.release)
