"""What a party tells of its published models, a page at a time: descriptions hold plans, and a message of the wire has 4 MiB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from parties.storage.encrypted import PublishedRecord
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.errors import ConfideError, ErrorCode

MAX_PAGE_BYTES = 3 << 20


def page(
    records: Sequence[PublishedRecord], *, party: str, model: str, after: str, now: datetime, most_bytes: int = MAX_PAGE_BYTES
) -> encrypted_pb2.ListPublishedReply:
    """Returns the models that can be asked, from one on: as many as a page holds, and at least one.

    A page begins behind the last model of the page before, which is told by its name, so that what is published or withdrawn
    between two pages neither hides a model nor shows one twice.

    Args:
        records: all that was ever published here, the latest first.
        party: that tells it.
        model: `name` or `name@version` of those that are wanted; empty for all.
        after: `name@version` of the last one that the caller has; empty to begin.
        now: the time: what has expired is left out.
        most_bytes: of the descriptions in a page.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a model to go on from that was never published here.
    """
    labels = [record.model.ref.label for record in records]
    if after and after not in labels:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"there is no published model {after[:80]!r} to go on from")
    rest = records[labels.index(after) + 1 :] if after else records
    reply, size = encrypted_pb2.ListPublishedReply(party=party), 0
    for record in rest:
        if (
            record.withdrawn is not None
            or now >= record.model.expires
            or model not in ("", record.model.name, record.model.ref.label)
        ):
            continue
        told = to_wire(record.signed)
        size += told.ByteSize()
        if reply.models and size > most_bytes:
            reply.more = True
            break
        reply.models.append(told)
    return reply
