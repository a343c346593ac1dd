"""Releases that stand: judged again on a schedule, under a new policy, and after a move back; and people are warned before."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from governance.audit.entries import EntryKind, read_entry
from governance.identity.names import MemberKind
from governance.lineage.alias import AliasName, AliasStatement, MoveKind, sign_alias
from parties import harness
from parties.config import load_party_config
from parties.operating.doctor import examine
from parties.operating.finding import Verdict
from parties.server.party import CurrentDirectory
from parties.server.policy import CurrentPolicy
from parties.server.release_watch import ReleaseWatch
from parties.server.statements import take_in
from parties.standing_releases import standing_releases
from parties.storage.database import open_database
from protocols.job import ModelRef
from tests.support.evidence_holder import PARTIES, a_holder, reasons
from tests.support.holders import ClockedParty
from tests.support.private_training import private_sgd
from tests.support.private_training import terms as private_terms

DAYS = 30  # max_age_days of the stricter class


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    return folder


class Served:
    """Hospital A as it serves, with a clock of the test, and its commands beside it."""

    def __init__(self, folder: Path) -> None:
        self.commands = a_holder(folder)
        config, self.begun = self.commands.config, datetime.now(UTC).replace(microsecond=0)
        member = config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=self.begun)
        database, directory = open_database(config.folder.database_file), CurrentDirectory(config.folder.member, member.directory)
        sealed, policy = config.folder.open_sealed(), CurrentPolicy(config.policy)
        self.party = ClockedParty(config, member, database, sealed, directory, policy, clock=[self.begun])
        self.num_ended = 0
        self.watch = ReleaseWatch(self.party, ended=self.count)

    def count(self) -> None:
        self.num_ended += 1

    def release(self, ref: ModelRef, *, value: float = 0.01, days: int = 0) -> None:
        self.assess(ref, value=value, days=days)
        self.commands.run("model", "alias", "set", "diagnosis@released", ref.version, person="officer")

    def assess(self, ref: ModelRef, *, value: float = 0.01, days: int = 0, approved: bool = True) -> None:
        made = self.commands.reports(ref, value, days=days)
        self.commands.run("model", "evidence", "make", ref.label, *made, person="steward")
        if approved:
            self.commands.run("model", "evidence", "approve", ref.label, person="officer")

    def look_after(self, **later: float) -> list[str]:
        """Sets the clock so much later than the beginning, has the watch look, and returns what is released."""
        self.party.clock[0] = self.begun + timedelta(**later)
        self.watch.look()
        return self.released()

    def released(self) -> list[str]:
        """What hospital A itself has behind the alias; others may say that it is something else."""
        with self.party.database.transaction() as tables:
            version = tables.registry.alias_history("diagnosis", AliasName.RELEASED).current
        return [] if version is None else [version]

    def entries(self, kind: EntryKind) -> list[dict[str, Any]]:
        with self.party.database.transaction() as tables:
            found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
        return [dict(entry.facts) for entry in found if entry.kind is kind]


@pytest.fixture
def served(consortium: Path, tmp_path: Path) -> Iterator[Served]:
    made = Served(shutil.copytree(consortium, tmp_path / "consortium"))
    yield made
    made.watch.stop()
    made.party.database.close()


def test_release_ends_when_its_assessment_is_too_old_and_people_are_warned_before(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref)
    decided = len(served.entries(EntryKind.RELEASE_DECIDED))
    with capture_logs() as logs:
        assert served.look_after(days=DAYS * 3 / 4 - 1) == [ref.version]
        assert logs == []
        assert served.look_after(days=DAYS * 3 / 4, minutes=2) == [ref.version]
        served.look_after(days=DAYS * 3 / 4, hours=1)  # once a day is enough
    assert [(log["event"], log["model"]) for log in logs] == [("release_ends_soon", ref.label)]
    assert len(served.entries(EntryKind.RELEASE_DECIDED)) == decided  # what goes on fills no log
    assert served.look_after(days=DAYS) == [ref.version]
    assert served.look_after(days=DAYS, minutes=1) == [ref.version]  # not yet time to look
    with capture_logs() as logs:
        assert served.look_after(days=DAYS, minutes=4) == []
    assert [(log["event"], log["reason"]) for log in logs] == [("release_ended", "assessment-too-old")]
    assert served.entries(EntryKind.RELEASE_DECIDED)[decided:] == [
        served.entries(EntryKind.RELEASE_DECIDED)[-1] | {"verdict": "blocked", "reasons": ["assessment-too-old"]}
    ]
    assert served.entries(EntryKind.ALIAS)[-1]["move"] == "fall"
    assert served.num_ended == 1
    served.look_after(days=DAYS + 1)
    assert served.num_ended == 1


def test_assessment_that_is_renewed_and_approved_carries_the_release_on(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref, days=20)  # ends in 10 days
    assert served.look_after() == [ref.version]
    served.assess(ref)
    assert served.look_after(days=1) == [ref.version]
    assert served.look_after(days=DAYS - 1) == [ref.version]
    assert served.look_after(days=DAYS + 1) == []


def test_renewed_assessment_that_nobody_approves_does_not_outlast_the_one_before(served: Served) -> None:
    ref = served.commands.keep("1a")
    policy, asked = served.party.config.policy, "approvals: {needed: 1, of: [privacy-officers]}"
    for line in (asked, "approvals: null"):
        policy.write_text(policy.read_text().replace(f"      {line}", f"      {line}\n      more_{asked}"))
    served.release(ref, days=20)
    served.assess(ref, value=0.02, approved=False)  # worse than what was approved
    assert served.look_after(days=9) == [ref.version]
    assert served.look_after(days=11) == []


def test_renewed_assessment_that_is_no_worse_than_what_was_approved_carries_the_release_on(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref, days=20)
    served.assess(ref, approved=False)
    assert served.look_after(days=11) == [ref.version]
    assert served.look_after(days=DAYS - 1) == [ref.version]
    assert served.look_after(days=DAYS, minutes=4) == []  # no assessment and no approval counts longer


def test_stricter_policy_ends_a_release_at_once_and_a_damaged_one_does_not(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref)
    assert served.look_after() == [ref.version]
    policy = served.party.config.policy
    text = policy.read_text()
    policy.write_text("nonsense: [")
    assert served.look_after(seconds=1) == [ref.version]
    policy.write_text(text.replace('"0.03"', '"0.005"'))
    assert served.look_after(seconds=2) == []
    assert served.entries(EntryKind.RELEASE_DECIDED)[-1]["reasons"] == ["figure-over-the-limit"]


def test_what_cannot_be_judged_does_not_stand_and_a_clock_set_back_keeps_nothing_standing(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref)
    assert served.look_after(days=5) == [ref.version]
    with closing(sqlite3.connect(served.party.config.folder.database_file)) as connection, connection:
        connection.execute("DELETE FROM evidence")
    assert served.look_after(days=1) == []
    decided = served.entries(EntryKind.RELEASE_DECIDED)[-1]
    assert (decided["reasons"], decided["evidence"]) == (["document-not-believed"], "")


def test_move_back_leads_only_to_a_version_that_the_gate_passes_now(served: Served) -> None:
    first, second = served.commands.keep("1a"), served.commands.keep("2a")
    served.release(first, days=20)
    served.release(second)
    back = ("model", "alias", "rollback", "diagnosis@released")
    policy = served.party.config.policy
    text = policy.read_text()
    policy.write_text(text.replace(f"max_age_days: {DAYS}", "max_age_days: 10"))
    refused = served.commands.run(*back, person="officer", code=5)
    assert (refused["code"], {problem["where"] for problem in refused["problems"]}) == (
        "EVIDENCE_MISSING",
        {"assessment-too-old"},
    )
    assert served.released() == [second.version]
    policy.write_text(text)
    assert served.commands.run(*back, person="officer")["version"] == first.version
    assert served.look_after() == [first.version]  # it goes on under what it was released under
    assert reasons(served.commands.run("model", "evidence", "show", first.label)) == []
    assert served.look_after(days=11) == []


@pytest.mark.parametrize(("days", "stands"), [(20, True), (29, False)])
def test_move_back_of_another_holder_is_followed_and_falls_if_it_is_blocked_here(served: Served, days: int, stands: bool) -> None:
    first, second = served.commands.keep("1a"), served.commands.keep("2a")
    served.release(first, days=days)
    served.release(second)
    now = served.begun + timedelta(days=2)
    served.party.clock[0] = now
    other = load_party_config(served.commands.folder / "hospital-b" / "party.yaml")
    said = AliasStatement(
        consortium=served.party.directory.consortium,
        issuer="hospital-b",
        model="diagnosis",
        alias=AliasName.RELEASED,
        move=MoveKind.ROLL_BACK,
        version=first.version,
        before=second.version,
        time=now.replace(microsecond=0),
    )
    assert take_in(served.party, sign_alias(said, other.folder.member.load_signing_key()))
    assert served.released() == ([first.version] if stands else [])
    moves = [entry["move"] for entry in served.entries(EntryKind.ALIAS)]
    assert moves[2:] == (["roll-back"] if stands else ["roll-back", "fall"])


def test_accountants_have_done_their_work_when_the_transaction_opens(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from privacy.accounting import accountant

    training = private_sgd(10, "0.5", privacy=private_terms(300, noise_multiplier="41", epsilon="2", delta="0.0001"))
    ref = served.commands.keep("5a", training=training)
    with served.party.database.transaction() as tables:
        job = tables.models.get(ref).job_id
        tables.audit.append(EntryKind.NOISE_TESTED, {"job": job, "result": "passed"}, now=served.begun)
    served.release(ref, value=0.005)
    accountant._guarantee.cache_clear()
    open_now, seen = [0], []
    begin = served.party.database.transaction
    compute = accountant.renyi_epsilon

    class Counted:
        def __enter__(self) -> Any:
            self.inner = begin()
            open_now[0] += 1
            return self.inner.__enter__()

        def __exit__(self, *how: Any) -> Any:
            open_now[0] -= 1
            return self.inner.__exit__(*how)

    def noted(*arguments: Any, **named: Any) -> float:
        seen.append(open_now[0])
        return compute(*arguments, **named)

    monkeypatch.setattr(accountant, "renyi_epsilon", noted)
    monkeypatch.setattr(type(served.party.database), "transaction", lambda _self: cast(Any, Counted()))
    served.watch.look()
    assert seen
    assert set(seen) == {0}


def test_status_and_doctor_tell_which_assessment_to_renew(served: Served) -> None:
    ref = served.commands.keep("1a")
    served.release(ref)
    found = served.commands.run("status", "--timeout", "0.1")["releases"]
    ends = datetime.strptime(found[0]["assess_by"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert (found[0]["model"], found[0]["owner"]) == (ref.label, "hospital-a")
    with served.party.database.transaction() as tables:
        (standing,) = standing_releases(tables, served.party.policy)
    later = served.begun + timedelta(days=DAYS - 3, minutes=-5)
    assert standing.in_words(later).startswith(f"{ref.label} ends in 3 day(s), at {ends:%Y-%m-%d %H:%M} UTC: hospital-a's")
    assert standing.is_due(later)
    assert abs(ends - (served.begun + timedelta(days=DAYS))) < timedelta(minutes=2)
    for later, verdict in ((0, Verdict.PASS), (DAYS * 3 / 4 + 1, Verdict.WARN)):
        now = served.begun + timedelta(days=later)
        finding = next(each for each in examine(served.party.config, now=now) if each.check == "releases")
        assert finding.verdict is verdict
