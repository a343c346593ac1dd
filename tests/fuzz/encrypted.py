"""Targets that read the documents of encrypted inference and what the public port takes for it."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from governance.documents import DocumentKind, sign_bytes
from governance.encrypted.enquiry import Enquiry, verify_enquiry
from governance.encrypted.grant import EncryptedGrant
from governance.encrypted.published import PublishedModel, verify_published
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.errors import ConfideError
from tests.fuzz.target import Target
from tests.support.consent import ConsentWorld
from tests.support.encrypted import a_model, a_permission, an_enquiry

_WORLD = ConsentWorld()
_MODEL = a_model()
_EITHER = (ConfideError, DecodeError)


def _listing() -> bytes:
    key = _WORLD.keys["hospital-a"].signing
    signed = sign_bytes(_MODEL.to_bytes(), kind=DocumentKind.PUBLISHED_MODEL, signer="hospital-a", key=key)
    return encrypted_pb2.ListPublishedReply(party="hospital-a", models=[to_wire(signed)]).SerializeToString()


def _read_listing(data: bytes) -> object:
    """What a researcher's program does with a party's reply, signed again so that altered documents reach what comes after."""
    key = _WORLD.keys["hospital-a"].signing
    found = []
    for model in encrypted_pb2.ListPublishedReply.FromString(data).models:
        signed = from_wire(model)
        found.append(verify_published(sign_bytes(signed.body, kind=signed.kind, signer="hospital-a", key=key), _WORLD.directory))
    return found


def _opening() -> bytes:
    body = an_enquiry(_MODEL).to_bytes()
    signed = sign_bytes(body, kind=DocumentKind.ENQUIRY, signer="alice", key=_WORLD.alice.signing)
    return encrypted_pb2.OpenEnquiryRequest(enquiry=to_wire(signed)).SerializeToString()


def _open(data: bytes) -> object:
    signed = from_wire(encrypted_pb2.OpenEnquiryRequest.FromString(data).enquiry)
    again = sign_bytes(signed.body, kind=signed.kind, signer="alice", key=_WORLD.alice.signing)
    return verify_enquiry(again, _WORLD.directory)


TARGETS = (
    Target("published-model", PublishedModel.from_bytes, lambda: [_MODEL.to_bytes(), a_model(known_after=31).to_bytes()]),
    Target("encrypted-grant", EncryptedGrant.from_bytes, lambda: [a_permission(_MODEL).to_bytes()]),
    Target("enquiry", Enquiry.from_bytes, lambda: [an_enquiry(_MODEL).to_bytes()]),
    Target("published-listing", _read_listing, lambda: [_listing()], _EITHER),
    Target("open-enquiry", _open, lambda: [_opening()], _EITHER),
)
