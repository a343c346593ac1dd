"""Whether a model has more capacity than its rows need: a smaller one, trained on as many rows, does as well and shows less.

The smaller alternative is trained many times, each time on other halves of the rows. Its accuracy on rows that it was not trained
on, its gap between both, and how well it is attacked stand beside those of the model itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from privacy.figures import Figure
from privacy.risk.intervals import difference, mean, wilson
from privacy.risk.lira import attack_result, confidences, half_memberships, membership_scores
from privacy.risk.shadows import Schedule, train_shadows_on
from privacy.risk.target import Answers, AttackedRows, accuracy_of

MODELS = 16  # of the smaller kind
_SMALLER = 8  # a hidden layer is made so many times narrower
_NARROW = 32  # one of fewer units becomes none
_REGULARISED = 5e-3  # weight decay of the smaller alternative


def capacity_figures(
    answers: Answers, rows: AttackedRows, *, classes: int, schedule: Schedule, auc: Figure, seed: int
) -> dict[str, Figure]:
    """Returns how the model compares with a smaller one.

    `capacity.gap`: its accuracy on members less that on others. `capacity.smaller.accuracy`, `capacity.smaller.gap` and
    `capacity.smaller.auc`: of the smaller alternative, the last under LiRA. `capacity.excess`: how far the area of the attack on
    the model exceeds that on the alternative, if the alternative is no less accurate on other rows; else 0.

    Args:
        answers: the model under attack.
        rows: members and others, secret.
        classes: how many there are.
        schedule: how shadows of the model are trained; those of the alternative have an eighth of the hidden units, or none.
        auc: of LiRA on the model.
        seed: of all random choices.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): rows that nothing can be trained on.
    """
    right_members, right_others = (accuracy_of(answers, part) for part in (rows.members, rows.others))
    everybody, generator = rows.all_rows, np.random.default_rng(seed)
    inside = half_memberships(MODELS, len(everybody.labels), generator)
    fewer = schedule.hidden // _SMALLER if schedule.hidden >= _NARROW else 0
    smaller = train_shadows_on(
        everybody,
        inside,
        classes=classes,
        schedule=replace(schedule, hidden=fewer, weight_decay=max(schedule.weight_decay, _REGULARISED)),
        seed=int(generator.integers(2**62)),
    )
    logits = smaller.logits(everybody.features)
    right = (logits.argmax(axis=2) == everybody.labels).astype(np.float64)
    accuracies = np.array([one[~own].mean() for one, own in zip(right, inside, strict=True)])
    gaps = np.array([one[own].mean() - one[~own].mean() for one, own in zip(right, inside, strict=True)])
    attacked = attack_result(membership_scores(confidences(logits, everybody.labels), inside), inside).auc
    model = wilson(right_others.sum(), len(right_others))
    excess = Figure(0.0, 0.0, 0.0)
    if accuracies.mean() >= model.low:
        excess = Figure(*(max(0.0, one - attacked) for one in (auc.value, auc.low, auc.high)))
    return {
        "capacity.gap": difference(*((int(right.sum()), len(right)) for right in (right_members, right_others))),
        "capacity.smaller.accuracy": mean(accuracies),
        "capacity.smaller.gap": mean(gaps),
        "capacity.smaller.auc": Figure(attacked, attacked, attacked),
        "capacity.excess": excess,
    }
