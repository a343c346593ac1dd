"""A holder of models that has never served: its commands run on its folder, with versions and risk reports of a test."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from governance.risk_report import StatedRisk, sign_risk_report
from parties import harness
from parties.cli.main import app
from parties.config import PartyConfig, load_party_config
from parties.storage.database import one_transaction
from parties.storage.jobs import JobRecord
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.sealed import Purpose
from privacy.figures import Figure
from privacy.risk.report import ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.canonical import canonical_bytes
from protocols.job import ModelRef
from protocols.session.states import State
from tests.support.jobs import CREATED, a_training

PARTIES = ("hospital-a", "hospital-b", "hospital-c")
TPR = "membership.lira.tpr_at_1_percent"
RELEASE = """
release:
  default_class: confidential
  datasets: {hospital-b/*: internal}
  classes:
    confidential:
      requires_guarantee: false
      requires_utility: false
      max_figures: {membership.lira.tpr_at_1_percent: "0.03"}
      max_age_days: 30
      approvals: {needed: 1, of: [privacy-officers]}
    internal:
      requires_guarantee: false
      requires_utility: false
      max_figures: {membership.lira.tpr_at_1_percent: "0.05"}
      max_age_days: 90
      approvals: null
"""


@dataclass(frozen=True)
class Holder:
    """A holder that has never served, whose policy says what a release must keep to."""

    folder: Path
    config: PartyConfig
    _made: list[datetime] = field(default_factory=list)  # when reports were made

    def keep(self, nonce: str, **changes: Any) -> ModelRef:
        """Keeps a share of a version, as a completed training would."""
        job = a_training(nonce=nonce * 16, **changes)
        ref = job.produced_model
        if ref is None:
            raise AssertionError("a training leaves a model")
        sealed = self.config.folder.open_sealed().write(Purpose.MODEL_SHARE, model_object_id(ref), b"a share")
        with one_transaction(self.config.folder.database_file) as tables:
            state = State.COMPLETED.value
            tables.jobs.add(JobRecord(job.job_id, "alice", job.to_bytes(), bytes(64), None, "{}", state, CREATED, CREATED))
            schema, model = canonical_bytes(job.schema), canonical_bytes(job.model.to_document())
            tables.models.add(ModelRecord(ref, job.job_id, "d0" * 32, model, schema, sealed, {}, CREATED, True, 40))
        return ref

    def reports(self, ref: ModelRef, value: float, *, days: int = 0, owners: tuple[str, ...] = PARTIES) -> list[str]:
        """Has owners sign risk reports about a version, one after the other; returns the options of the files."""
        options = []
        for owner in owners:
            config = load_party_config(self.folder / owner / "party.yaml")
            found = RiskReport({TPR: Figure(value, value, value)}, 50, 50, 64, (), ATTACKED_IN_THE_CLEAR)
            self._made.append(datetime.now(UTC).replace(microsecond=0))
            made = self._made[-1] - timedelta(days=days)
            consortium = config.folder.member.load_directory().consortium
            stated = StatedRisk(consortium, owner, ref, made, (f"{owner}/patients/1",), found, len(self._made))
            path = self.folder / f"risk-{owner}-{ref.version}-{value}-{days}.json"
            path.write_bytes(sign_risk_report(stated, config.folder.member.load_signing_key()).to_bytes())
            options += ["--risk-report", str(path)]
        return options

    def run(self, *arguments: str, person: str = "", code: int = 0) -> dict[str, Any]:
        options = ["--config", str(self.folder / "hospital-a" / "party.yaml"), "--format", "json"]
        if person:
            options += ["--person", str(harness.person_folder(self.config, person))]
        result = CliRunner().invoke(app, [*arguments, *options])
        assert result.exit_code == code, result.output
        envelope = json.loads(result.stdout)
        return dict(envelope["data"] if "data" in envelope else envelope["error"])

    def released(self) -> list[str]:
        found = self.run("model", "alias", "list")["aliases"]
        return [entry["version"] for entry in found if entry["alias"] == "diagnosis@released"]


def reasons(found: dict[str, Any]) -> list[str]:
    """The codes of the reasons that a command told."""
    return [reason["code"] for reason in found["reasons"]]


def a_holder(folder: Path) -> Holder:
    """Returns hospital A of a consortium in a folder, whose policy asks for evidence from now on."""
    config = load_party_config(folder / "hospital-a" / "party.yaml")
    config.policy.write_text(config.policy.read_text() + RELEASE)
    return Holder(folder, config)
