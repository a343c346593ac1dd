"""How long anything on a link may take; seconds."""

from __future__ import annotations

import time

# A live worker sends at least one frame this often, so silence is told apart from long computation.
HEARTBEAT_S = 2.0
# No frame at all for this long: the peer is dead or stopped. Five heartbeats; leaves half of the 30 s for the ending.
SILENCE_S = 10.0
# A live peer that sends heartbeats but not the message the plan expects.
MESSAGE_S = 600.0
# A peer that does not take our bytes. The dealer works ahead and is held back this way, so it is as long as a message may take.
SEND_S = 600.0
# Until the first frame of a link: the peer's worker may still be starting on a busy machine.
CONNECT_S = 20.0


def left(deadline: float) -> float:
    """Returns the seconds until a deadline of `time.monotonic`; raises TimeoutError if it has passed."""
    found = deadline - time.monotonic()
    if found <= 0:
        raise TimeoutError
    return found
