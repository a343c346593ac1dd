"""No member takes all threads of a party with streams or calls."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from governance.identity.names import MemberKind, PeerIdentity
from parties.server.stream_limits import MOST_CALLS, MOST_STREAMS, call_limits, stream_limits
from protocols.errors import ConfideError, ErrorCode

ALICE = PeerIdentity(MemberKind.RESEARCHER, "cardio", "alice")
BOB = PeerIdentity(MemberKind.RESEARCHER, "cardio", "bob")


def test_streams_of_one_member_are_limited_and_those_of_another_not_affected() -> None:
    limits = stream_limits()
    with ExitStack() as open_streams:
        for _ in range(MOST_STREAMS[MemberKind.RESEARCHER]):
            open_streams.enter_context(limits.one_more(ALICE))
        with pytest.raises(ConfideError) as caught, limits.one_more(ALICE):
            pass
        assert caught.value.code is ErrorCode.TOO_MANY_STREAMS
        with limits.one_more(BOB):
            pass
    with limits.one_more(ALICE):
        pass


def test_stream_that_fails_is_counted_no_more() -> None:
    limits = stream_limits()
    for _ in range(2 * MOST_STREAMS[MemberKind.RESEARCHER]):
        with pytest.raises(RuntimeError), limits.one_more(ALICE):
            raise RuntimeError


def test_calls_of_one_member_are_limited_and_may_be_repeated_later() -> None:
    limits = call_limits()
    with ExitStack() as open_calls:
        for _ in range(MOST_CALLS[MemberKind.RESEARCHER]):
            open_calls.enter_context(limits.one_more(ALICE))
        with pytest.raises(ConfideError) as caught, limits.one_more(ALICE):
            pass
        assert caught.value.code is ErrorCode.PARTY_BUSY
        assert "alice holds 16 calls open" in caught.value.what
    with limits.one_more(ALICE):
        pass
