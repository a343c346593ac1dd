"""The agreement: what the parties of a consortium do together, signed by each of them.

The body is one document, the same for all; each party signs these very bytes. An agreement permits nothing by itself: it is
the frame inside which owners give grants, and a party takes part only in jobs that keep to one that is in force at this party.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from governance.consent.reading import (
    check_epsilon_cap,
    check_ids,
    check_period,
    check_unique,
    refuse,
    require_one_form,
    texts,
    time_text,
)
from governance.documents import DocumentKind, SignedDocument, sign_bytes, verify
from governance.identity.directory import MAX_PARTIES, Directory
from governance.identity.fields import Fields, fields_of
from governance.identity.keys import SIGNATURE_BYTES, SigningKey
from governance.identity.names import check_id
from protocols.canonical import MAX_DOCUMENT_BYTES, Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import DatasetRef, JobType, OutputKind

FORMAT = "confide.agreement/1"
SIGNED_FORMAT = "confide.signed-agreement/1"
MAX_PURPOSES = 64
MAX_PATTERNS = 1_024
ANY_DATASET = "*"
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")
_NAMES = {
    "format", "consortium", "name", "purposes", "parties", "datasets", "job_types", "outputs", "min_parties", "min_rows",
    "epsilon_cap", "valid_from", "expires",
}  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """What parties agree to do together; public in the consortium.

    Attributes:
        consortium: its id.
        name: of the agreement; the digest, not the name, says which one is meant.
        purposes: what jobs under it may be for.
        parties: who may take part in any role; each of them must sign.
        datasets: `party/name`, or `party/*` for all of a party's.
        job_types: what may be computed.
        outputs: what may be opened; nothing is opened by a training.
        min_parties: a job is over the rows of at least so many owners; one on a model, of the model's owners.
        min_rows: a job is over at least so many rows; one on a model, of the rows that the model was trained on.
        epsilon_cap: decimal; a job may spend no more, and one that opens without noise spends without bound. None for no cap.
        valid_from: UTC, whole seconds.
        expires: UTC, whole seconds; from then on no job is accepted under it, and running ones are stopped.
    """

    consortium: str
    name: str
    purposes: tuple[str, ...]
    parties: tuple[str, ...]
    datasets: tuple[str, ...]
    job_types: tuple[JobType, ...]
    outputs: tuple[OutputKind, ...]
    min_parties: int
    min_rows: int
    epsilon_cap: str | None
    valid_from: datetime
    expires: datetime

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits: how jobs and grants name it."""
        return sha256_hex(self.to_bytes())

    def names(self, dataset: DatasetRef) -> bool:
        """Returns whether a data set is one of the agreement's."""
        return self.names_dataset(dataset.party, dataset.name)

    def names_dataset(self, party: str, name: str) -> bool:
        """Returns whether a party's data set of this name is one of the agreement's."""
        return f"{party}/{name}" in self.datasets or f"{party}/{ANY_DATASET}" in self.datasets

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which every party signs."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the agreement as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "name": self.name,
            "purposes": list(self.purposes),
            "parties": list(self.parties),
            "datasets": list(self.datasets),
            "job_types": [kind.value for kind in self.job_types],
            "outputs": [kind.value for kind in self.outputs],
            "min_parties": self.min_parties,
            "min_rows": self.min_rows,
            "epsilon_cap": self.epsilon_cap,
            "valid_from": time_text(self.valid_from),
            "expires": time_text(self.expires),
        }

    @staticmethod
    def from_bytes(body: bytes) -> Agreement:
        """Reads an agreement; nothing about it is believed before its signatures are verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        agreement = Agreement(
            consortium=fields.text("consortium"),
            name=fields.text("name"),
            purposes=texts(fields, "purposes", most=MAX_PURPOSES),
            parties=texts(fields, "parties", most=MAX_PARTIES),
            datasets=texts(fields, "datasets", most=MAX_PATTERNS),
            job_types=fields.choices("job_types", JobType),
            outputs=fields.choices("outputs", OutputKind),
            min_parties=fields.whole("min_parties", least=1),
            min_rows=fields.whole("min_rows", least=1),
            epsilon_cap=fields.optional_text("epsilon_cap"),
            valid_from=fields.time("valid_from"),
            expires=fields.time("expires"),
        )
        refuse(problems or check_agreement(agreement), what="the agreement")
        require_one_form(agreement.to_document(), body, what="the agreement")
        return agreement


def check_agreement(agreement: Agreement) -> Iterable[Problem]:
    """Yields everything wrong with an agreement that shows in it alone."""
    yield from check_id("consortium", agreement.consortium)
    yield from check_id("name", agreement.name)
    yield from check_ids("purposes", agreement.purposes, least=1)
    yield from check_ids("parties", agreement.parties, least=2)
    yield from check_unique("datasets", agreement.datasets)
    for pattern in agreement.datasets:
        party, slash, name = pattern.partition("/")
        if not slash or party not in agreement.parties:
            yield Problem("datasets", "a data set is party/name or party/*, of a party of the agreement", "correct it")
        elif name != ANY_DATASET:
            yield from check_id("datasets", name)
    if not agreement.job_types:
        yield Problem("job_types", "nothing may be computed", "name at least one")
    if not 1 <= agreement.min_parties <= len(agreement.parties):
        yield Problem("min_parties", "more than the agreement has parties, or fewer than one", "write how many owners at least")
    if agreement.min_rows < 1:
        yield Problem("min_rows", "fewer than one", "write how many rows at least")
    yield from check_epsilon_cap("epsilon_cap", agreement.epsilon_cap)
    yield from check_period("expires", agreement.valid_from, agreement.expires)


@dataclass(frozen=True)
class SignedAgreement:
    """An agreement with the signatures that have arrived so far; kept and forwarded verbatim.

    Attributes:
        agreement: what `body` says.
        body: its canonical bytes.
        signatures: of its parties, one each, over this very body, in the order of their ids.
    """

    agreement: Agreement
    body: bytes
    signatures: tuple[SignedDocument, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the body, 64 hexadecimal digits."""
        return sha256_hex(self.body)

    @property
    def signers(self) -> tuple[str, ...]:
        """Who has signed, as far as has arrived here."""
        return tuple(signature.signer for signature in self.signatures)

    @property
    def missing(self) -> tuple[str, ...]:
        """Parties of the agreement whose signature has not arrived here."""
        return tuple(party for party in self.agreement.parties if party not in self.signers)

    def to_bytes(self) -> bytes:
        """Returns agreement and signatures as canonical bytes, for a file that goes from party to party."""
        signatures = [{"signer": signed.signer, "signature": signed.signature.hex()} for signed in self.signatures]
        return canonical_bytes({"format": SIGNED_FORMAT, "body": self.body.decode("utf-8"), "signatures": signatures})

    @staticmethod
    def from_bytes(data: bytes) -> SignedAgreement:
        """Reads an agreement with signatures; verifies none of them.

        Raises:
            ConfideError: INVALID_DOCUMENT (the sender's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = Fields(parse_canonical(data), names={"format", "body", "signatures"}, where="", problems=problems)
        if fields.text("format") != SIGNED_FORMAT:
            problems.append(Problem("format", f"this version reads {SIGNED_FORMAT}", "use the same version of Confide"))
        body = fields.text("body", most=MAX_DOCUMENT_BYTES).encode("utf-8")
        parts = [
            Fields(entry, names={"signer", "signature"}, where=f"signatures.{number}", problems=problems)
            for number, entry in enumerate(fields.items("signatures", most=MAX_PARTIES))
        ]
        texts_of = [(part.text("signer"), part.text("signature")) for part in parts]
        problems += [
            Problem("signatures", "128 hexadecimal digits are expected", "ask its author")
            for _, text in texts_of
            if not _SIGNATURE.fullmatch(text)
        ]
        refuse(problems, what="the signed agreement")
        signed = SignedAgreement.unsigned(body)
        for signer, text in texts_of:
            kind = DocumentKind.AGREEMENT.value
            signed = signed.with_signature(SignedDocument.from_parts(kind, signer, body, bytes.fromhex(text)))
        return signed

    def with_signature(self, signature: SignedDocument) -> SignedAgreement:
        """Returns the agreement with one more signature; one of the same signer is replaced.

        Raises:
            ConfideError: INVALID_DOCUMENT: it is over another body, or the signer is no party of the agreement.
        """
        if signature.body != self.body:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{signature.signer} signed another agreement", party=signature.signer)
        if signature.signer not in self.agreement.parties:
            what = f"{signature.signer} is no party of the agreement {self.agreement.name}"
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=signature.signer)
        kept = {known.signer: known for known in (*self.signatures, signature)}
        return SignedAgreement(self.agreement, self.body, tuple(kept[signer] for signer in sorted(kept)))

    @staticmethod
    def unsigned(body: bytes) -> SignedAgreement:
        """Reads the body of an agreement that nobody has signed yet.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault).
        """
        return SignedAgreement(Agreement.from_bytes(body), body, ())


def sign_agreement(body: bytes, *, party: str, key: SigningKey) -> SignedDocument:
    """Signs the very bytes of an agreement as one of its parties.

    Raises:
        ConfideError: INVALID_DOCUMENT: it is none, or the party is not one of its parties.
    """
    agreement = Agreement.from_bytes(body)
    if party not in agreement.parties:
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{party} is no party of the agreement {agreement.name}", party=party)
    return sign_bytes(body, kind=DocumentKind.AGREEMENT, signer=party, key=key)


def verify_agreement_signature(signed: SignedDocument, directory: Directory) -> Agreement:
    """Checks one party's signature under an agreement of this consortium, and returns the agreement.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    verify(signed, kind=DocumentKind.AGREEMENT, signer=signed.signer, key=directory.party(signed.signer).signing_key)
    agreement = Agreement.from_bytes(signed.body)
    if signed.signer not in agreement.parties:
        what = f"{signed.signer} is no party of the agreement {agreement.name}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=signed.signer)
    if agreement.consortium != directory.consortium:
        what = f"the agreement is one of the consortium {agreement.consortium}, not of {directory.consortium}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=signed.signer)
    return agreement


def why_not_in_force(
    signed: SignedAgreement, *, directory: Directory, revoked_by: Mapping[str, datetime], now: datetime
) -> Iterable[Problem]:
    """Yields everything for which an agreement is not in force now.

    Args:
        signed: the agreement with the signatures that have arrived.
        directory: who is a party now, with which key.
        revoked_by: signatories who have revoked it, with the times they state.
        now: the time, UTC.
    """
    agreement, where = signed.agreement, "agreement"
    if agreement.consortium != directory.consortium:
        yield Problem(where, f"it is one of the consortium {agreement.consortium}", "use one of this consortium")
    signatures = {signature.signer: signature for signature in signed.signatures}
    for party in agreement.parties:
        try:
            key = directory.party(party).signing_key
            if party in signatures:
                verify(signatures[party], kind=DocumentKind.AGREEMENT, signer=party, key=key)
        except ConfideError as error:
            yield Problem(where, error.what, f"have {party} sign it again, or make an agreement without it")
        else:
            if party not in signatures:
                yield Problem(where, f"{party} has not signed it yet", f"ask {party} to sign it")
    if now < agreement.valid_from:
        yield Problem(where, f"it is valid from {time_text(agreement.valid_from)} on", "wait until then")
    if now >= agreement.expires:
        yield Problem(where, f"it expired at {time_text(agreement.expires)}", "make a new one")
    for party in sorted(set(revoked_by) & set(agreement.parties)):
        yield Problem(where, f"{party} revoked it at {time_text(revoked_by[party])}", "make a new one")
