"""Keyed pseudonyms for identifiers of this institution, made with every other institution of a project.

Identifiers stay here. The other institutions' party processes see blinded points, and count them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from parties.client.linking import LinkingCalls
from parties.config import PartyConfig
from parties.linking.patience import patiently
from parties.linking.projects import context_of, own_key
from parties.operating.own import load_own_member, tls_identity
from parties.storage.database import Database, open_database
from parties.storage.linking import ProjectRecord
from parties.transport.peers import Peers
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import SECRET_BYTES
from protocols.identifiers.normalisation import normalise_all
from protocols.identifiers.pseudonyms import MAX_BATCH, Blinded, blind, check_value, finish
from protocols.secrets import SecretBytes

_BUSY_WITHIN_S = 60.0
Evaluate = Callable[[str, bytes], bytes]


def pseudonyms_for(config: PartyConfig, project: str, identifiers: Iterable[str]) -> Mapping[str, str]:
    """Returns the pseudonym of every identifier.

    Every other institution is asked for one evaluation of each different identifier, and for one more of every batch of at most
    4095 by which its key is checked. Asking again is counted again: nobody can tell that the identifiers are the same.

    Args:
        config: of this institution.
        project: its name; opened here and at every other institution with the same members and rotation.
        identifiers: as their owner writes them, in any number and order; secret.

    Returns:
        By identifier as it was given: 32 hexadecimal digits. Identifiers of one normalised form have one pseudonym.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): identifiers that are empty or too long; NOT_READY (the operator's): the
            project is not open here; NOT_AUTHORISED, BUDGET_EXHAUSTED (by another institution's operator); COMMITMENT_DIFFERS
            (that institution's fault): it uses another key than before; STATE_DAMAGED: this institution would;
            PARTY_UNREACHABLE, PEER_SILENT, PARTY_BUSY.
    """
    now = datetime.now(UTC)
    given = list(identifiers)
    forms = normalise_all(given)  # of all, so that a refusal counts as the owner does
    member = load_own_member(config, now)
    database, peers = open_database(config.folder.database_file), Peers(tls_identity(member), lambda: member.directory)
    try:
        record = _own_project(database, project)
        context = context_of(member.directory.consortium, record)

        def evaluate(helper: str, points: bytes) -> bytes:
            calls = LinkingCalls(peers, helper)
            # Refused before it is counted: another command of this institution is asking at the same time.
            return patiently(lambda: calls.evaluate(context, points), within_s=_BUSY_WITHIN_S, waits_for=(ErrorCode.PARTY_BUSY,))

        with database.transaction() as tables:
            key = own_key(tables, config, record, context)
        helpers = [helper for helper in context.members if helper != config.party]
        tokens: dict[str, str] = {}
        different = list(dict.fromkeys(forms))
        for start in range(0, len(different), MAX_BATCH - 1):
            batch = different[start : start + MAX_BATCH - 1]
            drawn = SecretBytes(secrets.token_bytes(SECRET_BYTES * (len(batch) + 1)))
            blinded = blind(batch, context, randomness=drawn)
            points = _through(database, record, helpers, blinded, evaluate)
            tokens |= zip(batch, finish(points, blinded, batch, context=context, key=key), strict=True)
    finally:
        peers.close()
        database.close()
    return {text: tokens[form] for text, form in zip(given, forms, strict=True)}


def _own_project(database: Database, project: str) -> ProjectRecord:
    with database.transaction() as tables:
        record = tables.linking.find_project(project)
    if record is None or record.closed is not None:
        what = f"project {project[:63]} is not open at this institution"
        raise ConfideError(ErrorCode.NOT_READY, what, remedy="Open it with `confide dataset project open`.")
    return record


def _through(database: Database, record: ProjectRecord, helpers: Sequence[str], blinded: Blinded, evaluate: Evaluate) -> bytes:
    """Has one helper after the other raise the points, and checks the key of each against the one that it used first."""
    points = blinded.points
    for helper in helpers:
        try:
            points = evaluate(helper, points)
            value = check_value(points, blinded)
        except ConfideError as error:
            if error.code is ErrorCode.BAD_FRAME:
                raise ConfideError(error.code, error.what, party=helper) from error
            raise
        with database.transaction() as tables:
            same = tables.linking.check_key(record, helper, value)
        if not same:
            what = f"{helper} evaluated with another key than before, so that tokens would not match earlier ones"
            remedy = "Ask the operator there whether a key was lost; then open the next rotation at every institution."
            raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, remedy=remedy, party=helper)
    return points
