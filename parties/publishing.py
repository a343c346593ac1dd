"""Publishing a model for encrypted queries, and withdrawing it: decided by people of its owner, beside a serving party.

The weights are planned for, committed to and sealed here; nothing of them leaves. What is published is a signed description.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from governance.audit.entries import EntryKind, Fact
from governance.consent.reading import time_text
from governance.encrypted.commitment import SALT_BYTES, commit_model, is_committed
from governance.encrypted.published import PublishedModel, sign_published
from governance.people.roles import Action
from parties.agreements import load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.own_evidence import OwnStanding, Standing, known_salt, own_standings
from parties.policy_file import load_policy
from parties.publication_files import PublicationTerms, read_model, read_validation, require_trained_ranges
from parties.publication_gate import publication_case, require_published
from parties.released import is_released, released_ranges
from parties.storage.database import one_transaction
from parties.storage.encrypted import EnquiryRecord, PublishedRecord, sealed_id
from parties.storage.sealed import Purpose, SealedFiles
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.ckks.approximations import replaced_layers
from protocols.ckks.lanes import PlannedLanes, plan_lanes
from protocols.ckks.latency_planning import Declared
from protocols.ckks.machine import Machine, measured_machine
from protocols.ckks.offers import (
    Choice,
    Measured,
    Offer,
    Validation,
    approximated,
    measure,
    offers,
    proposed_limit,
    ranges_of,
)
from protocols.ckks.sample_ranges import fold_ranges, scaled
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.model.layers import Sigmoid, Softmax
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors

Weights = dict[str, NDArray[np.float32]]
_SCALED = (-1.0, 1.0)
_MAX_REASON = 1_000


@dataclass(frozen=True)
class PublicationFiles:
    """What an owner brings.

    Attributes:
        manifest: the architecture, JSON as `ModelSpec.to_document` gives it.
        weights: safetensors; secret.
        validation: CSV with a header; secret; None for none.
        label: its column of labels; None for none.
    """

    manifest: Path
    weights: Path
    validation: Path | None = None
    label: str | None = None


@dataclass(frozen=True)
class Preview:
    """What a publication would be; for the owner's eyes: it holds statistics of validation rows.

    Attributes:
        lanes: how the model would be asked; None while polynomials have to be chosen.
        offers: the choices, if it has activations that encrypted computation has not, and none is chosen.
        between: the range of arguments that the offers are for; None for those that validation rows show.
        measured: of the model as it would answer, without encryption; None without validation rows.
        proposed_limit: of the outputs, from validation rows; None without rows or offers.
    """

    lanes: PlannedLanes | None
    offers: tuple[Offer, ...]
    between: tuple[float, float] | None
    measured: Measured | None
    proposed_limit: float | None


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The model as it is answered from: of scaled samples, with the chosen polynomials; secret."""

    plain: tuple[ModelSpec, Weights]
    answered: tuple[ModelSpec, Weights]
    declared: Declared
    validation: Validation | None


def preview_publication(
    files: PublicationFiles,
    terms: PublicationTerms,
    *,
    approximation: Choice | None = None,
    between: tuple[float, float] | None = None,
) -> Preview:
    """Returns what a publication would be, and what there is to choose from; writes nothing and tells nobody.

    Args:
        files: the model, and validation rows.
        terms: what the owner declares.
        approximation: polynomials for the activations that encrypted computation has not; None to be offered some.
        between: of offers, the range of the activations' arguments; None for those that validation rows show.

    Raises:
        ConfideError: INVALID_MODEL, INVALID_DATA, INVALID_ARGUMENT (the owner's fault): see what reads and plans them.
    """
    prepared = _prepare(files, terms, approximation)
    spec, weights = prepared.answered
    if not replaced_layers(spec):
        lanes = _planned(prepared, terms)
        measured = None
        if prepared.validation is not None:
            measured = measure(prepared.plain, prepared.answered, prepared.validation)
        limit = None if measured is None else proposed_limit(measured.largest_output)
        return Preview(lanes, (), None, measured, limit)
    if between is None and prepared.validation is None:
        what = f"{', '.join(replaced_layers(spec))}: activations that are computed under encryption as polynomials only"
        remedy = "Give validation rows to see which polynomials do, or the range of the activations' arguments."
        raise ConfideError(ErrorCode.INVALID_MODEL, what, remedy=remedy)
    ranges = ranges_of(spec, weights, between, prepared.validation)
    made = offers(spec, weights, prepared.declared, ranges=ranges, validation=prepared.validation)
    largest = [offer.measured.largest_output for offer in made if offer.measured is not None]
    return Preview(None, made, between, None, proposed_limit(max(largest)) if largest else None)


def publish_model(
    config: PartyConfig,
    person_folder: Path,
    files: PublicationFiles,
    terms: PublicationTerms,
    *,
    now: datetime,
    approximation: Choice | None = None,
    purpose: str | None = None,
) -> PublishedModel:
    """Publishes a model: it answers encrypted queries of whoever holds a grant for it, from the transaction on.

    Args:
        config: the owner's.
        person_folder: of the person who has the party do it; a data steward.
        files: the model.
        terms: what the owner declares.
        now: the time, UTC.
        approximation: the polynomials that the owner has chosen; None for a model that needs none.
        purpose: of released weights: for which purpose of their licence.

    Returns:
        Its description.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault): among others, nobody has chosen polynomials that it needs;
            INVALID_DOCUMENT: the terms make no description; NOT_AUTHORISED (the person's); DISK_FULL (the operator's);
            LICENCE_REFUSED, EVIDENCE_MISSING, MODEL_REVOKED: see `parties.publication_gate`.
    """
    member = load_member(config, now)
    case = publication_case(config, files.weights, terms, purpose=purpose, now=now)
    prepared = _prepare(files, terms, approximation)
    spec, weights = prepared.answered
    _require_chosen(spec)
    lanes = _planned(prepared, terms)
    manifest, secret = canonical_bytes(spec.to_document()), weights_to_safetensors(weights, spec)
    # Under which there is evidence about this very model, if there is any.
    salt = known_salt(config, terms.name, manifest, secret) or secrets.token_bytes(SALT_BYTES)
    described = _described(terms, spec, lanes, consortium=member.directory.consortium, issuer=config.party, now=now)
    licence = case.licence
    model = replace(
        described,
        commitment=commit_model(manifest, secret, salt=salt),
        origin=None if licence is None else licence.ref,
        claims=() if licence is None else licence.claims,
    )
    signed = sign_published(model, member.signing_key)
    authorisation = authorise(config, person_folder, Action.PUBLISH_MODEL, model.digest, now)
    sealed = config.folder.open_sealed()
    name = ""
    try:
        with one_transaction(config.folder.database_file) as tables:
            kept = keep_authorisation(tables, authorisation, now=now)
            require_published(tables, case, terms, commitment=model.commitment, now=now)
            # Once the transaction has begun: a party process that starts removes, in one of its own, what no table names.
            name = sealed.write(Purpose.PUBLISHED_MODEL, sealed_id(model.ref), secret)
            tables.encrypted.publish(signed, manifest=manifest, salt=salt, sealed_name=name, now=now)
            facts: dict[str, Fact] = {
                "model": model.ref.label,
                "published": model.digest,
                "commitment": model.commitment,
                "lanes": sorted(model.plans),
                "expires": time_text(model.expires),
                "origin": None if model.origin is None else model.origin.label,
                "authorisation": kept,
            }
            tables.audit.append(EntryKind.MODEL_PUBLISHED, facts, now=now)
    except BaseException:  # nothing names the file: it must not stay
        if name:
            sealed.delete(name)
        raise
    return model


def withdraw_model(config: PartyConfig, person_folder: Path, ref: ModelRef, *, reason: str, now: datetime) -> PublishedRecord:
    """Withdraws a published model for good: nothing of it is answered any more, and this party's sealed copy is destroyed.

    A serving party ends the open enquiries within a minute; what was not answered of them is given back.

    Args:
        config: the owner's.
        person_folder: of the person who has the party do it; a data steward or privacy officer.
        ref: the model.
        reason: in a sentence, for the audit log.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL; INVALID_ARGUMENT: no reason, or a long one; NOT_AUTHORISED (the person's fault).
    """
    if not 0 < len(reason) <= _MAX_REASON:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a reason of 1 to {_MAX_REASON} characters is expected")
    published_model(config, ref)
    authorisation = authorise(config, person_folder, Action.WITHDRAW_MODEL, ref.label, now)
    with one_transaction(config.folder.database_file) as tables:
        before = tables.encrypted.find_model(ref)
        kept = keep_authorisation(tables, authorisation, now=now)
        record = tables.encrypted.withdraw(ref, now)
        if before is not None and before.withdrawn is None:
            facts: dict[str, Fact] = {"model": ref.label, "reason": reason, "authorisation": kept}
            tables.audit.append(EntryKind.MODEL_WITHDRAWN, facts, now=now)
    # After the decision is durable; a crash in between leaves the file to the next start, which removes what no table names.
    config.folder.open_sealed().delete(record.sealed_name)
    return record


def published_models(config: PartyConfig) -> tuple[PublishedRecord, ...]:
    """Returns the models that this party has published, withdrawn ones too, the latest first."""
    with one_transaction(config.folder.database_file) as tables:
        return tables.encrypted.models()


def published_standings(config: PartyConfig, *, now: datetime) -> Mapping[ModelRef, OwnStanding]:
    """Returns how the published models of this party's own stand with its gate on evidence, by published version."""
    member, policy = load_member(config, now), load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        return own_standings(tables, Standing(config.party, policy, member.directory), now=now)


def published_model(config: PartyConfig, ref: ModelRef) -> PublishedRecord:
    """Returns one of them.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """
    with one_transaction(config.folder.database_file) as tables:
        record = tables.encrypted.find_model(ref)
    if record is None:
        what = f"{ref.label} is not published here"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, what, remedy="`confide model published` shows what is.", party=config.party)
    return record


def open_enquiries_of(config: PartyConfig, ref: ModelRef) -> tuple[EnquiryRecord, ...]:
    """Returns the enquiries that end if a model is withdrawn, the oldest first."""
    with one_transaction(config.folder.database_file) as tables:
        return tuple(record for record in tables.encrypted.open_enquiries() if record.enquiry.ref == ref)


def load_published(record: PublishedRecord, sealed: SealedFiles) -> tuple[ModelSpec, Weights]:
    """Returns a published model as it is answered from; the weights are secret.

    Raises:
        ConfideError: STATE_DAMAGED (the operator's fault): not the model that was committed to, or its file is missing.
    """
    weights = sealed.read(Purpose.PUBLISHED_MODEL, record.object_id, record.sealed_name)
    if not is_committed(record.model.commitment, record.manifest, weights, salt=record.salt):
        what = f"the weights of {record.model.ref.label} are not those that were committed to"
        raise ConfideError(ErrorCode.STATE_DAMAGED, what)
    spec = ModelSpec.from_document(parse_canonical(record.manifest))
    return spec, weights_from_safetensors(weights, spec)


def answered_model(
    files: PublicationFiles, terms: PublicationTerms, *, approximation: Choice | None
) -> tuple[ModelSpec, Weights]:
    """Returns a model as it would answer: of scaled samples, with the chosen polynomials; the weights are secret.

    Raises:
        ConfideError: INVALID_MODEL, INVALID_DATA, INVALID_ARGUMENT (the owner's fault), as of a publication.
    """
    prepared = _prepare(files, terms, approximation)
    _require_chosen(prepared.answered[0])
    return prepared.answered


def _require_chosen(spec: ModelSpec) -> None:
    waiting = replaced_layers(spec)
    if waiting:
        what = f"{', '.join(waiting)}: activations that are computed under encryption as polynomials only, and none is chosen"
        raise ConfideError(
            ErrorCode.INVALID_MODEL, what, remedy="Look at the offers with --dry-run, and choose with --approximate."
        )


def _prepare(files: PublicationFiles, terms: PublicationTerms, approximation: Choice | None) -> _Prepared:
    spec, weights = read_model(files.manifest, files.weights)
    if terms.features and len(terms.features) != spec.input_features:
        what = f"the terms name {len(terms.features)} features; the model takes {spec.input_features}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name each, in the order of the model's.")
    if terms.outputs and len(terms.outputs) != spec.output_features:
        what = f"the terms name {len(terms.outputs)} outputs; the model gives {spec.output_features}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name each, in the order of the model's.")
    validation = None
    if files.validation is not None:
        found = read_validation(files.validation, features=terms.features, num_features=spec.input_features, label=files.label)
        validation = Validation(scaled(found.rows, terms.ranges), found.labels)
    low, high = terms.input_range
    if terms.ranges:
        if is_released(files.weights.parent):  # trained on rows that were scaled by these ranges: nothing is left to fold
            require_trained_ranges(terms, released_ranges(files.weights.parent))
        else:
            spec, weights = fold_ranges(spec, weights, terms.ranges)
        low, high = _SCALED
    answered: tuple[ModelSpec, Any] = (spec, weights)
    if approximation is not None:
        ranges = ranges_of(spec, weights, approximation.between, validation)
        answered = approximated(spec, weights, ranges, approximation.degree)
    return _Prepared((spec, weights), answered, Declared(low, high, terms.output_limit), validation)


@cache
def _this_machine() -> Machine:
    """Where models are published is where they are answered: the party's own machine."""
    return measured_machine(time.process_time)  # of all threads that matrix products take


def _planned(prepared: _Prepared, terms: PublicationTerms) -> PlannedLanes:
    spec, weights = prepared.answered
    return plan_lanes(spec, weights, prepared.declared, lanes=terms.lanes, decimals=terms.decimals, machine=_this_machine())


def _described(
    terms: PublicationTerms, spec: ModelSpec, lanes: PlannedLanes, *, consortium: str, issuer: str, now: datetime
) -> PublishedModel:
    last = spec.layers[-1].operator
    return PublishedModel(
        consortium=consortium,
        issuer=issuer,
        name=terms.name,
        commitment="",
        plans={lane: plan.to_document() for lane, plan in lanes.plans.items()},
        features=terms.features,
        ranges=terms.ranges,
        outputs=terms.outputs or tuple(f"output-{number + 1}" for number in range(spec.output_features)),
        client_activation=last.kind if isinstance(last, Sigmoid | Softmax) else "",
        decimals=lanes.decimals,
        known_after=lanes.known_after,
        key_lifetime_s=terms.key_lifetime_s,
        valid_from=(terms.valid_from or now).replace(microsecond=0),
        expires=terms.expires,
    )
