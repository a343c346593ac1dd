"""The demo's encrypted step: an institution's own model answers a researcher's ciphertexts.

The model is its owner's alone, so nothing is computed jointly: the researcher encrypts, the owner evaluates, and the
researcher opens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from encrypted_models import OwnModel, classes_of, digits_network
from rich.console import Console
from rich.table import Table

from governance.evidence.bundle import EvidenceBundle
from parties import harness
from parties.client.client import Client
from parties.config import PartyConfig
from parties.encrypted_grant_files import EncryptedGrantTerms
from parties.encrypted_grants import create_encrypted_grant
from parties.own_assessing import AttackFiles, brought_model, make_own_evidence
from parties.publication_files import PublicationTerms
from parties.publishing import PublicationFiles, publish_model
from protocols.errors import ConfideError

ONE_BY_ONE = 20
RECIPIENT = harness.RESEARCHER
SENSITIVE = "feature-36"  # a pixel in the middle
SHADOWS = 8  # as its policy asks for such rows


@dataclass(frozen=True)
class Figures:
    """What came of one lane.

    Attributes:
        lane: of the model.
        samples: how many were asked about.
        plain: of these the model gets right in the clear.
        encrypted: and under encryption.
        seconds: of all of it, keys and their upload included.
        numbers: that were debited.
    """

    lane: str
    samples: int
    plain: int
    encrypted: int
    seconds: float
    numbers: int


def ask_encrypted(network: harness.Harness, client: Client, out: Path, console: Console) -> list[Figures]:
    """Publishes the digits network of the first party, has it permitted, and asks it in both lanes."""
    owner, own = network.parties[0], digits_network()
    steward = harness.person_folder(owner.config, harness.STEWARD)
    terms = replace(own.terms, datasets=(f"{owner.party}/digits/1",))
    files = own.write(out / "model")
    console.print(
        f"  {owner.party} attacks its model with its own rows: {_attacked(owner.config, steward, own, files, terms, out)}"
    )
    published = publish_model(owner.config, steward, files, terms, now=datetime.now(UTC))
    label = published.ref.label
    console.print(f"  {owner.party} publishes {label}, a network 64-32-10; lanes: {', '.join(published.plans)}")
    try:
        client.infer_encrypted(label, own.samples)
    except ConfideError as error:
        console.print(f"  without a grant: {error.code.name}")
    else:
        raise SystemExit("An encrypted query without a grant was answered.")
    grant = _permit(owner.config, steward, label=label)
    console.print(f"  grant {grant[:12]}… for {RECIPIENT}, to whom the model counts as known")
    found = [_asked(client, own, label, count) for count in (len(own.samples), ONE_BY_ONE)]
    for each in found:
        console.print(f"  lane {each.lane}: {each.samples} samples, opened by the researcher alone, in {each.seconds:.1f} s")
    return found


def closing_part(figures: list[Figures]) -> Table:
    """Returns the closing table's part about encrypted answers."""
    table = Table("encrypted, lane", "samples", "right in the clear", "right encrypted", "seconds", "numbers debited")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in figures:
        right = (str(each.plain), str(each.encrypted))
        table.add_row(f"digits, {each.lane}", str(each.samples), *right, f"{each.seconds:.1f}", f"{each.numbers:,}")
    return table


def _attacked(
    config: PartyConfig, steward: Path, own: OwnModel, files: PublicationFiles, terms: PublicationTerms, out: Path
) -> str:
    """Has the owner make evidence of an attack on its own rows; returns in words what it found and what the gate says."""
    members, others = own.write_rows(out / "rows")
    rows = AttackFiles(members, others, "label", SENSITIVE, (), None, SHADOWS)
    model = brought_model(config, files, terms, approximation=None)
    judged = make_own_evidence(config, steward, model, datasets=terms.datasets, rows=rows, now=datetime.now(UTC))
    (report,) = EvidenceBundle.from_bytes(judged.record.signed.body).assessed
    area = report.figures["membership.lira.auc"]
    return f"area {area.value:.3f} ({area.low:.3f} to {area.high:.3f}); gate: {judged.decision.verdict.value}"


def _permit(config: PartyConfig, steward: Path, *, label: str) -> str:
    from parties.models import read_label

    now = datetime.now(UTC)
    terms = EncryptedGrantTerms(
        agreement=harness.AGREEMENT,
        model=read_label(label),
        purposes=(harness.PURPOSE,),
        recipients=(RECIPIENT,),
        max_answers=100_000,
        expires=(now + timedelta(hours=12)).replace(microsecond=0),
        counts_as_known=True,
    )
    return create_encrypted_grant(config, steward, terms, now=now).grant.grant_id


def _asked(client: Client, own: OwnModel, label: str, count: int) -> Figures:
    """Asks about the first samples in the lane that the planner chooses for so many."""
    began = time.monotonic()
    lane = None if count > ONE_BY_ONE else "latency"
    answers = client.infer_encrypted(label, own.samples[:count], lane=lane)
    seconds, truth = time.monotonic() - began, own.labels[:count]
    plain, encrypted = (int(np.sum(found == truth)) for found in (own.plain[:count], classes_of(answers.values)))
    return Figures(answers.lane, count, plain, encrypted, seconds, answers.numbers)
