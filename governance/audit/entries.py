"""Entries of the audit log: what happened, when, and which facts show it; each names the entry before it.

The bytes of an entry are canonical JSON (RFC 8785) and never re-encoded:

    {"facts": {...}, "format": "confide.log-entry/2", "index": 7, "kind": "grant-issued", "previous": "<leaf hash of entry 6>",
     "time": "2026-01-31T12:00:00Z"}

Facts are ids, digests, codes and counts, never contents: an auditor and every witness may read them. Their names are the
writer's choice, but for those that the rules of `CONTENT` connect entries by; `NEEDED` lists them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from governance.audit.merkle import HASH_BYTES
from governance.identity.fields import fields_of, finish
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem

FORMAT = "confide.log-entry/2"
MAX_ENTRY_BYTES = 16 * 1024
MAX_FACTS = 32
MAX_ITEMS = 256
MAX_TEXT = 1024
NO_PREVIOUS = "0" * (2 * HASH_BYTES)
_NAMES = {"format", "index", "time", "kind", "facts", "previous"}
_FACT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HASH = re.compile(rf"[0-9a-f]{{{2 * HASH_BYTES}}}")

# Facts have ASCII names and hold neither floats nor objects; for such values this is RFC 8785, several times as fast. Appends
# are on every governed path. A test compares the two, and every reader checks.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

Fact = str | int | None | Sequence[str]


class EntryKind(Enum):
    """What an entry is about; a value is part of the log's format and never reused for another meaning."""

    STARTED = "started"  # the party process began to serve
    CONFIGURATION = "configuration"  # the configuration in force, when it differs from the last one logged
    POLICY = "policy"  # the policy in force, likewise
    DIRECTORY = "directory"  # a version of the directory was taken over
    DATASET_REGISTERED = "dataset-registered"
    PSEUDONYM_PROJECT = "pseudonym-project"  # opened, changed, rotated or closed by this party's operator, and for whom
    PSEUDONYMS_EVALUATED = "pseudonyms-evaluated"  # with this party's key, for another institution; how many
    SETS_INTERSECTED = "sets-intersected"  # identifiers of this party with another institution's; what was disclosed
    AGREEMENT_SIGNED = "agreement-signed"  # by this party
    AGREEMENT_IN_FORCE = "agreement-in-force"  # this party holds everybody's signature
    AGREEMENT_REVOKED = "agreement-revoked"  # by this party
    GRANT_ISSUED = "grant-issued"
    GRANT_REVOKED = "grant-revoked"
    AUTHORISATION = "authorisation"  # a person of this institution had its party do something
    JOB_RECEIVED = "job-received"
    JOB_REFUSED = "job-refused"
    APPROVAL = "approval"  # an approver's yes or no
    COUNTERSIGNED = "countersigned"
    SESSION_ENDED = "session-ended"
    RESERVED = "reserved"  # of a budget
    DEBITED = "debited"
    REFUNDED = "refunded"
    BUDGET_REFUSED = "budget-refused"  # an account did not cover a job: what it needed, and where the account stood
    MODEL_KEPT = "model-kept"
    MODEL_MARKED = "model-marked"
    MODEL_DELETED = "model-deleted"
    OUTPUT_COMMITTED = "output-committed"
    OUTPUT_RELEASED = "output-released"
    OUTPUT_WITHHELD = "output-withheld"
    QUERY = "query"  # the salted commitment to a querier's samples
    MODEL_PUBLISHED = "model-published"  # for encrypted queries
    MODEL_WITHDRAWN = "model-withdrawn"  # likewise: nothing is answered any more
    ENQUIRY_ACCEPTED = "enquiry-accepted"
    ENQUIRY_REFUSED = "enquiry-refused"
    ENQUIRY_ENDED = "enquiry-ended"
    ANSWERED = "answered"  # an encrypted query; how many numbers its answer can hold
    NOISE_TESTED = "noise-tested"  # of the owners of rows, in a private training or on opened counts and sums; with which result
    CANARIES_SCORED = "canaries-scored"  # of a private training, this party's; which epsilon they show at least
    RISK_ASSESSED = "risk-assessed"  # of a model, by attacks with this party's rows; with which figures
    STANDING_ASSESSMENT = "standing-assessment"  # one was ordered, submitted a job, was refused or served, or ended
    EVIDENCE_SIGNED = "evidence-signed"  # about a model version
    RELEASE_DECIDED = "release-decided"  # by the gate on evidence: with which verdict, for which reasons
    ALIAS = "alias"
    FORK_SEEN = "fork-seen"  # another party's log contradicted itself


# Facts by which entries of a job are connected. An auditor checks: a job is received before it is countersigned; a debit or
# refund follows its reservation (same job and account); accounts stand where their charges add up to, within the caps that an
# officer has set (`governance/budget/facts.py`); an output is released after its job was countersigned and its session ended in
# the state `completed`.
NEEDED: Mapping[EntryKind, tuple[str, ...]] = {
    EntryKind.JOB_RECEIVED: ("job",),
    EntryKind.COUNTERSIGNED: ("job",),
    EntryKind.RESERVED: ("job", "account", "kind"),
    EntryKind.DEBITED: ("job", "account", "kind"),
    EntryKind.REFUNDED: ("job", "account", "kind"),
    EntryKind.BUDGET_REFUSED: ("job", "account", "kind"),
    EntryKind.SESSION_ENDED: ("job", "state"),
    EntryKind.OUTPUT_RELEASED: ("job", "output"),
    EntryKind.OUTPUT_WITHHELD: ("job", "output"),
}


@dataclass(frozen=True)
class LogEntry:
    """An entry as it stands in a log; public to whoever may read the log.

    Attributes:
        index: its place, from 0.
        body: its canonical bytes.
        leaf_hash: its hash in the Merkle tree, 32 bytes.
    """

    index: int
    body: bytes
    leaf_hash: bytes


@dataclass(frozen=True)
class Entry:
    """What an entry says.

    Attributes:
        index: its place, from 0.
        time: when it was written, by its party's clock, UTC, whole seconds.
        kind: what it is about.
        facts: ids, digests, codes, counts.
        previous: leaf hash of the entry before it, hexadecimal; zeros for the first.
    """

    index: int
    time: datetime
    kind: EntryKind
    facts: Mapping[str, Fact]
    previous: str


def entry_body(*, index: int, time: datetime, kind: EntryKind, facts: Mapping[str, Fact], previous: str) -> bytes:
    """Returns the bytes of an entry; its arguments are the attributes of `Entry`.

    Raises:
        ConfideError: INTERNAL (a defect of Confide): facts that no reader would take, all at once.
    """
    problems = [*_check_facts(facts), *_missing(kind, facts)]
    if problems:
        raise ConfideError(ErrorCode.INTERNAL, f"an entry {kind.value} that no log takes", problems=problems)
    # Written out for the same reason: the names stand in the order of RFC 8785, and only the facts need escaping.
    shown = time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()
    body = (
        f'{{"facts":{_ENCODER.encode(facts)},"format":"{FORMAT}","index":{index},"kind":"{kind.value}",'
        f'"previous":"{previous}","time":"{shown}Z"}}'
    ).encode()
    if len(body) > MAX_ENTRY_BYTES:
        raise ConfideError(ErrorCode.INTERNAL, f"an entry {kind.value} of {len(body)} bytes; at most {MAX_ENTRY_BYTES}")
    return body


def read_entry(body: bytes) -> Entry:
    """Reads an entry strictly.

    Raises:
        ConfideError: INVALID_DOCUMENT (its writer's fault), with every problem.
    """
    if len(body) > MAX_ENTRY_BYTES:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"an entry of {len(body)} bytes; at most {MAX_ENTRY_BYTES} are read")
    document = parse_canonical(body)
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    kind = fields.choice("kind", EntryKind, otherwise=EntryKind.STARTED)
    previous = fields.text("previous")
    if not _HASH.fullmatch(previous):
        problems.append(Problem("previous", "a leaf hash of 64 hexadecimal digits is expected", "ask its author"))
    facts = document.get("facts")
    if isinstance(facts, dict):
        problems += [*_check_facts(facts), *_missing(kind, facts)]
    else:
        facts = {}
        problems.append(Problem("facts", "an object is expected", "ask its author"))
    entry = Entry(fields.whole("index", least=0), fields.time("time"), kind, facts, previous)
    finish(problems, what="an entry of an audit log")
    return entry


def _missing(kind: EntryKind, facts: Mapping[str, Fact]) -> list[Problem]:
    missing = [name for name in NEEDED.get(kind, ()) if not isinstance(facts.get(name), str)]
    return [Problem(f"facts.{name}", f"an entry {kind.value} needs it, as a text", "ask its author") for name in missing]


def _check_facts(facts: Mapping[str, object]) -> list[Problem]:
    problems = [Problem("facts", f"at most {MAX_FACTS} are expected", "ask its author")] if len(facts) > MAX_FACTS else []
    for name, value in facts.items():
        if not _FACT_NAME.fullmatch(name):
            problems.append(Problem("facts", "a name is lower case with digits and _", "ask its author"))
        elif not _is_fact(value):
            what = "a bounded text or whole number, null, or a list of texts is expected"
            problems.append(Problem(f"facts.{name}", what, "ask its author"))
    return problems


def _is_fact(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return _is_text(value)
    if type(value) is int:
        return abs(value) < 2**53
    if isinstance(value, list | tuple):
        return len(value) <= MAX_ITEMS and all(isinstance(item, str) and _is_text(item) for item in value)
    return False


def _is_text(value: str) -> bool:
    # A lone surrogate has no UTF-8 encoding; isascii is the quick answer for nearly every fact.
    return len(value) <= MAX_TEXT and (value.isascii() or not _SURROGATE.search(value))
