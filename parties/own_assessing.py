"""Making evidence about a model of this party's own: it is attacked with the owner's rows where they are; only figures are kept.

The model is taken as it answers encrypted queries: with its ranges folded in and polynomials in place of activations. It is
brought as for a publication, or it is one that is published already. Rows are files in the model's own units; they are read, and
kept nowhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.encrypted.commitment import commit_model
from governance.evidence.bundle import EvidenceBundle, sign_evidence, verify_evidence, with_changes
from governance.evidence.gate import Decision
from governance.evidence.own import OwnModel, own_ref
from governance.people.roles import Action
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk, sign_risk_report
from parties.agreements import load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.evidence import require_seen
from parties.own_evidence import Standing, judge_own, kept_salt, note_own
from parties.own_history import last_decided, require_same_rows, same_models, with_history
from parties.policy_file import load_policy
from parties.publication_files import PublicationTerms, read_column, read_names, read_validation
from parties.publishing import PublicationFiles, answered_model, load_published, published_model
from parties.released import is_released
from parties.storage.database import Tables, one_transaction
from parties.storage.evidence import EvidenceRecord
from parties.storage.state import Member
from privacy.figures import figures_document, read_figures
from privacy.risk.own_model import OwnAttack, OwnFindings, OwnRows, assess_own_model
from privacy.risk.shadows import ShadowRows
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.ckks.offers import Choice
from protocols.ckks.sample_ranges import scaled
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef
from protocols.model.likeness import Sketch, sketch_of
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors

MAX_GROUPS = 16
_SEED_BITS = 48
Tell = Callable[[ModelSpec, OwnRows, OwnAttack], None]


@dataclass(frozen=True, eq=False, repr=False)
class AnsweringModel:
    """A model of this party's own as it answers; secret.

    Attributes:
        name: of the model.
        spec: its architecture.
        weights: by parameter name.
        features: names of the columns of a sample; empty for arrays.
        ranges: of samples, by feature; empty if they are encrypted as they stand.
        commitment: to manifest and weights; public.
        salt: of that.
        sketch: by which it is told again when some digits differ.
    """

    name: str
    spec: ModelSpec
    weights: Mapping[str, NDArray[np.float32]]
    features: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    commitment: str
    salt: bytes
    sketch: Sketch

    @property
    def ref(self) -> ModelRef:
        """Under which there is evidence about it."""
        return own_ref(self.name, self.commitment)


@dataclass(frozen=True)
class AttackFiles:
    """The rows that a model is attacked with, and what is guessed.

    Attributes:
        members: CSV with a header, rows that the model was trained on; secret.
        others: likewise, of the same kind, that it was not trained on; secret.
        label: the column of labels: classes 0, 1, ... in the order of the outputs.
        sensitive: the feature that attribute inference guesses.
        hidden: features that reconstruction guesses, one at a time; empty for the sensitive one.
        group: a column whose values are groups, of gaps between which the class may speak; None for none.
        shadows: how many shadow models.
    """

    members: Path
    others: Path
    label: str
    sensitive: str
    hidden: tuple[str, ...]
    group: str | None
    shadows: int


@dataclass(frozen=True)
class OwnJudged:
    """Evidence that was made, and what the gate says to it.

    Attributes:
        record: the bundle.
        decision: what the gate says.
        published: versions of this model that answer encrypted queries by it.
    """

    record: EvidenceRecord
    decision: Decision
    published: tuple[ModelRef, ...]


def brought_model(
    config: PartyConfig, files: PublicationFiles, terms: PublicationTerms, *, approximation: Choice | None
) -> AnsweringModel:
    """Returns a model in files as it would answer queries.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): the weights were released by others; INVALID_MODEL, INVALID_DATA: as
            of a publication.
    """
    if is_released(files.weights.parent):
        what = f"{files.weights.parent} holds released weights, which are no model of {config.party}'s own"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="The holders of the version make evidence about it.")
    spec, weights = answered_model(files, terms, approximation=approximation)
    manifest, secret = canonical_bytes(spec.to_document()), weights_to_safetensors(weights, spec)
    sketch = sketch_of(spec, weights)
    salt = kept_salt(config, terms.name, manifest, secret, sketch=sketch.tobytes())
    commitment = commit_model(manifest, secret, salt=salt)
    return AnsweringModel(terms.name, spec, weights, terms.features, terms.ranges, commitment, salt, sketch)


def answering_model(config: PartyConfig, ref: ModelRef) -> AnsweringModel:
    """Returns a published model of this party's own; the way for models that were published before there was evidence.

    Raises:
        ConfideError: UNKNOWN_MODEL (the owner's fault): it is not published here, was withdrawn, or was released by others;
            STATE_DAMAGED (the operator's).
    """
    record = published_model(config, ref)
    if record.withdrawn is not None or record.model.origin is not None:
        why = "was withdrawn" if record.withdrawn is not None else "was released by its holders, who make evidence about it"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{ref.label} {why}", remedy="`confide model published` shows what is.")
    spec, weights = load_published(record, config.folder.open_sealed())
    model, sketch = record.model, sketch_of(spec, weights)
    return AnsweringModel(model.name, spec, weights, model.features, model.ranges, model.commitment, record.salt, sketch)


def make_own_evidence(
    config: PartyConfig,
    person_folder: Path,
    model: AnsweringModel,
    *,
    datasets: tuple[str, ...],
    rows: AttackFiles | None,
    now: datetime,
    tell: Tell | None = None,
) -> OwnJudged:
    """Attacks a model of this party's own, signs the report, and makes, signs and keeps a bundle of evidence about it.

    Args:
        config: the owner's.
        person_folder: of the person who has it done, and answers for the rows; a data steward or privacy officer.
        model: as it answers.
        datasets: `party/name/version` of the own rows behind it; empty if that is not said, and then only without an attack.
        rows: what it is attacked with; None if nobody can attack it, and people are to answer for that.
        now: the time, UTC.
        tell: is told what the attack is made of, before it begins.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): rows that do not fit or are too few; INVALID_ARGUMENT: data sets that are
            not its own, or others than the last time; NOT_AUTHORISED (the person's).
    """
    now, named = now.replace(microsecond=0), tuple(sorted(set(datasets)))
    member, policy = load_member(config, now), load_policy(config.policy)
    _require_rows_named(named, rows, party=config.party)
    authorisation = authorise(config, person_folder, Action.MAKE_EVIDENCE, model.ref.label, now)
    with one_transaction(config.folder.database_file) as tables:
        require_same_rows(tables, model.ref, model.sketch, named)
    found = None if rows is None else _attacked(model, rows, tell)
    asked = Standing(config.party, policy, member.directory)
    with one_transaction(config.folder.database_file) as tables:
        # An attack takes minutes, and another one may have ended meanwhile.
        require_same_rows(tables, model.ref, model.sketch, named)
        kept = keep_authorisation(tables, authorisation, now=now)
        tables.own_evidence.keep_model(model.name, model.commitment, model.salt, model.sketch.tobytes())
        report = None if found is None else _state(tables, model, named, found, member, kept, now=now)
        bundle = _bundle(tables, model, named, found, report, member, policy, now=now)
        record = EvidenceRecord(bundle.digest, model.ref, sign_evidence(bundle, member.signing_key), now)
        if tables.own_evidence.add(record):
            facts: dict[str, Fact] = {
                "model": model.ref.label,
                "evidence": record.digest,
                "previous": bundle.previous,
                "commitment": model.commitment,
                "risk_reports": [sha256_hex(each.body) for each in bundle.risk_reports],
                "authorisation": kept,
            }
            tables.audit.append(EntryKind.EVIDENCE_SIGNED, facts, now=now)
        record = tables.own_evidence.latest(model.ref)
        decision = judge_own(tables, record, asked, now=now)
        published = answering_by(tables, model.ref)
        note_own(tables, decision, asked, is_published=bool(published), now=now)
    return OwnJudged(record, decision, published)


def approve_own(config: PartyConfig, person_folder: Path, ref: ModelRef, *, now: datetime, seen: str = "") -> OwnJudged:
    """Has a person approve that an own model answers queries under the last bundle about it; returns what the gate says then.

    Args:
        config: the owner's.
        person_folder: of the person.
        ref: of the evidence, or of the published model.
        now: the time, UTC.
        seen: first digits of the digest of the bundle that she has looked at; empty if she does not say.

    Raises:
        ConfideError: EVIDENCE_MISSING: there is no bundle; INVALID_ARGUMENT: the last one is not what she has looked at;
            NOT_AUTHORISED (the person's fault).
    """
    member, policy = load_member(config, now), load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        record = tables.own_evidence.latest(evidence_ref(tables, ref))
    require_seen(record, seen)
    authorisation = authorise(config, person_folder, Action.APPROVE_RELEASE, record.digest, now)
    asked = Standing(config.party, policy, member.directory)
    with one_transaction(config.folder.database_file) as tables:
        keep_authorisation(tables, authorisation, now=now)
        decision = judge_own(tables, record, asked, now=now)
        published = answering_by(tables, record.ref)
        note_own(tables, decision, asked, is_published=bool(published), now=now)
    return OwnJudged(record, decision, published)


def judge_own_evidence(config: PartyConfig, ref: ModelRef, *, policy: Policy | None = None, now: datetime) -> OwnJudged | None:
    """Returns the last bundle about an own model and what the gate says about it now; None if it is no own model.

    Args:
        config: the owner's.
        ref: of the evidence, or of the published model.
        policy: to be tried out; None for the party's own.
        now: the time, UTC.

    Raises:
        ConfideError: EVIDENCE_MISSING: it is published, and there is no bundle.
    """
    member = load_member(config, now)
    with one_transaction(config.folder.database_file) as tables:
        if not is_own(tables, ref):
            return None
        record = tables.own_evidence.latest(evidence_ref(tables, ref))
        asked = Standing(config.party, policy or load_policy(config.policy), member.directory)
        return OwnJudged(record, judge_own(tables, record, asked, now=now), answering_by(tables, record.ref))


def is_own(tables: Tables, ref: ModelRef) -> bool:
    """Returns whether a label is that of a published model of this party's own, or of evidence about one."""
    published = tables.encrypted.find_model(ref)
    if published is not None:
        return published.model.origin is None
    return any(each.ref == ref for each in tables.own_evidence.of_model(ref.name))


def evidence_ref(tables: Tables, ref: ModelRef) -> ModelRef:
    """Returns under which version there is evidence about a model: for a published one by its commitment, else the same."""
    published = tables.encrypted.find_model(ref)
    return ref if published is None else own_ref(ref.name, published.model.commitment)


def answering_by(tables: Tables, ref: ModelRef) -> tuple[ModelRef, ...]:
    """Returns the published models, not withdrawn, that evidence of this version is about."""
    models = (record.model for record in tables.encrypted.models() if record.withdrawn is None)
    return tuple(model.ref for model in models if model.origin is None and own_ref(model.name, model.commitment) == ref)


def _require_rows_named(named: tuple[str, ...], rows: AttackFiles | None, *, party: str) -> None:
    foreign = [name for name in named if not name.startswith(f"{party}/")]
    if foreign:
        what = f"rows of others are behind no model of {party}'s own: {', '.join(foreign)}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Train jointly, and release what comes of it.")
    if rows is not None and not named:
        what = "nothing says which data sets the rows are from, so no class can be asked"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name them: `datasets` in the terms, or --dataset.")


def _attacked(model: AnsweringModel, rows: AttackFiles, tell: Tell | None) -> OwnFindings:
    names = read_names(rows.others, features=model.features, label=rows.label)
    unknown = [name for name in (rows.sensitive, *rows.hidden) if name not in names]
    if unknown:
        problems = [Problem(name, "is no feature of the model", f"choose among {', '.join(names[:20])}") for name in unknown]
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "what is to be guessed is unknown", problems=problems)
    hidden = rows.hidden or (rows.sensitive,)
    own = OwnRows(_read(rows.members, model, rows.label), _read(rows.others, model, rows.label), _groups(rows))
    attack = OwnAttack(
        sensitive=names.index(rows.sensitive),
        hidden=[names.index(name) for name in hidden],
        shadows=rows.shadows,
        seed=secrets.randbits(_SEED_BITS),
    )
    if tell is not None:
        tell(model.spec, own, attack)
    return assess_own_model(model.spec, model.weights, own, attack)


def _read(path: Path, model: AnsweringModel, label: str) -> ShadowRows:
    found = read_validation(path, features=model.features, num_features=model.spec.input_features, label=label)
    labels = np.zeros(0) if found.labels is None else found.labels
    if not np.array_equal(labels, np.round(labels)):
        problem = Problem(label, "labels are classes 0, 1, ... in the order of the model's outputs", "write whole numbers")
        raise ConfideError(ErrorCode.INVALID_DATA, f"1 problem(s) in {path}", problems=[problem])
    return ShadowRows(np.asarray(scaled(found.rows, model.ranges), np.float64), labels.astype(np.int64))


def _groups(rows: AttackFiles) -> NDArray[np.int64] | None:
    if rows.group is None:
        return None
    names, found = np.unique(np.array(read_column(rows.others, rows.group)), return_inverse=True)
    if not 2 <= len(names) <= MAX_GROUPS:
        problem = Problem(rows.group, f"has {len(names)} values; groups are 2 to {MAX_GROUPS}", "choose another column")
        raise ConfideError(ErrorCode.INVALID_DATA, f"1 problem(s) in {rows.others}", problems=[problem])
    return np.asarray(found, np.int64)


def _state(
    tables: Tables,
    model: AnsweringModel,
    datasets: tuple[str, ...],
    found: OwnFindings,
    member: Member,
    authorisation: str,
    *,
    now: datetime,
) -> SignedDocument:
    """Signs what was found and logs it; told to nobody, for nobody else has the model."""
    stated = StatedRisk(
        member.directory.consortium, member.identity.id, model.ref, now, datasets, found.report, tables.audit.size()
    )
    facts: dict[str, Fact] = {
        "model": model.ref.label,
        "report": stated.digest,
        "method": found.report.method,
        "figures": [f"{name} {each.to_document()[0]}" for name, each in sorted(found.report.figures.items())],
        "authorisation": authorisation,
    }
    tables.audit.append(EntryKind.RISK_ASSESSED, facts, now=now)
    return sign_risk_report(stated, member.signing_key)


def _bundle(
    tables: Tables,
    model: AnsweringModel,
    datasets: tuple[str, ...],
    found: OwnFindings | None,
    report: SignedDocument | None,
    member: Member,
    policy: Policy,
    *,
    now: datetime,
) -> EvidenceBundle:
    party = member.identity.id
    # As a document has them, so that the same figure measured twice is the same.
    use = {} if found is None else read_figures(figures_document(found.usefulness))
    prepared = {f"{party}/{each.name}/{each.version}": sha256_hex(each.signed.body) for each in tables.preparations.all()}
    made = EvidenceBundle(
        consortium=member.directory.consortium,
        issuer=party,
        ref=model.ref,
        time=now,
        previous=None,
        trainings=(),
        architecture=sha256_hex(canonical_bytes(model.spec.to_document())),
        parameters=sum(prod(parameter.shape) for parameter in model.spec.parameters),
        preparations={name: digest for name, digest in sorted(prepared.items()) if name in datasets},
        risk_reports=() if report is None else (report,),
        utility=(),
        own=OwnModel(model.commitment, datasets, same_models(tables, model.ref, model.sketch), use, {}),
    )
    made = with_history(tables, made, policy.release)
    decided = last_decided(tables, made)
    before = None if decided is None else verify_evidence(decided.signed, member.directory)
    made = replace(made, previous=None if before is None else before.digest)
    return replace(made, changes=with_changes(made, before))
