"""What people can do about each reason of the gate on evidence."""

from __future__ import annotations

from collections.abc import Mapping

from governance.evidence.gate import Reason, ReasonCode, Verdict
from governance.policy.release import RISK_FIGURES

_ANEW = "then make another bundle: `confide model evidence make`"
_OFFICER = "ask the people named for `confide model evidence approve`"
_TRAIN = "train with more noise or fewer steps (`confide privacy choose`), or ask for another class"
_UNLIKE = "train with more rows of those whom the model treats worse, or calibrate it on new ones, and evaluate it anew"
_BLOCKED: Mapping[ReasonCode, str] = {
    ReasonCode.NO_TERMS: "write a block `release` into policy.yaml: classes, and what a model of their rows must keep to",
    ReasonCode.NOT_BELIEVED: "get it again from whom it names, as it was signed, and the newest directory; nobody may edit them",
    ReasonCode.OTHER_MODEL: "make a bundle about the version that is to be released",
    ReasonCode.FACTS_DIFFER: f"the records have changed since it was made; {_ANEW}",
    ReasonCode.ACCOUNTED_MORE: "train anew: by the accountant of today this training spends more than it says",
    ReasonCode.FROM_THE_FUTURE: "set the clock of the machine that made it, and make it again",
    ReasonCode.CHANGES_NOT_TOLD: f"of a file, name the bundle that it follows (--previous), if any; at a party, {_ANEW}",
    ReasonCode.NO_GUARANTEE: (
        "train each time with differential privacy (`training.privacy` in the request), or ask for another class"
    ),
    ReasonCode.EPSILON: _TRAIN,
    ReasonCode.DELTA: "train with a smaller delta: at most a tenth of one over the agreed number of people",
    ReasonCode.UNIT: "train with `unit: person` (at several institutions `person_everywhere`) and the rows that a person has",
    ReasonCode.NO_NOISE_TEST: "bring the bundle of a holder whose log has the test, or train anew; no training goes without one",
    ReasonCode.NOISE_FAILED: "find out who brought too little noise (the audit log names the owner), and train anew",
    ReasonCode.AUDIT: "do not use this model: its rows show more than it claims; find the fault and train anew",
    ReasonCode.NO_AUDIT: (
        "have the owner's party serve, so that it tells what its canaries show, or train anew with more `canaries` in the block "
        f"`privacy` of the request, which are dealt out among the owners; {_ANEW}"
    ),
    ReasonCode.ATTACK_ABOVE_CEILING: "do not use this model: an attack finds more than it claims; find the fault and train anew",
    ReasonCode.NO_REPORT: f"have its owner assess this version and sign the report, {_ANEW}",
    ReasonCode.OTHER_VERSION: f"leave that report out, or bring one about this version, {_ANEW}",
    ReasonCode.STALE: f"have its owner assess this version anew and sign the report, {_ANEW}; or order a repeated assessment",
    ReasonCode.FEW_SHADOWS: f"have its owner assess this version with more shadow models, {_ANEW}",
    ReasonCode.NOT_MEASURED: f"have the figure measured: an assessment for risks, an evaluation for use; {_ANEW}",
    ReasonCode.FIGURE: "train with more noise, fewer steps or a smaller model, and assess it anew",
    ReasonCode.USEFULNESS: "train with more rows or steps, or less noise if the class leaves room",
    ReasonCode.OVERTAKEN: f"something worse is known than this bundle carries on; {_ANEW}",
    ReasonCode.TOO_MUCH: "speak with whose reports fill it, limit fewer figures in the policy, or train anew",
    ReasonCode.APPROVALS: "name people in `more_approvals` of the class, or bring what needs no approval",
}


def remedy_for(reason: Reason) -> str:
    """Returns what is to be done about a reason against a release, for people."""
    if reason.verdict is Verdict.NEEDS_OFFICER:
        return _OFFICER
    if reason.code is ReasonCode.FIGURE and not reason.about.partition(" ")[2].startswith(RISK_FIGURES):
        return _UNLIKE
    return _BLOCKED.get(reason.code, f"assess, train or prepare it anew, {_ANEW}")
