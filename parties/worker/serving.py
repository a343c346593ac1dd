"""What a serving worker does: its party's part of one serving session, from the handshake to the end that all agree on.

Parcels (the header is public, the blobs are what they say):
    in:  the task, as a session's; then {type "query", query, rows} with blob share (rows x features little-endian int64),
         {type "stop"}
    out: prepared; serving (the model is open); progress; answer (query, rows, shape, commitments by party; blobs output, nonce);
         refused (query, code, what); drained (reason, queries, rows, epochs); finished (counters)
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from threading import Thread

from parties.arrays import arrays_from_bytes
from parties.worker.channel import Channel, Parcel
from parties.worker.serving_desk import ServingDesk
from parties.worker.task import joined
from protocols.mpc.serving import run_serving
from protocols.mpc.timing import Stopwatch


def serve(parcel: Parcel, endpoints: Sequence[socket.socket], channel: Channel) -> None:
    """Serves the model of a job until the session ends in order.

    Raises:
        ConfideError: whatever ended it otherwise.
    """
    share = parcel.blobs.get("model_share")
    with joined(parcel, endpoints, channel) as member:
        desk = None
        if member.party in member.job.computing_parties:
            desk = ServingDesk(job=member.job, plan=member.plan, party=member.party, channel=channel)
        Thread(target=_listen, args=(channel, desk), daemon=True).start()
        outcome = run_serving(
            job=member.job,
            plan=member.plan,
            party=member.party,
            keys=member.keys,
            links=member.links,
            model_share=None if share is None else arrays_from_bytes(share),
            desk=desk,
            fresh=os.urandom,
            now=time.monotonic,
            progress=member.reporter.report,
            stopwatch=Stopwatch(wall=time.monotonic, processor=time.thread_time),
        )
    ended = {"reason": outcome.reason.value, "queries": outcome.totals.queries, "rows": outcome.totals.rows}
    channel.send({"event": "drained", "epochs": outcome.epochs, **ended})
    timing = [entry.to_document() for entry in outcome.timing]
    channel.send({"event": "finished", "shapes": {}, "timing": timing, **member.reporter.counters()})


def _listen(channel: Channel, desk: ServingDesk | None) -> None:
    """Takes what the party process says, until its end, even by kill -9, is the worker's end too.

    A parcel that no party process of this version sends, or a defect here, is the end as well: a worker that hears nothing more
    could be told neither queries nor to stop.
    """
    try:
        while True:
            parcel = channel.receive()
            match parcel.header.get("type"), desk:
                case "query", ServingDesk():
                    desk.put(parcel)
                case "stop", ServingDesk():
                    desk.stop()
                case _:  # the dealer has no desk
                    continue
    finally:
        os._exit(1)
