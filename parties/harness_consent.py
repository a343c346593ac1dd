"""People, policy and consent of a throw-away consortium: everything is permitted, by real signatures of real keys.

    <folder>/<party>/people/<id>/    one folder a person: operator, steward, officer, auditor; keys of mode 0600

The documents are those of a real consortium, made by the functions of the commands. Only here one person plays everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict, Unpack

from governance.consent.agreement import Agreement, SignedAgreement
from governance.consent.limits import OutputRule, ParameterLimits
from governance.people.roles import PersonRole
from governance.policy.rules import Kind
from parties.agreements import join_agreement, propose_agreement, sign_agreement
from parties.config import PartyConfig
from parties.grants import DatasetChoice, GrantTerms, create_grant
from parties.people import make_person
from parties.policy_file import write_policy
from parties.storage.datasets import DatasetRecord
from parties.storage.grants import GrantRecord
from protocols.job import JobType, OutputKind
from protocols.job_parts import JOINT

AGREEMENT = "harness"
PURPOSE = "research"
LIFETIME = timedelta(days=30)
MAX_USES = 10_000
OPERATOR, STEWARD, OFFICER, AUDITOR = "operator", "steward", "officer", "auditor"
# The people of every party, by id.
PEOPLE: Mapping[str, PersonRole] = {
    OPERATOR: PersonRole.OPERATOR,
    STEWARD: PersonRole.DATA_STEWARD,
    OFFICER: PersonRole.PRIVACY_OFFICER,
    AUDITOR: PersonRole.AUDITOR,
}


class Limits(TypedDict, total=False):
    """What a grant of a harness may bound; fields as in `GrantTerms`."""

    agreement: str
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
    valid_from: datetime | None
    expires: datetime
    derived_until: datetime | None


def person_folder(config: PartyConfig, person: str) -> Path:
    """Where one of the people of a harness's party keeps the key."""
    return config.policy.parent / "people" / person


def make_people(config: PartyConfig) -> None:
    """Makes a party's people, and a policy that lists them and takes part in every job that consent covers.

    Raises:
        ConfideError: JOB_CONFLICT: they are there already.
    """
    people = [make_person(person_folder(config, person), person, [role]) for person, role in PEOPLE.items()]
    write_policy(
        config.policy,
        people=people,
        decision=Kind.AUTOMATIC,
        reason="a throw-away consortium",
        training_without_guarantee="as_rules_say",
    )


def agree(configs: Sequence[PartyConfig], *, consortium: str, now: datetime) -> SignedAgreement:
    """Has every party's privacy officer sign one agreement under which everything may be done, for the purpose `research`.

    Args:
        configs: of all parties, enrolled.
        consortium: its id.
        now: the time, UTC.

    Returns:
        The agreement with everybody's signature, in force at every party.
    """
    parties = tuple(config.party for config in configs)
    start = now.replace(microsecond=0)
    signed = propose_agreement(
        Agreement(
            consortium=consortium,
            name=AGREEMENT,
            purposes=(PURPOSE,),
            parties=parties,
            datasets=tuple(f"{party}/*" for party in parties),
            job_types=tuple(JobType),
            outputs=tuple(OutputKind),
            min_parties=1,
            min_rows=1,
            epsilon_cap=None,
            valid_from=start,
            expires=start + LIFETIME,
        )
    )
    for config in configs:
        signed = sign_agreement(config, person_folder(config, OFFICER), signed.to_bytes(), now=now)
    for config in configs:
        join_agreement(config, signed.to_bytes(), now=now)
    return signed


def permit(config: PartyConfig, record: DatasetRecord, **limits: Unpack[Limits]) -> GrantRecord:
    """Has a party's data steward permit a registered data set to everybody, for everything that the agreement knows.

    Args:
        config: the owner's.
        record: what it registered.
        limits: what is bounded all the same, or another agreement than the harness's.

    Raises:
        ConfideError: as `create_grant`.
    """
    now = datetime.now(UTC)
    terms = GrantTerms(
        agreement=AGREEMENT,
        subject=DatasetChoice(record.name, record.version),
        purposes=(PURPOSE,),
        job_types=(JobType.TRAIN, JobType.EVALUATE, JobType.ASSESS, JobType.SUMMARISE),
        derived_job_types=JOINT,
        recipients=("*",),
        outputs=tuple(OutputRule(kind) for kind in OutputKind),
        max_uses=MAX_USES,
        expires=now + LIFETIME,
    )
    return create_grant(config, person_folder(config, STEWARD), replace(terms, **limits), now=now)
