"""Whether a model may be published for encrypted queries: an endpoint is a rung of the release ladder (docs/release-gate.md).

released weights     their licence, for this institution and a purpose of it; where this party holds shares of the version, its
own gate on evidence too. The endpoint lasts no longer than the licence, nor than that evidence
weights of its own   evidence that their owner made of its own rows, by the class of these rows (`parties.own_evidence`); none can
have a formal guarantee of a model that was trained outside, so a class that requires one refuses it
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from governance.consent.reading import time_text
from governance.evidence.bundle import EvidenceBundle
from governance.evidence.gate import ReasonCode
from governance.evidence.renewal import next_renewal
from governance.identity.directory import Directory
from governance.licence import Licence
from governance.policy.release import ReleaseTerms
from governance.policy.rules import Policy
from parties.agreements import load_member
from parties.config import PartyConfig
from parties.evidence import require_release, warm_statements
from parties.model_registry import require_usable
from parties.own_evidence import Standing, require_own_evidence
from parties.policy_file import load_policy
from parties.publication_files import PublicationTerms
from parties.released import is_released, require_own_use
from parties.storage.database import Tables, one_transaction
from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class PublicationCase:
    """What is asked of a publication before anything of it is sealed.

    Attributes:
        party: that publishes.
        policy: its own.
        directory: whose keys are believed.
        licence: of released weights, what all computing parties agree on; None for weights of its own.
    """

    party: str
    policy: Policy
    directory: Directory
    licence: Licence | None


def publication_case(
    config: PartyConfig, weights: Path, terms: PublicationTerms, *, purpose: str | None, now: datetime
) -> PublicationCase:
    """Checks what can be checked without a transaction: the licence of released weights, or the class of own rows.

    Args:
        config: the publisher's.
        weights: the file of weights; what lies beside it says whether they were released.
        terms: what the publisher declares.
        purpose: for which purpose of the licence.
        now: the time, UTC.

    Raises:
        ConfideError: LICENCE_REFUSED: the licence does not permit it, ends before the publication, or is stripped or altered;
            EVIDENCE_MISSING: a class refuses own models; INVALID_ARGUMENT: no purpose, or rows of others in the terms.
    """
    member, policy, folder = load_member(config, now), load_policy(config.policy), weights.parent
    if not is_released(folder):
        _require_own(terms, policy.release, party=config.party)
        return PublicationCase(config.party, policy, member.directory, None)
    if purpose is None:
        what = f"{folder} holds released weights"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Say for which purpose of their licence, with --purpose.")
    licence = require_own_use(folder, member.directory, party=config.party, purpose=purpose, now=now).licence
    _require_within(terms, licence.expires, ErrorCode.LICENCE_REFUSED, "the licence")
    warm_statements(lambda: one_transaction(config.folder.database_file), licence.ref, party=config.party, now=now)
    return PublicationCase(config.party, policy, member.directory, licence)


def require_published(tables: Tables, case: PublicationCase, terms: PublicationTerms, *, commitment: str, now: datetime) -> None:
    """Asks this party's gate on evidence: about released weights, if it holds shares of the version, or about a model of its own.

    Args:
        tables: of the transaction that publishes.
        case: what was found before.
        terms: what the publisher declares.
        commitment: to the model as it would answer.
        now: the time, UTC.

    Raises:
        ConfideError: MODEL_REVOKED; EVIDENCE_MISSING, with every reason, or if the evidence of released weights does not last as
            long.
    """
    if case.licence is None:
        asked = Standing(case.party, case.policy, case.directory)
        require_own_evidence(tables, asked, name=terms.name, commitment=commitment, datasets=terms.datasets, now=now)
        return
    if tables.models.sealed_name(case.licence.ref) is None:
        return  # a recipient without a share has no records to judge by: the holders' gates passed the release
    ref, release = case.licence.ref, case.policy.release
    require_usable(tables, ref, party=case.party)
    require_release(tables, party=case.party, policy=case.policy, directory=case.directory, ref=ref, now=now)
    bundle = EvidenceBundle.from_bytes(tables.evidence.latest(ref).signed.body)
    renewal = None if release is None else next_renewal(bundle, release)
    if renewal is not None:
        _require_within(terms, renewal.ends, ErrorCode.EVIDENCE_MISSING, f"{renewal.owner}'s risk report")


def _require_own(terms: PublicationTerms, release: ReleaseTerms | None, *, party: str) -> None:
    foreign = [name for name in terms.datasets if not name.startswith(f"{party}/")]
    if foreign:
        what = f"the terms name rows of others: {', '.join(foreign)}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Train jointly, and release what comes of it.")
    if release is None:
        return
    names = release.classes_of(terms.datasets) if terms.datasets else release.classes_of_party(party)
    refusing = [name for name in names if release.classes[name].requires_guarantee]
    if refusing:
        code = ReasonCode.NO_GUARANTEE.value
        remedy = "train with differential privacy and release that, or name the data sets behind it in the terms"
        problems = [
            Problem(code, f"class {name} asks for differential privacy; weights from outside have no formal guarantee", remedy)
            for name in refusing
        ]
        what = f"{terms.name} may not be published: blocked"
        raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, problems=problems, party=party)


def _require_within(terms: PublicationTerms, end: datetime, code: ErrorCode, what: str) -> None:
    if terms.expires > end:
        problem = Problem("expires", f"{what} ends at {time_text(end)}", "let the publication end by then")
        raise ConfideError(code, "the publication would last longer than what permits it", problems=[problem])
