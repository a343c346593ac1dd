"""What the gate asks of audits by canaries: that they are their owners', that none is above the claim, that none is missing.

A bound above the claim blocks whoever told it: it shows that a training does not keep its promise. One below shows nothing, so an
audit that arrives after a bundle was made, and is no higher, ends no release. Which owners planted how many is public in the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from governance.canary_audit import verify_canary_audit
from governance.documents import SignedDocument
from governance.evidence.facts import TrainingEvidence
from governance.evidence.reasons import Reason, ReasonCode, blocked
from governance.identity.directory import Directory
from governance.policy.release import ReleaseClass
from privacy.audit.terms import CONFIDENCE
from protocols.errors import ConfideError
from protocols.private_training import Mechanism


def above_the_claim(trainings: Iterable[TrainingEvidence]) -> Iterator[Reason]:
    """Yields each audit that shows more than its training claims.

    Args:
        trainings: of a bundle, or as the party's records have them now.
    """
    for training in trainings:
        if training.guarantee is None:
            continue
        claim = training.guarantee.epsilon
        for audit in training.bounds:
            if Decimal(audit.epsilon) > Decimal(claim):
                what = f"{audit.owner}'s canaries show at least {audit.epsilon}"
                yield blocked(ReasonCode.AUDIT, f"training {training.job[:12]} claims epsilon {claim}; {what}")


def not_believed(trainings: Iterable[TrainingEvidence], directory: Directory) -> Iterator[Reason]:
    """Yields each audit in a bundle that its owner did not sign so."""
    signed: list[SignedDocument] = [audit for training in trainings for audit in training.audits]
    for each in signed:
        try:
            verify_canary_audit(each, directory)
        except ConfideError as error:
            yield blocked(ReasonCode.NOT_BELIEVED, f"the audit by canaries of {each.signer}: {error.what}")


def missing_audits(trainings: Iterable[TrainingEvidence], asked: ReleaseClass, name: str) -> Iterator[Reason]:
    """Yields whose audit a class lacks, of trainings in which canaries can show.

    Args:
        trainings: of a bundle.
        asked: the class.
        name: its name.
    """
    if not asked.min_canaries:
        return
    for training in trainings:
        if training.guarantee is None or training.guarantee.mechanism != Mechanism.NOISY_SUMS.value:
            continue
        for owner in training.owners:
            if (lacking := _lacking(training, owner, asked.min_canaries)) is not None:
                yield blocked(ReasonCode.NO_AUDIT, f"training {training.job[:12]}: {lacking} (class {name})")


def _lacking(training: TrainingEvidence, owner: str, least: int) -> str | None:
    planted = training.canaries.get(owner, 0)
    if planted < least:
        return f"{owner} planted {planted} canaries, and {least} or more are asked for"
    told = (audit for audit in training.bounds if audit.owner == owner and audit.canaries == planted)
    if not any(Decimal(audit.confidence) >= Decimal(str(CONFIDENCE)) for audit in told):
        return f"{owner} has not told what its {planted} canaries show at a confidence of {CONFIDENCE}"
    return None
