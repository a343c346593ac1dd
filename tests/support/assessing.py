"""A party that serves with a clock of the test, with its commands beside it and a released version, as it repeats assessments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from governance.audit.entries import EntryKind, read_entry
from governance.documents import SignedDocument
from governance.identity.names import MemberKind
from governance.lineage.alias import AliasName
from parties import harness
from parties.server.assessments import AssessmentWatch
from parties.server.party import CurrentDirectory
from parties.server.policy import CurrentPolicy
from parties.server.statements import take_in
from parties.storage.database import open_database
from protocols.job import ModelRef
from tests.support.evidence_holder import Holder, a_holder
from tests.support.holders import ClockedParty
from tests.support.standing import MEMBERS, OTHERS, Network

DAYS = 9  # max_age_days of the stricter class: due after six
DUE = 6
# By chance 1 %; measured on 100 rows a share may be much larger, so the interval must have room.
LIMIT, ROOM = '"0.03"', '"0.9"'
APPROVED = "      approvals: {needed: 1, of: [privacy-officers]}"
NOBODY, MORE = "      approvals: null", "      approvals: null\n      more_approvals: {needed: 1, of: [privacy-officers]}"


class Served:
    """Hospital A as it serves, with a clock of the test, its commands beside it, and a released version."""

    def __init__(self, folder: Path) -> None:
        self.commands: Holder = a_holder(folder)
        config, self.begun = self.commands.config, datetime.now(UTC).replace(microsecond=0)
        self.change_policy("  datasets: {hospital-b/*: internal}\n", "")
        self.change_policy(LIMIT, ROOM)
        self.change_policy("max_age_days: 30", f"max_age_days: {DAYS}")
        self.change_policy(APPROVED, NOBODY)
        member = config.folder.member.load_member(kind=MemberKind.PARTY, member=config.party, now=self.begun)
        database, directory = open_database(config.folder.database_file), CurrentDirectory(config.folder.member, member.directory)
        sealed, policy = config.folder.open_sealed(), CurrentPolicy(config.policy)
        self.party = ClockedParty(config, member, database, sealed, directory, policy, clock=[self.begun])
        self.network = Network(self.party)
        self.num_ended = 0
        self.watch = self.another_process()
        self.ref = self.commands.keep("1a")

    def change_policy(self, old: str, new: str) -> None:
        file = self.commands.config.policy
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    def another_process(self) -> AssessmentWatch:
        return AssessmentWatch(self.party, self.network, ended=self.count, every=timedelta(0))

    def count(self) -> None:
        self.num_ended += 1

    def release(self, *, value: float = 0.5) -> None:
        made = self.commands.reports(self.ref, value)
        self.commands.run("model", "evidence", "make", self.ref.label, *made, person="steward")
        self.commands.run("model", "alias", "set", "diagnosis@released", self.ref.version, person="officer")

    def turn_to_another_model(self) -> ModelRef:
        """Releases and orders an assessment of a second model, which `ref` is from now on; returns the first."""
        first, self.ref = self.ref, self.commands.keep("2b", model_name="prognosis")
        made = self.commands.reports(self.ref, 0.5)
        self.commands.run("model", "evidence", "make", self.ref.label, *made, person="steward")
        self.commands.run("model", "alias", "set", "prognosis@released", self.ref.version, person="officer")
        self.order()
        return first

    def request(self, **changes: Any) -> Path:
        path = self.commands.folder / "assess.yaml"
        names = [f"hospital-a/{MEMBERS}", f"hospital-a/{OTHERS}"]
        who = {"computing_parties": ["hospital-a", "hospital-b"], "dealer": "hospital-c"}
        under = {"agreement": harness.AGREEMENT, "purpose": harness.PURPOSE}
        what = {"model": self.ref.label, "datasets": names, "members": names[:1], "shadows": 64, "thresholds": ["-1", "0", "1"]}
        path.write_text(yaml.safe_dump({"api_version": "confide/v1", "type": "assess", **who, **under, **what, **changes}))
        return path

    def order(
        self,
        *,
        days: int = 25,
        runs: int = 5,
        every: int = 30,
        person: str = "steward",
        code: int = 0,
        options: tuple[str, ...] = (),
        **changes: Any,
    ) -> Any:
        until = (self.begun + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S")
        how = ["--every-days", str(every), "--until", until, "--max-runs", str(runs), *options]
        path = str(self.request(**changes))
        return self.commands.run("model", "assessment", "order", path, *how, person=person, code=code)

    def look_after(self, watch: AssessmentWatch | None = None, /, **later: float) -> list[str]:
        """Sets the clock so much later than the beginning, has the watch look, and returns the states of all runs."""
        self.party.clock[0] = self.begun + timedelta(**later)
        (watch or self.watch).look()
        return self.states()

    def runs(self) -> list[dict[str, Any]]:
        return [run for order in self.commands.run("model", "assessment", "list")["orders"] for run in order["runs"]]

    def states(self) -> list[str]:
        with self.party.database.transaction() as tables:
            orders = tables.assessments.all()
            return [run.state.value for record in orders for run in tables.assessments.runs(record.order.digest)]

    def stands(self) -> bool:
        with self.party.database.transaction() as tables:
            version = tables.registry.alias_history("diagnosis", AliasName.RELEASED).current
        return version == self.ref.version

    def entries(self, kind: EntryKind) -> list[dict[str, Any]]:
        with self.party.database.transaction() as tables:
            found = [read_entry(each.body) for each in tables.audit.entries(0, tables.audit.size())]
        return [dict(entry.facts) for entry in found if entry.kind is kind]

    def repeat(self, **later: float) -> list[str]:
        """One repetition from the day when it is due to its end."""
        self.look_after(**later)
        self.network.end(self.network.submitted[-1])
        return self.look_after(**later)

    def tell(self, value: float, *, owner: str = "hospital-b") -> SignedDocument:
        """Has another owner state a figure, and this party hear of it."""
        _, path = self.commands.reports(self.ref, value, owners=(owner,))
        signed = SignedDocument.from_bytes(Path(path).read_bytes())
        assert take_in(self.party, signed)
        return signed

    def verdicts(self) -> list[str]:
        """What the gate said, each time that it was written down."""
        return [entry["verdict"] for entry in self.entries(EntryKind.RELEASE_DECIDED)]
