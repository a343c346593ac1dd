"""The enquiry: a researcher asks the owner of a published model for a number of encrypted answers, under one key.

It is to encrypted inference what a job is to the parties' computation: one signed document that names everything that a
decision follows from, with an id that budgets, uploads, answers and the audit log go by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.consent.reading import check_period, refuse, require_one_form, time_text
from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.encrypted.grant import MAX_ANSWERS
from governance.encrypted.published import LANES
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex

FORMAT = "confide.enquiry/1"
MAX_LIFETIME = timedelta(days=1)
_NAMES = {
    "format", "consortium", "directory_version", "agreement", "purpose", "querier", "evaluator", "model", "version", "published",
    "lane", "key", "max_answers", "created", "expires", "nonce",
}  # fmt: skip


@dataclass(frozen=True)
class Enquiry:
    """A request to ask a published model; every field is public to the evaluator.

    Attributes:
        consortium: its id.
        directory_version: the version of the directory that the querier used.
        agreement: digest of the agreement that it keeps to, 64 hexadecimal digits.
        purpose: one of the agreement's purposes.
        querier: researcher id.
        evaluator: the party that owns the model.
        model: name of the published model.
        version: its version, 12 hexadecimal digits.
        published: digest of the description that queries are encrypted by, 64 hexadecimal digits.
        lane: of which of its plans.
        key: SHA-256 of the public evaluation keys that it will upload, 64 hexadecimal digits; the same key in another enquiry
            counts on.
        max_answers: numbers that it may learn, at most; set aside at once, and what was not answered is given back.
        created: when the querier made it, UTC, whole seconds.
        expires: after this nothing is answered.
        nonce: 32 hexadecimal digits; makes equal requests distinct enquiries.
    """

    consortium: str
    directory_version: int
    agreement: str
    purpose: str
    querier: str
    evaluator: str
    model: str
    version: str
    published: str
    lane: str
    key: str
    max_answers: int
    created: datetime
    expires: datetime
    nonce: str

    @property
    def ref(self) -> ModelRef:
        """The model."""
        return ModelRef(self.model, self.version)

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    @property
    def enquiry_id(self) -> str:
        """The first 32 hexadecimal digits of its digest."""
        return self.digest[:32]

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the enquiry as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "directory_version": self.directory_version,
            "agreement": self.agreement,
            "purpose": self.purpose,
            "querier": self.querier,
            "evaluator": self.evaluator,
            "model": self.model,
            "version": self.version,
            "published": self.published,
            "lane": self.lane,
            "key": self.key,
            "max_answers": self.max_answers,
            "created": time_text(self.created),
            "expires": time_text(self.expires),
            "nonce": self.nonce,
        }

    @staticmethod
    def from_bytes(body: bytes) -> Enquiry:
        """Reads an enquiry; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        enquiry = Enquiry(
            consortium=fields.text("consortium"),
            directory_version=fields.whole("directory_version", least=1),
            agreement=fields.text("agreement"),
            purpose=fields.text("purpose"),
            querier=fields.text("querier"),
            evaluator=fields.text("evaluator"),
            model=fields.text("model"),
            version=fields.text("version"),
            published=fields.text("published"),
            lane=fields.text("lane"),
            key=fields.text("key"),
            max_answers=fields.whole("max_answers", least=1),
            created=fields.time("created"),
            expires=fields.time("expires"),
            nonce=fields.text("nonce"),
        )
        refuse(problems or _check(enquiry), what="the enquiry")
        require_one_form(enquiry.to_document(), body, what="the enquiry")
        return enquiry


def sign_enquiry(enquiry: Enquiry, key: SigningKey) -> SignedDocument:
    """Signs an enquiry as its querier.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(_check(enquiry), what="the enquiry")
    return sign(enquiry.to_document(), kind=DocumentKind.ENQUIRY, signer=enquiry.querier, key=key)


def verify_enquiry(signed: SignedDocument, directory: Directory) -> Enquiry:
    """Checks that the researcher that it names has made an enquiry in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    verify(signed, kind=DocumentKind.ENQUIRY, signer=signed.signer, key=directory.researcher(signed.signer).signing_key)
    enquiry = Enquiry.from_bytes(signed.body)
    if enquiry.querier != signed.signer:
        wrong = f"{signed.signer} signed an enquiry of {enquiry.querier}"
        raise ConfideError(ErrorCode.BAD_SIGNATURE, wrong, party=signed.signer)
    if enquiry.consortium != directory.consortium:
        wrong = f"the enquiry is one in the consortium {enquiry.consortium}, not in {directory.consortium}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, wrong, party=signed.signer)
    return enquiry


def _check(enquiry: Enquiry) -> Iterable[Problem]:
    for name in ("consortium", "purpose", "querier", "evaluator", "model"):
        yield from check_id(name, getattr(enquiry, name))
    for name, digits in (("agreement", 64), ("version", 12), ("published", 64), ("key", 64), ("nonce", 32)):
        yield from check_hex(name, getattr(enquiry, name), digits)
    if enquiry.lane not in LANES:
        yield Problem("lane", f"must be one of {', '.join(LANES)}", "choose one that the model is published with")
    if enquiry.published[:12] != enquiry.version:
        yield Problem("published", "is not the description of this version", "copy both from the published model")
    if not 1 <= enquiry.max_answers <= MAX_ANSWERS:
        yield Problem("max_answers", f"must be 1 to {MAX_ANSWERS}", "choose a number inside")
    yield from check_period("expires", enquiry.created, enquiry.expires)
    if enquiry.expires - enquiry.created > MAX_LIFETIME:
        yield Problem("expires", "an enquiry lasts at most a day", "make another one tomorrow")
