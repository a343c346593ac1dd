"""Whom a member still talks to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from governance.identity.directory import PartyEntry
from governance.identity.names import Role
from parties.transport.peers import Peers
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import new_keys
from tests.support.tls_world import a_current_founder, identity_of


def test_channel_to_a_party_whose_certificate_has_ended_is_refused() -> None:
    founder, keys = a_current_founder(), new_keys()
    now = datetime.now(UTC)
    ended = founder.certificate(keys, "hospital-b", now=now - timedelta(hours=2), lifetime=timedelta(hours=1))
    entry = PartyEntry("hospital-b", "127.0.0.1:1", tuple(Role), ended, keys.signing.public)
    directory = founder.directory(parties=(entry,))
    peers = Peers(identity_of(founder, keys, ended), lambda: directory)
    with pytest.raises(ConfideError) as caught:
        peers.channel("hospital-b")
    assert (caught.value.code, caught.value.party) == (ErrorCode.UNAUTHENTICATED, "hospital-b")
