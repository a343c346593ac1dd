"""The consent matrix over real processes: every way to want an owner's rows without the owner's yes, refused by the owner alone.

Each case has rows of its own at one owner, hospital-b. The job, the lead and the researcher's program claim whatever they like;
the refusal is the owner's, names the reason, and comes before anything was computed.
"""

from __future__ import annotations

import itertools
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from governance.consent.agreement import Agreement, SignedAgreement
from governance.consent.grant import Grant, sign_grant
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect
from governance.identity.keys import SigningKey, generate_signing_key
from governance.identity.names import MemberKind
from governance.policy.approval import Answer, Approval, Question, sign_approval
from parties import harness
from parties.agreements import join_agreement, propose_agreement, revoke_agreement, sign_agreement
from parties.approving import answer, pending
from parties.client.calls import PreparedJob
from parties.config import PartyConfig
from parties.grants import revoke_grant
from parties.people import PersonFolder
from parties.storage.datasets import DatasetRecord
from parties.storage.grants import GrantRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, OutputKind
from protocols.training import OptimiserKind
from tests.support.callers import Caller
from tests.support.processes import Program, end
from tests.support.refusals import assert_rejected_everywhere, refusal
from tests.support.trial import (
    DEALER,
    HOSPITALS,
    LEAD,
    OTHER_RESEARCHER,
    SECOND,
    SHORT_TRAINING,
    Completed,
    Split,
    Trial,
    changed,
)

pytestmark = pytest.mark.multiparty

DAY = timedelta(days=1)
ROWS = 30
_numbers = itertools.count(1)


class Owner:
    """The owner whose yes is wanted, and short ways to register, permit and ask."""

    def __init__(self, trial: Trial, split: Split) -> None:
        self.trial = trial
        self._rows = split.train[SECOND]

    @property
    def config(self) -> PartyConfig:
        return self.trial.network.party(SECOND).config

    def rows(self, name: str = "") -> DatasetRecord:
        """Registers rows that nobody may use yet; under a name that is in use, as its next version."""
        number = next(_numbers)  # other rows for each name: the same ones have one name
        return self.trial.register_unpermitted(SECOND, name or f"case-{number}", self._rows.iloc[number : number + ROWS])

    def permit(self, record: DatasetRecord, **limits: Any) -> GrantRecord:
        return harness.permit(self.config, record, **limits)

    def training(self, record: DatasetRecord, **changes: Any) -> PreparedJob:
        """A training on rows of the lead, who permits it, and on the owner's."""
        datasets = [f"{LEAD}/train", f"{SECOND}/{record.name}"]
        prepared = self.trial.train_on(datasets, SHORT_TRAINING, model_name=record.name)
        return changed(prepared, **changes) if changes else prepared

    def alter(self, statement: str, *values: object) -> None:
        """Changes the owner's database behind its back, as a thief of the machine could."""
        with closing(sqlite3.connect(self.config.folder.database_file, timeout=20)) as database, database:
            assert database.execute(statement, values).rowcount == 1


@pytest.fixture(scope="module")
def owner(trial: Trial, split: Split) -> Owner:
    return Owner(trial, split)


def assert_refused_by_owner(owner: Owner, prepared: PreparedJob, *reasons: tuple[ErrorCode, str]) -> ConfideError:
    """The owner refuses, for these reasons and no other; the job ends as rejected everywhere before anything is computed.

    The first reason's code is the refusal's; a place that begins with `grants.` is given without the grant's id.
    """
    error = refusal(lambda: owner.trial.client.submit(prepared))
    assert (error.code, error.party) == (reasons[0][0], SECOND), str(error)
    assert sorted(_place(problem.where) for problem in error.problems) == sorted(where for _, where in reasons)
    assert_rejected_everywhere(owner.trial, prepared.job, reasons[0][0])
    return error


def _place(where: str) -> str:
    parts = where.split(".")
    return ".".join((parts[0], *parts[2:])) if parts[0] == "grants" else where


# Missing, expired, over-used, revoked, altered, replayed.


def test_rows_without_a_grant_are_refused_by_their_owner_alone(owner: Owner) -> None:
    record = owner.rows()
    error = assert_refused_by_owner(owner, owner.training(record), (ErrorCode.NO_CONSENT, f"{SECOND}/{record.name}/1"))
    assert "has given no grant" in str(error)


@pytest.mark.parametrize(
    ("valid_from", "expires", "code", "where"),
    [
        pytest.param(-2 * DAY, -DAY, ErrorCode.GRANT_EXPIRED, "expires", id="expired"),
        pytest.param(DAY, 2 * DAY, ErrorCode.NO_CONSENT, "valid_from", id="not-yet-valid"),
    ],
)
def test_grant_out_of_its_time_covers_nothing(
    owner: Owner, valid_from: timedelta, expires: timedelta, code: ErrorCode, where: str
) -> None:
    record, now = owner.rows(), datetime.now(UTC)
    owner.permit(record, valid_from=now + valid_from, expires=now + expires)
    assert_refused_by_owner(owner, owner.training(record), (code, f"grants.{where}"))


def test_job_outside_every_limit_of_the_grant_is_refused_by_its_owner_with_all_reasons_at_once(owner: Owner) -> None:
    record = owner.rows()
    owner.permit(
        record,
        job_types=(JobType.EVALUATE,),
        recipients=(OTHER_RESEARCHER, f"institution/{LEAD}"),
        architectures=("0" * 64,),
        parameters=ParameterLimits(max_epochs=1, min_batch_size=200, optimisers=(OptimiserKind.ADAM,)),
        computing_parties=(LEAD, DEALER),
        dealers=(LEAD,),
        min_parties=3,
        min_rows=10_000,
    )
    prepared = owner.training(record)
    assert prepared.job.training is not None
    prepared = changed(prepared, training=replace(prepared.job.training, epochs=2))
    wheres = ("job_types", "recipients", "architectures", "max_epochs", "min_batch_size", "optimisers")
    wheres += ("computing_parties", "dealers", "min_parties", "min_rows")
    assert_refused_by_owner(owner, prepared, *((ErrorCode.NO_CONSENT, f"grants.{where}") for where in wheres))


def test_grant_that_was_used_up_covers_no_further_job_and_nothing_that_comes_of_its_rows(owner: Owner, split: Split) -> None:
    record = owner.rows()
    owner.permit(record, max_uses=1, derived_job_types=())
    trained = owner.trial.plan_and_complete(owner.training(record))
    assert_refused_by_owner(owner, owner.training(record), (ErrorCode.GRANT_EXHAUSTED, "grants.max_uses"))
    asked = owner.trial.infer(trained.model, split.samples.head(3))
    reasons = [(ErrorCode.GRANT_EXHAUSTED, "grants.max_uses"), (ErrorCode.NO_CONSENT, "grants.derived_job_types")]
    assert_refused_by_owner(owner, asked, *reasons)


def test_grant_that_was_revoked_covers_nothing(owner: Owner) -> None:
    record = owner.rows()
    grant = owner.permit(record)
    revoke_grant(
        owner.config,
        harness.person_folder(owner.config, harness.STEWARD),
        grant.grant_id,
        reason="the study was stopped",
        effect=Effect.STOP,
        now=datetime.now(UTC),
    )
    error = assert_refused_by_owner(owner, owner.training(record), (ErrorCode.GRANT_REVOKED, "grants.revoked"))
    assert "the study was stopped" in str(error)


def test_grant_whose_signature_was_altered_covers_nothing(owner: Owner) -> None:
    record = owner.rows()
    grant = owner.permit(record)
    signature = bytearray(grant.signed.signature)
    signature[-1] ^= 1
    owner.alter("UPDATE grants SET signature = ? WHERE grant_id = ?", bytes(signature), grant.grant_id)
    assert_refused_by_owner(owner, owner.training(record), (ErrorCode.BAD_SIGNATURE, "grants.document"))


def test_grant_of_which_one_byte_was_altered_covers_nothing(owner: Owner) -> None:
    record = owner.rows()
    grant = owner.permit(record, min_rows=9_000)
    body = grant.signed.body.replace(b'"min_rows":9000', b'"min_rows":1000')
    # As it stands, the state is damaged; under the name of its own digest, it is a document that nobody has signed.
    owner.alter("UPDATE grants SET body = ? WHERE grant_id = ?", body, grant.grant_id)
    assert_refused_by_owner(owner, owner.training(record), (ErrorCode.STATE_DAMAGED, "grants"))
    renamed = Grant.from_bytes(body).grant_id
    owner.alter("UPDATE grants SET grant_id = ? WHERE grant_id = ?", renamed, grant.grant_id)
    reasons = [(ErrorCode.BAD_SIGNATURE, "grants.document"), (ErrorCode.NO_CONSENT, "grants.min_rows")]
    assert_refused_by_owner(owner, owner.training(record), *reasons)


def test_grant_for_another_version_of_the_rows_covers_nothing(owner: Owner) -> None:
    first = owner.rows()
    owner.permit(first)
    second = owner.rows(first.name)
    assert second.version == 2
    assert_refused_by_owner(owner, owner.training(second), (ErrorCode.NO_CONSENT, "grants.subject.version"))


@pytest.mark.parametrize(
    ("replayed", "reasons"),
    [
        pytest.param(
            lambda grant: replace(grant, consortium="elsewhere"),
            [(ErrorCode.INVALID_DOCUMENT, "grants.document"), (ErrorCode.NO_CONSENT, "grants.issuer")],
            id="of-another-consortium",
        ),
        pytest.param(
            lambda grant: replace(grant, agreement="ab" * 32),
            [(ErrorCode.NO_CONSENT, "grants.agreement")],
            id="of-another-agreement",
        ),
        pytest.param(
            lambda grant: replace(grant, subject=replace(grant.subject, commitment="cd" * 32)),
            [(ErrorCode.NO_CONSENT, "grants.subject.commitment")],
            id="for-other-rows-of-this-version",
        ),
    ],
)
def test_grant_that_was_given_for_something_else_covers_nothing(
    owner: Owner, replayed: Callable[[Grant], Grant], reasons: list[tuple[ErrorCode, str]]
) -> None:
    # The signature is the owner's own each time: what is signed is what must fit.
    record = owner.rows()
    grant = owner.permit(record)
    other = replayed(grant.grant)
    now = datetime.now(UTC)
    member = owner.config.folder.member.load_member(kind=MemberKind.PARTY, member=SECOND, now=now)
    signed = sign_grant(other, member.signing_key)
    owner.alter(
        "UPDATE grants SET grant_id = ?, body = ?, signature = ? WHERE grant_id = ?",
        other.grant_id,
        signed.body,
        signed.signature,
        grant.grant_id,
    )
    assert_refused_by_owner(owner, owner.training(record), *reasons)


def test_grant_of_another_party_covers_nothing(owner: Owner, split: Split) -> None:
    record = owner.rows()
    lead = owner.trial.network.party(LEAD).config
    theirs = owner.trial.register_unpermitted(LEAD, record.name, split.train[LEAD].head(ROWS))
    foreign = harness.permit(lead, theirs)
    own = owner.permit(record)
    owner.alter(
        "UPDATE grants SET grant_id = ?, body = ?, signature = ? WHERE grant_id = ?",
        foreign.grant_id,
        foreign.signed.body,
        foreign.signed.signature,
        own.grant_id,
    )
    reasons = [(ErrorCode.NO_CONSENT, f"grants.{where}") for where in ("issuer", "subject.commitment")]
    assert_refused_by_owner(owner, owner.training(record), *reasons)


# What is opened.


def test_output_that_the_grant_does_not_permit_is_refused(owner: Owner, trained: Completed) -> None:
    record = owner.rows()
    owner.permit(record, outputs=(OutputRule(OutputKind.CORRECT_COUNT, min_cell=25),), epsilon_cap="1.5")
    prepared = owner.trial.evaluate(trained.model, datasets=[f"{LEAD}/holdout", f"{SECOND}/{record.name}"])
    reasons = [(ErrorCode.NO_CONSENT, f"grants.{where}") for where in ("outputs.correct_count.min_cell", "epsilon_cap")]
    assert_refused_by_owner(owner, prepared, *reasons)


# Purpose and agreement: every party looks for itself.


def _wheres(error: ConfideError) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for problem in error.problems:
        party, _, where = problem.where.partition(" ")
        found.setdefault(party, set()).add(_place(where))
    return found


def test_job_for_another_purpose_is_refused_by_every_party(owner: Owner) -> None:
    record = owner.rows()
    owner.permit(record)
    prepared = owner.training(record, purpose="marketing")
    error = refusal(lambda: owner.trial.client.submit(prepared))
    assert error.code is ErrorCode.NO_AGREEMENT
    assert _wheres(error) == {
        LEAD: {"purpose", "grants.purposes"},
        SECOND: {"purpose", "grants.purposes"},
        DEALER: {"purpose"},
    }
    assert_rejected_everywhere(owner.trial, prepared.job, ErrorCode.NO_AGREEMENT)


@pytest.mark.parametrize("what", ["unknown", "unsigned", "expired", "revoked"])
def test_agreement_that_is_not_in_force_is_refused_by_every_party(owner: Owner, what: str) -> None:
    record = owner.rows()
    signed = _agreement(owner.trial, what)
    digest = signed.digest if signed is not None else secrets.token_hex(32)
    prepared = owner.training(record, agreement=digest)
    error = refusal(lambda: owner.trial.client.submit(prepared))
    assert error.code is ErrorCode.NO_AGREEMENT
    assert {party for party, wheres in _wheres(error).items() if "agreement" in wheres} == set(HOSPITALS)
    assert_rejected_everywhere(owner.trial, prepared.job, ErrorCode.NO_AGREEMENT)


def _agreement(trial: Trial, what: str) -> SignedAgreement | None:
    """An agreement that all know but for `unknown`, signed by all but for `unsigned`."""
    if what == "unknown":
        return None
    now = datetime.now(UTC).replace(microsecond=0)
    configs = [trial.network.party(party).config for party in HOSPITALS]
    start = now - 2 * DAY if what == "expired" else now
    signed = propose_agreement(
        Agreement(
            consortium=harness.CONSORTIUM,
            name=what,
            purposes=(harness.PURPOSE,),
            parties=HOSPITALS,
            datasets=tuple(f"{party}/*" for party in HOSPITALS),
            job_types=tuple(JobType),
            outputs=tuple(OutputKind),
            min_parties=1,
            min_rows=1,
            epsilon_cap=None,
            valid_from=start,
            expires=start + DAY,
        )
    )
    for config in configs[1:] if what == "unsigned" else configs:
        signed = sign_agreement(config, harness.person_folder(config, harness.OFFICER), signed.to_bytes(), now=now)
    for config in configs:
        join_agreement(config, signed.to_bytes(), now=now)
    if what == "revoked":
        for config in configs:  # each for itself; how one party's revocation reaches the others is tested elsewhere
            officer = harness.person_folder(config, harness.OFFICER)
            revoke_agreement(config, officer, signed.digest, reason="ended early", now=now)
    return signed


# Approvals: one officer of the owner must say yes to jobs on rows that begin with `asked`.


@pytest.fixture(scope="module")
def asking(owner: Owner) -> Iterator[DatasetRecord]:
    """Rows that anybody may train on once an officer of their owner has approved the very job."""
    record = owner.rows("asked")
    owner.permit(record)
    before = owner.config.policy.read_text()
    rule = {
        "name": "asked",
        "match": {"any_dataset": [f"{SECOND}/asked"]},
        "decision": {"approve": {"needed": 1, "of": ["privacy-officers"]}},
    }
    assert before.count("rules: []\n") == 1
    owner.config.policy.write_text(before.replace("rules: []\n", f"rules: {json.dumps([rule])}\n"))
    yield record
    owner.config.policy.write_text(before)


def _await_question(owner: Owner, prepared: PreparedJob) -> Question:
    """Submits a job and waits until people are asked about it; returns what they are asked."""
    owner.trial.client.submit(prepared)
    deadline = time.monotonic() + 30
    while not (found := [p for p in pending(owner.config) if p.job.job_id == prepared.job.job_id]):
        assert time.monotonic() < deadline, "nobody is asked"
        time.sleep(0.1)
    assert owner.trial.client.progress(prepared.job.job_id, SECOND).state == "proposed"
    return Question(SECOND, prepared.job.digest, found[0].request.plan_digest, found[0].request.policy_digest)


def test_job_that_an_officer_denies_ends_everywhere_with_her_reason(owner: Owner, asking: DatasetRecord) -> None:
    prepared = owner.training(asking)
    _await_question(owner, prepared)
    officer = harness.person_folder(owner.config, harness.OFFICER)
    comment = "not without the ethics board"
    answer(owner.config, officer, prepared.job.job_id, Answer.DENY, comment=comment, now=datetime.now(UTC))
    assert_rejected_everywhere(owner.trial, prepared.job, ErrorCode.APPROVAL_DENIED)
    assert comment in str(owner.trial.client.progress(prepared.job.job_id, LEAD).ending)


def test_approvals_of_anything_else_or_by_anybody_else_count_nothing(owner: Owner, asking: DatasetRecord) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=12)
    prepared = owner.training(asking, agree_by=soon)
    asked = _await_question(owner, prepared)
    for person, question in (
        (harness.OFFICER, replace(asked, job="0" * 64)),  # of another job
        (harness.OFFICER, replace(asked, plan="0" * 64)),  # of another plan
        (harness.OFFICER, replace(asked, policy="0" * 64)),  # under another policy
        (harness.OFFICER, replace(asked, party=LEAD)),  # at another party
        (harness.OPERATOR, asked),  # by the operator
        (harness.AUDITOR, asked),  # by somebody who may not approve
    ):
        name, key = PersonFolder(harness.person_folder(owner.config, person)).load()
        _keep(owner, prepared, Approval(question, name, Answer.APPROVE, "", soon), key)
        _keep(owner, prepared, Approval(question, harness.OFFICER, Answer.APPROVE, "", soon), generate_signing_key())
    assert_rejected_everywhere(owner.trial, prepared.job, ErrorCode.APPROVAL_PENDING)


def _keep(owner: Owner, prepared: PreparedJob, approval: Approval, key: SigningKey) -> None:
    """Puts an approval into the owner's database behind the back of the command that would refuse it."""
    with owner.trial.tables(SECOND) as tables:
        tables.approvals.add(prepared.job.job_id, sign_approval(approval, key), now=datetime.now(UTC))


# Those who claim to be entitled.


def test_client_that_checks_nothing_and_signs_anything_is_refused_by_the_owner(owner: Owner, researcher: Caller) -> None:
    permitted, wanted = owner.rows(), owner.rows()
    owner.permit(permitted)
    prepared = owner.training(permitted)
    lead_s, owner_s = prepared.job.datasets
    # Rows that nobody permitted, with everything else of the rows that somebody did.
    forged = replace(owner_s, name=wanted.name)
    for job, code in (
        (replace(prepared.job, datasets=(lead_s, forged)), ErrorCode.INVALID_JOB),
        (replace(prepared.job, datasets=(lead_s, replace(forged, commitment=wanted.commitment))), ErrorCode.NO_CONSENT),
    ):
        error = refusal(lambda job=job: researcher.submit(job, party=SECOND, weights=prepared.initial_weights))  # type: ignore[misc]
        assert error.code is code
        # It was told to nobody else, and nobody else takes part without the owner.
        assert refusal(lambda job=job: owner.trial.client.progress(job.job_id, LEAD)).code is ErrorCode.UNKNOWN_JOB  # type: ignore[misc]


@pytest.fixture
def careless_lead(trial: Trial) -> Iterator[None]:
    """A lead that countersigns every job, whatever its own checks say, and believes everybody's countersignature."""
    end(trial.network.party(LEAD))
    trial.restart(LEAD, Program.CARELESS)
    yield
    end(trial.network.party(LEAD))
    trial.restart(LEAD)


@pytest.mark.usefixtures("careless_lead")
def test_lead_that_countersigns_everything_starts_nothing_without_the_owner(owner: Owner) -> None:
    record = owner.rows()
    prepared = owner.training(record, purpose="marketing")
    error = refusal(lambda: owner.trial.client.submit(prepared))
    assert set(_wheres(error)) == {SECOND, DEALER}
    assert_rejected_everywhere(owner.trial, prepared.job, ErrorCode.NO_AGREEMENT)
    assert_refused_by_owner(owner, owner.training(record), (ErrorCode.NO_CONSENT, f"{SECOND}/{record.name}/1"))
