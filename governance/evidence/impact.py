"""The impact assessment of a release: sentences that follow from the facts of a bundle, and what changed since the last one.

Nothing in it is written by hand. A figure that nobody measured is named as missing, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from privacy.accounting.statement import NO_GUARANTEE, protected_by_each_in_words
from privacy.audit.terms import MIN_CANARIES
from privacy.figures import Figure, Figures
from protocols.private_training import Mechanism

if TYPE_CHECKING:
    from governance.evidence.bundle import EvidenceBundle
    from governance.evidence.facts import TrainingEvidence

Impact = Mapping[str, tuple[str, ...]]  # sentences by part
# What an assessment of impact is expected to speak of; a group of figures that is missing is said to be.
_RISKS = {
    "membership.": "whether somebody was among the people of the rows",
    "attribute_inference.": "what the model tells of a person's hidden attribute",
    "reconstruction.": "whether features of a person can be drawn back out of the model",
}
_UTILITY = {"accuracy": "accuracy", "ece": "calibration", "group.": "differences between groups", "shift.": "rows from elsewhere"}


def impact_of(bundle: EvidenceBundle) -> Impact:
    """Returns the assessment, by part in their order."""
    return {
        "people": tuple(_people(bundle)),
        "protection": tuple(_protection(bundle)),
        "risks": tuple(_risks(bundle)),
        "usefulness": tuple(_usefulness(bundle)),
        "capacity": (f"The model has {bundle.parameters} parameters.",),
    }


def changes_of(before: Impact, after: Impact) -> tuple[str, ...]:
    """Returns which sentences went and which came, part by part: `part - sentence` and `part + sentence`."""
    said: list[str] = []
    for part in dict.fromkeys((*before, *after)):
        old, new = before.get(part, ()), after.get(part, ())
        said += [f"{part} - {sentence}" for sentence in old if sentence not in new]
        said += [f"{part} + {sentence}" for sentence in new if sentence not in old]
    return tuple(said)


def _people(bundle: EvidenceBundle) -> Iterator[str]:
    if not bundle.datasets:
        yield "Nobody says which rows went in."
    for name in bundle.datasets:
        prepared = bundle.preparations.get(name)
        how = f"prepared as its owner signed ({prepared[:12]})" if prepared else "its preparation is not known to the issuer"
        yield f"Rows of {name} went in; {how}."


def _protection(bundle: EvidenceBundle) -> Iterator[str]:
    for training in bundle.trainings:
        yield from _of_training(training)
    if bundle.own is not None:
        yield f"{bundle.issuer} trained it alone or brought it from outside; there are no records of how."
        for label in bundle.own.same:
            yield f"It answers as {label} does: one model under two names, or but for some digits."
    if bundle.spent is None or bundle.guarantees is None or bundle.unit is None:
        yield f"The version has {NO_GUARANTEE}."
    else:
        epsilon, delta = bundle.spent
        protected = protected_by_each_in_words(bundle.guarantees, bundle.unit)
        yield f"All trainings together: epsilon {epsilon:f} at delta {delta:f}, {protected}."


def _of_training(training: TrainingEvidence) -> Iterator[str]:
    short, guarantee = training.job[:12], training.guarantee
    if guarantee is None:
        yield f"Training {short}: {NO_GUARANTEE}."
        return
    yield f"Training {short}: epsilon {guarantee.in_words()}."
    test = training.noise_test
    yield f"Training {short}: the noise test {'is missing' if test is None else f'says: {test.result}'}."
    yield from (f"Training {short}: {said}." for said in _of_canaries(training, guarantee.mechanism))


def _of_canaries(training: TrainingEvidence, mechanism: str) -> Iterator[str]:
    if not training.canaries:
        is_open = mechanism == Mechanism.NOISY_SUMS.value
        yield "no canaries were planted" if is_open else "no step of it opens anything that canaries could show in"
    told = {audit.owner: audit for audit in training.bounds}
    for owner in sorted({*training.canaries, *told}):
        planted = training.canaries.get(owner, 0)
        if owner in told:
            audit = told[owner]
            shown = f"show epsilon of at least {audit.epsilon} at a confidence of {audit.confidence}"
            yield f"{audit.canaries} canaries of {owner} {shown}"
        elif planted < MIN_CANARIES:
            yield f"{owner} planted {planted} canaries, too few for an audit"
        else:
            yield f"{owner} has not told what its {planted} canaries show"


def _risks(bundle: EvidenceBundle) -> Iterator[str]:
    for report in sorted(bundle.assessed, key=lambda report: (report.owner, report.made)):
        about = "" if report.ref == bundle.ref else f" about {report.ref.label}"
        yield f"{report.owner} assessed{about} at {report.made:%Y-%m-%d}."
        yield from _figures(report.owner, report.report.figures)
        for prefix, question in _RISKS.items():
            if not any(name.startswith(prefix) for name in report.report.figures):
                yield f"{report.owner} did not measure {question}."
    for report in sorted(bundle.overtaken_risks, key=lambda report: (report.owner, report.made, report.digest)):
        since = "measured again since" if bundle.is_about(report.ref) else f"of {report.ref.label}, another model of these rows"
        yield from _figures(f"{report.owner} at {report.made:%Y-%m-%d}, {since}", report.figures)
    owners = bundle.owners or (() if bundle.own is None else (bundle.issuer,))
    for owner in sorted(set(owners) - {report.owner for report in bundle.assessed}):
        yield f"{owner} has not assessed it."


def _usefulness(bundle: EvidenceBundle) -> Iterator[str]:
    known: set[str] = set()
    if bundle.own is not None:
        yield from _figures(f"{bundle.issuer}, on rows that it was not trained on", bundle.own.usefulness)
        known |= set(bundle.own.usefulness)
    for stated in bundle.evaluated:
        report = stated.report
        yield from _figures(f"Evaluation {report.job[:12]} of {report.rows} rows by {stated.querier}", report.figures)
        known |= set(report.figures)
    if bundle.own is not None:
        yield from _figures(f"{bundle.issuer}, on such rows before, at worst", bundle.own.overtaken)
    for stated in bundle.overtaken_uses:
        yield from _figures(f"Evaluation {stated.report.job[:12]}, no longer in use", stated.report.figures)
    for prefix, words in _UTILITY.items():
        if not any(name.startswith(prefix) for name in known):
            yield f"Nothing is known of {words}."


def _figures(who: str, figures: Figures) -> Iterable[str]:
    return (f"{who}: {name} is {_shown(figure)}." for name, figure in sorted(figures.items()))


def _shown(figure: Figure) -> str:
    alone = figure.low == figure.value == figure.high
    return f"{figure.value:.4f}" if alone else f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"
