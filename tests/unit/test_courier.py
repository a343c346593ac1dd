"""What becomes of a control message: stored, refused for good, or to be sent again."""

from __future__ import annotations

from typing import cast

import grpc
import pytest

from governance.identity.keys import generate_signing_key
from parties.server.courier import Courier, Outcome
from parties.transport.peers import Peers
from protocols.errors import ConfideError, ErrorCode
from protocols.session.messages import AskEnding, SessionMessage


class Refusing:
    """Peers of which every one answers with the same failure."""

    def __init__(self, code: ErrorCode) -> None:
        self._code = code

    def channel(self, party: str) -> grpc.Channel:
        raise ConfideError(self._code, party=party)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ErrorCode.BAD_FRAME, Outcome.STORED),  # the machine will not take it, however often it comes
        (ErrorCode.NOT_AUTHORISED, Outcome.STORED),
        (ErrorCode.UNKNOWN_SESSION, Outcome.UNKNOWN_SESSION),
        (ErrorCode.PARTY_UNREACHABLE, Outcome.FAILED),
        (ErrorCode.DISK_FULL, Outcome.FAILED),
        # What arrived was not what had been sent: larger than a message may be, altered, cut off.
        (ErrorCode.INVALID_ARGUMENT, Outcome.FAILED),
        (ErrorCode.INVALID_DOCUMENT, Outcome.FAILED),
        (ErrorCode.BAD_SIGNATURE, Outcome.FAILED),
        (ErrorCode.INVALID_CONFIG, Outcome.FAILED),  # nothing was sent: the proxy has no address
    ],
)
def test_send_a_failure_says_whether_to_send_again(code: ErrorCode, outcome: Outcome) -> None:
    courier = Courier("hospital-a", generate_signing_key(), cast(Peers, Refusing(code)))
    message = SessionMessage("ab" * 16, 1, "hospital-a", AskEnding(0))

    assert courier.send(message, to="hospital-b", papers=None) is outcome
