"""Whether what a bundle says of the trainings is what the holder's records say now.

A statement of privacy has what the training claims (epsilon, delta, whom it protects, by which mechanism and noise) and what
the accountant of the day gives for it. Claims and all other facts must be the same. What the accountant gives may be less than
the bundle says, for another version of it may compute more tightly; if it is more, people relied on a figure that does not hold.
Owners tell audits by canaries when they can: more may be known now, or a higher bound, and whether it is above the claim is asked
apart. One that the records do not know is something else than they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from governance.evidence.facts import TrainingEvidence
from privacy.accounting.statement import PrivacyStatement

# What an accountant gives that people rely on; less is as good.
_RELIED_ON = ("accounted_epsilon", "tpr_at_1_percent", "tpr_at_0_1_percent", "advantage")


def are_same_claims(said: Sequence[TrainingEvidence], known: Sequence[TrainingEvidence]) -> bool:
    """Returns whether two lists of trainings are the same but for what the accountants give, and for audits that came since."""
    same = [_claims(each) for each in said] == [_claims(each) for each in known]
    return same and all(_are_known(before, now) for before, now in zip(said, known, strict=True))


def given_more(said: Sequence[TrainingEvidence], known: Sequence[TrainingEvidence]) -> Iterator[str]:
    """Yields in words what the accountant gives more of now than a bundle says of the same trainings.

    Args:
        said: by the bundle.
        known: from the records, by the accountant of today.
    """
    for before, now in zip(said, known, strict=True):
        if before.guarantee is None or now.guarantee is None:
            continue
        for name in _RELIED_ON:
            old, new = getattr(before.guarantee, name), getattr(now.guarantee, name)
            if Decimal(new) > Decimal(old):
                words = name.replace("_", " ")
                yield f"training {now.job[:12]}: {words} is {new} by {now.guarantee.accountant}; the bundle says {old}"


def _are_known(said: TrainingEvidence, known: TrainingEvidence) -> bool:
    highest = {audit.owner: Decimal(audit.epsilon) for audit in known.bounds}
    return all(audit.owner in highest and Decimal(audit.epsilon) <= highest[audit.owner] for audit in said.bounds)


def _claims(training: TrainingEvidence) -> TrainingEvidence:
    guarantee = None if training.guarantee is None else _claim(training.guarantee)
    return replace(training, guarantee=guarantee, audits=())


def _claim(statement: PrivacyStatement) -> PrivacyStatement:
    """The statement without what accountants give: the figures that people rely on, and what went into these or checks them."""
    return replace(
        statement,
        accounted_epsilon="",
        tpr_at_1_percent="",
        tpr_at_0_1_percent="",
        advantage="",
        rdp_epsilon="",
        distance="",
        accountant="",
    )
