"""The published model: what its owner says in public of a model that answers encrypted queries.

The weights are its owner's secret. Public are the architecture, how queries are laid out and encrypted, and what an answer
says; the owner signs that, so that what a researcher encrypts under is the owner's word and not a server's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from governance.consent.reading import check_period, check_unique, refuse, require_one_form, texts, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.privacy_claims import MAX_TRAININGS, TrainingClaim, claims_in_words, read_claims
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import Problem
from protocols.job import ModelRef
from protocols.job_fields import check_hex

FORMAT = "confide.published-model/2"
LANES = ("latency", "packed", "batch")
MAX_OUTPUTS = 4_096
MAX_FEATURES = 1 << 16
MAX_DECIMALS = 9
MAX_NAME = 128
_FORMULAS = ("=", "+", "-", "@")
_ENDS = ("low", "high")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?")
MAX_KEY_LIFETIME_S = 30 * 24 * 3600
_NAMES = {
    "format", "consortium", "issuer", "name", "commitment", "plans", "features", "ranges", "outputs", "client_activation",
    "decimals", "known_after", "key_lifetime_s", "valid_from", "expires", "origin", "claims",
}  # fmt: skip


@dataclass(frozen=True)
class PublishedModel:
    """What is public of a model that answers encrypted queries.

    Attributes:
        consortium: its id.
        issuer: the owner's party, which evaluates it.
        name: its name at the owner.
        commitment: salted commitment to manifest and weights, 64 hexadecimal digits; the salt stays with the owner.
        plans: by lane, the plan's document: parameters, layouts, keys that are needed, predicted cost and error.
        features: names of the columns of a sample, in order; empty if the model takes arrays.
        ranges: by feature, the least and the largest value that samples may have, as decimals; whoever asks maps them to -1 and 1
            before encryption. Empty if samples are encrypted as they stand, within the range that the plans state.
        outputs: names of the numbers of an answer, in order.
        client_activation: what the researcher's program applies to an answer: empty, `sigmoid` or `softmax`.
        decimals: to so many an answer is rounded where it is decrypted.
        known_after: whoever has the answers to so many samples of her choice knows the model: all coefficients of the polynomial
            that it is, features and one more for a linear one; 0 if that is more than anybody may ask.
        key_lifetime_s: the owner takes evaluation keys for so long.
        valid_from: UTC, whole seconds.
        expires: UTC, whole seconds; from then on nothing is answered.
        origin: the model held as shares whose released weights these are; None for a model of the owner's own.
        claims: what the trainings behind released weights claim of differential privacy, as their licence says; empty for a model
            of the owner's own, of which nobody but it knows how it was trained.
    """

    consortium: str
    issuer: str
    name: str
    commitment: str
    plans: Mapping[str, Document]
    features: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    client_activation: str
    decimals: int
    known_after: int
    key_lifetime_s: int
    valid_from: datetime
    expires: datetime
    origin: ModelRef | None = None
    claims: tuple[TrainingClaim, ...] = ()

    @property
    def privacy(self) -> str:
        """What is said of its privacy in a line; `no formal guarantee` unless all trainings behind it are known to have one."""
        return claims_in_words(self.claims)

    @cached_property  # plans have tens of thousands of numbers, and the digest is asked for with every query
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    @property
    def ref(self) -> ModelRef:
        """The model; its version is the first 12 digits of the digest."""
        return ModelRef(self.name, self.digest[:12])

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    def to_document(self) -> Document:
        """Returns the description as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "name": self.name,
            "commitment": self.commitment,
            "plans": dict(self.plans),
            "features": list(self.features),
            "ranges": [list(ends) for ends in self.ranges],
            "outputs": list(self.outputs),
            "client_activation": self.client_activation,
            "decimals": self.decimals,
            "known_after": self.known_after,
            "key_lifetime_s": self.key_lifetime_s,
            "valid_from": time_text(self.valid_from),
            "expires": time_text(self.expires),
            "origin": None if self.origin is None else self.origin.label,
            "claims": [claim.to_document() for claim in self.claims],
        }

    @staticmethod
    def from_bytes(body: bytes) -> PublishedModel:
        """Reads a description; nothing about it is believed before its signature is verified. Plans are read by their lane.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        document = parse_canonical(body)
        fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
        model = PublishedModel(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            name=fields.text("name"),
            commitment=fields.text("commitment"),
            plans=_plans(document.get("plans"), problems),
            features=texts(fields, "features", most=MAX_FEATURES),
            ranges=_ranges(fields.items("ranges", most=MAX_FEATURES), problems),
            outputs=texts(fields, "outputs", most=MAX_OUTPUTS),
            client_activation=fields.text("client_activation"),
            decimals=fields.whole("decimals", least=0),
            known_after=fields.whole("known_after", least=0),
            key_lifetime_s=fields.whole("key_lifetime_s", least=1),
            valid_from=fields.time("valid_from"),
            expires=fields.time("expires"),
            origin=_origin(fields.optional_text("origin")),
            claims=read_claims(fields.items("claims", most=MAX_TRAININGS), problems, where="claims"),
        )
        refuse(problems or _check(model), what="the published model")
        require_one_form(model.to_document(), body, what="the published model")
        return model


def sign_published(model: PublishedModel, key: SigningKey) -> SignedDocument:
    """Signs a description as the model's owner.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(_check(model), what="the published model")
    return sign(model.to_document(), kind=DocumentKind.PUBLISHED_MODEL, signer=model.issuer, key=key)


def verify_published(signed: SignedDocument, directory: Directory) -> PublishedModel:
    """Checks that the party that it names has published a model in this consortium, and returns its description.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.PUBLISHED_MODEL,
        read=PublishedModel.from_bytes,
        author=lambda model: model.issuer,
        what="published model",
    )


def _plans(entry: object, problems: list[Problem]) -> Mapping[str, Document]:
    if not isinstance(entry, dict) or not entry or not all(isinstance(plan, dict) for plan in entry.values()):
        problems.append(Problem("plans", "an object with a plan for each lane is expected", "ask its author"))
        return {}
    return entry


def _ranges(entries: list[object], problems: list[Problem]) -> tuple[tuple[str, str], ...]:
    found = []
    for number, entry in enumerate(entries):
        if not (isinstance(entry, list) and len(entry) == len(_ENDS) and all(isinstance(end, str) for end in entry)):
            problems.append(Problem(f"ranges.{number}", "two decimals, as texts, are expected", "ask its author"))
            return ()
        found.append((entry[0], entry[1]))
    return tuple(found)


def _range_problems(model: PublishedModel) -> Iterable[Problem]:
    if model.ranges and len(model.ranges) != len(model.features):
        yield Problem("ranges", f"{len(model.ranges)} for {len(model.features)} features", "state one for each, or none")
    for number, ends in enumerate(model.ranges):
        if not all(_DECIMAL.fullmatch(end) for end in ends):
            yield Problem(f"ranges.{number}", "an end is no decimal of at most 12 digits on either side", "write it as -1.5")
        elif not Decimal(ends[0]) < Decimal(ends[1]):
            yield Problem(f"ranges.{number}", "the least value is not below the largest", "state the lower end first")


def _check(model: PublishedModel) -> Iterable[Problem]:
    yield from check_id("consortium", model.consortium)
    yield from check_id("issuer", model.issuer)
    yield from check_id("name", model.name)
    yield from check_hex("commitment", model.commitment, 64)
    if not model.plans or not set(model.plans) <= set(LANES):
        yield Problem("plans", f"lanes are {', '.join(LANES)}; at least one is needed", "publish the model again")
    yield from check_unique("features", model.features)
    yield from check_unique("outputs", model.outputs)
    yield from _range_problems(model)
    for where, names in (("features", model.features), ("outputs", model.outputs)):
        if not all(names):
            yield Problem(where, "a name is empty", "name every column")
        # They are shown on a researcher's terminal, and stand in her files of answers, which spreadsheets open.
        if any(len(name) > MAX_NAME or not name.isprintable() for name in names):
            yield Problem(where, f"a name has more than {MAX_NAME} letters, or one that cannot be shown", "rename the column")
        if any(name.startswith(_FORMULAS) for name in names):
            yield Problem(where, f"a name begins with one of {' '.join(_FORMULAS)}: a spreadsheet would compute it", "rename it")
    if not model.outputs:
        yield Problem("outputs", "a model has at least one output", "name it")
    if model.client_activation not in ("", "sigmoid", "softmax"):
        yield Problem("client_activation", "must be empty, sigmoid or softmax", "publish the model again")
    if model.decimals > MAX_DECIMALS:
        yield Problem("decimals", f"at most {MAX_DECIMALS} are meaningful", "choose fewer")
    if model.key_lifetime_s > MAX_KEY_LIFETIME_S:
        yield Problem("key_lifetime_s", f"at most {MAX_KEY_LIFETIME_S} seconds", "choose a shorter time")
    yield from check_period("expires", model.valid_from, model.expires)
    yield from _origin_problems(model)


def _origin(label: str | None) -> ModelRef | None:
    if label is None:
        return None
    name, _, version = label.partition("@")
    return ModelRef(name, version)


def _origin_problems(model: PublishedModel) -> Iterable[Problem]:
    if model.origin is None:
        if model.claims:
            yield Problem("claims", "a model of the owner's own claims nothing", "publish the model again")
        return
    yield from check_id("origin", model.origin.name)
    yield from check_hex("origin", model.origin.version, 12)
    if len({claim.job for claim in model.claims}) != len(model.claims):
        yield Problem("claims", "a training stands there twice", "publish the model again")
