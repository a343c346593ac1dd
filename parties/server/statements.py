"""Statements between parties: told to everybody at once, and asked for by whoever may have missed them.

A statement is a document that its party signed and that others act upon: a grant, a revocation, an alias, a deletion receipt, a
risk report, an audit by canaries, a signature under an agreement. Telling is an attempt; what makes it sure is that every party
asks every other one, several times a minute, for what came after the last statement that it has. So a party that was down or cut
off knows all within a minute of being back. Each is verified by itself, taken in once, and its effect does not depend on the
order of arrival.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread

import structlog

from governance.audit.entries import EntryKind, Fact
from governance.canary_audit import verify_canary_audit
from governance.consent.agreement import verify_agreement_signature
from governance.consent.grant import verify_grant
from governance.consent.revocation import verify_revocation
from governance.documents import DocumentKind, SignedDocument
from governance.lineage.alias import AliasName, verify_alias
from governance.lineage.receipt import verify_receipt
from governance.risk_report import verify_risk_report
from parties.agreements import take_agreement_signature
from parties.evidence import warm_statements
from parties.model_registry import Holder, follow_alias
from parties.server.party import Party
from parties.server.terms import log_defect
from parties.standing_releases import review_release
from parties.storage.changes import ChangeWatch
from parties.storage.database import Tables
from parties.storage.statements import StatementRecord
from parties.transport.peers import Peers
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import governance_pb2
from parties.wire.methods import LIST_STATEMENTS, TELL
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

PAUSE_S = 0.5
ASK_EVERY_S = 15.0
CALL_TIMEOUT_S = 5.0
MAX_STATEMENT_BYTES = 256 * 1024
MAX_REPLY_BYTES = 2 * 1024 * 1024  # below the cap on messages, with one statement to spare
MAX_REPLY_STATEMENTS = 200
MAX_REPLIES = 50  # in a row: nobody holds a thread for ever
MAX_NUMBER = 2**63 - 1  # what the database counts to
MAX_KEPT = 10_000  # of one party and kind: more than honest use makes
MAX_KEPT_BYTES = 64 * 1024 * 1024  # of one party, but for revocations, which are small: little enough for disk and memory
BURST, PER_SECOND = 50, 10.0
_THREADS = 4
_TOLD = frozenset(
    {
        DocumentKind.REVOCATION,
        DocumentKind.ALIAS,
        DocumentKind.DELETION_RECEIPT,
        DocumentKind.AGREEMENT,
        DocumentKind.GRANT,
        DocumentKind.RISK_REPORT,
        DocumentKind.CANARY_AUDIT,
    }
)
# What a receiver says of one statement: it asks for that again itself, and the next one must not wait for it.
_REFUSED = frozenset({ErrorCode.INVALID_DOCUMENT, ErrorCode.BAD_SIGNATURE, ErrorCode.NOT_ENROLLED})
_log = structlog.get_logger()


class Allowance:
    """How many statements a caller may bring at once and per second; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take_one(self, caller: str) -> None:
        """Uses up one.

        Raises:
            ConfideError: PARTY_BUSY (the caller's fault): too many at once; what it has to say will be asked for.
        """
        with self._lock:
            now = self._clock()
            left, since = self._left.get(caller, (float(BURST), now))
            left = min(float(BURST), left + (now - since) * PER_SECOND)
            self._left[caller] = (max(0.0, left - 1), now)
        if left < 1:
            raise ConfideError(ErrorCode.PARTY_BUSY, f"{caller} tells more than {PER_SECOND:.0f} statements a second")


def take_in(party: Party, signed: SignedDocument) -> bool:
    """Verifies a statement, keeps it, and does what follows from it. Idempotent.

    Args:
        party: this party.
        signed: the statement; its signer is believed if the directory lists the key, whoever brought it.

    Returns:
        Whether it is new.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE, NOT_ENROLLED (the signer's fault); PARTY_BUSY: the signer has made more
            statements than are kept of one party.
    """
    if signed.kind not in _TOLD:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"a document of the kind {signed.kind.value} is not told to parties")
    if len(signed.body) > MAX_STATEMENT_BYTES:
        what = f"a statement of {len(signed.body)} bytes; at most {MAX_STATEMENT_BYTES} are read"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what)
    if signed.signer == party.id:
        return False
    act = _verified(party, signed)
    with party.database.transaction() as tables:
        if tables.statements.has_heard(signed):
            return False
        if tables.statements.num_heard(signed.signer, signed.kind) >= MAX_KEPT:
            what = f"{MAX_KEPT} statements of the kind {signed.kind.value} by {signed.signer} are kept already"
            raise ConfideError(ErrorCode.PARTY_BUSY, what, party=signed.signer)
        if signed.kind is not DocumentKind.REVOCATION and tables.statements.bytes_heard(signed.signer) >= MAX_KEPT_BYTES:
            what = f"statements of {MAX_KEPT_BYTES} bytes by {signed.signer} are kept already"
            raise ConfideError(ErrorCode.PARTY_BUSY, what, party=signed.signer)
        tables.statements.hear(signed, now=party.now())
        act(tables)
    _log.info("heard", kind=signed.kind.value, by=signed.signer)
    return True


def _verified(party: Party, signed: SignedDocument) -> Callable[[Tables], None]:
    """Verifies a statement and returns what follows from it in the transaction that keeps it."""
    directory, now = party.directory, party.now()
    match signed.kind:
        case DocumentKind.REVOCATION:
            ended = verify_revocation(signed, directory)

            def end(tables: Tables) -> None:
                if tables.revocations.add(signed, now=now):
                    kind = EntryKind.AGREEMENT_REVOKED if ended.is_of_agreement else EntryKind.GRANT_REVOKED
                    named = "agreement" if ended.is_of_agreement else "grant"
                    facts: dict[str, Fact] = {named: ended.subject, "issuer": ended.issuer, "effect": ended.effect.value}
                    tables.audit.append(kind, facts, now=now)

            return end
        case DocumentKind.ALIAS:
            said = verify_alias(signed, directory)

            ref = None
            if said.alias is AliasName.RELEASED and said.version is not None:
                ref = ModelRef(said.model, said.version)
                warm_statements(party.database.transaction, ref, party=party.id, now=now)

            def follow(tables: Tables) -> None:
                holder = Holder.of(party.member, directory)
                if not follow_alias(tables, holder, said, now=now):
                    return
                _log.warning("alias_rolled_back", alias=said.label, by=said.issuer)
                if ref is not None:  # what the other holder may release, this one need not
                    review_release(tables, holder, ref, policy=party.policy, directory=directory, now=now)

            return follow
        case DocumentKind.DELETION_RECEIPT:
            verify_receipt(signed, directory)
            return lambda tables: None
        case DocumentKind.GRANT:
            verify_grant(signed, directory)
            return lambda tables: None
        case DocumentKind.RISK_REPORT:  # a holder with a standing assessment renews its evidence by it
            verify_risk_report(signed, directory)
            return lambda tables: None
        case DocumentKind.CANARY_AUDIT:  # the gate reads it whenever it judges a version of that training
            verify_canary_audit(signed, directory)
            return lambda tables: None
        case _:
            verify_agreement_signature(signed, directory)

            def sign(tables: Tables) -> None:
                take_agreement_signature(tables, signed, directory, now=now)

            return sign


def statements_after(party: Party, number: int) -> tuple[StatementRecord, ...]:
    """Returns this party's own statements after a number, as many as one reply carries."""
    with party.database.transaction() as tables:
        found = tables.statements.after(number, party=party.id, limit=MAX_REPLY_STATEMENTS)
    size, fitting = 0, []
    for record in found:
        size += len(record.document.body)
        if size > MAX_REPLY_BYTES:
            break
        fitting.append(record)
    return tuple(fitting)


class Exchange:
    """Tells and asks, on threads of its own, for as long as the party serves."""

    def __init__(self, party: Party, peers: Peers, *, pause_s: float = PAUSE_S, ask_every_s: float = ASK_EVERY_S) -> None:
        """Takes the party and its channels."""
        self._party = party
        self._peers = peers
        self._pause_s = pause_s
        self._ask_every_s = ask_every_s
        self._changes = ChangeWatch(party.config.folder.database_file)
        self._told: dict[str, int] = {}
        self._last = 0
        self._ask_at: dict[str, float] = {}
        self._tell_at: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._busy: set[str] = set()
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="statements")
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="statements", daemon=True)

    def start(self) -> None:
        """Begins; the others ask for what was said before."""
        with self._party.database.transaction() as tables:
            self._last = tables.statements.last_number()
        self._told = {entry.id: self._last for entry in self._party.directory.parties}
        self._thread.start()

    def stop(self) -> None:
        """Stops every thread; calls under way end by their deadline."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._changes.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            try:
                self._turn()
            except Exception as error:  # statements must go out as long as the party serves
                log_defect("", "statements", error)

    def _turn(self) -> None:
        if self._changes.has_changed():
            with self._party.database.transaction() as tables:
                self._last = tables.statements.last_number()
        now = time.monotonic()
        for entry in self._party.directory.parties:
            if entry.id == self._party.id:
                continue
            asks = now >= self._ask_at.get(entry.id, 0.0)
            tells = self._told.get(entry.id, 0) < self._last and now >= self._tell_at.get(entry.id, 0.0)
            with self._lock:
                if not (asks or tells) or entry.id in self._busy:
                    continue
                self._busy.add(entry.id)
            if asks:
                self._ask_at[entry.id] = now + self._ask_every_s
            self._pool.submit(self._talk, entry.id, tells, asks)

    def _talk(self, peer: str, tells: bool, asks: bool) -> None:
        try:
            if tells:
                self._tell(peer)
            if asks:
                self._ask(peer)
            self._failures.pop(peer, None)
        except ConfideError as error:
            self._wait_longer(peer)
            _log.debug("statements", peer=peer, code=error.code.name)
        except Exception as error:  # for example a channel that is being closed
            if not self._stopping.is_set():
                log_defect("", "statements", error)
        finally:
            with self._lock:
                self._busy.discard(peer)

    def _wait_longer(self, peer: str) -> None:
        """Tries a peer again soon if it has just failed, and no more often than it is asked anyway if it stays away."""
        failures = self._failures[peer] = self._failures.get(peer, 0) + 1
        again = time.monotonic() + min(self._ask_every_s, float(2 ** min(failures, 8)))
        self._ask_at[peer] = self._tell_at[peer] = again

    def _tell(self, peer: str) -> None:
        for record in statements_after(self._party, self._told.get(peer, 0)):
            request = governance_pb2.TellRequest(statement=to_wire(record.document))
            try:
                TELL.call(self._peers.channel(peer), request, party=peer, timeout_s=CALL_TIMEOUT_S)
            except ConfideError as error:
                if error.code not in _REFUSED:
                    raise
            self._told[peer] = record.number

    def _ask(self, peer: str) -> None:
        """Takes in what a peer has said since; one statement that is refused holds up none after it, and comes again."""
        with self._party.database.transaction() as tables:
            after = settled = tables.statements.cursor(peer)
        refused: ConfideError | None = None
        for _ in range(MAX_REPLIES):
            request = governance_pb2.ListStatementsRequest(after=after)
            reply = LIST_STATEMENTS.call(self._peers.channel(peer), request, party=peer, timeout_s=CALL_TIMEOUT_S)
            if not reply.statements or self._stopping.is_set():
                break
            try:
                for statement in reply.statements[:MAX_REPLY_STATEMENTS]:
                    if not after < statement.number <= MAX_NUMBER:
                        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{peer} numbers its statements wrongly", party=peer)
                    refused = self._take(statement, peer) or refused
                    after = statement.number
                    settled = after if refused is None else settled
            finally:  # what was taken in before one that is refused need not come again
                with self._party.database.transaction() as tables:
                    tables.statements.move_cursor(peer, settled)
        if refused is not None:
            raise refused

    def _take(self, statement: governance_pb2.Statement, peer: str) -> ConfideError | None:
        """Takes one in; returns why not, if that may be mended and it is to be asked for again."""
        try:
            take_in(self._party, from_wire(statement.document))
        except ConfideError as error:
            _log.warning("statement_refused", by=peer, number=statement.number, code=error.code.name, what=error.what)
            if error.code is ErrorCode.DISK_FULL:
                raise
            return None if error.code is ErrorCode.INVALID_DOCUMENT else error  # a newer directory or more room may mend it
        return None
