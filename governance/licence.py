"""The licence of released weights: for what, by whom and until when they may be used (docs/releasing-models.md).

Every computing party of a release issues one, and an artefact carries all of them. No party knows the weights: a licence names
the commitments to the shares that gave them, so whoever has the shares can show that weights are those that were licensed. A
licence binds whoever loads the weights through Confide, and shows everybody else what was agreed; nothing keeps a recipient who
means harm from reading the numbers out of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from governance.consent.reading import check_ids, check_period, refuse, require_one_form, texts, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.privacy_claims import MAX_TRAININGS, TrainingClaim, read_claims
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import MAX_COMPUTING_PARTIES, ModelRef
from protocols.job_fields import check_hex

FORMAT = "confide.licence/2"
MAX_RECIPIENTS = 16
MAX_PARAMETERS = 1 << 26  # of a model in a file of weights
_NAMES = {
    "format", "consortium", "issuer", "job", "attempt", "output", "model", "version", "manifest_sha256", "parameters", "purpose",
    "recipients", "commitments", "issued", "expires", "claims",
}  # fmt: skip
_REMEDY = "keep to the licence, or ask its issuers for another release"


@dataclass(frozen=True)
class Licence:
    """What one computing party permits with weights that it helped to release; public in the consortium.

    Attributes:
        consortium: its id.
        issuer: the party.
        job: id of the release.
        attempt: which one it was.
        output: name of the output.
        ref: the model version.
        manifest_sha256: of the architecture's canonical bytes, 64 hexadecimal digits.
        parameters: how many numbers the weights are.
        purpose: what for; the one of the release.
        recipients: who may use them.
        commitments: to the shares of the weights, by party: all that computed, the issuer among them.
        issued: UTC, whole seconds.
        expires: UTC, whole seconds: from then on nobody may use them.
        claims: what all trainings behind the weights claim of differential privacy, the latest first.
    """

    consortium: str
    issuer: str
    job: str
    attempt: int
    output: str
    ref: ModelRef
    manifest_sha256: str
    parameters: int
    purpose: str
    recipients: tuple[str, ...]
    commitments: Mapping[str, str]
    issued: datetime
    expires: datetime
    claims: tuple[TrainingClaim, ...]

    def to_document(self) -> Document:
        """Returns the licence as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "job": self.job,
            "attempt": self.attempt,
            "output": self.output,
            "model": self.ref.name,
            "version": self.ref.version,
            "manifest_sha256": self.manifest_sha256,
            "parameters": self.parameters,
            "purpose": self.purpose,
            "recipients": list(self.recipients),
            "commitments": dict(self.commitments),
            "issued": time_text(self.issued),
            "expires": time_text(self.expires),
            "claims": [claim.to_document() for claim in self.claims],
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(body: bytes) -> Licence:
        """Reads a licence; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        document = parse_canonical(body)
        fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
        licence = Licence(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            job=fields.text("job"),
            attempt=fields.whole("attempt", least=1),
            output=fields.text("output"),
            ref=ModelRef(fields.text("model"), fields.text("version")),
            manifest_sha256=fields.text("manifest_sha256"),
            parameters=fields.whole("parameters", least=1),
            purpose=fields.text("purpose"),
            recipients=texts(fields, "recipients", most=MAX_RECIPIENTS),
            commitments=_commitments(document.get("commitments"), problems),
            issued=fields.time("issued"),
            expires=fields.time("expires"),
            claims=read_claims(fields.items("claims", most=MAX_TRAININGS), problems, where="claims"),
        )
        refuse(problems or check_licence(licence), what="the licence")
        require_one_form(licence.to_document(), body, what="the licence")
        return licence


@dataclass(frozen=True)
class Use:
    """What somebody wants to do with released weights.

    Attributes:
        recipient: who.
        purpose: what for.
        manifest: canonical bytes of the architecture that they are to be loaded into.
        now: the time, UTC.
    """

    recipient: str
    purpose: str
    manifest: bytes
    now: datetime


def check_licence(licence: Licence) -> Iterable[Problem]:
    """Yields everything wrong with a licence that shows in it alone."""
    yield from check_id("consortium", licence.consortium)
    yield from check_id("issuer", licence.issuer)
    yield from check_hex("job", licence.job, 32)
    yield from check_id("output", licence.output)
    yield from check_id("model", licence.ref.name)
    yield from check_hex("version", licence.ref.version, 12)
    yield from check_hex("manifest_sha256", licence.manifest_sha256, 64)
    yield from check_id("purpose", licence.purpose)
    yield from check_ids("recipients", licence.recipients, least=1)
    if not 1 <= licence.parameters <= MAX_PARAMETERS:
        yield Problem("parameters", f"must be 1 to {MAX_PARAMETERS}", "ask its author")
    if not 2 <= len(licence.commitments) <= MAX_COMPUTING_PARTIES or licence.issuer not in licence.commitments:
        yield Problem("commitments", "not those of all computing parties, the issuer among them", "ask its author")
    for party, commitment in licence.commitments.items():
        yield from check_id("commitments", party)
        yield from check_hex(f"commitments.{party}", commitment, 64)
    yield from check_period("expires", licence.issued, licence.expires)
    if not licence.claims or len({claim.job for claim in licence.claims}) != len(licence.claims):
        yield Problem("claims", "what each training behind the weights claims is expected once", "ask its author")


def sign_licence(licence: Licence, key: SigningKey) -> SignedDocument:
    """Signs a licence as its issuer.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(check_licence(licence), what="the licence")
    return sign(licence.to_document(), kind=DocumentKind.LICENCE, signer=licence.issuer, key=key)


def verify_licence(signed: SignedDocument, directory: Directory) -> Licence:
    """Checks that the party that it names has issued a licence in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.LICENCE,
        read=Licence.from_bytes,
        author=lambda licence: licence.issuer,
        what="licence",
    )


def require_licence(licences: Sequence[Licence], use: Use) -> Licence:
    """Checks that all parties which released weights permit a use of them now.

    That the weights are those of the licences is for the caller to check, by the shares and `commitments`.

    Args:
        licences: verified ones, as they lie beside the weights.
        use: what is wanted.

    Returns:
        What they agree on, until the first of them expires.

    Raises:
        ConfideError: LICENCE_REFUSED, with every reason.
    """
    if not licences:
        raise _refused([Problem("licence", "there is none beside the weights", "copy everything that came with them")])
    problems = [*_about_all(licences)]
    first = licences[0]
    if use.recipient not in first.recipients:
        what = f"{use.recipient} is none of its recipients: {', '.join(first.recipients)}"
        problems.append(Problem("recipients", what, _REMEDY))
    if use.purpose != first.purpose:
        problems.append(Problem("purpose", f"given for {first.purpose}, not for {use.purpose[:64]}", _REMEDY))
    if sha256_hex(use.manifest) != first.manifest_sha256:
        problems.append(Problem("manifest_sha256", "the architecture is another one", "use the manifest that came with them"))
    issued, expires = max(each.issued for each in licences), min(each.expires for each in licences)
    if use.now >= expires:
        problems.append(Problem("expires", f"it expired at {time_text(expires)}", _REMEDY))
    if use.now < issued:
        problems.append(Problem("issued", f"it is valid from {time_text(issued)} on", "set the clock"))
    if problems:
        raise _refused(problems)
    return replace(first, expires=expires, issued=issued)


def refused_weights(what: str, remedy: str = "use the files as they came, unchanged") -> ConfideError:
    """Returns the error for weights that are not those of the licence, or not for who would use them."""
    return _refused([Problem("weights", what, remedy)])


def _about_all(licences: Sequence[Licence]) -> Iterable[Problem]:
    first = licences[0]
    issuers = [licence.issuer for licence in licences]
    for missing in sorted(set(first.commitments) - set(issuers)):
        yield Problem("licence", f"that of {missing} is missing", "copy everything that came with the weights")
    if len(set(issuers)) != len(issuers):
        yield Problem("licence", "one party's stands there twice", "use the files as they came")
    if any(_terms(licence) != _terms(first) for licence in licences[1:]):
        yield Problem("licence", "the parties' licences are not of one release", "use the files as they came")


def _terms(licence: Licence) -> Licence:
    """What all licences of a release say alike."""
    return replace(licence, issuer="", issued=datetime.min, expires=datetime.max, commitments=dict(licence.commitments))


def _refused(problems: Sequence[Problem]) -> ConfideError:
    what = f"the licence does not permit this use, for {len(problems)} reason(s)"
    return ConfideError(ErrorCode.LICENCE_REFUSED, what, problems=problems)


def _commitments(entry: Any, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        problems.append(Problem("commitments", "commitments by party are expected", "ask its author"))
        return {}
    return dict(entry)
