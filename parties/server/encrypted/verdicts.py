"""Whether an enquiry is answered, from what this party's database says: when it is opened, and again before every answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from governance.admission import Finding
from governance.documents import SignedDocument
from governance.encrypted.enquiry import Enquiry
from governance.encrypted.grant import verify_encrypted_grant
from governance.encrypted.rules import EncryptedGrantStanding, EnquiryDecision, Known, decide_enquiry
from governance.identity.directory import Directory
from parties.model_registry import why_marked
from parties.own_evidence import Standing, own_standing
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.encrypted import EncryptedGrantRecord, EnquiryRecord
from protocols.errors import ConfideError, ErrorCode, Problem

VERDICT_FOR = timedelta(seconds=1)


def decide(
    party: Party, tables: Tables, enquiry: Enquiry, now: datetime, *, accepted: EnquiryRecord | None = None
) -> EnquiryDecision:
    """Applies the rule to an enquiry, as of one transaction.

    Args:
        party: this party.
        tables: of the transaction.
        enquiry: its signature is verified.
        now: the time, UTC.
        accepted: how it stands here if it was accepted before: then the very grant that it counts against must still cover it,
            and what it has set aside itself does not count against it.
    """
    decision = decide_enquiry(enquiry, _known(party, tables, enquiry, accepted), directory=party.directory, now=now)
    outside = (
        *_outside(party.directory, tables, enquiry),
        *_of_the_origin(tables, enquiry),
        *_of_the_evidence(party, tables, enquiry, now),
    )
    return EnquiryDecision((*decision.findings, *outside), None if outside else decision.grant)


class Verdicts:
    """What was decided of accepted enquiries in the last second; safe to use from several threads."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._lock = Lock()
        self._known: dict[str, _Verdict] = {}

    def findings(self, tables: Tables, record: EnquiryRecord, now: datetime) -> tuple[Finding, ...]:
        """Returns every reason against another answer to an accepted enquiry; empty if it goes on."""
        enquiry_id = record.enquiry.enquiry_id
        with self._lock:
            known = self._known.get(enquiry_id)
        if known is None or not known.since <= now < known.since + VERDICT_FOR:
            known = _Verdict(now, decide(self._party, tables, record.enquiry, now, accepted=record).findings)
            with self._lock:
                self._known = {each: verdict for each, verdict in self._known.items() if now < verdict.since + VERDICT_FOR}
                self._known[enquiry_id] = known
        return known.findings


@dataclass(frozen=True)
class _Verdict:
    since: datetime
    findings: tuple[Finding, ...]


def _outside(directory: Directory, tables: Tables, enquiry: Enquiry) -> list[Finding]:
    """What the rule does not know: who is enrolled, and whose key it is."""
    found = []
    try:
        directory.researcher(enquiry.querier)
    except ConfideError as error:
        found.append(Finding(ErrorCode.NOT_ENROLLED, Problem("querier", error.what, "enrol again")))
    if tables.encrypted.key_owner(enquiry.key) not in (None, enquiry.querier):
        problem = Problem("key", "is another researcher's", "make a key of your own")
        found.append(Finding(ErrorCode.NOT_AUTHORISED, problem))
    return found


def _of_the_origin(tables: Tables, enquiry: Enquiry) -> list[Finding]:
    """Why the model whose released weights are published is not used any more, as far as this party holds it."""
    published = tables.encrypted.find_model(enquiry.ref)
    origin = None if published is None else published.model.origin
    if origin is None:
        return []
    remedy = "ask for a version that may be used"
    return [
        Finding(ErrorCode.MODEL_REVOKED, Problem("model", f"{origin.label}: {why_marked(mark)}", remedy))
        for mark in tables.registry.marks(origin)
    ]


def _of_the_evidence(party: Party, tables: Tables, enquiry: Enquiry, now: datetime) -> list[Finding]:
    """Why the gate on evidence does not let a model of this party's own answer now; figures are not for whoever asks."""
    published = tables.encrypted.find_model(enquiry.ref)
    if published is None or published.model.origin is not None:
        return []
    asked = Standing(party.id, party.policy, party.directory)
    standing = own_standing(tables, published.model, asked, now=now)
    if standing.answers or standing.decision is None:
        return []
    codes = ", ".join(dict.fromkeys(reason.code.value for reason in standing.decision.reasons))
    problem = Problem("model", f"its owner's gate does not let it answer now: {codes}", f"ask {party.id} for new evidence")
    return [Finding(ErrorCode.EVIDENCE_MISSING, problem)]


def _known(party: Party, tables: Tables, enquiry: Enquiry, accepted: EnquiryRecord | None) -> Known:
    store = tables.encrypted
    published = store.find_model(enquiry.ref)
    grants = store.grants(enquiry.ref)
    own = 0 if accepted is None else enquiry.max_answers if accepted.ended is None else accepted.answered
    as_known = tuple(record.grant.grant_id for record in grants if record.grant.counts_as_known)
    learnt = store.learnt_of_model(enquiry.ref, but_for=as_known)
    if accepted is not None:
        grants = tuple(record for record in grants if record.grant.grant_id == accepted.grant_id)
        learnt -= 0 if accepted.grant_id in as_known else own
    return Known(
        party=party.id,
        published=None if published is None or published.withdrawn is not None else published.model,
        agreement=tables.agreements.find(enquiry.agreement),
        revoked_by={
            record.revocation.issuer: record.revocation.time for record in reversed(tables.revocations.of(enquiry.agreement))
        },
        grants=[_standing(tables, record, own, party.directory) for record in grants],
        learnt=learnt,
        learnt_by_key=store.learnt_by_key(enquiry.ref, enquiry.key) - own,
        key_since=store.key_since(enquiry.key),
    )


def _standing(tables: Tables, record: EncryptedGrantRecord, own: int, directory: Directory) -> EncryptedGrantStanding:
    grant = record.grant
    ended = tables.revocations.strongest(grant.grant_id, grant.issuer)
    return EncryptedGrantStanding(
        grant=grant,
        learnt=record.learnt - own,
        revocation=None if ended is None else ended.revocation,
        unsound=_why_unsound(record.signed, directory),
    )


def _why_unsound(signed: SignedDocument, directory: Directory) -> ConfideError | None:
    try:
        verify_encrypted_grant(signed, directory)
    except ConfideError as error:
        return error
    return None
