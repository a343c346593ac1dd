"""Evidence about models of this party's own: which bundle counts for a model that answers queries, and what the gate says by it.

A bundle and a published description name the same commitment to the model as it answers. So the evidence is about exactly what
is asked, and what was published before there was evidence is found by it too. The gate is asked when a model is published and,
while it answers, again and again: under a policy with a block `release` a model without evidence, or with evidence that is too
old, answers nothing until there is some.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from governance.audit.entries import EntryKind, Fact
from governance.encrypted.commitment import SALT_BYTES, commit_model, is_committed
from governance.encrypted.published import PublishedModel
from governance.evidence.bundle import EvidenceBundle, verify_evidence
from governance.evidence.gate import Asked, Decision, Reason, ReasonCode, Verdict, decide_release
from governance.evidence.own import own_ref
from governance.evidence.renewal import Renewal, next_renewal
from governance.identity.directory import Directory
from governance.policy.rules import Policy
from parties.config import PartyConfig
from parties.evidence import approved_before
from parties.own_history import is_overdue, last_decided
from parties.release_remedies import remedy_for
from parties.storage.database import Tables, one_transaction
from parties.storage.evidence import EvidenceRecord
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef

HOW = "confide model evidence own"
# What another attack by the owner mends.
_ATTACK = frozenset(
    {ReasonCode.NO_REPORT, ReasonCode.STALE, ReasonCode.FEW_SHADOWS, ReasonCode.NOT_MEASURED, ReasonCode.OTHER_MODEL}
)

_OVER = frozenset({ReasonCode.FIGURE, ReasonCode.USEFULNESS})  # a limit of the class is broken


@dataclass(frozen=True)
class Standing:
    """Who asks its gate, by what.

    Attributes:
        party: this party.
        policy: in force.
        directory: whose keys are believed.
    """

    party: str
    policy: Policy
    directory: Directory


@dataclass(frozen=True)
class OwnStanding:
    """How a published model of this party's own stands with the gate.

    Attributes:
        model: what is published.
        decision: what the gate says now; None if the policy asks for nothing.
        renewal: what is too old first; None if there is no evidence, or nothing is asked.
    """

    model: PublishedModel
    decision: Decision | None
    renewal: Renewal | None

    @property
    def answers(self) -> bool:
        """Whether the gate lets it answer."""
        return self.decision is None or self.decision.verdict is Verdict.PASS


def known_salt(config: PartyConfig, name: str, manifest: bytes, weights: bytes) -> bytes | None:
    """Returns the salt under which this party has committed to a model before, in evidence or in a publication; secret.

    Args:
        config: the party's.
        name: of the model.
        manifest: canonical bytes of its architecture, as it answers.
        weights: safetensors bytes; secret.
    """
    with one_transaction(config.folder.database_file) as tables:
        return _salt(tables, name, manifest, weights)


def kept_salt(config: PartyConfig, name: str, manifest: bytes, weights: bytes, *, sketch: bytes) -> bytes:
    """Returns the salt under which this party commits to a model, drawn and kept at once if there is none; secret.

    So attacks on one model that run at the same time are about one version of it, and none of them is forgotten.

    Args:
        config: the party's.
        name: of the model.
        manifest: canonical bytes of its architecture, as it answers.
        weights: safetensors bytes; secret.
        sketch: by which the model is told again when some digits differ; secret.
    """
    with one_transaction(config.folder.database_file) as tables:
        salt = _salt(tables, name, manifest, weights) or secrets.token_bytes(SALT_BYTES)
        tables.own_evidence.keep_model(name, commit_model(manifest, weights, salt=salt), salt, sketch)
        return salt


def judge_own(tables: Tables, record: EvidenceRecord, asked: Standing, *, now: datetime) -> Decision:
    """Returns what the gate says about a model of this party's own by a bundle about it; nothing is written.

    Raises:
        ConfideError: a bundle of this party's that is damaged, or signed with a key that does not count any more.
    """
    kept, bundle = tables.own_evidence.of_model(record.ref.name), EvidenceBundle.from_bytes(record.signed.body)
    before = last_decided(tables, bundle)
    if any(each.released is not None for each in kept if each.ref == record.ref):
        # Of what answers already, each bundle follows the one that it did when it was made: a decision on another version since
        # is none against this one, which would stop if a bundle that waits for people were blocked by it.
        before = tables.own_evidence.find(bundle.previous)
    approvals = tables.authorisations.all()
    return decide_release(
        record.signed,
        Asked(
            directory=asked.directory,
            policy=asked.policy,
            party=asked.party,
            previous=None if before is None else verify_evidence(before.signed, asked.directory),
            approvals=approvals,
            now=now,
            expected=record.ref,
            records=(),
            earlier=approved_before(record, kept, approvals),
        ),
    )


def decide_own(tables: Tables, ref: ModelRef, asked: Standing, *, now: datetime) -> Decision:
    """Returns what the gate says about a model of this party's own that answers queries now.

    It stands by the last bundle; one that waits for people leaves it to the bundle under which it answered before, unless a
    figure since was over a limit: that ended its answers, and only people begin them again. What cannot be judged, or of which
    there is no bundle, is blocked.
    """
    found = _about(tables, ref)
    last = _by_the_last(tables, found, ref, asked, now=now)
    place = next((place for place in reversed(range(len(found))) if found[place].released is not None), None)
    if last.verdict is not Verdict.NEEDS_OFFICER or place is None or place == len(found) - 1:
        return last
    try:
        earlier = judge_own(tables, found[place], asked, now=now)
        since = [judge_own(tables, each, asked, now=now) for each in found[place + 1 : -1]]
    except ConfideError as error:
        return _unbelieved(ref, error)
    ended = any(reason.code in _OVER and reason.verdict is Verdict.BLOCKED for each in since for reason in each.reasons)
    return earlier if earlier.verdict is Verdict.PASS and not ended else last


def note_own(tables: Tables, found: Decision, asked: Standing, *, is_published: bool, now: datetime) -> None:
    """Writes what the gate said into the audit log; a pass of a model that answers queries carries it from now on."""
    ref = found.ref
    if ref is None:
        return
    facts: dict[str, Fact] = {
        "model": ref.label,
        "evidence": found.bundle,
        "verdict": found.verdict.value,
        "reasons": sorted({reason.code.value for reason in found.reasons}),
        "policy": asked.policy.digest,
    }
    tables.audit.append(EntryKind.RELEASE_DECIDED, facts, now=now)
    if is_published and found.verdict is Verdict.PASS:
        tables.own_evidence.mark_released(found.bundle, now=now)
        if found.by_people:
            tables.own_evidence.mark_decided(found.bundle)


def require_own_evidence(
    tables: Tables, asked: Standing, *, name: str, commitment: str, datasets: Iterable[str], now: datetime
) -> None:
    """Checks that a model of this party's own may answer queries, if the policy says anything about releases.

    Args:
        tables: of the transaction that publishes.
        asked: this party and its policy.
        name: of the model.
        commitment: to the model as it would answer.
        datasets: that the terms name.
        now: the time, UTC.

    Raises:
        ConfideError: EVIDENCE_MISSING, with every reason.
    """
    if asked.policy.release is None:
        return
    ref = own_ref(name, commitment)
    # By the last bundle alone: that an earlier one still carries what answers already is no leave to publish anew.
    found = _by_the_last(tables, _about(tables, ref), ref, asked, now=now)
    if found.verdict is Verdict.PASS:
        found = _about_these_rows(tables, found, sorted(set(datasets)))
    if found.verdict is Verdict.PASS:
        found = _with_all_that_is_known(tables, found, asked.policy)
    if found.verdict is not Verdict.PASS:
        problems = [Problem(reason.code.value, reason.what, own_remedy(reason)) for reason in found.reasons]
        what = f"{name} may not be published: {found.verdict.value}"
        remedy = f"Make evidence of your own rows: `{HOW}`, with the same files and terms; then publish it."
        raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, problems=problems, remedy=remedy, party=asked.party)
    note_own(tables, found, asked, is_published=True, now=now)
    tables.own_evidence.mark_decided(found.bundle)  # who publishes decides, whoever else had to approve


def own_standings(tables: Tables, asked: Standing, *, now: datetime) -> Mapping[ModelRef, OwnStanding]:
    """Returns how all published models of this party's own stand with the gate, by published version; nothing is written."""
    return {
        record.model.ref: own_standing(tables, record.model, asked, now=now)
        for record in tables.encrypted.models()
        if record.withdrawn is None and record.model.origin is None
    }


def own_standing(tables: Tables, model: PublishedModel, asked: Standing, *, now: datetime) -> OwnStanding:
    """Returns how one published model of this party's own stands with the gate; nothing is written."""
    terms = asked.policy.release
    if terms is None:
        return OwnStanding(model, None, None)
    found = decide_own(tables, own_ref(model.name, model.commitment), asked, now=now)
    record = next((each for each in tables.own_evidence.of_model(model.name) if each.digest == found.bundle), None)
    renewal = None if record is None else next_renewal(EvidenceBundle.from_bytes(record.signed.body), terms)
    return OwnStanding(model, found, renewal)


def own_remedy(reason: Reason) -> str:
    """Returns what is to be done about a reason against an own model that answers queries, for people."""
    if reason.code is ReasonCode.NO_GUARANTEE:
        return "train with differential privacy and release that, or name the data sets behind it in the terms"
    if reason.code in _ATTACK or (reason.code is ReasonCode.OVERTAKEN and reason.verdict is Verdict.BLOCKED):
        return f"attack it with your own rows and make evidence: `{HOW}`"
    return remedy_for(reason).replace("confide model evidence make", HOW)


def _about(tables: Tables, ref: ModelRef) -> list[EvidenceRecord]:
    return [each for each in tables.own_evidence.of_model(ref.name) if each.ref == ref]


def _by_the_last(tables: Tables, found: Sequence[EvidenceRecord], ref: ModelRef, asked: Standing, *, now: datetime) -> Decision:
    """What the gate says by the last of these bundles; none, or one that cannot be judged, is blocked."""
    if not found:
        what = f"there is no evidence about {ref.name} as it answers, and {asked.party}'s policy asks for it"
        return Decision(ref, "", Verdict.BLOCKED, (Reason(ReasonCode.NO_REPORT, Verdict.BLOCKED, what),))
    try:
        return judge_own(tables, found[-1], asked, now=now)
    except ConfideError as error:
        return _unbelieved(ref, error)


def _unbelieved(ref: ModelRef, error: ConfideError) -> Decision:
    what = f"{error.code.name}: {error.what}"
    return Decision(ref, "", Verdict.BLOCKED, (Reason(ReasonCode.NOT_BELIEVED, Verdict.BLOCKED, what),))


def _salt(tables: Tables, name: str, manifest: bytes, weights: bytes) -> bytes | None:
    known = [*tables.own_evidence.salts(name)]
    known += [(each.model.commitment, each.salt) for each in tables.encrypted.models() if each.model.name == name]
    return next((salt for commitment, salt in known if is_committed(commitment, manifest, weights, salt=salt)), None)


def _with_all_that_is_known(tables: Tables, found: Decision, policy: Policy) -> Decision:
    """The decision, blocked if something was found since that the evidence would have to carry on if it were made now."""
    record = tables.own_evidence.find(found.bundle)
    if record is None or not is_overdue(tables, EvidenceBundle.from_bytes(record.signed.body), policy.release):
        return found
    what = "since this evidence was made, something was found of this model under another name, or worse of others of its rows"
    why = Reason(ReasonCode.OVERTAKEN, Verdict.BLOCKED, what)
    return replace(found, verdict=Verdict.BLOCKED, reasons=(why,))


def _about_these_rows(tables: Tables, found: Decision, datasets: list[str]) -> Decision:
    """The decision, blocked if the evidence is about other rows than the terms name."""
    records = tables.own_evidence.of_model(found.ref.name) if found.ref is not None else ()
    record = next(each for each in records if each.digest == found.bundle)
    said = list(EvidenceBundle.from_bytes(record.signed.body).datasets)
    if said == datasets:
        return found
    what = f"the evidence is about {', '.join(said) or 'no rows that it names'}; the terms name {', '.join(datasets) or 'none'}"
    why = Reason(ReasonCode.OTHER_MODEL, Verdict.BLOCKED, what)
    return replace(found, verdict=Verdict.BLOCKED, reasons=(why,))
