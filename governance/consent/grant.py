"""The grant: an owner's signed, expiring, counted permission to use one version of a data set, or one model.

A grant for a data set covers jobs on its rows and, as far as it says so, jobs on models that come of them, directly or through
further training. A grant for a model covers jobs on it and, likewise, on models trained further from it. It is issued by the
institution itself and enforced by that institution's own party.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from governance.consent.limits import (
    OutputRule,
    ParameterLimits,
    check_output_rules,
    check_parameter_limits,
    read_output_rule,
    read_parameter_limits,
)
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
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import Fields, fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import Problem
from protocols.job import JobType, ModelRef, OutputKind
from protocols.job_fields import check_hex

FORMAT = "confide.grant/1"
MAX_PURPOSES = 64
MAX_RECIPIENTS = 1_000
MAX_ARCHITECTURES = 256
MAX_NAMED_PARTIES = 256
MAX_USES = 1_000_000
ANYBODY = "*"
INSTITUTION = "institution/"
_NAMES = {
    "format", "consortium", "issuer", "agreement", "subject", "purposes", "job_types", "derived_job_types", "recipients",
    "outputs", "architectures", "parameters", "computing_parties", "dealers", "min_parties", "min_rows", "max_uses",
    "epsilon_cap", "valid_from", "expires", "derived_until", "nonce",
}  # fmt: skip


@dataclass(frozen=True)
class DatasetSubject:
    """One registration of the issuer's: its name, version and salted commitment; a later version is not covered."""

    name: str
    version: int
    commitment: str

    @property
    def label(self) -> str:
        """How people name it."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class ModelSubject:
    """One version of a model into which rows of the issuer went."""

    name: str
    version: str

    @property
    def ref(self) -> ModelRef:
        """The model."""
        return ModelRef(self.name, self.version)

    @property
    def label(self) -> str:
        """How people name it."""
        return self.ref.label


Subject = DatasetSubject | ModelSubject


@dataclass(frozen=True)
class Grant:
    """What an owner permits; public in the consortium.

    Attributes:
        consortium: its id.
        issuer: the owner's party.
        agreement: digest of the agreement under which it is given; a job under another one is not covered.
        subject: what may be used.
        purposes: what for.
        job_types: jobs on the subject itself.
        derived_job_types: jobs on models that come of it; a training then is a further training.
        recipients: whose jobs: researcher ids, `institution/<party>` for all of an institution's, or `*`.
        outputs: what may be opened, with its constraints; a kind that is not here may not be.
        architectures: SHA-256 digests of the manifests of models that may be trained or used; empty for any.
        parameters: bounds on a job's parameters.
        computing_parties: who may hold shares of the rows; empty for any party with the role.
        dealers: who may deal; empty for any party with the role.
        min_parties: a job is over the rows of at least so many owners.
        min_rows: a job is over at least so many rows.
        max_uses: jobs that it covers, in all.
        epsilon_cap: decimal; a job may spend no more, and one that opens without noise spends without bound. None for no cap.
        valid_from: UTC, whole seconds.
        expires: UTC, whole seconds; the end for jobs on the subject itself.
        derived_until: UTC, whole seconds; the end for jobs on models that come of it, and for these models.
        nonce: 32 hexadecimal digits; makes equal permissions distinct grants.
    """

    consortium: str
    issuer: str
    agreement: str
    subject: Subject
    purposes: tuple[str, ...]
    job_types: tuple[JobType, ...]
    derived_job_types: tuple[JobType, ...]
    recipients: tuple[str, ...]
    outputs: tuple[OutputRule, ...]
    architectures: tuple[str, ...]
    parameters: ParameterLimits
    computing_parties: tuple[str, ...]
    dealers: tuple[str, ...]
    min_parties: int
    min_rows: int
    max_uses: int
    epsilon_cap: str | None
    valid_from: datetime
    expires: datetime
    derived_until: datetime
    nonce: str

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    @property
    def grant_id(self) -> str:
        """The first 32 hexadecimal digits of its digest: how people and other documents name it."""
        return self.digest[:32]

    def rule(self, kind: OutputKind) -> OutputRule | None:
        """Returns what is permitted of a kind of output, or None if nothing is."""
        return next((rule for rule in self.outputs if rule.kind is kind), None)

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the grant as a document."""
        kind = "dataset" if isinstance(self.subject, DatasetSubject) else "model"
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "agreement": self.agreement,
            "subject": {"kind": kind, **vars(self.subject)},
            "purposes": list(self.purposes),
            "job_types": [kind.value for kind in self.job_types],
            "derived_job_types": [kind.value for kind in self.derived_job_types],
            "recipients": list(self.recipients),
            "outputs": [rule.to_document() for rule in self.outputs],
            "architectures": list(self.architectures),
            "parameters": self.parameters.to_document(),
            "computing_parties": list(self.computing_parties),
            "dealers": list(self.dealers),
            "min_parties": self.min_parties,
            "min_rows": self.min_rows,
            "max_uses": self.max_uses,
            "epsilon_cap": self.epsilon_cap,
            "valid_from": time_text(self.valid_from),
            "expires": time_text(self.expires),
            "derived_until": time_text(self.derived_until),
            "nonce": self.nonce,
        }

    @staticmethod
    def from_bytes(body: bytes) -> Grant:
        """Reads a grant; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        document = parse_canonical(body)
        fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
        rules = enumerate(fields.items("outputs", most=len(OutputKind)))
        grant = Grant(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            agreement=fields.text("agreement"),
            subject=_subject(document.get("subject"), problems),
            purposes=texts(fields, "purposes", most=MAX_PURPOSES),
            job_types=fields.choices("job_types", JobType),
            derived_job_types=fields.choices("derived_job_types", JobType),
            recipients=texts(fields, "recipients", most=MAX_RECIPIENTS),
            outputs=tuple(read_output_rule(entry, where=f"outputs.{n}", problems=problems) for n, entry in rules),
            architectures=texts(fields, "architectures", most=MAX_ARCHITECTURES),
            parameters=read_parameter_limits(document.get("parameters"), where="parameters", problems=problems),
            computing_parties=texts(fields, "computing_parties", most=MAX_NAMED_PARTIES),
            dealers=texts(fields, "dealers", most=MAX_NAMED_PARTIES),
            min_parties=fields.whole("min_parties", least=1),
            min_rows=fields.whole("min_rows", least=1),
            max_uses=fields.whole("max_uses", least=1),
            epsilon_cap=fields.optional_text("epsilon_cap"),
            valid_from=fields.time("valid_from"),
            expires=fields.time("expires"),
            derived_until=fields.time("derived_until"),
            nonce=fields.text("nonce"),
        )
        refuse(problems or check_grant(grant), what="the grant")
        require_one_form(grant.to_document(), body, what="the grant")
        return grant


def check_grant(grant: Grant) -> Iterable[Problem]:
    """Yields everything wrong with a grant that shows in it alone."""
    yield from check_id("consortium", grant.consortium)
    yield from check_id("issuer", grant.issuer)
    yield from check_hex("agreement", grant.agreement, 64)
    yield from check_id("subject.name", grant.subject.name)
    if isinstance(grant.subject, DatasetSubject):
        yield from check_hex("subject.commitment", grant.subject.commitment, 64)
        if grant.subject.version < 1:
            yield Problem("subject.version", "versions count from 1", "copy it from the registration")
    else:
        yield from check_hex("subject.version", grant.subject.version, 12)
    yield from check_ids("purposes", grant.purposes, least=1)
    if not grant.job_types and not grant.derived_job_types:
        yield Problem("job_types", "nothing may be computed", "name at least one job type")
    of_models = {JobType.INFER, JobType.SERVE, JobType.RELEASE}
    if isinstance(grant.subject, DatasetSubject) and of_models & set(grant.job_types):
        what = "an inference, a serving or a release uses a model, not a data set"
        yield Problem("job_types", what, "name it in derived_job_types")
    if JobType.INFER_ENCRYPTED in {*grant.job_types, *grant.derived_job_types}:
        what = "encrypted inference is on a published model, not on rows or on shares"
        yield Problem("job_types", what, "give a grant for the published model")
    yield from check_recipients(grant.recipients)
    yield from check_output_rules("outputs", grant.outputs)
    yield from check_unique("architectures", grant.architectures)
    for digest in grant.architectures:
        yield from check_hex("architectures", digest, 64)
    yield from check_parameter_limits("parameters", grant.parameters)
    yield from check_ids("computing_parties", grant.computing_parties, least=0)
    yield from check_ids("dealers", grant.dealers, least=0)
    for name, value in (("min_parties", grant.min_parties), ("min_rows", grant.min_rows)):
        if value < 1:
            yield Problem(name, "fewer than one", "write how many at least")
    if not 1 <= grant.max_uses <= MAX_USES:
        yield Problem("max_uses", f"must be 1 to {MAX_USES}", "say how many jobs it covers")
    yield from check_epsilon_cap("epsilon_cap", grant.epsilon_cap)
    yield from check_period("expires", grant.valid_from, grant.expires)
    yield from check_period("derived_until", grant.valid_from, grant.derived_until)
    yield from check_hex("nonce", grant.nonce, 32)


def sign_grant(grant: Grant, key: SigningKey) -> SignedDocument:
    """Signs a grant as its issuer.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(check_grant(grant), what="the grant")
    return sign(grant.to_document(), kind=DocumentKind.GRANT, signer=grant.issuer, key=key)


def verify_grant(signed: SignedDocument, directory: Directory) -> Grant:
    """Checks that the party that it names has issued a grant in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.GRANT,
        read=Grant.from_bytes,
        author=lambda grant: grant.issuer,
        what="grant",
    )


def check_recipients(recipients: tuple[str, ...]) -> Iterable[Problem]:
    """Yields what is wrong with a list of those whom a grant is for."""
    if not recipients:
        yield Problem("recipients", "nobody may use it", f"name researchers, {INSTITUTION}<party>, or {ANYBODY}")
    yield from check_unique("recipients", recipients)
    for recipient in recipients:
        if recipient != ANYBODY:
            yield from check_id("recipients", recipient.removeprefix(INSTITUTION))


def _subject(entry: Any, problems: list[Problem]) -> Subject:
    if isinstance(entry, dict) and entry.get("kind") == "model":
        fields = Fields(entry, names={"kind", "name", "version"}, where="subject", problems=problems)
        return ModelSubject(fields.text("name"), fields.text("version"))
    fields = Fields(entry, names={"kind", "name", "version", "commitment"}, where="subject", problems=problems)
    if not isinstance(entry, dict) or entry.get("kind") != "dataset":
        problems.append(Problem("subject.kind", "must be dataset or model", "ask its author"))
    return DatasetSubject(fields.text("name"), fields.whole("version", least=1), fields.text("commitment"))
