"""How many numbers the holder of a secret key can learn from an answer, and when it knows the model.

A layout answers more than its user asks for: in the batch lane every slot is a sample, in the packed one every copy. Whoever
encrypts for herself can fill all of them, so an answer debits all of them. What is computed under encryption is a polynomial of
the features. A linear model of d features is known after the scores of d + 1 samples, one with a square after
(d + 1)(d + 2) / 2, whatever is done to the answers short of making them useless.
"""

from __future__ import annotations

from governance.encrypted.published import PublishedModel
from protocols.errors import ConfideError, ErrorCode


def answers_kept_unknown(model: PublishedModel) -> int | None:
    """Returns how many numbers of a model may be learnt, over its life and by all together, so that it is not solved for.

    One sample fewer than determine the polynomial that it is leave each output with one free direction. A network may be found
    out with fewer, by whoever knows its architecture: this is a bound, not a promise. None where it is more than can be asked.
    """
    if model.known_after == 0:
        return None
    return (model.known_after - 1) * len(model.outputs)


def require_room(model: PublishedModel, *, learnt: int, more: int) -> None:
    """Checks that a model is not known after more answers.

    Args:
        model: the published model.
        learnt: numbers answered or set aside over its life, of recipients for whom it does not count as known.
        more: numbers that would be set aside now.

    Raises:
        ConfideError: BUDGET_EXHAUSTED (the owner's limit).
    """
    most = answers_kept_unknown(model)
    if most is not None and learnt + more > most:
        what = (
            f"{model.ref.label} is {_kind(model)}: {model.known_after} samples give it away; {most} numbers may be learnt in all,"
            f" {learnt} are learnt or set aside, and {more} more are asked for"
        )
        remedy = "Ask for fewer, or ask the owner for a grant under which the model counts as known to you."
        raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, what, remedy=remedy)


def _kind(model: PublishedModel) -> str:
    features = {plan.get("num_features") for plan in model.plans.values()}
    return "a polynomial" if features and features != {model.known_after - 1} and None not in features else "linear"
