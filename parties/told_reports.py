"""Risk reports about a version that a party knows: its own, and those that the owners of the rows have told it.

A report was verified when it arrived; whoever lets something rest on it verifies it again by the directory of the day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from governance.documents import DocumentKind, SignedDocument
from governance.evidence.assessed import own_rows
from governance.evidence.gate import CLOCK_SKEW
from governance.risk_report import StatedRisk, read_risk_report
from parties.storage.database import Tables
from protocols.job import ModelRef


@dataclass(frozen=True, eq=False)
class ToldReport:
    """A risk report about a version.

    Attributes:
        signed: as its owner signed it.
        stated: what it says.
        number: of the statement, among those of this party or among those that have reached it; 0 of one that was found in a
            bundle of evidence.
    """

    signed: SignedDocument
    stated: StatedRisk
    number: int = 0


def told_reports(tables: Tables, ref: ModelRef, *, party: str, used: Collection[str], now: datetime) -> Iterator[ToldReport]:
    """Yields the reports about a version by those whose rows it was trained on, each owner's in the order that its own log has.

    Args:
        tables: of the transaction; nothing is written.
        ref: the version.
        party: this party.
        used: `party/name/version` of the rows behind the version; a report about none of its owner's is left out.
        now: the time, UTC; a report from further ahead than clocks differ is left out.
    """
    owners = {name.partition("/")[0] for name in used}
    told = tables.statements.own_records(DocumentKind.RISK_REPORT, party=party) if party in owners else ()
    told += tables.statements.heard_records(DocumentKind.RISK_REPORT, by=owners - {party})
    version = ref.version.encode()
    named = (record for record in told if version in record.document.body)  # one that is about this version names it
    found = (ToldReport(each.document, read_risk_report(each.document.document), each.number) for each in named)
    # Not by when they arrived: every party must take the same one for the last.
    for report in sorted(found, key=lambda each: (each.stated.owner, each.stated.order)):
        stated, is_of_signer = report.stated, report.stated.owner == report.signed.signer
        if is_of_signer and stated.ref == ref and stated.made <= now + CLOCK_SKEW and own_rows(stated, used):
            yield report
