"""Grants at their owner: issuing and revoking them; each by a person of the institution, with entries in its audit log.

Every function works while the party serves: what it writes is in the shared database, and in force with the transaction.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.consent.grant import DatasetSubject, Grant, ModelSubject, sign_grant
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.reading import in_order, time_text
from governance.consent.revocation import Effect, Revocation, sign_revocation
from governance.lineage.blast import BlastRadius
from governance.lineage.receipt import DeletionReceipt, missing_receipts
from governance.people.roles import Action
from parties.agreements import find_agreement, load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.lineage import blast_radius, receipts_of
from parties.model_sources import model_sources
from parties.storage.database import Tables, one_transaction, open_database
from parties.storage.grants import GrantRecord
from parties.storage.revocations import RevocationRecord
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import JobType, ModelRef, OutputKind

NONCE_BYTES = 16


@dataclass(frozen=True)
class DatasetChoice:
    """A data set of this party as a person names it; None is its latest version."""

    name: str
    version: int | None = None


@dataclass(frozen=True)
class GrantTerms:
    """What an owner permits, before it is bound to this party, a registration and a nonce; fields as in `Grant`.

    Attributes:
        agreement: digest of an agreement that is known here, the beginning of it, or its name.
        subject: a data set of this party, or a model into which its rows went.
        valid_from: None for now.
        derived_until: None for `expires`.
    """

    agreement: str
    subject: DatasetChoice | ModelRef
    purposes: tuple[str, ...]
    job_types: tuple[JobType, ...]
    derived_job_types: tuple[JobType, ...]
    recipients: tuple[str, ...]
    outputs: tuple[OutputRule, ...]
    max_uses: int
    expires: datetime
    min_parties: int = 1
    min_rows: int = 1
    architectures: tuple[str, ...] = ()
    parameters: ParameterLimits = field(default_factory=ParameterLimits)
    computing_parties: tuple[str, ...] = ()
    dealers: tuple[str, ...] = ()
    epsilon_cap: str | None = None
    valid_from: datetime | None = None
    derived_until: datetime | None = None


def create_grant(config: PartyConfig, person_folder: Path, terms: GrantTerms, *, now: datetime) -> GrantRecord:
    """Issues a grant: binds the terms to what is registered here, signs, keeps and logs it.

    Args:
        config: the owner's.
        person_folder: of the person who has the party issue it; a data steward.
        terms: what is permitted.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_DATASET, UNKNOWN_MODEL, UNKNOWN_DOCUMENT: what the terms name is not known here; INVALID_DOCUMENT:
            the terms make no grant, with all problems; NOT_AUTHORISED (the person's fault).
    """
    member = load_member(config, now)
    with closing(open_database(config.folder.database_file)) as database:
        with database.transaction() as tables:
            grant = _bind(terms, tables, consortium=member.directory.consortium, party=config.party, now=now)
        signed = sign_grant(grant, member.signing_key)
        authorisation = authorise(config, person_folder, Action.ISSUE_GRANT, grant.digest, now)
        with database.transaction() as tables:
            facts: dict[str, Fact] = {"grant": grant.grant_id, "agreement": grant.agreement, "subject": grant.subject.label}
            facts |= {"expires": time_text(grant.expires), "derived_until": time_text(grant.derived_until)}
            facts["authorisation"] = keep_authorisation(tables, authorisation, now=now)
            tables.audit.append(EntryKind.GRANT_ISSUED, facts, now=now)
            # Where the owner takes no part in a job on a model of its rows, the others apply what it has told them.
            tables.statements.say(signed, now=now)
            return tables.grants.add(signed, now=now)


def revoke_grant(
    config: PartyConfig, person_folder: Path, grant_id: str, *, reason: str, effect: Effect, now: datetime
) -> RevocationRecord:
    """Ends a grant at once and for everybody: jobs stop, derived models are not used any more, and with DELETE destroyed.

    Args:
        config: the owner's.
        person_folder: of the person who has the party do it; a data steward or privacy officer.
        grant_id: the grant, on rows or for a published model, or the beginning of its id.
        reason: for people; public in the consortium.
        effect: what becomes of derived models.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT: no grant of this party; INVALID_DOCUMENT: no reason; INVALID_ARGUMENT: nothing comes of a
            grant for a published model that could be deleted; NOT_AUTHORISED.
    """
    member = load_member(config, now)
    with closing(open_database(config.folder.database_file)) as database:
        with database.transaction() as tables:
            grant_id = _revocable(tables, grant_id, effect)
        time = now.replace(microsecond=0)
        ended = Revocation(member.directory.consortium, config.party, grant_id, effect, reason, time)
        own = sign_revocation(ended, member.signing_key)
        authorisation = authorise(config, person_folder, Action.REVOKE_GRANT, grant_id, now)
        with database.transaction() as tables:
            kept = keep_authorisation(tables, authorisation, now=now)
            if tables.revocations.add(own, now=now):
                facts = {"grant": grant_id, "issuer": config.party, "effect": effect.value, "authorisation": kept}
                tables.audit.append(EntryKind.GRANT_REVOKED, facts, now=now)
                tables.statements.say(own, now=now)
    return RevocationRecord(ended, own, now)


@dataclass(frozen=True)
class IssuedGrant:
    """A grant with what came of it.

    Attributes:
        record: the grant as it stands.
        jobs: that count against it.
        models: that rest on it, as far as they are known here.
        receipts: after a revocation with deletion: which holder has destroyed which model.
        awaited: `model at holder` of which no receipt has arrived.
    """

    record: GrantRecord
    jobs: tuple[str, ...]
    models: tuple[ModelRef, ...]
    receipts: tuple[DeletionReceipt, ...]
    awaited: tuple[str, ...]


def issued_grants(config: PartyConfig) -> tuple[GrantRecord, ...]:
    """Returns all grants of this party, the latest first."""
    with one_transaction(config.folder.database_file) as tables:
        return tables.grants.all()


def issued_grant(config: PartyConfig, named: str) -> IssuedGrant:
    """Returns a grant by its id or the beginning of it, with what came of it.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
    """
    with one_transaction(config.folder.database_file) as tables:
        record = find_grant(tables, named)
        radius = blast_radius(tables, issuer=config.party, subject=record.grant_id)
        receipts: list[DeletionReceipt] = []
        awaited: list[str] = []
        for ref in radius.models:
            found = [each for each in receipts_of(tables, ref, party=config.party) if each.subject == record.grant_id]
            receipts += found
            awaited += [f"{ref.label} at {holder}" for holder in missing_receipts(radius.holders[ref.label], found)]
        return IssuedGrant(record, tables.grants.jobs(record.grant_id), radius.models, tuple(receipts), tuple(awaited))


def blast_of(config: PartyConfig, named: str) -> BlastRadius:
    """Returns what would end if a grant of this party were revoked, as far as it is known here.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
    """
    with one_transaction(config.folder.database_file) as tables:
        return blast_radius(tables, issuer=config.party, subject=_revocable(tables, named, Effect.STOP))


def find_grant(tables: Tables, named: str) -> GrantRecord:
    """Returns a grant of this party by its id or the beginning of it.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT (the asker's fault): none, or several.
    """
    found = [record for record in tables.grants.all() if named and record.grant_id.startswith(named)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} grants begin with {named[:32]}" if found else f"this party has issued no grant {named[:32]}"
    raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, what, remedy="Copy its id from `confide grant list`.")


def _revocable(tables: Tables, named: str, effect: Effect) -> str:
    """Returns the id of a grant of either kind by the beginning of it."""
    published = [each.grant.grant_id for each in tables.encrypted.grants() if named and each.grant.grant_id.startswith(named)]
    if not published:
        return find_grant(tables, named).grant_id
    if len(published) > 1 or any(record.grant_id.startswith(named) for record in tables.grants.all()):
        what = f"several grants begin with {named[:32]}"
        raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, what, remedy="Copy its id from `confide grant list`.")
    if effect is Effect.DELETE:
        what = "no model comes of a grant for a published model: there is nothing to destroy"
        raise ConfideError(
            ErrorCode.INVALID_ARGUMENT, what, remedy="Leave out --delete; `confide model withdraw` ends the model."
        )
    return published[0]


def _bind(terms: GrantTerms, tables: Tables, *, consortium: str, party: str, now: datetime) -> Grant:
    signed = find_agreement(tables, terms.agreement)
    agreement = signed.agreement
    job_types = (*terms.job_types, *terms.derived_job_types)
    outside = [("purposes", purpose) for purpose in terms.purposes if purpose not in agreement.purposes]
    outside += [("job_types", kind.value) for kind in dict.fromkeys(job_types) if kind not in agreement.job_types]
    outside += [("outputs", rule.kind.value) for rule in terms.outputs if rule.kind not in agreement.outputs]
    # Permitting what the agreement excludes would permit nothing: most likely a word is misspelt.
    problems = [Problem(where, f"{what} is not in the agreement {agreement.name}", "remove it") for where, what in outside]
    if party not in agreement.parties:
        problems.append(Problem("agreement", f"{party} is no party of {agreement.name}", "name another agreement"))
    subject = _subject(terms.subject, tables, party)
    if isinstance(subject, DatasetSubject) and not agreement.names_dataset(party, subject.name):
        problems.append(
            Problem("subject", f"{party}/{subject.name} is no data set of {agreement.name}", "name another agreement")
        )
    if problems:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{len(problems)} problem(s) in the grant", problems=problems)
    kinds = {rule.kind: rule for rule in terms.outputs}
    return Grant(
        consortium=consortium,
        issuer=party,
        agreement=signed.digest,
        subject=subject,
        purposes=terms.purposes,
        job_types=in_order(terms.job_types, JobType),
        derived_job_types=in_order(terms.derived_job_types, JobType),
        recipients=terms.recipients,
        outputs=tuple(kinds[kind] for kind in OutputKind if kind in kinds),
        architectures=terms.architectures,
        parameters=terms.parameters,
        computing_parties=terms.computing_parties,
        dealers=terms.dealers,
        min_parties=terms.min_parties,
        min_rows=terms.min_rows,
        max_uses=terms.max_uses,
        epsilon_cap=terms.epsilon_cap,
        valid_from=(terms.valid_from or now).replace(microsecond=0),
        expires=terms.expires.replace(microsecond=0),
        derived_until=(terms.derived_until or terms.expires).replace(microsecond=0),
        nonce=secrets.token_hex(NONCE_BYTES),
    )


def _subject(choice: DatasetChoice | ModelRef, tables: Tables, party: str) -> DatasetSubject | ModelSubject:
    if isinstance(choice, DatasetChoice):
        record = tables.datasets.get(choice.name, choice.version)
        return DatasetSubject(record.name, record.version, record.commitment)
    if party not in {source.dataset.party for source in model_sources(tables, choice)}:
        what = f"no rows of {party} went into a model {choice.label}"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, what, remedy="Check name and version.")
    return ModelSubject(choice.name, choice.version)
