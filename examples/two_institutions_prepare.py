"""Two institutions prepare a real table with identifiers and align it in private, from raw files to a joint training.

Real processes, certificates and sockets on loopback; every step at an institution is a command that its operator would type.
Run it with `make demo-prepare`; it writes build/demo-prepare/summary.json.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml
from rich.console import Console
from two_tables import (
    HEALTH,
    HEALTH_CONTRACT,
    HEALTH_RECIPE,
    LABOUR,
    LABOUR_CONTRACT,
    LABOUR_RECIPE,
    people_of_both,
    write_tables,
)

from parties import harness
from parties.client.client import Client
from parties.client.placement import Placement
from parties.linking.projects import context_of, read_master
from parties.storage.database import one_transaction
from protocols.identifiers.group import SECRET_BYTES
from protocols.identifiers.normalisation import normalise_all
from protocols.identifiers.pseudonyms import blind, finish, project_key
from protocols.secrets import SecretBytes

DEALER, PROJECT, LABEL = "statistics-office", "work-and-health", "people-of-1987"
GUESSES, BATCH = 13_000, 2_000  # every number that a person of this panel can have
PARTIES = (HEALTH, LABOUR, DEALER)
console = Console(width=min(110, shutil.get_terminal_size((110, 24)).columns), highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo-prepare"), help="folder for everything that it makes")
    out: Path = parser.parse_args().out.absolute()
    began = time.monotonic()
    if (out / "consortium" / "harness.json").exists():
        harness.down(out / "consortium")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    network = harness.up(out / "consortium", parties=PARTIES)
    try:
        summary = run(network, out)
    finally:
        harness.down(network.folder)
    summary["seconds"] = round(time.monotonic() - began, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"\nWhole demo: {summary['seconds']} s; figures in {out / 'summary.json'}")


def run(network: harness.Harness, out: Path) -> dict[str, Any]:
    """Prepares, aligns, trains; returns what goes into the summary."""
    raw = write_tables(out)
    papers = {HEALTH: (HEALTH_CONTRACT, HEALTH_RECIPE), LABOUR: (LABOUR_CONTRACT, LABOUR_RECIPE)}
    for party, (contract, recipe) in papers.items():
        (out / f"{party}-contract.yaml").write_text(contract)
        (out / f"{party}-recipe.yaml").write_text(recipe.format(project=PROJECT))

    console.rule(f"1. What the raw file of the {HEALTH} gives away")
    health = ["--contract", out / f"{HEALTH}-contract.yaml"]
    before = confide("dataset", "report", "--file", raw[HEALTH], *health)
    for found in before["owner_only"]["direct_identifiers"]:
        console.print(f"  column {found['column']} names people: {found['why']}")
    exposed(before["shareable"])

    console.rule("2. How to make five people alike with the least loss")
    found = confide("dataset", "anonymise", "--file", raw[HEALTH], *health, "--k", "5", "--left-out", "0.05")
    for step in found["steps"]:
        console.print(f"  {', '.join(f'{key} {value}' for key, value in step.items())}")
    searched, left = found["searched"], found["after"]
    console.print(
        f"  {left['left_out']} rows are left out; none of the other {searched['nodes'] - 1} combinations of levels loses less"
    )
    recipe = yaml.safe_load((out / f"{HEALTH}-recipe.yaml").read_text())
    recipe["steps"] += found["steps"]
    (out / f"{HEALTH}-recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))

    console.rule("3. A project of keyed pseudonyms: each institution helps the other, counted and limited")
    for party, other in ((HEALTH, LABOUR), (LABOUR, HEALTH)):
        config = network.party(party).config_file
        confide("dataset", "project", "open", "--name", PROJECT, "--with", other, "--evaluations", "1000", config=config)

    console.rule("4. Preparation, each in a process without network and files")
    prepared = {}
    for party, file in raw.items():
        prepared[party] = out / f"{party}-prepared.parquet"
        names = ["--contract", out / f"{party}-contract.yaml", "--recipe", out / f"{party}-recipe.yaml"]
        config = network.party(party).config_file
        confide("dataset", "prepare", "--file", file, *names, "--out", prepared[party], config=config)
        confide("dataset", "schema", *names[:2], "--out", out / f"{party}-schema.yaml")

    guessed = {party: guess(network, party, prepared[party]) for party in prepared}

    console.rule(f"5. What the prepared file of the {HEALTH} gives away")
    after = confide(
        "dataset", "report", "--file", raw[HEALTH], *health, "--against", prepared[HEALTH], "--picture", out / "report.svg"
    )

    exposed(after["shareable"]["after"])

    console.rule("6. Private alignment: whom do both have?")
    with ThreadPoolExecutor(2) as pool:
        aligned = dict(zip(raw, pool.map(lambda party: align(network, party, prepared, out), raw), strict=True))
    for party, said in aligned.items():
        learned = ", ".join(said["discloses"]["both_learn"])
        console.print(f"  {party}: {said['found']} of {said['own_rows']} people; learned by both: {learned}")

    console.rule("7. A joint training on columns of the same people")
    score, rows = train(network)
    both = people_of_both()
    common = int((both["lwage"] >= math.log(6.5)).sum()) / len(both)
    console.print(
        f"  {score} of {rows} people are put on the right side of 6.50 dollars an hour; {common:.0%} of all earn as much"
    )
    return {
        "before": before,
        "after": after,
        "anonymised": found,
        "aligned": aligned,
        "guessed_alone": guessed,
        "people_of_both_in_the_clear": len(both),
        "right": score,
        "rows": rows,
    }


def exposed(shareable: dict[str, Any]) -> None:
    """Tells how alike people are."""
    console.print(
        f"  {shareable['rows']} rows in {shareable['classes']} classes: the smallest has {shareable['k']}, "
        f"{float(shareable['unique_share']):.1%} of the people are unique, an intruder is right about "
        f"{float(shareable['mean_risk']):.1%}"
    )


def guess(network: harness.Harness, party: str, prepared: Path) -> int:
    """Tries all identifiers that there can be with one institution's key; returns how many pseudonyms it finds so."""
    config = network.party(party).config
    pseudonyms = set(pq.read_table(prepared, columns=["person"]).column("person").to_pylist())
    with one_transaction(config.folder.database_file) as tables:
        project = tables.linking.find_project(PROJECT)
    if project is None:
        sys.exit(f"{party} knows no project {PROJECT}.")
    context = context_of(harness.CONSORTIUM, project)
    key, found = project_key(read_master(config.folder), context), 0
    for start in range(0, GUESSES, BATCH):
        names = normalise_all([f"P{number:05d}" for number in range(start, min(start + BATCH, GUESSES))])
        blinded = blind(names, context, randomness=SecretBytes(secrets.token_bytes(SECRET_BYTES * (len(names) + 1))))
        # Nobody else has raised the points to its key.
        found += len(pseudonyms & set(finish(blinded.points, blinded, names, context=context, key=key)))
    console.print(f"  {party}: {len(pseudonyms)} pseudonyms; {GUESSES:,} identifiers tried with its key alone: {found} found")
    return found


def align(network: harness.Harness, party: str, prepared: dict[str, Path], out: Path) -> dict[str, Any]:
    """One side of the private intersection."""
    other = LABOUR if party == HEALTH else HEALTH
    what = ["--name", "people", "--with", other, "--label", LABEL, "--file", prepared[party]]
    config = network.party(party).config_file
    return confide("dataset", "align", *what, "--schema", out / f"{party}-schema.yaml", config=config)


def train(network: harness.Harness) -> tuple[int, int]:
    """Trains a logistic regression on both parts; returns how many people of the same rows it puts right, and of how many."""
    features = 0
    for party in (HEALTH, LABOUR):
        config = network.party(party).config
        with one_transaction(config.folder.database_file) as tables:
            record = tables.datasets.get("people")
        harness.permit(config, record)
        features += record.schema.num_features
    where = Placement((HEALTH, LABOUR), DEALER)
    with Client.open(network.researcher_config, now=datetime.now(UTC), placement=where) as client:
        datasets = [f"{HEALTH}/people", f"{LABOUR}/people"]
        module = torch.nn.Sequential(torch.nn.Linear(features, 1), torch.nn.Sigmoid())
        settings = {"epochs": 30, "batch_size": 64, "learning_rate": "0.5", "momentum": "0.9"}
        job = client.train(module, datasets=datasets, partition="columns", model_name="wages", training=settings)
        job.wait()
        evaluated = client.evaluate(job.model, datasets=datasets, partition="columns")
        return int(evaluated.result()["correct"][0]), evaluated.job.num_rows


def confide(*arguments: str | Path, config: Path | None = None) -> dict[str, Any]:
    """Runs a command as an operator would, shows what it prints, and returns its data."""
    words = [*map(str, arguments), *(["--config", str(config)] if config is not None else [])]
    console.print(f"$ confide {' '.join(Path(word).name if word.startswith('/') else word for word in words)}")
    command = [sys.executable, "-m", "parties.cli", *words]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    return dict(json.loads(done.stdout)["data"])


if __name__ == "__main__":
    main()
