"""Encrypted inference from end to end: real processes, real models, and on the whole test split as accurate as in the clear."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from governance.encrypted.published import PublishedModel
from parties.cli.main import app
from parties.client.client import Client
from parties.client.encrypted.published import find_published
from parties.client.failures import BudgetExhausted, NotFound, PolicyRefused
from parties.storage.encrypted import EnquiryRecord
from tests.support.publishing import examples, permit, publish
from tests.support.trial import LEAD, SECOND, Trial

pytestmark = pytest.mark.multiparty
WHOLE_SPLIT = None
MOST_DIFFERENT = 0.005  # of samples: those whose two best scores are nearly equal


@dataclass(frozen=True)
class Served:
    """A model of one hospital: as its owner has it, and as it is published."""

    own: Any
    published: PublishedModel

    @property
    def label(self) -> str:
        return self.published.ref.label


@pytest.fixture(scope="module")
def client(trial: Trial) -> Iterator[Client]:
    with Client.open(trial.network.researcher_config, now=datetime.now(UTC)) as client:
        yield client


@pytest.fixture(scope="module")
def digits(trial: Trial) -> Served:
    """The network of hospital A, which counts as known to the researcher."""
    own, config = examples().digits_network(), trial.network.party(LEAD).config
    published = publish(config, own, trial.folder / "publications")
    permit(config, published)
    return Served(own, published)


@pytest.fixture(scope="module")
def scores(trial: Trial) -> Served:
    """The regression of hospital B, which counts as known to the researcher."""
    own, config = examples().breast_cancer_regression(), trial.network.party(SECOND).config
    published = publish(config, own, trial.folder / "publications")
    permit(config, published)
    return Served(own, published)


def enquiry(trial: Trial, party: str, enquiry_id: str) -> EnquiryRecord:
    """An enquiry as the party's database has it."""
    with trial.tables(party) as tables:
        found = tables.encrypted.find_enquiry(enquiry_id)
    assert found is not None
    return found


def accuracy(served: Served, outputs: np.ndarray) -> tuple[float, float]:
    """Of the plain model and of the encrypted one, on the first samples of the test split; hardly any may differ."""
    found, labels = examples().classes_of(outputs), served.own.labels[: len(outputs)]
    plain = served.own.plain[: len(outputs)]
    assert np.mean(plain != found) <= MOST_DIFFERENT
    return float(np.mean(plain == labels)), float(np.mean(found == labels))


@pytest.mark.parametrize(("lane", "rows"), [("batch", WHOLE_SPLIT), ("packed", WHOLE_SPLIT), ("latency", 100)])
def test_digits_are_told_apart_as_well_as_in_the_clear(
    trial: Trial, client: Client, digits: Served, lane: str, rows: int | None
) -> None:
    answers = client.infer_encrypted(digits.label, digits.own.samples[:rows], lane=lane)
    plain, found = accuracy(digits, answers.values)
    assert abs(plain - found) <= MOST_DIFFERENT
    assert plain > 0.95
    debited = sum(enquiry(trial, LEAD, each).answered for each in answers.enquiries)
    assert debited == answers.numbers
    assert all(enquiry(trial, LEAD, each).ended is not None for each in answers.enquiries)


def test_breast_cancer_is_told_as_well_as_in_the_clear_in_the_lane_that_is_chosen(client: Client, scores: Served) -> None:
    answers = client.infer_encrypted(scores.label, scores.own.samples)
    plain, found = accuracy(scores, 2 * answers.values - 1)  # probabilities: one half is where scores change their sign
    assert abs(plain - found) <= MOST_DIFFERENT
    assert plain > 0.9
    assert answers.lane in answers.why
    assert "predicted to be done first" in answers.why


def test_models_that_others_published_are_listed_with_their_lanes(client: Client, digits: Served, scores: Served) -> None:
    listing = client.all_published()
    assert {entry.model.label for entry in listing} >= {digits.label, scores.label}
    assert find_published(client, digits.published.name).published == digits.published
    with pytest.raises(NotFound):
        client.infer_encrypted("nobody-published-this", digits.own.samples)


def test_linear_model_that_is_to_stay_unknown_answers_no_more_than_leaves_it_so(trial: Trial, client: Client) -> None:
    own, config = examples().breast_cancer_regression(), trial.network.party(SECOND).config
    published = publish(config, own, trial.folder / "publications")
    permit(config, published, counts_as_known=False, max_answers=30)
    with pytest.raises(BudgetExhausted, match="is linear"):
        client.infer_encrypted(published.ref.label, own.samples, lane="batch")
    few = client.infer_encrypted(published.ref.label, own.samples[:30], lane="latency")
    assert (examples().classes_of(2 * few.values - 1) == own.plain[:30]).mean() > 0.9
    with pytest.raises(BudgetExhausted):
        client.infer_encrypted(published.ref.label, own.samples[30:31], lane="latency")


def test_researcher_without_a_grant_is_refused_with_the_reason(trial: Trial, digits: Served) -> None:
    with pytest.raises(PolicyRefused, match="none of them"):
        trial.other.infer_encrypted(digits.label, digits.own.samples, lane="batch")


def test_commands_ask_from_csv_to_csv(trial: Trial, scores: Served, tmp_path: Path) -> None:
    samples, rows = tmp_path / "samples.csv", scores.own.samples[:20]
    with samples.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *scores.own.features])
        writer.writerows([f"p{number}", *row] for number, row in enumerate(rows))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery\n")
    passphrase.chmod(0o600)
    common = ["--config", str(trial.network.researcher_config)]
    unlock = ["--passphrase-file", str(passphrase)]

    def confide(*words: str) -> str:
        said = CliRunner().invoke(app, ["infer", *words, *common])
        assert said.exit_code == 0, said.output
        return said.stdout.strip()

    confide("keygen", scores.label, "--name", "mine", "--lane", "packed", *unlock)
    out = tmp_path / "answers.csv"
    confide("run", scores.label, str(samples), "--out", str(out), "--id", "patient", "--key", "mine", *unlock)
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert [row["patient"] for row in found] == [f"p{number}" for number in range(20)]
    (output,) = scores.published.outputs
    assert [float(row[output]) > 0.5 for row in found] == [bool(label) for label in scores.own.plain[:20]]

    without_ids = tmp_path / "without.csv"
    without_ids.write_text("\n".join(line.partition(",")[2] for line in samples.read_text().splitlines()))
    submitted = confide("submit", scores.label, str(without_ids), "--key", "mine", *unlock).splitlines()[-1]
    fetched = tmp_path / "fetched.csv"
    confide("fetch", submitted, "--out", str(fetched), *unlock)
    with fetched.open() as file:
        again = [float(row[output]) for row in csv.DictReader(file)]
    assert [value > 0.5 for value in again] == [bool(label) for label in scores.own.plain[:20]]
    said = CliRunner().invoke(app, ["infer", "fetch", submitted, "--out", str(fetched), *unlock, *common])
    assert said.exit_code == 2  # an answer is fetched once
