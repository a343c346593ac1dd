"""The deletion receipt: a holder says that it has destroyed what it held of a model.

It names the sealed file by the digest of its ciphertext, which everybody may know: without the file's own key, which lay in the
file itself and is destroyed first, the bytes are noise. A receipt is the holder's word, signed; nobody can prove that a copy
does not exist. What it gives is somebody who answers for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from governance.consent.reading import refuse, require_one_form, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex

FORMAT = "confide.deletion-receipt/1"
_NAMES = {"format", "consortium", "holder", "model", "version", "issuer", "subject", "sealed_sha256", "time"}


@dataclass(frozen=True)
class DeletionReceipt:
    """What a holder says about what it has destroyed; public in the consortium.

    Attributes:
        consortium: its id.
        holder: who held shares.
        ref: the model version.
        issuer: the party whose withdrawal asked for it; the holder itself for its own decision.
        subject: the withdrawn grant or agreement; the model's label for the holder's own decision.
        sealed_sha256: of the sealed file with the share, 64 hexadecimal digits; empty if none was left.
        time: when the key was gone, UTC, whole seconds.
    """

    consortium: str
    holder: str
    ref: ModelRef
    issuer: str
    subject: str
    sealed_sha256: str
    time: datetime

    def to_document(self) -> Document:
        """Returns the receipt as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "holder": self.holder,
            "model": self.ref.name,
            "version": self.ref.version,
            "issuer": self.issuer,
            "subject": self.subject,
            "sealed_sha256": self.sealed_sha256,
            "time": time_text(self.time),
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(body: bytes) -> DeletionReceipt:
        """Reads a receipt; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        receipt = DeletionReceipt(
            consortium=fields.text("consortium"),
            holder=fields.text("holder"),
            ref=ModelRef(fields.text("model"), fields.text("version")),
            issuer=fields.text("issuer"),
            subject=fields.text("subject"),
            sealed_sha256=fields.text("sealed_sha256"),
            time=fields.time("time"),
        )
        refuse(problems or _check(receipt), what="the deletion receipt")
        require_one_form(receipt.to_document(), body, what="the deletion receipt")
        return receipt


def sign_receipt(receipt: DeletionReceipt, key: SigningKey) -> SignedDocument:
    """Signs a receipt as its holder.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(_check(receipt), what="the deletion receipt")
    return sign(receipt.to_document(), kind=DocumentKind.DELETION_RECEIPT, signer=receipt.holder, key=key)


def verify_receipt(signed: SignedDocument, directory: Directory) -> DeletionReceipt:
    """Checks that the holder that it names has signed the receipt in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.DELETION_RECEIPT,
        read=DeletionReceipt.from_bytes,
        author=lambda receipt: receipt.holder,
        what="deletion receipt",
    )


def missing_receipts(holders: Iterable[str], receipts: Iterable[DeletionReceipt]) -> tuple[str, ...]:
    """Returns the holders of a model that have not said that they destroyed it."""
    given = {receipt.holder for receipt in receipts}
    return tuple(holder for holder in holders if holder not in given)


def _check(receipt: DeletionReceipt) -> Iterable[Problem]:
    yield from check_id("consortium", receipt.consortium)
    yield from check_id("holder", receipt.holder)
    yield from check_id("issuer", receipt.issuer)
    yield from check_id("model", receipt.ref.name)
    yield from check_hex("version", receipt.ref.version, 12)
    if receipt.sealed_sha256:
        yield from check_hex("sealed_sha256", receipt.sealed_sha256, 64)
    if receipt.subject != receipt.ref.label and len(receipt.subject) not in (32, 64):
        yield Problem("subject", "a grant, an agreement or the model itself is expected", "ask its author")
    elif receipt.subject != receipt.ref.label:
        yield from check_hex("subject", receipt.subject, len(receipt.subject))
