"""What this party has found about models of its own before, and what of that a new bundle of evidence is bound by.

A commitment is to a name and to every digit. By that alone a bad figure would be forgotten under another name, with one digit
altered, or of a model that is trained once more. So it is looked up in three circles:

the model itself       under whatever name, and but for some digits (`protocols.model.likeness`): everything
models of its name     what people last decided on, with which a new bundle is compared
models of its rows     figures of risk that the policy limits, until people have decided on them
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from governance.evidence.bundle import EvidenceBundle
from governance.evidence.overtaken import of_other_models, overtaken_of, own_uses, questions_of, worse_uses
from governance.evidence.own import own_ref, shares_rows
from governance.policy.release import ReleaseTerms
from parties.storage.database import Tables
from parties.storage.evidence import EvidenceRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.model.likeness import Sketch, are_alike


def same_models(tables: Tables, ref: ModelRef, sketch: Sketch) -> tuple[str, ...]:
    """Returns which own models that there is evidence about are this one under another name, or but for some digits.

    Also those that such a model is the same as: whoever changes some digits again and again does not get away from the first.

    Args:
        tables: of this party.
        ref: under which there is, or will be, evidence about the model.
        sketch: of it; secret.

    Returns:
        `name@version`, sorted.
    """
    last = {each.ref: _bundle(each) for each in tables.own_evidence.all()}
    alike = {
        own_ref(name, commitment)
        for name, commitment, other in tables.own_evidence.sketches()
        if are_alike(sketch, np.frombuffer(other, np.float64))
    }
    found = {each.label for each in alike & set(last)}
    found |= {label for each in alike & set(last) if (own := last[each].own) is not None for label in own.same}
    return tuple(sorted(found - {ref.label}))


def require_same_rows(tables: Tables, ref: ModelRef, sketch: Sketch, named: tuple[str, ...]) -> None:
    """Checks that what was said of the rows behind a model once still is said, or evidence could be about rows of a milder class.

    Args:
        tables: of this party.
        ref: under which there is, or will be, evidence about the model.
        sketch: of it; secret.
        named: `party/name/version` of the rows that are said to be behind it now, sorted.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): others were named, of this model or of one that is the same.
    """
    same = {ref.label, *same_models(tables, ref, sketch)}
    for record in tables.own_evidence.all():
        before = _bundle(record).datasets
        if record.ref.label in same and before and before != named:
            what = f"the rows behind {record.ref.label} were said to be {', '.join(before)}"
            if record.ref != ref:
                what += f", and {ref.label} answers as it does, but for some digits at most"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name the same data sets.")


def about_same(tables: Tables, bundle: EvidenceBundle) -> list[EvidenceRecord]:
    """Returns the bundles about the model of a bundle, under any of its names, the oldest first."""
    # Those made after it may name it, and it cannot name them.
    return [each for each in tables.own_evidence.all() if bundle.is_about(each.ref) or _bundle(each).is_about(bundle.ref)]


def last_decided(tables: Tables, bundle: EvidenceBundle) -> EvidenceRecord | None:
    """Returns what a bundle about an own model is compared with: the last that people decided on of its name, or of itself."""
    same = () if bundle.own is None else bundle.own.same
    names = {bundle.ref.name, *(label.partition("@")[0] for label in same)}
    records = (each for name in names for each in tables.own_evidence.of_model(name))
    return _latest(each for each in records if each.ref.name == bundle.ref.name or bundle.is_about(each.ref))


def with_history(tables: Tables, bundle: EvidenceBundle, terms: ReleaseTerms | None) -> EvidenceBundle:
    """Returns a bundle about an own model with all that it must carry on.

    Args:
        tables: of this party.
        bundle: with the models that are the same, and its own figures.
        terms: of the policy.
    """
    if bundle.own is None:
        return bundle
    about = about_same(tables, bundle)
    last = _bundle(about[-1]) if about else None
    decided = _latest(about)
    answered = None if decided is None else _bundle(decided)
    # Whoever measures until a figure pleases is asked about the worst that was found all the same.
    worse = worse_uses(bundle.own.usefulness, had=own_uses(last), decided=own_uses(answered))
    made = replace(bundle, own=replace(bundle.own, overtaken=worse))
    made = replace(made, overtaken=overtaken_of(made, last=last, told=(), decided=answered, questions=None))
    # Whoever trains until a figure pleases, likewise; of that what the policy asks about.
    others, decisions = _of_the_same_rows(tables, made)
    limited = questions_of(terms, ()).limited
    return replace(made, overtaken=of_other_models(made, others=others, decided=decisions, limited=limited))


def is_overdue(tables: Tables, bundle: EvidenceBundle, terms: ReleaseTerms | None) -> bool:
    """Returns whether something was found since a bundle was made that it would have to carry on if it were made now."""
    about = about_same(tables, bundle)
    if about and about[-1].digest != bundle.digest:
        return True
    others, decided = _of_the_same_rows(tables, bundle)
    carried = of_other_models(bundle, others=others, decided=decided, limited=questions_of(terms, ()).limited)
    return {each.body for each in carried.risk_reports} > {each.body for each in bundle.overtaken.risk_reports}


def _of_the_same_rows(tables: Tables, bundle: EvidenceBundle) -> tuple[list[EvidenceBundle], list[EvidenceBundle]]:
    """The last bundle of each other own model of the same rows, and all about models of these rows that people decided on.

    All, and not the last of each: what people have answered once stays answered when they decide on something better.
    """
    by_model: dict[ModelRef, list[EvidenceRecord]] = {}
    for each in tables.own_evidence.all():
        by_model.setdefault(each.ref, []).append(each)
    others, decided = [], []
    for ref, records in by_model.items():
        last = _bundle(records[-1])
        if not bundle.is_about(ref) and not shares_rows(bundle, last):
            continue
        others += [] if bundle.is_about(ref) else [last]
        decided += [_bundle(each) for each in records if each.decided is not None]
    return others, decided


def _latest(records: Iterable[EvidenceRecord]) -> EvidenceRecord | None:
    return max((each for each in records if each.decided is not None), key=lambda each: each.decided or 0, default=None)


def _bundle(record: EvidenceRecord) -> EvidenceBundle:
    return EvidenceBundle.from_bytes(record.signed.body)
