"""The standing assessment: a party has its rows' assessment of a released version repeated by itself, until a day it names.

A person of the party signs for it once; each repetition is a job like any other, under the grants, rules and approvals that hold
on its day. The document says what is asked, how often at least, until when and how often at most. A party without rows in it asks
for no job: it renews its evidence by what the owners state. Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from governance.consent.reading import check_ids, check_period, check_unique, refuse, require_one_form, texts, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.policy.release import RISK_FIGURES, ReleaseTerms
from governance.statement import verify_statement
from privacy.risk.report import FALSE_ALARMS
from protocols.canonical import Document, canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import Problem
from protocols.job import MAX_COMPUTING_PARTIES, MAX_DATASETS, MAX_ROWS, ModelRef
from protocols.job_fields import check_ascending, check_hex
from protocols.job_parts import ATTACKS, MAX_LIFETIME_S, MAX_SHADOWS, MAX_THRESHOLDS, MIN_SHADOWS

FORMAT = "confide.standing-assessment/2"
MAX_DAYS = 3_650
MAX_RUNS = 1_000
# Of the age that a class takes. Half of the last third may be waited for another owner's assessment; what is left then is time
# for a job of one's own, and for more than one if the first is refused.
_DUE, _WAITS, _AGAIN = 2 / 3, 1 / 6, 1 / 24
_MOST_WAIT, _MOST_AGAIN = timedelta(days=1), timedelta(hours=6)
_MINUTES = MAX_LIFETIME_S // 60
_NAMES = {
    "format", "consortium", "party", "querier", "model", "version", "agreement", "purpose", "computing_parties", "dealer",
    "datasets", "members", "attack", "shadows", "thresholds", "min_cell", "for_owners", "agree_within_minutes",
    "expires_in_minutes", "every_days", "max_runs", "made", "until",
}  # fmt: skip


@dataclass(frozen=True)
class StandingAssessment:
    """See the module; public in the consortium.

    Attributes:
        consortium: its id.
        party: whose rows assess, or who renews its evidence by the owners' reports alone; who signs.
        querier: the researcher of the party in whose name the jobs are submitted, and to whom the counts are opened; None for a
            party without rows in it.
        ref: the model version.
        agreement: digest of the agreement that every job is under, 64 hexadecimal digits.
        purpose: one of the agreement's.
        computing_parties: who holds the shares, in their order.
        dealer: who deals.
        datasets: `party/name` of each that takes part.
        members: those of them that the version was trained on.
        attack: `lira` or `rmia`.
        shadows: how many each owner trains.
        thresholds: of the score, ascending decimals; the usual ones if there are none.
        min_cell: counts are opened in steps of at least so many rows.
        for_owners: whether what a job opened is handed to the other owners, so that one job serves all who ordered the same.
        agree_within_minutes: how long everybody may take to agree to a job.
        expires_in_minutes: how long a job lives.
        every_days: at most so many days lie between two assessments.
        max_runs: at most so many jobs run.
        made: when, UTC, whole seconds.
        until: when it ends, UTC, whole seconds.
    """

    consortium: str
    party: str
    querier: str | None
    ref: ModelRef
    agreement: str
    purpose: str
    computing_parties: tuple[str, ...]
    dealer: str
    datasets: tuple[str, ...]
    members: tuple[str, ...]
    attack: str
    shadows: int
    thresholds: tuple[str, ...]
    min_cell: int
    for_owners: bool
    agree_within_minutes: int
    expires_in_minutes: int
    every_days: int
    max_runs: int
    made: datetime
    until: datetime

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, 64 hexadecimal digits; what the person signs for."""
        return sha256_hex(self.to_bytes())

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose rows take part, sorted."""
        return tuple(sorted({name.partition("/")[0] for name in self.datasets}))

    @property
    def measures(self) -> bool:
        """Whether the party has rows in it, so that it submits jobs and states what it finds."""
        return self.party in self.owners

    @property
    def figures(self) -> frozenset[str]:
        """Names of the figures that every repetition measures; none without rows of the party."""
        if not self.measures:
            return frozenset()
        return frozenset(f"membership.{self.attack}.{name}" for name in ("auc", *FALSE_ALARMS))

    def to_document(self) -> Document:
        """Returns the order as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "party": self.party,
            "querier": self.querier,
            "model": self.ref.name,
            "version": self.ref.version,
            "agreement": self.agreement,
            "purpose": self.purpose,
            "computing_parties": list(self.computing_parties),
            "dealer": self.dealer,
            "datasets": list(self.datasets),
            "members": list(self.members),
            "attack": self.attack,
            "shadows": self.shadows,
            "thresholds": list(self.thresholds),
            "min_cell": self.min_cell,
            "for_owners": self.for_owners,
            "agree_within_minutes": self.agree_within_minutes,
            "expires_in_minutes": self.expires_in_minutes,
            "every_days": self.every_days,
            "max_runs": self.max_runs,
            "made": time_text(self.made),
            "until": time_text(self.until),
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(body: bytes) -> StandingAssessment:
        """Reads an order; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        order = StandingAssessment(
            consortium=fields.text("consortium"),
            party=fields.text("party"),
            querier=fields.optional_text("querier"),
            ref=ModelRef(fields.text("model"), fields.text("version")),
            agreement=fields.text("agreement"),
            purpose=fields.text("purpose"),
            computing_parties=texts(fields, "computing_parties", most=MAX_COMPUTING_PARTIES),
            dealer=fields.text("dealer"),
            datasets=texts(fields, "datasets", most=MAX_DATASETS),
            members=texts(fields, "members", most=MAX_DATASETS),
            attack=fields.text("attack"),
            shadows=fields.whole("shadows", least=MIN_SHADOWS),
            thresholds=texts(fields, "thresholds", most=MAX_THRESHOLDS),
            min_cell=fields.whole("min_cell", least=2),
            for_owners=fields.flag("for_owners"),
            agree_within_minutes=fields.whole("agree_within_minutes", least=1),
            expires_in_minutes=fields.whole("expires_in_minutes", least=1),
            every_days=fields.whole("every_days", least=1),
            max_runs=fields.whole("max_runs", least=1),
            made=fields.time("made"),
            until=fields.time("until"),
        )
        refuse(problems or check_order(order), what="the standing assessment")
        require_one_form(order.to_document(), body, what="the standing assessment")
        return order


def check_order(order: StandingAssessment) -> Iterable[Problem]:
    """Yields everything wrong with an order that shows in it alone; each job is checked again on its day."""
    for name in ("consortium", "party", "purpose", "dealer"):
        yield from check_id(name, getattr(order, name))
    if order.querier is not None:
        yield from check_id("querier", order.querier)
    if (order.querier is None) == order.measures:
        yield Problem("querier", "who asks is named where the party has rows in it, and only there", "ask its author")
    yield from check_id("model", order.ref.name)
    yield from check_hex("version", order.ref.version, 12)
    yield from check_hex("agreement", order.agreement, 64)
    yield from check_ids("computing_parties", order.computing_parties, least=2)
    yield from check_unique("datasets", order.datasets)
    yield from check_unique("members", order.members)
    for name in order.datasets:
        for part in name.split("/", 1) if "/" in name else ("",):
            yield from check_id("datasets", part)
    own = {name for name in order.datasets if name.startswith(f"{order.party}/")}
    is_half = order.measures and (not own & set(order.members) or not own - set(order.members))
    if not set(order.members) <= set(order.datasets) or not order.members or is_half:
        what = f"whoever brings rows ({', '.join(order.owners)}) brings such as the version was trained on, and others"
        yield Problem("members", what, "name data sets of both kinds, and those with members once more as members")
    if order.attack not in ATTACKS:
        yield Problem("attack", "no such attack", f"choose among {', '.join(ATTACKS)}")
    if order.thresholds:
        yield from check_ascending("thresholds", order.thresholds, Decimal(-64), Decimal(64))
    most = {"shadows": MAX_SHADOWS, "min_cell": MAX_ROWS, "every_days": MAX_DAYS, "max_runs": MAX_RUNS}
    most |= {"agree_within_minutes": _MINUTES, "expires_in_minutes": _MINUTES}
    for name, limit in most.items():
        if getattr(order, name) > limit:
            yield Problem(name, f"at most {limit}", "write less")
    yield from check_period("until", order.made, order.until)
    if order.until - order.made > timedelta(days=MAX_DAYS):
        yield Problem("until", f"more than {MAX_DAYS} days ahead", "choose an earlier end")


def due_at(order: StandingAssessment, *, last: datetime | None, max_age_days: int | None) -> datetime:
    """Returns from when the next assessment is due, UTC.

    Args:
        order: the order.
        last: when the party last assessed the version with these rows, UTC; None if it never did.
        max_age_days: that the strictest class of the version's rows takes; None if none is known.
    """
    if last is None:
        return order.made
    every = timedelta(days=order.every_days)
    return last + (every if max_age_days is None else min(every, timedelta(days=max_age_days) * _DUE))


def patience(max_age_days: int | None) -> timedelta:
    """Returns for how long from when an assessment is due an owner leaves it to another one: nobody keeps another from assessing.

    Args:
        max_age_days: that the strictest class of the version's rows takes; None if none is known.
    """
    return _MOST_WAIT if max_age_days is None else min(_MOST_WAIT, timedelta(days=max_age_days) * _WAITS)


def tried_again_after(max_age_days: int | None) -> timedelta:
    """Returns how long after a run the next one may begin, refused and failed ones too: a party may be back, a grant be given.

    Args:
        max_age_days: that the strictest class of the version's rows takes; None if none is known.
    """
    return _MOST_AGAIN if max_age_days is None else min(_MOST_AGAIN, timedelta(days=max_age_days) * _AGAIN)


def limited_figures(terms: ReleaseTerms, datasets: Iterable[str]) -> frozenset[str]:
    """Returns the figures of risk that the classes of these rows limit, so that every report must have them.

    Args:
        terms: of the policy.
        datasets: `party/name/version` of the rows behind a version.
    """
    classes = (terms.classes[name] for name in terms.classes_of(datasets))
    return frozenset(name for each in classes for name in each.max_figures if name.startswith(RISK_FIGURES))


def shadows_asked(terms: ReleaseTerms, datasets: Iterable[str]) -> int:
    """Returns with how many shadow models the classes of these rows want a report to have attacked; 0 if none cares."""
    return max((terms.classes[name].shadows_asked for name in terms.classes_of(datasets)), default=0)


def least_age_days(terms: ReleaseTerms, datasets: Iterable[str]) -> int | None:
    """Returns the age that the strictest class of these rows takes; None without rows."""
    return min((terms.classes[name].max_age_days for name in terms.classes_of(datasets)), default=None)


def sign_order(order: StandingAssessment, key: SigningKey) -> SignedDocument:
    """Signs an order as its party.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(check_order(order), what="the standing assessment")
    return sign(order.to_document(), kind=DocumentKind.STANDING_ASSESSMENT, signer=order.party, key=key)


def verify_order(signed: SignedDocument, directory: Directory) -> StandingAssessment:
    """Checks that the party that it names has signed the order in this consortium, and returns it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.STANDING_ASSESSMENT,
        read=StandingAssessment.from_bytes,
        author=lambda order: order.party,
        what="standing assessment",
    )
