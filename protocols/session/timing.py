"""Every time constant of a session, in one place, in seconds.

They add up to the promise that a killed or silent party ends the session at all live parties within 30 s:

    silence_s 12 (a party is presumed gone) + stagger 1 per deputy + ask_s 2 (phase one of the ballot) + one exchange, or,
    where no majority is left, silence_s 12 + stagger + alone_after_s 8. The worker's link detection (10 s) is faster.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Time constants of one session, all in seconds; public.

    Attributes:
        send_timeout_s: a send of which nothing was heard is repeated; above the deadline of the runner's calls.
        send_backoff_s: waits after the first, second, ... failed delivery; the last one repeats.
        answer_s: a delivered message that asks for an answer is repeated after this.
        poll_s: how often a party asks the lead whether the session has ended; also the sign of life.
        silence_s: a party unheard for this long is presumed gone.
        deputy_stagger_s: extra wait per place in the order before a party acts as deputy.
        grace_s: how long the lead collects further reports after the first failure.
        finding_grace_s: the same where several find out for themselves: who is at fault depends on whether they agree.
        ask_s: how long a deputy waits for answers.
        ballot_patience_s: how long a party lets another decide before it tries itself.
        alone_after_s: without a majority for this long, a party that knows that nothing can be released ends alone.
        stop_limit_s: longest stay in STOPPING.
        doubt_limit_s: longest wait of a party that voted DONE and reaches no majority.
        alone_poll_s: how often a party that ended alone asks whether the others ended otherwise, until doubt_limit_s passed.
        prepare_timeout_s: from the reservation to authenticated links everywhere.
        worker_silence_s: a worker that reports nothing for this long is lost; it must report at least every 5 s.
        stall_timeout_s: a worker that makes no step for this long has failed.
        slot_backoff_s: least wait before the lead reserves again after a busy answer; doubles up to slot_backoff_most_s.
        slot_backoff_most_s: see slot_backoff_s.
    """

    send_timeout_s: float = 6.0
    send_backoff_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)
    answer_s: float = 1.5
    poll_s: float = 3.0
    silence_s: float = 12.0
    deputy_stagger_s: float = 1.0
    grace_s: float = 1.0
    finding_grace_s: float = 5.0
    ask_s: float = 2.0
    ballot_patience_s: float = 4.0
    alone_after_s: float = 8.0
    stop_limit_s: float = 60.0
    doubt_limit_s: float = 600.0
    alone_poll_s: float = 10.0
    prepare_timeout_s: float = 25.0
    worker_silence_s: float = 20.0
    stall_timeout_s: float = 600.0
    slot_backoff_s: float = 0.5
    slot_backoff_most_s: float = 8.0
