"""Three institutions train a model together and a researcher queries it; nobody sees anybody's secret, nothing runs unpermitted.

Real processes, certificates and sockets on loopback, the breast-cancer table that ships with scikit-learn. Two institutions
compute, the third deals, all three own rows. Run it with `make demo`; it writes build/demo/summary.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from breast_cancer import HOSPITALS, SCHEMA_FILE, Split, export_logistic_regression, in_the_clear, split_rows
from encrypted_step import Figures, ask_encrypted, closing_part
from release_step import Attacked, Released, ask_for_evidence, release, what_was_useful
from rich.console import Console
from rich.table import Table

from governance.consent.limits import OutputRule, ParameterLimits
from governance.policy.approval import Answer
from parties import harness
from parties.approving import answer, pending, show_job
from parties.auditing import standalone
from parties.auditing.export import export_log
from parties.cli.job_words import count_in_words, plan_in_words
from parties.cli.preview_words import measured_in_words, preview_in_words
from parties.client.asked_outputs import COUNT_OUTPUT
from parties.client.client import Client, PreparedJob
from parties.client.prepare import prepare_job
from parties.client.private_request import PrivacyRequest
from parties.client.requests import AssessRequest, EvaluateRequest, InferRequest, JobRequest, TrainingRequest, TrainRequest
from parties.config import PartyConfig
from parties.registration import register_dataset
from parties.storage.datasets import DatasetRecord
from privacy.preparation.contract import OnViolation
from protocols.errors import ConfideError
from protocols.job import JobType, OutputKind
from protocols.plan.plan import Plan
from protocols.session.states import State

COMPUTING, DEALER = ["hospital-a", "hospital-b"], "hospital-c"
WHO = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER}
# Full-batch steps on shares, with noise of all three owners. The number of rows is agreed and no true number; one party alone may
# be curious, and since the dealer owns rows, two together could read everything.
SETTINGS = TrainingRequest(
    epochs=20,
    batch_size=440,
    learning_rate="0.3",
    momentum="0.9",
    privacy=PrivacyRequest(
        mechanism="shared_gradients", colluders=1, nominal_rows=440, norm_bound="3", epsilon="3", delta="0.00001"
    ),
)
JOB_TIMEOUT_S = 120.0
ASKED_WITHIN_S = 30.0
# What every owner permits: this training, attacks on it, predictions in two decimals, counts of five rows or more; nothing else.
TERMS = harness.Limits(
    job_types=(JobType.TRAIN, JobType.EVALUATE, JobType.ASSESS),
    derived_job_types=(JobType.EVALUATE, JobType.ASSESS, JobType.INFER),
    outputs=(
        OutputRule(OutputKind.CORRECT_COUNT, min_cell=5),
        OutputRule(OutputKind.ATTACK_COUNTS, min_cell=5),
        OutputRule(OutputKind.LABEL),
        OutputRule(OutputKind.PROBABILITY, decimals=2),
    ),
    parameters=ParameterLimits(max_epochs=20, min_batch_size=32, max_query_rows=100),
    recipients=(harness.RESEARCHER,),
    dealers=(DEALER,),
    min_parties=3,
    min_rows=50,
    max_uses=10,
)
RULE = """rules:
  - name: trainings
    match: {job_types: [train]}
    decision: {approve: {needed: 1, of: [privacy-officers]}}
    reason: a training leaves a model behind
"""
# As wide as the terminal, at most 100 columns; 100 where there is none.
console = Console(width=min(100, shutil.get_terminal_size((100, 24)).columns), highlight=False, markup=False)


@dataclass
class Measured:
    """What the plan says, what the links counted, and how long it took, by job name."""

    plan: dict[str, dict[str, int]] = field(default_factory=dict)
    measured: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for everything that the demo makes")
    out: Path = parser.parse_args().out
    began = time.monotonic()
    clear(out)
    split = split_rows()
    console.rule("1. Enrolment: keys made at each institution, fingerprints approved, one agreement signed by all")
    network = harness.up(out / "consortium", parties=HOSPITALS)
    try:
        summary = run(network, split, out)
    finally:
        harness.down(network.folder)
    summary["seconds"] = round(time.monotonic() - began, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"\nWhole demo: {summary['seconds']} s; figures in {out / 'summary.json'}")
    if summary["plan"] != summary["measured"]:
        sys.exit("The links did not carry what the plan says.")


def run(network: harness.Harness, split: Split, out: Path) -> dict[str, object]:
    """Registers everybody's rows, has them permitted, and runs the three jobs; returns what goes into the summary."""
    client = Client.open(network.researcher_config, now=datetime.now(UTC))
    for entry in client.directory.parties:
        roles = ", ".join(role.value for role in entry.roles)
        console.print(f"  {entry.id}, key {entry.signing_key.fingerprint[:16]}…, may be {roles}")
    console.print(f"  agreement {harness.AGREEMENT}: for the purpose {harness.PURPOSE}, signed by a privacy officer of each")

    console.rule("2. Registration: rows are checked, sealed and stay where they are")
    records = register(network, split, out)

    export_logistic_regression(out / "model")
    train = TrainRequest(
        **WHO,
        type="train",
        datasets=[f"{hospital}/train" for hospital in HOSPITALS],
        model_name="breast-cancer",
        manifest="model.json",
        weights="model.safetensors",
        training=SETTINGS,
    )
    console.rule("3. A request that nobody has permitted: refused everywhere, for all reasons at once")
    unwanted = train.model_copy(update={"agreement": harness.AGREEMENT, "purpose": "marketing"})
    refused = be_refused(client, unwanted, out / "model")

    console.rule("4. Consent: each owner's signed grants; at hospital-c an officer decides about trainings")
    grants = permit(network, records)
    ask_people(network.party(DEALER).config)

    console.rule("5. Joint training with differential privacy, after an approval")
    counted = Measured()
    trained = submit(client, train, out / "model", "train", counted, approver=network.party(DEALER).config)
    produced = trained.job.produced_model
    if produced is None or trained.job.training is None:
        sys.exit("The training left no model.")
    model = produced.label

    console.rule("6. Joint evaluation on rows that nobody trained on")
    evaluate = EvaluateRequest(**WHO, type="evaluate", datasets=[f"{hospital}/holdout" for hospital in HOSPITALS], model=model)
    evaluated = submit(client, evaluate, out / "model", "evaluate", counted)
    counts = client.result(evaluated.job)
    correct, rows = int(counts[COUNT_OUTPUT][0]), evaluated.job.num_rows
    least = evaluated.job.outputs[0].min_cell
    console.print(f"  correct: {count_in_words(correct, num_rows=rows, min_cell=least)}; no more was opened")
    fewest = rows - least + 1 if correct == rows else correct

    console.rule("7. Evidence before a release: what an attack on the model finds, and what the gate says")
    held = network.party(COMPUTING[0]).config
    ask_for_evidence(held)
    trains = [f"{hospital}/train" for hospital in HOSPITALS]
    holdouts = [f"{hospital}/holdout" for hospital in HOSPITALS]
    assess = AssessRequest(**WHO, type="assess", datasets=trains + holdouts, members=trains, model=model)
    assessed = submit(client, assess, out / "model", "assess", counted)
    useful = client.calls.signed_utility(what_was_useful(evaluated.job, counts))
    attacked = Attacked(assessed.job, client.opened(assessed.job))
    released = release(network, trained.job, attacked, useful, out, console)

    console.rule("8. A researcher's private inference on samples of her own")
    infer = InferRequest(**WHO, type="infer", model=model, samples="(in memory)", output="probability", decimals=2)
    asked = submit(client, infer, out / "model", "infer", counted, samples=split.researcher.drop(columns="benign"))
    predicted = client.result(asked.job)[asked.job.outputs[0].name]
    right = int(np.sum((predicted >= 0.5) == split.researcher["benign"].to_numpy().astype(bool)))
    console.print(f"  {len(predicted)} probabilities, rounded in shares to two decimals, seen by the researcher alone:")
    console.print(f"  {', '.join(f'{value:.2f}' for value in predicted[:10])}, …; {right} on the side of her own diagnosis")

    console.rule("9. Encrypted inference: hospital-a's own model, asked about samples that it never sees")
    encrypted = ask_encrypted(network, client, out, console)
    client.close()

    joint = (fewest / rows, correct / rows)
    pooled, alone = in_the_clear(split, trained.job.training)
    closing_table(joint, pooled, alone, counted, encrypted, released)

    console.rule("11. The audit logs: each verified offline, against what the partners have seen of it")
    audited = audit(network, client.directory.founder_key.fingerprint, out)
    return {
        "joint_accuracy_from_to": joint,
        "pooled_plaintext_accuracy": pooled,
        "alone_accuracy": alone,
        "research_probabilities_right": right,
        "encrypted": [asdict(figures) for figures in encrypted],
        "released": asdict(released),
        "refused_for": refused,
        "grants": grants,
        "audited_entries": audited,
        "plan": counted.plan,
        "measured": counted.measured,
    }


def clear(out: Path) -> None:
    """Removes what an earlier demo left, after stopping it; never anything else."""
    if (out / "consortium" / "harness.json").exists():
        harness.down(out / "consortium")
    for name in ("audit", "consortium", "evidence", "rows", "model"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "rows").mkdir(parents=True)


def register(network: harness.Harness, split: Split, out: Path) -> dict[str, list[DatasetRecord]]:
    records: dict[str, list[DatasetRecord]] = {}
    for hospital in HOSPITALS:
        for name, frames in (("train", split.train), ("holdout", split.holdout)):
            file = out / "rows" / f"{hospital}-{name}.csv"
            frames[hospital].to_csv(file, index=False)
            record = register_dataset(
                network.party(hospital).config,
                name=name,
                file=file,
                schema_file=SCHEMA_FILE,
                on_violation=OnViolation.REFUSE,
                now=datetime.now(UTC),
            )
            records.setdefault(hospital, []).append(record)
            console.print(f"  {hospital}/{name}: {record.num_rows} rows, commitment {record.commitment[:16]}…")
    return records


def be_refused(client: Client, request: JobRequest, folder: Path) -> int:
    """Submits a job that nobody wants; returns for how many reasons it was refused."""
    try:
        client.submit(prepare_job(client, request, folder=folder, now=datetime.now(UTC)))
    except ConfideError as error:
        console.print(f"  {error.code.name}: {error.what}")
        reasons = Table("where", "why")
        for problem in error.problems:
            reasons.add_row(problem.where, problem.what)
        console.print(reasons)
        return len(error.problems)
    sys.exit("A job without consent was not refused.")


def permit(network: harness.Harness, records: dict[str, list[DatasetRecord]]) -> int:
    """Has each owner's data steward permit its data sets; returns how many grants there are."""
    made = 0
    for hospital, own in records.items():
        for record in own:
            grant = harness.permit(network.party(hospital).config, record, **TERMS).grant
            made += 1
            console.print(
                f"  {hospital}: grant {grant.grant_id[:12]}… for {grant.subject.label}, {grant.max_uses} jobs,"
                f" until {grant.expires:%Y-%m-%d}"
            )
    return made


def ask_people(config: PartyConfig) -> None:
    """Changes a party's policy while it serves: trainings wait for one of its privacy officers."""
    text = config.policy.read_text()
    if text.count("rules: []\n") != 1:
        sys.exit(f"{config.policy} is not as the harness wrote it.")
    config.policy.write_text(text.replace("rules: []\n", RULE))
    console.print(f"  {config.party}'s policy: trainings wait for one privacy officer; all else runs by itself")


def approve(config: PartyConfig, job_id: str) -> None:
    """Shows an officer what would leave the site, and has her sign."""
    deadline = time.monotonic() + ASKED_WITHIN_S
    while job_id not in {waiting.job.job_id for waiting in pending(config)}:
        if time.monotonic() > deadline:
            sys.exit(f"{config.party} does not ask its people.")
        time.sleep(0.1)
    console.print(f"\n  what {config.party}'s officer is shown:\n")
    console.print(preview_in_words(show_job(config, job_id).preview))
    officer = harness.person_folder(config, harness.OFFICER)
    answer(config, officer, job_id, Answer.APPROVE, comment="as agreed with the board", now=datetime.now(UTC))
    console.print(f"\n  {config.party}'s officer signed her approval of this job with this plan")


def submit(
    client: Client,
    request: JobRequest,
    folder: Path,
    name: str,
    counted: Measured,
    *,
    samples: pd.DataFrame | None = None,
    approver: PartyConfig | None = None,
) -> PreparedJob:
    """Shows the plan, has the job approved if people are asked, runs it to its end, and keeps what was planned and measured."""
    prepared = prepare_job(client, request, folder=folder, now=datetime.now(UTC), samples=samples)
    plan = client.plan(prepared.job)
    console.print(plan_in_words(plan, prepared.job))
    began = time.monotonic()
    client.submit(prepared)
    if approver is not None:
        approve(approver, prepared.job.job_id)
    ending = client.wait(prepared.job, timeout_s=JOB_TIMEOUT_S)
    if ending.state is not State.COMPLETED:
        sys.exit(f"The {name} job was {ending.state.value}: {ending.code} {ending.cause} ({ending.remedy})")
    said = [client.progress(prepared.job.job_id, party) for party in prepared.job.participants]
    counted.plan[name] = planned(plan)
    counted.measured[name] = {"rounds": max(p.rounds for p in said), "bytes": sum(p.payload_bytes for p in said)}
    framing = sum(p.frame_bytes for p in said) - counted.measured[name]["bytes"]
    counted.seconds[name] = time.monotonic() - began
    console.print(f"\n  completed in {counted.seconds[name]:.1f} s; countersigned by all; {framing:,} bytes of framing beside it")
    shown = None if approver is None else show_job(approver, prepared.job.job_id)
    if approver is not None and shown is not None and shown.measured is not None:
        console.print(f"\n  at {approver.party}, planned and measured:\n")
        console.print(measured_in_words(shown.preview, shown.measured))
    return prepared


def planned(plan: Plan) -> dict[str, int]:
    return {"rounds": plan.rounds, "bytes": plan.payload_bytes}


def audit(network: harness.Harness, fingerprint: str, out: Path) -> dict[str, int]:
    """Exports every party's log and verifies each as an auditor would; returns how many entries each has."""
    folders = {}
    for party in network.parties:
        folders[party.party] = export_log(party.config, out=out / "audit" / party.party, now=datetime.now(UTC)).folder
    found = Table("log of", "entries", "cosigned by", "agrees with")
    sizes = {}
    for party, folder in folders.items():
        seen = {other: theirs / "seen" / party for other, theirs in folders.items() if other != party}
        report = standalone.verify(
            standalone.folder(folder),
            founder_fingerprint=fingerprint,
            witnesses=None,
            trusted=[path.read_bytes() for path in seen.values()],
        )
        sizes[party] = report.size
        found.add_row(
            party,
            str(report.size),
            ", ".join(name.rpartition("/")[2] for name in report.witnesses),
            f"what {' and '.join(seen)} have seen",
        )
    console.print(found)
    return sizes


def closing_table(
    joint: tuple[float, float],
    pooled: float,
    alone: dict[str, float],
    counted: Measured,
    encrypted: list[Figures],
    released: Released,
) -> None:
    console.rule("10. What came of it")
    accuracies = Table("model", "accuracy on the same held-out rows")
    # A handful of wrong rows is not told, so what is known of the accuracy is a range.
    at_least, at_most = joint
    shown = f"{at_least:.1%}" if at_least == at_most else f"{at_least:.1%} or more"
    accuracies.add_row("joint and private: nobody saw rows or weights", shown)
    accuracies.add_row("pooled in the clear, without noise", f"{pooled:.1%}")
    for hospital, value in alone.items():
        accuracies.add_row(f"{hospital} alone, without noise", f"{value:.1%}")
    console.print(accuracies)
    console.print(f"differential privacy: epsilon {released.claim}")
    value, low, high = released.attack_auc
    console.print(f"attack on membership: area {value:.3f} ({low:.3f} to {high:.3f}; 0.5 by chance); gate: {released.before}")
    console.print(f"after an officer has read the evidence: {released.after}")
    costs = Table("job", "seconds", "rounds planned", "measured", "payload bytes planned", "measured")
    for column in costs.columns[1:]:
        column.justify = "right"
    for name, plan in counted.plan.items():
        measured = counted.measured[name]
        figures = (plan["rounds"], measured["rounds"], plan["bytes"], measured["bytes"])
        costs.add_row(name, f"{counted.seconds[name]:.1f}", *(f"{figure:,}" for figure in figures))
    console.print(costs)
    console.print(closing_part(encrypted))
    learned = Table("who", "learned")
    learned.add_row(
        "hospital-a, hospital-b (computing)",
        "shapes, schedule, volumes; of everything else one share and masked values, uniform each",
    )
    learned.add_row("hospital-c (dealer)", "shapes and schedule from the plan; no message of the computation")
    learned.add_row("hospital-a (its own model, encrypted)", "how many queries are asked in which lane, and when")
    learned.add_row("every hospital", "of the others' rows, how many there are; the counts of the attack that it signs")
    learned.add_row("the researcher", "how many held-out rows are right; two decimals, or scores, for each of her own samples")
    learned.add_row("nobody", "another one's rows, the weights, losses, gradients, the researcher's samples")
    console.print(learned)
    console.print("If the dealer and a computing party pool what they hold, they can read all of it: SECURITY.md.")


if __name__ == "__main__":
    main()
