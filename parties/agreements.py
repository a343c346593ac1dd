"""Agreements at a party: proposing, signing and joining them, taking in others' signatures, ending them.

Every function works while the party serves: what it writes is in the shared database, and in force with the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.consent.agreement import (
    Agreement,
    SignedAgreement,
    check_agreement,
    verify_agreement_signature,
    why_not_in_force,
)
from governance.consent.agreement import sign_agreement as sign_body
from governance.consent.reading import refuse
from governance.consent.revocation import Effect, Revocation, sign_revocation
from governance.documents import SignedDocument
from governance.identity.directory import Directory
from governance.identity.names import MemberKind
from governance.people.roles import Action
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.storage.database import Tables, one_transaction, open_database
from parties.storage.revocations import RevocationRecord
from parties.storage.state import Member
from protocols.errors import ConfideError, ErrorCode, Problem

LEAST_DIGITS = 8  # of a digest, where a person shortens it


def propose_agreement(agreement: Agreement) -> SignedAgreement:
    """Returns an agreement that nobody has signed yet, to be sent to its parties.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault), with all problems.
    """
    refuse(check_agreement(agreement), what="the agreement")
    return SignedAgreement.unsigned(agreement.to_bytes())


def sign_agreement(config: PartyConfig, person_folder: Path, document: bytes, *, now: datetime) -> SignedAgreement:
    """Signs an agreement as this party, keeps it, and tells the other parties.

    Args:
        config: the party's.
        person_folder: of the person who has the party sign; a privacy officer.
        document: the agreement with the signatures so far, as `SignedAgreement.to_bytes` wrote it.
        now: the time, UTC.

    Returns:
        The agreement with all signatures that are known here, this party's among them.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE (its author's or a signer's fault); NOT_AUTHORISED (the person's).
    """
    proposed = SignedAgreement.from_bytes(document)
    member = load_member(config, now)
    _verify_all(proposed, member.directory)
    authorisation = authorise(config, person_folder, Action.SIGN_AGREEMENT, proposed.digest, now)
    own = sign_body(proposed.body, party=config.party, key=member.signing_key)
    with one_transaction(config.folder.database_file) as tables:
        facts: dict[str, Fact] = {"agreement": proposed.digest, "name": proposed.agreement.name}
        facts["authorisation"] = keep_authorisation(tables, authorisation, now=now)
        tables.audit.append(EntryKind.AGREEMENT_SIGNED, facts, now=now)
        tables.statements.say(own, now=now)
        return _keep(tables, proposed.with_signature(own), now)


def join_agreement(config: PartyConfig, document: bytes, *, now: datetime) -> SignedAgreement:
    """Takes in an agreement and the signatures that it carries; what is new is kept beside what is known.

    Returns:
        The agreement with all signatures that are known here.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE, NOT_ENROLLED (a signer's fault): nothing is kept then.
    """
    brought = SignedAgreement.from_bytes(document)
    _verify_all(brought, load_member(config, now).directory)
    with one_transaction(config.folder.database_file) as tables:
        return _keep(tables, brought, now)


def take_agreement_signature(tables: Tables, signed: SignedDocument, directory: Directory, *, now: datetime) -> SignedAgreement:
    """Takes in one signature that another party told this one; the same again changes nothing.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE, NOT_ENROLLED (the signer's fault).
    """
    verify_agreement_signature(signed, directory)
    return _keep(tables, SignedAgreement.unsigned(signed.body).with_signature(signed), now)


def revoke_agreement(config: PartyConfig, person_folder: Path, digest: str, *, reason: str, now: datetime) -> RevocationRecord:
    """Ends an agreement for everybody, as one of its signatories, and tells the other parties.

    Args:
        config: the party's.
        person_folder: of the person who has the party do it; a privacy officer.
        digest: of the agreement, or its beginning, or its name.
        reason: for people.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT; INVALID_DOCUMENT: the party is not one of its parties; NOT_AUTHORISED.
    """
    member = load_member(config, now)
    with closing(open_database(config.folder.database_file)) as database:
        with database.transaction() as tables:
            signed = find_agreement(tables, digest)
        if config.party not in signed.agreement.parties:
            what = f"{config.party} is no party of the agreement {signed.agreement.name}"
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=config.party)
        time = now.replace(microsecond=0)
        ended = Revocation(member.directory.consortium, config.party, signed.digest, Effect.STOP, reason, time)
        own = sign_revocation(ended, member.signing_key)
        authorisation = authorise(config, person_folder, Action.REVOKE_AGREEMENT, signed.digest, now)
        with database.transaction() as tables:
            kept = keep_authorisation(tables, authorisation, now=now)
            if tables.revocations.add(own, now=now):
                facts = {"agreement": signed.digest, "issuer": config.party, "authorisation": kept}
                tables.audit.append(EntryKind.AGREEMENT_REVOKED, facts, now=now)
                tables.statements.say(own, now=now)
    return RevocationRecord(ended, own, now)


def known_agreements(config: PartyConfig, *, now: datetime) -> tuple[tuple[SignedAgreement, tuple[Problem, ...]], ...]:
    """Returns the agreements that are known here, the latest first, each with why it is not in force; empty if it is."""
    directory = load_member(config, now).directory
    with one_transaction(config.folder.database_file) as tables:
        return tuple((signed, standing_of(tables, signed, directory, now=now)) for signed in tables.agreements.all())


def known_agreement(config: PartyConfig, named: str, *, now: datetime) -> tuple[SignedAgreement, tuple[Problem, ...]]:
    """Returns one agreement with why it is not in force; empty if it is.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT (the asker's fault).
    """
    directory = load_member(config, now).directory
    with one_transaction(config.folder.database_file) as tables:
        signed = find_agreement(tables, named)
        return signed, standing_of(tables, signed, directory, now=now)


def find_agreement(tables: Tables, named: str) -> SignedAgreement:
    """Returns an agreement by its digest, the beginning of it, or its name if only one has it.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT (the asker's fault): none, or several.
    """
    known = tables.agreements.all()
    by_digest = [signed for signed in known if len(named) >= LEAST_DIGITS and signed.digest.startswith(named)]
    found = by_digest or [signed for signed in known if signed.agreement.name == named]
    if len(found) == 1:
        return found[0]
    what = f"no agreement {named[:64]} is known here"
    if found:
        what = f"{len(found)} agreements are called {named[:64]}: {', '.join(signed.digest[:12] for signed in found)}"
    raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, what, remedy="Name it by its digest, as `confide agreement list` shows it.")


def standing_of(tables: Tables, signed: SignedAgreement, directory: Directory, *, now: datetime) -> tuple[Problem, ...]:
    """Returns everything for which an agreement is not in force at this party now; empty if it is."""
    return tuple(why_not_in_force(signed, directory=directory, revoked_by=revoked_by(tables, signed.digest), now=now))


def revoked_by(tables: Tables, digest: str) -> Mapping[str, datetime]:
    """Returns who has revoked an agreement, with the time each stated; whether they could is the reader's question."""
    ended = [record.revocation for record in tables.revocations.of(digest)]
    return {revocation.issuer: revocation.time for revocation in reversed(ended)}


def load_member(config: PartyConfig, now: datetime) -> Member:
    """Returns the party's identity, keys and directory.

    Raises:
        ConfideError: as `MemberFolder.load_member`.
    """
    return config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=now)


def _verify_all(signed: SignedAgreement, directory: Directory) -> None:
    problems = []
    for signature in signed.signatures:
        try:
            verify_agreement_signature(signature, directory)
        except ConfideError as error:
            problems.append(Problem(f"signatures.{signature.signer}", error.what, "have that party sign again"))
    if problems:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, "signatures under the agreement do not verify", problems=problems)
    if signed.agreement.consortium != directory.consortium:
        what = f"the agreement is one of the consortium {signed.agreement.consortium}, not of {directory.consortium}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what)


def _keep(tables: Tables, brought: SignedAgreement, now: datetime) -> SignedAgreement:
    """Keeps verified signatures, and logs the moment at which this party holds everybody's."""
    before = tables.agreements.find(brought.digest)
    tables.agreements.add(brought, now=now)
    after = tables.agreements.get(brought.digest)
    if not after.missing and (before is None or before.missing):
        facts = {"agreement": after.digest, "name": after.agreement.name, "signers": list(after.signers)}
        tables.audit.append(EntryKind.AGREEMENT_IN_FORCE, facts, now=now)
    return after
