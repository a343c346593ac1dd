"""Grants for published models at their owner: issuing them, and how they stand; they end as every grant does, by a revocation.

Who evaluates is who grants, so nobody else is told of a grant; its revocation is told like all others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.consent.revocation import Revocation
from governance.encrypted.capacity import answers_kept_unknown
from governance.encrypted.grant import EncryptedGrant, sign_encrypted_grant
from governance.encrypted.published import PublishedModel
from governance.people.roles import Action
from parties.agreements import find_agreement, load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.encrypted_grant_files import EncryptedGrantTerms
from parties.grants import NONCE_BYTES
from parties.storage.database import Tables, one_transaction
from parties.storage.encrypted import EncryptedGrantRecord, EnquiryRecord
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import JobType


@dataclass(frozen=True)
class IssuedEncryptedGrant:
    """A grant for a published model with what came of it.

    Attributes:
        record: the grant, and how many numbers are learnt or set aside under it.
        enquiries: that count against it, the oldest first.
        revocation: its issuer's, or None.
        withdrawn: when the model was withdrawn, UTC, or None.
    """

    record: EncryptedGrantRecord
    enquiries: tuple[EnquiryRecord, ...]
    revocation: Revocation | None
    withdrawn: datetime | None

    def standing(self, now: datetime) -> str:
        """Returns in a word or two how the grant stands."""
        grant = self.record.grant
        if self.revocation is not None:
            return "revoked"
        if self.withdrawn is not None:
            return "model withdrawn"
        if now >= grant.expires:
            return "expired"
        if now < grant.valid_from:
            return "not yet valid"
        return "used up" if self.record.learnt >= grant.max_answers else "valid"


def create_encrypted_grant(
    config: PartyConfig, person_folder: Path, terms: EncryptedGrantTerms, *, now: datetime
) -> EncryptedGrantRecord:
    """Issues a grant for a published model: binds the terms, signs, keeps and logs it.

    Args:
        config: the owner's.
        person_folder: of the person who has the party issue it; a data steward.
        terms: what is permitted.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL, UNKNOWN_DOCUMENT: what the terms name is not known here; INVALID_DOCUMENT: the terms make no
            grant, or one under which nothing could ever be answered, with all problems; NOT_AUTHORISED (the person's fault).
    """
    member = load_member(config, now)
    with one_transaction(config.folder.database_file) as tables:
        grant = _bind(terms, tables, consortium=member.directory.consortium, party=config.party, now=now)
    signed = sign_encrypted_grant(grant, member.signing_key)
    authorisation = authorise(config, person_folder, Action.ISSUE_GRANT, grant.digest, now)
    with one_transaction(config.folder.database_file) as tables:
        facts: dict[str, Fact] = {"grant": grant.grant_id, "agreement": grant.agreement, "subject": grant.ref.label}
        facts |= {"expires": grant.to_document()["expires"], "max_answers": grant.max_answers}
        facts |= {"counts_as_known": "yes" if grant.counts_as_known else "no"}
        facts["authorisation"] = keep_authorisation(tables, authorisation, now=now)
        tables.audit.append(EntryKind.GRANT_ISSUED, facts, now=now)
        return tables.encrypted.add_grant(signed, now=now)


def issued_encrypted_grants(config: PartyConfig) -> tuple[IssuedEncryptedGrant, ...]:
    """Returns all grants of this party for published models, the latest first."""
    with one_transaction(config.folder.database_file) as tables:
        return tuple(_issued(tables, record, config.party) for record in tables.encrypted.grants())


def find_encrypted_grant(config: PartyConfig, named: str) -> IssuedEncryptedGrant | None:
    """Returns a grant for a published model by its id or the beginning of it; None if it is none of these, or not only one."""
    with one_transaction(config.folder.database_file) as tables:
        found = [record for record in tables.encrypted.grants() if named and record.grant.grant_id.startswith(named)]
        others = [record for record in tables.grants.all() if found and record.grant_id.startswith(named)]
        return _issued(tables, found[0], config.party) if len(found) == 1 and not others else None


def _issued(tables: Tables, record: EncryptedGrantRecord, party: str) -> IssuedEncryptedGrant:
    grant = record.grant
    ended = tables.revocations.strongest(grant.grant_id, party)
    model = tables.encrypted.find_model(grant.ref)
    return IssuedEncryptedGrant(
        record=record,
        enquiries=tables.encrypted.enquiries_under(grant.grant_id),
        revocation=None if ended is None else ended.revocation,
        withdrawn=None if model is None else model.withdrawn,
    )


def _bind(terms: EncryptedGrantTerms, tables: Tables, *, consortium: str, party: str, now: datetime) -> EncryptedGrant:
    signed = find_agreement(tables, terms.agreement)
    record = tables.encrypted.find_model(terms.model)
    if record is None or record.withdrawn is not None:
        what = f"{terms.model.label} is not published here" if record is None else f"{terms.model.label} was withdrawn"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, what, remedy="`confide model published` shows what is.", party=party)
    agreement = signed.agreement
    # Permitting what is excluded elsewhere would permit nothing: most likely a word is misspelt.
    problems = [
        Problem("purposes", f"{purpose} is not in the agreement {agreement.name}", "remove it")
        for purpose in terms.purposes
        if purpose not in agreement.purposes
    ]
    if JobType.INFER_ENCRYPTED not in agreement.job_types:
        what = f"the agreement {agreement.name} does not permit {JobType.INFER_ENCRYPTED.value}"
        problems.append(Problem("agreement", what, "name another agreement"))
    if party not in agreement.parties:
        problems.append(Problem("agreement", f"{party} is no party of {agreement.name}", "name another agreement"))
    problems += _unanswerable(terms, record.model)
    if problems:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{len(problems)} problem(s) in the grant", problems=problems)
    return EncryptedGrant(
        consortium=consortium,
        issuer=party,
        agreement=signed.digest,
        model=terms.model.name,
        version=terms.model.version,
        purposes=terms.purposes,
        recipients=terms.recipients,
        max_answers=terms.max_answers,
        max_answers_per_key=min(terms.max_answers_per_key or terms.max_answers, terms.max_answers),
        max_requests_per_hour=terms.max_requests_per_hour,
        counts_as_known=terms.counts_as_known,
        valid_from=(terms.valid_from or now).replace(microsecond=0),
        expires=terms.expires.replace(microsecond=0),
        nonce=secrets.token_hex(NONCE_BYTES),
    )


def _unanswerable(terms: EncryptedGrantTerms, model: PublishedModel) -> Iterable[Problem]:
    """Yields why not a single request could be answered, or not as many as the terms say."""
    plans = [EncryptedPlan.from_document(plan) for plan in model.plans.values()]
    least = min(plan.numbers_per_answer for plan in plans)
    for where, value in (("max_answers", terms.max_answers), ("max_answers_per_key", terms.max_answers_per_key)):
        if value is not None and value < least:
            yield Problem(where, f"an answer counts as {least} numbers at least", f"permit {least} or more")
    kept = answers_kept_unknown(model)
    if kept is not None and not terms.counts_as_known and terms.max_answers > kept:
        what = f"{model.known_after} samples give {model.ref.label} away: {kept} numbers may be learnt so that it stays unknown"
        yield Problem("max_answers", what, f"permit at most {kept}, or write counts_as_known: true if they may know it")
    if terms.expires > model.expires:
        yield Problem("expires", "the model answers nothing as long as that", "end the grant with the model, or before")
