"""The bundle of evidence of a model version: what a holder has in hand when it decides whether the version may be released.

One signed document: the trainings with their guarantees, noise tests and audits, or, of a model that its publisher trained alone,
what binds it; the owners' risk reports as they signed them; figures of utility as queriers signed them; lineage; and the impact
assessment. The assessment is made from the other fields alone and is part of the one form that they have, so that nobody words it
by hand. What has changed in it since the last release stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from governance.consent.reading import refuse, require_one_form, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.evidence.facts import MAX_ITEMS, MAX_REPORT, TrainingEvidence, is_dataset, read_signed, read_training
from governance.evidence.impact import Impact, changes_of, impact_of
from governance.evidence.overtaken import NOTHING, Overtaken
from governance.evidence.own import OwnModel, check_own, read_own
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.risk_report import StatedRisk, read_risk_report
from governance.statement import verify_statement
from governance.utility_report import StatedUtility, read_stated_utility
from privacy.accounting.statement import PrivacyStatement
from protocols.canonical import MAX_DOCUMENT_BYTES, Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex
from protocols.private_training import Unit

FORMAT = "confide.evidence/5"
# Reports that are carried on: of each figure that the gate asks about three at most for every owner, with room in a document.
MAX_CARRIED = 512
_NAMED = 8  # of whom a refusal tells how many reports are theirs
_ENVELOPE = 1_024  # more than a signature and names take
_MAX_CHANGES = 1 << 16  # more than a document has room for: a bundle that is signed must be one that can be read
_NAMES = {
    "format", "consortium", "issuer", "model", "version", "time", "previous", "trainings", "architecture", "parameters",
    "preparations", "own", "risk_reports", "utility", "overtaken_risk_reports", "overtaken_utility", "impact", "changes",
}  # fmt: skip
_UNITS = (Unit.ROW, Unit.PERSON, Unit.PERSON_EVERYWHERE)  # the later protects more


@dataclass(frozen=True, eq=False)
class EvidenceBundle:
    """See the module; public in the consortium.

    Attributes:
        consortium: its id.
        issuer: the holder.
        ref: the model version.
        time: when it was made, UTC, whole seconds.
        previous: digest of the bundle under which the issuer last released a version of this model, 64 hexadecimal digits; None
            if it has released none.
        trainings: all behind the version, the latest first; empty of a model of the issuer's own.
        architecture: digest of the manifest, 64 hexadecimal digits.
        parameters: how many numbers the model has.
        preparations: digest of the owner's statement by data set, `party/name/version`, as far as the issuer holds it.
        risk_reports: signed by the owners.
        utility: how useful it is, by evaluations; signed by their queriers.
        changes: of the impact assessment since that bundle, in words; empty if there is none.
        overtaken: reports that this bundle or one before it has replaced, and on which nobody has decided since; of a model of
            the issuer's own also reports of other such models of the same rows.
        own: what binds a model of the issuer's own, and its rows; None of a model that several trained together.
    """

    consortium: str
    issuer: str
    ref: ModelRef
    time: datetime
    previous: str | None
    trainings: tuple[TrainingEvidence, ...]
    architecture: str
    parameters: int
    preparations: Mapping[str, str]
    risk_reports: tuple[SignedDocument, ...]
    utility: tuple[SignedDocument, ...]
    changes: tuple[str, ...] = ()
    overtaken: Overtaken = NOTHING
    own: OwnModel | None = None

    def is_about(self, ref: ModelRef) -> bool:
        """Returns whether a version is the one that it is about, or is the same model but for its name or some digits."""
        return ref == self.ref or (self.own is not None and ref.label in self.own.same)

    @property
    def datasets(self) -> tuple[str, ...]:
        """`party/name/version` of every data set whose rows went in, sorted."""
        own = () if self.own is None else self.own.datasets
        return tuple(sorted({*own, *(name for training in self.trainings for name in training.datasets)}))

    @property
    def owners(self) -> tuple[str, ...]:
        """Who brought rows, sorted."""
        return tuple(sorted({name.partition("/")[0] for name in self.datasets}))

    @cached_property
    def assessed(self) -> tuple[StatedRisk, ...]:
        """What the risk reports say; who signed them is not verified by reading."""
        return tuple(read_risk_report(report.document) for report in self.risk_reports)

    @cached_property
    def evaluated(self) -> tuple[StatedUtility, ...]:
        """What the reports on utility say; who signed them is not verified by reading."""
        return tuple(read_stated_utility(report.document) for report in self.utility)

    @cached_property
    def overtaken_risks(self) -> tuple[StatedRisk, ...]:
        """What the risk reports say that it carries on."""
        return tuple(read_risk_report(report.document) for report in self.overtaken.risk_reports)

    @cached_property
    def overtaken_uses(self) -> tuple[StatedUtility, ...]:
        """What the reports on utility say that it carries on."""
        return tuple(read_stated_utility(report.document) for report in self.overtaken.utility)

    @property
    def guarantees(self) -> tuple[PrivacyStatement, ...] | None:
        """Those of all trainings; None if one of them has none, and so the version has none."""
        found = tuple(training.guarantee for training in self.trainings if training.guarantee is not None)
        return found if found and len(found) == len(self.trainings) else None

    @property
    def spent(self) -> tuple[Decimal, Decimal] | None:
        """Epsilon and delta of all trainings and of what they were prepared with, added up; None without a formal guarantee."""
        if self.guarantees is None:
            return None
        return sum((Decimal(g.whole_epsilon) for g in self.guarantees), Decimal(0)), sum(
            (Decimal(g.whole_delta) for g in self.guarantees), Decimal(0)
        )

    @property
    def unit(self) -> Unit | None:
        """What every training protects at least; None without a formal guarantee."""
        return None if self.guarantees is None else min((Unit(g.unit) for g in self.guarantees), key=_UNITS.index)

    @cached_property
    def impact(self) -> Impact:
        """The impact assessment, made from the other fields."""
        return impact_of(self)

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    def to_document(self) -> Document:
        """Returns the bundle as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "model": self.ref.name,
            "version": self.ref.version,
            "time": time_text(self.time),
            "previous": self.previous,
            "trainings": [training.to_document() for training in self.trainings],
            "architecture": self.architecture,
            "parameters": self.parameters,
            "preparations": dict(self.preparations),
            "own": None if self.own is None else self.own.to_document(),
            "risk_reports": [report.to_bytes().decode() for report in self.risk_reports],
            "utility": [report.to_bytes().decode() for report in self.utility],
            "overtaken_risk_reports": [report.to_bytes().decode() for report in self.overtaken.risk_reports],
            "overtaken_utility": [report.to_bytes().decode() for report in self.overtaken.utility],
            "impact": {part: list(sentences) for part, sentences in self.impact.items()},
            "changes": list(self.changes),
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(body: bytes) -> EvidenceBundle:
        """Reads a bundle; nothing about it is believed before its signature and those of the reports are verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems; an impact assessment that its facts do not
                make is one.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        trainings = fields.items("trainings", most=MAX_ITEMS)
        bundle = EvidenceBundle(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            ref=ModelRef(fields.text("model"), fields.text("version")),
            time=fields.time("time"),
            previous=fields.optional_text("previous"),
            trainings=tuple(read_training(entry, f"trainings.{place}", problems) for place, entry in enumerate(trainings)),
            architecture=fields.text("architecture"),
            parameters=fields.whole("parameters", least=1),
            preparations=_preparations(parse_canonical(body).get("preparations"), problems),
            own=read_own(parse_canonical(body).get("own"), problems),
            risk_reports=read_signed(fields, "risk_reports", read_risk_report, problems, most=MAX_ITEMS),
            utility=read_signed(fields, "utility", read_stated_utility, problems, most=MAX_ITEMS),
            overtaken=Overtaken(
                read_signed(fields, "overtaken_risk_reports", read_risk_report, problems, most=MAX_CARRIED),
                read_signed(fields, "overtaken_utility", read_stated_utility, problems, most=MAX_CARRIED),
            ),
            changes=tuple(
                entry if isinstance(entry, str) and len(entry) <= MAX_REPORT else ""
                for entry in fields.items("changes", most=_MAX_CHANGES)
            ),
        )
        refuse(problems or _check(bundle), what="the bundle of evidence")
        require_one_form(bundle.to_document(), body, what="the bundle of evidence")
        return bundle


def with_changes(bundle: EvidenceBundle, previous: EvidenceBundle | None) -> tuple[str, ...]:
    """Returns what a bundle has to say about the changes since the one before it; empty if there is none."""
    return () if previous is None else changes_of(previous.impact, bundle.impact)


def sign_evidence(bundle: EvidenceBundle, key: SigningKey) -> SignedDocument:
    """Signs a bundle as its issuer.

    Raises:
        ConfideError: TOO_LARGE: more was found than a bundle holds, with whose reports fill it; INVALID_DOCUMENT: it would be
            refused; all problems at once.
    """
    document = bundle.to_document()
    crowded = [*_crowded(bundle), *_has_no_room(document)]
    if crowded:
        what = f"more was found of {bundle.ref.label} than a bundle of evidence holds"
        remedy = "What owners have told of a version stays known: it is not released before a bundle holds all of it."
        raise ConfideError(ErrorCode.TOO_LARGE, what, problems=crowded, remedy=remedy)
    refuse(_check(bundle), what="the bundle of evidence")
    return sign(document, kind=DocumentKind.EVIDENCE, signer=bundle.issuer, key=key)


def verify_evidence(signed: SignedDocument, directory: Directory) -> EvidenceBundle:
    """Checks that the holder that it names has signed the bundle in this consortium, and returns it.

    The reports in it are verified one by one where they are judged: `verify_risk_report`, `verify_utility_report`,
    `verify_canary_audit`.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.EVIDENCE,
        read=EvidenceBundle.from_bytes,
        author=lambda bundle: bundle.issuer,
        what="bundle of evidence",
    )


def _preparations(entry: object, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(entry, dict) or len(entry) > MAX_ITEMS:
        problems.append(Problem("preparations", f"an object of at most {MAX_ITEMS} entries is expected", "ask its author"))
        return {}
    for name, digest in entry.items():
        if not is_dataset(name) or not isinstance(digest, str) or list(check_hex("", digest, 64)):
            problems.append(Problem("preparations", "data sets with digests are expected", "ask its author"))
            return {}
    return dict(entry)


def _crowded(bundle: EvidenceBundle) -> Iterable[Problem]:
    """Reports that are too many, with how many of them are whose."""
    carried = bundle.overtaken
    for name, reports, most in (
        ("risk_reports", bundle.risk_reports, MAX_ITEMS),
        ("utility", bundle.utility, MAX_ITEMS),
        ("overtaken_risk_reports", carried.risk_reports, MAX_CARRIED),
        ("overtaken_utility", carried.utility, MAX_CARRIED),
    ):
        if len(reports) > most:
            whose = ", ".join(f"{count} of {who}" for who, count in Counter(each.signer for each in reports).most_common(_NAMED))
            yield Problem(name, f"{len(reports)} reports, and at most {most} are held ({whose})", _remedy_of(name))


def _has_no_room(document: Document) -> Iterable[Problem]:
    """A bundle that is signed must be one that can be read: its envelope has it as a text, with more room for each quote."""
    size = len(canonical_bytes({"body": canonical_bytes(document).decode()})) + _ENVELOPE
    if size > MAX_DOCUMENT_BYTES:
        yield Problem("bundle", f"{size} bytes, and at most {MAX_DOCUMENT_BYTES} are read", _remedy_of(""))


def _remedy_of(crowded: str) -> str:
    if crowded in ("risk_reports", "utility"):
        return "bring fewer files"
    return "nobody has decided on what is carried on: speak with whose reports these are, limit fewer figures, or train anew"


def _check(bundle: EvidenceBundle) -> Iterable[Problem]:
    for name in ("consortium", "issuer"):
        yield from check_id(name, getattr(bundle, name))
    yield from check_id("model", bundle.ref.name)
    yield from check_hex("version", bundle.ref.version, 12)
    yield from check_hex("architecture", bundle.architecture, 64)
    if bundle.previous is not None:
        yield from check_hex("previous", bundle.previous, 64)
    if (bundle.own is None) == (not bundle.trainings):
        yield Problem("trainings", "a model version comes of at least one, or is the issuer's own", "make it anew")
    if bundle.own is not None:
        yield from check_own(bundle.own, bundle.ref, issuer=bundle.issuer)
        if any(report.datasets != bundle.own.datasets for report in bundle.assessed):
            yield Problem("risk_reports", "one is about other rows than those behind the model", "make it anew")
    if len({training.job for training in bundle.trainings}) != len(bundle.trainings):
        yield Problem("trainings", "one is named twice", "make it anew")
    if bundle.previous is None and bundle.changes:
        yield Problem("changes", "there is no bundle before this one", "make it anew")
