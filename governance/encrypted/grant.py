"""The grant for a published model: whom its owner lets ask it, what for, and how many numbers they may learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from governance.consent.grant import ANYBODY, INSTITUTION, MAX_PURPOSES, MAX_RECIPIENTS, check_recipients
from governance.consent.reading import check_ids, check_period, refuse, require_one_form, texts, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex

FORMAT = "confide.encrypted-grant/1"
MAX_ANSWERS = 1_000_000_000
MAX_RATE = 1_000_000
_NAMES = {
    "format", "consortium", "issuer", "agreement", "model", "version", "purposes", "recipients", "max_answers",
    "max_answers_per_key", "max_requests_per_hour", "counts_as_known", "valid_from", "expires", "nonce",
}  # fmt: skip


@dataclass(frozen=True)
class EncryptedGrant:
    """What a model's owner permits; public in the consortium.

    An answer debits the full capacity of its layout: everything that the holder of the secret key could read from it, however
    many samples its program says that it asked about.

    Attributes:
        consortium: its id.
        issuer: the model's owner.
        agreement: digest of the agreement under which it is given, 64 hexadecimal digits.
        model: name of the published model.
        version: its version, 12 hexadecimal digits.
        purposes: what for.
        recipients: researcher ids, `institution/<party>` for all of an institution's, or `*`.
        max_answers: numbers that may be learnt under it in all, by all recipients.
        max_answers_per_key: numbers that may be answered under one encryption key.
        max_requests_per_hour: of one recipient.
        counts_as_known: the owner accepts that the recipients can work out the model: the bound below which a linear model
            stays unknown does not hold for them.
        valid_from: UTC, whole seconds.
        expires: UTC, whole seconds.
        nonce: 32 hexadecimal digits; makes equal permissions distinct grants.
    """

    consortium: str
    issuer: str
    agreement: str
    model: str
    version: str
    purposes: tuple[str, ...]
    recipients: tuple[str, ...]
    max_answers: int
    max_answers_per_key: int
    max_requests_per_hour: int
    counts_as_known: bool
    valid_from: datetime
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
    def grant_id(self) -> str:
        """The first 32 hexadecimal digits of its digest: how people and other documents name it."""
        return self.digest[:32]

    def is_for(self, querier: str, institution: str | None) -> bool:
        """Returns whether a researcher of an institution is a recipient."""
        asked = {ANYBODY, querier} | ({f"{INSTITUTION}{institution}"} if institution is not None else set())
        return bool(asked & set(self.recipients))

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the grant as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "agreement": self.agreement,
            "model": self.model,
            "version": self.version,
            "purposes": list(self.purposes),
            "recipients": list(self.recipients),
            "max_answers": self.max_answers,
            "max_answers_per_key": self.max_answers_per_key,
            "max_requests_per_hour": self.max_requests_per_hour,
            "counts_as_known": self.counts_as_known,
            "valid_from": time_text(self.valid_from),
            "expires": time_text(self.expires),
            "nonce": self.nonce,
        }

    @staticmethod
    def from_bytes(body: bytes) -> EncryptedGrant:
        """Reads a grant; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        grant = EncryptedGrant(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            agreement=fields.text("agreement"),
            model=fields.text("model"),
            version=fields.text("version"),
            purposes=texts(fields, "purposes", most=MAX_PURPOSES),
            recipients=texts(fields, "recipients", most=MAX_RECIPIENTS),
            max_answers=fields.whole("max_answers", least=1),
            max_answers_per_key=fields.whole("max_answers_per_key", least=1),
            max_requests_per_hour=fields.whole("max_requests_per_hour", least=1),
            counts_as_known=fields.flag("counts_as_known"),
            valid_from=fields.time("valid_from"),
            expires=fields.time("expires"),
            nonce=fields.text("nonce"),
        )
        refuse(problems or check_encrypted_grant(grant), what="the grant")
        require_one_form(grant.to_document(), body, what="the grant")
        return grant


def check_encrypted_grant(grant: EncryptedGrant) -> Iterable[Problem]:
    """Yields everything wrong with a grant that shows in it alone."""
    yield from check_id("consortium", grant.consortium)
    yield from check_id("issuer", grant.issuer)
    yield from check_hex("agreement", grant.agreement, 64)
    yield from check_id("model", grant.model)
    yield from check_hex("version", grant.version, 12)
    yield from check_ids("purposes", grant.purposes, least=1)
    yield from check_recipients(grant.recipients)
    for name, value, most in (
        ("max_answers", grant.max_answers, MAX_ANSWERS),
        ("max_answers_per_key", grant.max_answers_per_key, MAX_ANSWERS),
        ("max_requests_per_hour", grant.max_requests_per_hour, MAX_RATE),
    ):
        if not 1 <= value <= most:
            yield Problem(name, f"must be 1 to {most}", "choose a number inside")
    yield from check_period("expires", grant.valid_from, grant.expires)
    yield from check_hex("nonce", grant.nonce, 32)


def sign_encrypted_grant(grant: EncryptedGrant, key: SigningKey) -> SignedDocument:
    """Signs a grant as its issuer.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(check_encrypted_grant(grant), what="the grant")
    return sign(grant.to_document(), kind=DocumentKind.ENCRYPTED_GRANT, signer=grant.issuer, key=key)


def verify_encrypted_grant(signed: SignedDocument, directory: Directory) -> EncryptedGrant:
    """Checks that the party that it names has issued a grant in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.ENCRYPTED_GRANT,
        read=EncryptedGrant.from_bytes,
        author=lambda grant: grant.issuer,
        what="grant",
    )
