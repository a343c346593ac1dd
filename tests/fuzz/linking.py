"""Targets of linking: what another institution sends about pseudonyms and private intersections, down to the first arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from parties.linking.meeting import check_schemas, side_of
from parties.wire.generated.confide.v1 import linking_pb2
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError
from protocols.identifiers.group import SECRET_BYTES, Exponent
from protocols.identifiers.intersection import Incoming, Mode, check_doubled, check_masked, commit
from protocols.identifiers.pseudonyms import Context, evaluate
from protocols.secrets import SecretBytes
from tests.fuzz.target import Target

DECLARED = (ConfideError, DecodeError)
KEY = Exponent.from_secret(SecretBytes(hashlib.shake_256(b"fuzz").digest(SECRET_BYTES)))
POINTS = sorted(KEY.power_of_hash(bytes([number])) for number in range(3))
SALT = b"s" * 32
COLUMN = {"name": "dose", "role": "feature", "type": "boolean"}
SCHEMA = canonical_bytes({"api_version": "confide/v1", "kind": "TableSchema", "name": "part", "columns": [COLUMN]})


def _evaluate(data: bytes) -> object:
    request = linking_pb2.EvaluatePseudonymsRequest.FromString(data)
    Context("cardio", request.project, request.rotation, tuple(request.members)).to_bytes()
    return evaluate(request.points, KEY)


def _open(data: bytes) -> object:
    request = linking_pb2.OpenIntersectionRequest.FromString(data)
    check_schemas(Mode.ROWS, {"hospital-a": request.set.schema})
    return side_of("hospital-a", request.set.size, request.set.schema, request.set.commitment)


def _masked(data: bytes) -> object:
    request = linking_pb2.PutPartOfSetRequest.FromString(data)
    incoming = Incoming(len(POINTS), party="hospital-a")
    incoming.add(request.offset, request.points)
    side = side_of("hospital-a", len(POINTS), b"", commit(incoming.points, request.salt))
    check_masked(incoming.points, side, request.salt)
    return [KEY.power(point) for point in incoming.points]


def _doubled(data: bytes) -> object:
    reply = linking_pb2.GetPartOfSetReply.FromString(data)
    incoming = Incoming(len(POINTS), party="hospital-b")
    incoming.add(0, reply.points)
    return check_doubled(incoming.points, Mode.SIZE, size=len(POINTS), party="hospital-b")


def _evaluations() -> Sequence[bytes]:
    request = linking_pb2.EvaluatePseudonymsRequest(
        project="heart", rotation=1, members=["hospital-a", "hospital-b"], points=b"".join(POINTS)
    )
    return [request.SerializeToString()]


def _openings() -> Sequence[bytes]:
    own = linking_pb2.SetAnnouncement(size=3, schema=SCHEMA, commitment=commit(POINTS, SALT))
    return [linking_pb2.OpenIntersectionRequest(label="cohort", mode="rows", set=own).SerializeToString()]


def _parts() -> Sequence[bytes]:
    part = linking_pb2.PutPartOfSetRequest(
        session=bytes(16), list=linking_pb2.SET_LIST_MASKED, points=b"".join(POINTS), salt=SALT
    )
    return [part.SerializeToString()]


def _replies() -> Sequence[bytes]:
    return [linking_pb2.GetPartOfSetReply(points=b"".join(POINTS), salt=SALT).SerializeToString()]


TARGETS = (
    Target("linking-evaluation", _evaluate, _evaluations, DECLARED),
    Target("linking-opening", _open, _openings, DECLARED),
    Target("linking-masked-set", _masked, _parts, DECLARED),
    Target("linking-doubled-set", _doubled, _replies, DECLARED),
)
