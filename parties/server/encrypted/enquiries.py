"""Enquiries in the database: opening one, debiting an answer, ending one; each in one transaction with its log entries."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from governance.admission import Finding
from governance.audit.entries import EntryKind, Fact
from governance.budget.amounts import Amount, consumer_account, model_account
from governance.budget.ledger import Shortfall
from governance.documents import SignedDocument
from governance.encrypted.enquiry import Enquiry
from governance.policy.budgets import ENQUIRY
from parties.server.budgets import caps_of
from parties.server.encrypted.lanes import Lanes, OpenLane
from parties.server.encrypted.verdicts import Verdicts, decide
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.encrypted import EnquiryRecord
from protocols.errors import ConfideError, ErrorCode, Problem

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Admitted:
    """An enquiry that is open, and its model."""

    record: EnquiryRecord
    lane: OpenLane

    @property
    def enquiry(self) -> Enquiry:
        """What it asks."""
        return self.record.enquiry


class Enquiries:
    """The enquiries of a party; every method is one transaction."""

    def __init__(self, party: Party, *, max_message_bytes: int) -> None:
        self._party = party
        self._max_message_bytes = max_message_bytes
        self._lanes = Lanes()
        self._verdicts = Verdicts(party)

    def open(self, enquiry: Enquiry, signed: SignedDocument, now: datetime) -> EnquiryRecord:
        """Accepts an enquiry that its querier has signed: sets aside what it may learn. Again changes nothing.

        Raises:
            ConfideError: the first reason against it, with all as problems; it is logged.
        """
        with self._party.database.transaction() as tables:
            known = tables.encrypted.find_enquiry(enquiry.enquiry_id)
            if known is not None:
                return known
            decision = decide(self._party, tables, enquiry, now)
            findings = [*decision.findings]
            if not {finding.code for finding in findings} & {ErrorCode.UNKNOWN_MODEL}:
                findings += self._sizes(tables, enquiry)
                findings += self._budget(tables, enquiry)
            facts = _facts(enquiry)
            if decision.grant is not None and not findings:
                charged = self._charges(tables, enquiry)
                caps = caps_of(tables, self._party.policy.budgets, charged)
                tables.ledger.reserve(enquiry.enquiry_id, charged, caps, now, kind=ENQUIRY)
                record = tables.encrypted.accept(signed, grant_id=decision.grant.grant_id, now=now)
                facts |= {"grant": record.grant_id, "answers": enquiry.max_answers}
                tables.audit.append(EntryKind.ENQUIRY_ACCEPTED, facts, now=now)
                return record
            codes = sorted({finding.code.name for finding in findings})
            tables.audit.append(EntryKind.ENQUIRY_REFUSED, {**facts, "codes": codes}, now=now)
            if ErrorCode.BUDGET_EXHAUSTED.name in codes:
                tables.ledger.note_refusal(enquiry.enquiry_id, self._shortfalls(tables, enquiry), now)
        raise refused(self._party.id, findings)

    def find(self, enquiry_id: str, querier: str) -> EnquiryRecord:
        """Returns an enquiry as it stands, open or not.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT: there is none, or it is another researcher's, which she is not told.
        """
        with self._party.database.transaction() as tables:
            return self._own(tables, enquiry_id, querier)

    def check(self, enquiry_id: str, querier: str, now: datetime) -> Admitted:
        """Returns an enquiry that goes on.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT; NOT_READY: it has ended; or the first reason against another answer.
        """
        with self._party.database.transaction() as tables:
            return self._going_on(tables, enquiry_id, querier, now)

    def check_request(self, enquiry_id: str, querier: str, request: str, now: datetime) -> tuple[Admitted, int, int]:
        """As `check`, and that a request's id is new.

        Returns:
            The enquiry, how many requests of its grant may be made in an hour, and how many were answered in the last one.

        Raises:
            ConfideError: JOB_CONFLICT (the querier's fault): the id has served; as `check`.
        """
        with self._party.database.transaction() as tables:
            found = self._going_on(tables, enquiry_id, querier, now)
            if tables.encrypted.is_answered(enquiry_id, request):
                raise ConfideError(ErrorCode.JOB_CONFLICT, f"request {request} was answered before; an id serves once")
            grant = tables.encrypted.find_grant(found.record.grant_id)
            if grant is None:
                raise ConfideError(ErrorCode.NO_CONSENT, "the grant of the enquiry is gone", party=self._party.id)
            since = tables.encrypted.requests_since(querier, found.record.grant_id, now - HOUR)
            return found, grant.grant.max_requests_per_hour, since

    def debit(self, admitted: Admitted, request: str, now: datetime) -> EnquiryRecord:
        """Debits an answer that is about to leave, if it may: after this it is spent, whether it arrives or not.

        Raises:
            ConfideError: JOB_CONFLICT, QUOTA_EXHAUSTED; as `check`; and then nothing may leave.
        """
        enquiry = admitted.enquiry
        with self._party.database.transaction() as tables:
            self._going_on(tables, enquiry.enquiry_id, enquiry.querier, now)
            record = tables.encrypted.answer(enquiry.enquiry_id, request, answers=admitted.lane.answers, now=now)
            facts = {**_facts(enquiry), "request": request, "answers": admitted.lane.answers}
            tables.audit.append(EntryKind.ANSWERED, facts, now=now)
            return record

    def end(self, enquiry_id: str, querier: str, *, reason: str, now: datetime) -> EnquiryRecord:
        """Ends an enquiry: gives back what was not answered. Again changes nothing.

        Raises:
            ConfideError: UNKNOWN_DOCUMENT.
        """
        with self._party.database.transaction() as tables:
            return _end(tables, self._own(tables, enquiry_id, querier), reason, now)

    def end_those_that_do_not_go_on(self, now: datetime) -> tuple[tuple[EnquiryRecord, ...], datetime | None]:
        """Ends every enquiry that has expired or that consent covers no more.

        Returns:
            What was ended, and when the next one expires.
        """
        ended, expiries = [], []
        with self._party.database.transaction() as tables:
            for record in tables.encrypted.open_enquiries():
                findings = () if now >= record.enquiry.expires else self._verdicts.findings(tables, record, now)
                if now >= record.enquiry.expires or findings:
                    reason = findings[0].code.name.lower().replace("_", "-") if findings else "expired"
                    # Not by way of its lane: a plan that this version reads no more must not keep numbers set aside.
                    ended.append(_end(tables, record, reason, now))
                else:
                    expiries.append(record.enquiry.expires)
        return tuple(ended), min(expiries, default=None)

    def withdrawn(self, labels: Collection[str]) -> frozenset[str]:
        """Returns which of some published models, each `name@version`, were withdrawn."""
        if not labels:
            return frozenset()
        with self._party.database.transaction() as tables:
            return frozenset(tables.encrypted.withdrawn() & set(labels))

    def _own(self, tables: Tables, enquiry_id: str, querier: str) -> EnquiryRecord:
        record = tables.encrypted.find_enquiry(enquiry_id)
        if record is None or record.enquiry.querier != querier:
            raise ConfideError(ErrorCode.UNKNOWN_DOCUMENT, f"this party has accepted no enquiry {enquiry_id[:32]} of {querier}")
        return record

    def _going_on(self, tables: Tables, enquiry_id: str, querier: str, now: datetime) -> Admitted:
        record = self._own(tables, enquiry_id, querier)
        if record.ended is not None or now >= record.enquiry.expires:
            what = f"the enquiry has ended: {record.reason or 'expired'}"
            raise ConfideError(ErrorCode.NOT_READY, what, remedy="Make another one.")
        findings = self._verdicts.findings(tables, record, now)
        if findings:
            raise refused(self._party.id, findings)
        return Admitted(record, self._lanes.of(tables, record.enquiry))

    def _charges(self, tables: Tables, enquiry: Enquiry) -> dict[str, Amount]:
        most = enquiry.max_answers // self._lanes.of(tables, enquiry).answers
        return _told(enquiry, queries=most, answers=enquiry.max_answers)

    def _budget(self, tables: Tables, enquiry: Enquiry) -> Iterable[Finding]:
        try:
            short = self._shortfalls(tables, enquiry)
        except ConfideError as error:  # a lane that the model has not, which the rule says too
            return [Finding(error.code, Problem("lane", error.what, error.remedy))]
        return [Finding(ErrorCode.BUDGET_EXHAUSTED, problem) for shortfall in short for problem in shortfall.problems]

    def _shortfalls(self, tables: Tables, enquiry: Enquiry) -> tuple[Shortfall, ...]:
        charged = self._charges(tables, enquiry)
        caps = caps_of(tables, self._party.policy.budgets, charged)
        return tables.ledger.shortfalls(enquiry.enquiry_id, charged, caps, kind=ENQUIRY)

    def _sizes(self, tables: Tables, enquiry: Enquiry) -> Iterable[Finding]:
        """What the rule does not know of a lane: how much an answer debits, and how large its messages are."""
        try:
            lane = self._lanes.of(tables, enquiry)
        except ConfideError:
            return
        if enquiry.max_answers < lane.answers:
            what = f"one answer can hold {lane.answers} numbers, and the enquiry is for {enquiry.max_answers}"
            remedy = "ask for more, or in a lane for fewer samples"
            yield Finding(ErrorCode.INVALID_ARGUMENT, Problem("max_answers", what, remedy))
        largest = max(lane.shape.key_bytes, lane.query_bytes)
        if largest > self._max_message_bytes:
            what = f"its messages have up to {largest} bytes; {self._party.id} takes {self._max_message_bytes}"
            yield Finding(ErrorCode.TOO_LARGE, Problem("lane", what, f"ask {self._party.id} to take more"))


def refused(party: str, findings: Iterable[Finding]) -> ConfideError:
    """Returns the failure that tells every reason."""
    found = list(findings)
    what = f"{party} does not answer this enquiry, for {len(found)} reason(s)"
    return ConfideError(found[0].code, what, problems=[finding.problem for finding in found], party=party)


def _end(tables: Tables, before: EnquiryRecord, reason: str, now: datetime) -> EnquiryRecord:
    if before.ended is not None:
        return before
    enquiry = before.enquiry
    record = tables.encrypted.end(enquiry.enquiry_id, reason=reason, now=now)
    used = _told(enquiry, queries=record.requests, answers=record.answered)
    tables.ledger.settle(enquiry.enquiry_id, used, now)
    facts = {**_facts(enquiry), "reason": reason, "requests": record.requests, "answers": record.answered}
    tables.audit.append(EntryKind.ENQUIRY_ENDED, facts, now=now)
    return record


def _facts(enquiry: Enquiry) -> dict[str, Fact]:
    return {"enquiry": enquiry.enquiry_id, "model": enquiry.ref.label, "querier": enquiry.querier, "lane": enquiry.lane}


def _told(enquiry: Enquiry, *, queries: int, answers: int) -> dict[str, Amount]:
    """What an enquiry charges: the model, and what its querier is told by it. Its answers are exact: no bound on epsilon."""
    amount = Amount(None, Decimal(0), queries=queries, answers=answers)
    return {consumer_account(enquiry.querier, enquiry.ref): amount, model_account(enquiry.ref): amount}
