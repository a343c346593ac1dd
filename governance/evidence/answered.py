"""Which of the reports that owners have told people have answered already, so that no later bundle asks about them again.

A bundle carries on what is worse than what people decided on last. What was told is known for ever; so a report on which people
decided would come back as soon as they decide on better figures, and would be asked about anew with every such decision. Each is
therefore compared with all decisions since it came, and with the one before it:

    came before a decision   that bundle carried it, or showed something as bad, or the decision before did: people saw it then
    came after all of them   it is compared with the last decision alone: what was worse before is no measure of it

So nothing worse than that is left out. Which came first goes by no clock: a party numbers what reaches it, and a bundle says how
far the numbers went when it was made. A report that a bundle left to its owner's turn was there, and is not in it: it is answered
only if it is no worse than the decisions that are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from governance.documents import SignedDocument
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import Measured, Questions, worst_of
from governance.risk_report import StatedRisk


@dataclass(frozen=True, eq=False)
class Told:
    """A risk report that an owner has told.

    Attributes:
        signed: as its owner signed it, a verified one.
        stated: what it says.
        decided_before: how many of the bundles on which people have decided were made before it reached this party.
    """

    signed: SignedDocument
    stated: StatedRisk
    decided_before: int


def unanswered(told: Iterable[Told], decided: Sequence[EvidenceBundle], questions: Questions) -> tuple[SignedDocument, ...]:
    """Returns the reports of which a figure that the gate asks about is worse than in all decisions that are counted.

    Args:
        told: about one version.
        decided: the bundles about it on which people have decided, as they were made.
        questions: of the gate.
    """
    # By the number of decisions that are not counted, what the others show at the worst.
    shown: list[Measured] = [{}]
    for bundle in reversed(decided):
        reports = (*bundle.risk_reports, *bundle.overtaken.risk_reports)
        shown.append(worst_of([shown[-1], *(questions.answered_by(signed) for signed in reports)]))
    shown.reverse()
    return tuple(
        each.signed for each in told if _is_beyond(questions.answered_in(each.stated), shown[max(each.decided_before - 1, 0)])
    )


def _is_beyond(told: Measured, shown: Measured) -> bool:
    return any(key not in shown or any(new > old for new, old in zip(bad, shown[key], strict=True)) for key, bad in told.items())
