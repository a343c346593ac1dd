"""`confide dataset align`: what an operator's command does at either side of a private intersection.

The side whose id sorts first dials, from the command itself. The other side's command seals its set as an offer that is used once
and waits; its party process takes part in the run. Both end with the same rows in the same order under one alignment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from parties.client.linking import LinkingCalls
from parties.config import PartyConfig
from parties.linking.concluding import break_off, end_expired, keep_with_file
from parties.linking.dialling import Dialler, conclude_again
from parties.linking.meeting import RUN_LIMIT
from parties.linking.staging import CheckedRows, Staged, Terms, check_terms, mask
from parties.operating.own import is_serving, load_own_member, own_channel, tls_identity
from parties.storage.database import Database, Tables, open_database
from parties.storage.linking import IntersectionRecord, IntersectionState, ended
from parties.storage.sealed import SealedFiles
from parties.storage.state import Member
from parties.transport.peers import Peers
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import Mode

_POLL_S = 0.3
_OWN_TIMEOUT_S = 5.0


def terms_of(config: PartyConfig, *, peer: str, label: str, mode: Mode, dataset: str, population: str | None = None) -> Terms:
    """Returns what an operator agrees to.

    Raises:
        ConfideError: INVALID_ARGUMENT (the operator's fault), or NOT_ENROLLED: there is no such institution.
    """
    member = load_own_member(config, datetime.now(UTC))
    terms = Terms(member.directory.consortium, config.party, peer, label, mode, dataset, population)
    check_terms(terms)
    member.directory.party(peer)
    return terms


def intersect(config: PartyConfig, terms: Terms, checked: CheckedRows, *, wait_s: float) -> IntersectionRecord:
    """Takes part in the run, as the side that dials or the one that waits, and registers the common rows.

    Args:
        config: of this institution.
        terms: what its operator has agreed to.
        checked: its rows.
        wait_s: how long the other side's operator has time.

    Returns:
        The intersection as it is kept here.

    Raises:
        ConfideError: NOT_READY or DEADLINE_PASSED: the other side did not take part in time; BAD_FRAME or COMMITMENT_DIFFERS
            (its fault): it does not keep to the protocol; PARTY_UNREACHABLE, PEER_SILENT. Nothing is registered here then; where
            the other side may have, the message says so.
    """
    staged = mask(config, terms, checked)
    record = _record(terms, checked, staged, wait_s)
    with _opened(config) as (database, member):
        sealed = config.folder.open_sealed()
        end_expired(database, sealed, now=datetime.now(UTC))
        if not terms.dials:
            with own_channel(config, member) as channel:
                if not is_serving(channel, timeout_s=_OWN_TIMEOUT_S):
                    what = f"{config.party} does not serve, so that {terms.peer} could not reach it"
                    raise ConfideError(ErrorCode.NOT_READY, what, remedy="Start it with `confide party serve`.")
            return _await_peer(database, sealed, _keep_offer(database, sealed, terms, staged, record))
        with closing(Peers(tls_identity(member), lambda: member.directory)) as peers:
            calls = LinkingCalls(peers, terms.peer)
            dialler = Dialler(database, sealed, calls, terms, config)
            return dialler.run(record, staged, wait_s=wait_s)


def take_up(config: PartyConfig, terms: Terms) -> IntersectionRecord | None:
    """Concludes a run of this label whose last message was lost, if there is one.

    Returns:
        The intersection as it is kept now; None if there is nothing to take up.

    Raises:
        ConfideError: UNKNOWN_SESSION: the other side registered nothing, and nothing is registered here; PARTY_UNREACHABLE or
            PEER_SILENT: it still cannot be asked.
    """
    with _opened(config) as (database, member), closing(Peers(tls_identity(member), lambda: member.directory)) as peers:
        with database.transaction() as tables:
            record = tables.linking.find_open(terms.peer, terms.label, IntersectionState.CONCLUDING)
        if record is None:
            return None
        return conclude_again(database, config.folder.open_sealed(), LinkingCalls(peers, terms.peer), record, config=config)


def _record(terms: Terms, checked: CheckedRows, staged: Staged, wait_s: float) -> IntersectionRecord:
    limit = RUN_LIMIT if terms.dials else timedelta(0)
    return IntersectionRecord(
        intersection_id=secrets.token_hex(16),
        peer=terms.peer,
        label=terms.label,
        mode=terms.mode,
        dataset=terms.dataset if terms.mode is Mode.ROWS else "",
        schema_document=checked.schema_document,
        own_rows=checked.num_rows,
        commitment=staged.commitment,
        sealed_name="",
        state=IntersectionState.RUNNING if terms.dials else IntersectionState.OFFERED,
        expires=datetime.now(UTC) + timedelta(seconds=wait_s) + limit,
    )


def _keep_offer(
    database: Database, sealed: SealedFiles, terms: Terms, staged: Staged, record: IntersectionRecord
) -> IntersectionRecord:
    left: list[str] = []

    # One transaction: the peer cannot take an offer up, nor another command offer a set, in between.
    def change(tables: Tables, sealed_name: str) -> IntersectionRecord:
        if tables.linking.find_open(terms.peer, terms.label, IntersectionState.RUNNING) is not None:
            what = f"an intersection with {terms.peer} under the label {terms.label} is under way here"
            raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy="Wait for its end, or choose another label.")
        while earlier := tables.linking.find_open(terms.peer, terms.label, IntersectionState.OFFERED):
            replaced = "another command has offered a set under the same label"  # this one's may have been killed
            tables.linking.put(ended(earlier, ErrorCode.CANCELLED, replaced))
            left.append(earlier.sealed_name)
        return replace(record, sealed_name=sealed_name)

    kept = keep_with_file(database, sealed, record.intersection_id, staged.to_secret_bytes(), change)
    for name in left:
        sealed.delete(name)
    return kept


def _await_peer(database: Database, sealed: SealedFiles, record: IntersectionRecord) -> IntersectionRecord:
    try:
        while True:
            with database.transaction() as tables:
                record = tables.linking.get(record.intersection_id)
            if record.state.is_over:
                break
            if record.expires <= datetime.now(UTC):
                end_expired(database, sealed, now=datetime.now(UTC))
            time.sleep(_POLL_S)
    except BaseException:  # the operator has ended the command: the offer is taken back, and a run that has begun is ended
        cancelled = ConfideError(ErrorCode.CANCELLED, "the operator has ended the command")
        break_off(database, sealed, record, cancelled, now=datetime.now(UTC))
        raise
    if record.state is IntersectionState.FAILED:
        raise ConfideError(ErrorCode[record.failure], record.what, party=record.peer)
    return record


@contextmanager
def _opened(config: PartyConfig) -> Iterator[tuple[Database, Member]]:
    member = load_own_member(config, datetime.now(UTC))
    database = open_database(config.folder.database_file)
    try:
        yield database, member
    finally:
        database.close()
