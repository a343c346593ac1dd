"""What the canaries of a private training show, worked out in the worker of the owner that planted them."""

from __future__ import annotations

from privacy.audit.terms import MIN_CANARIES
from protocols.job import Job
from protocols.mpc.noise_design import private_terms
from protocols.mpc.noisy_sums_contribution import CanaryScores


def canary_audit(job: Job, found: CanaryScores | None) -> dict[str, str | int] | None:
    """Returns the lower bound of epsilon that an owner's canaries show, and nothing else of them; None without any audit.

    Args:
        job: the training.
        found: scores and coins; secret, and of no use once the bound is there.
    """
    if found is None or found.scores.size < MIN_CANARIES:
        return None
    from privacy.audit.one_run import epsilon_lower_bound

    bound = epsilon_lower_bound(found.scores, found.included, delta=float(private_terms(job).delta))
    return {
        "epsilon": f"{bound.epsilon:.4f}",
        "confidence": str(bound.confidence),
        "canaries": bound.canaries,
        "guesses": bound.guesses,
        "correct": bound.correct,
    }
