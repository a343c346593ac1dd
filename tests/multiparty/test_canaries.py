"""Planted secrets are found nowhere but with those who may know them; and the same search finds them where they are.

Three hospitals run a training, an evaluation and an inference at the log level debug. Everything is searched: what crossed
the network, what party processes handled in the clear after TLS, logs, databases, sealed files.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties import harness
from parties.client.asked_outputs import PREDICTION_OUTPUT
from parties.client.requests import TrainingRequest
from parties.config import load_party_config
from parties.harness import free_ports
from parties.preparing.preparing import Instructions
from parties.preparing.registering import register_prepared
from parties.registration import open_sealed
from parties.storage.database import one_transaction
from privacy.preparation.columns import Role
from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import ContractColumn, DataContract, DataRole
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.steps.parse_number import ParseNumber
from protocols.fixed_point import PARAMETER_BITS
from tests.support.canaries import Scanner, Secret, bit_secret, number_secret, weight_secret
from tests.support.processes import Program
from tests.support.shares import combined_model, model_share_bytes
from tests.support.tables import breast_cancer_schema
from tests.support.trial import COMPUTING, HOSPITALS, Trial, found_consortium, scaled, set_option
from tests.support.wire_tap import WireTap

pytestmark = pytest.mark.multiparty

ROWS = 64
SEED = 20260301
FROM_RAW = HOSPITALS[0]  # registers its training rows from a raw file, the others from prepared ones
NAME_CANARY = "Quokka-7731"  # stands in columns that are dropped while that file is read
# Long enough that weights differ from zero in all the forms that are looked for.
TRAINING = TrainingRequest(epochs=5, batch_size=48, learning_rate="1", momentum="0.9")


@dataclass(frozen=True)
class Planted:
    """What was planted where, and everything that could hold it."""

    trial: Trial
    taps: dict[str, WireTap]
    rows: dict[str, pd.DataFrame]
    samples: pd.DataFrame
    own: dict[str, list[Secret]]  # by hospital: its rows and labels
    asked: list[Secret]  # the researcher's samples and her labels
    weights: list[Secret]

    def recorded(self, party: str, name: str) -> bytes:
        return (self.trial.folder / party / "recorded" / f"{name}.bin").read_bytes()

    def at_rest(self, party: str) -> dict[str, bytes]:
        """Every file in a party's folder but its recordings."""
        folder = self.trial.folder / party
        files = [path for path in folder.rglob("*") if path.is_file() and "recorded" not in path.parts]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    @property
    def everything(self) -> list[Secret]:
        return [*(secret for secrets in self.own.values() for secret in secrets), *self.asked, *self.weights]


def planted_rows(generator: np.random.Generator) -> pd.DataFrame:
    """Rows of numbers with all their digits, inside the agreed ranges, and labels at random."""
    schema = breast_cancer_schema()
    columns: dict[str, np.ndarray] = {}
    for column in schema.features:
        low, high = column.bounds
        columns[column.name] = generator.uniform(low, high, ROWS)
    columns[schema.label.name] = generator.integers(0, 2, ROWS)
    return pd.DataFrame(columns)


def register_from_raw(trial: Trial, rows: pd.DataFrame) -> None:
    """Registers rows from a raw file that names people, under a contract by a recipe that makes the schema of all others."""
    schema = breast_cancer_schema()
    columns = [
        ContractColumn(column.name, DataRole.LINKAGE_KEY, "", None)
        if column.role is Role.IDENTIFIER
        else ContractColumn(column.name, DataRole(column.role.value), "", column)
        for column in schema.columns
    ]
    named = ContractColumn("surname", DataRole.DIRECT_IDENTIFIER, "", None)
    contract = DataContract(schema.name, "predict", (named, *columns))
    assert contract.schema == schema
    numbers = ParseNumber(schema.feature_names, "point")
    file = trial.folder / f"{FROM_RAW}-train.csv"
    names = [f"{NAME_CANARY} {number}" for number in range(len(rows))]
    rows.assign(remark=names).set_index(pd.Index(names, name="surname")).to_csv(file)
    config = trial.network.party(FROM_RAW).config
    record, outcome = register_prepared(
        config,
        name="train",
        file=file,
        instructions=Instructions(contract, Recipe("plain", 1, contract.name, (numbers,))),
        on_violation=OnViolation.REFUSE,
        now=datetime.now(UTC),
    )
    assert dict(outcome.dropped) == {"surname": "direct identifier", "remark": "not in the contract"}
    harness.permit(config, record)


def tap_endpoints(folder: Path) -> dict[str, WireTap]:
    """Puts a recording proxy at every party's published endpoint and moves the party itself to another port."""
    taps = {}
    for party, port in zip(HOSPITALS, free_ports(len(HOSPITALS)), strict=True):
        config_file = folder / party / "party.yaml"
        published = int(load_party_config(config_file).listen.rsplit(":", 1)[1])
        set_option(config_file, "listen", f'"127.0.0.1:{port}"')
        taps[party] = WireTap(published, port)
    return taps


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("planted")
    generator = np.random.default_rng(SEED)
    rows = {party: planted_rows(generator) for party in HOSPITALS}
    samples = planted_rows(generator).drop(columns="benign")
    found_consortium(folder, log_level="debug")
    taps = tap_endpoints(folder)
    trial = Trial(folder, program=Program.RECORDING)
    try:
        for party in HOSPITALS:
            if party == FROM_RAW:
                register_from_raw(trial, rows[party])
            else:
                trial.register(party, "train", rows[party])
            trial.register(party, "holdout", rows[party].iloc[:-1])  # the same rows have one name
        training = trial.complete(trial.train(TRAINING)).job
        label = f"{training.model_name}@{training.job_id[:12]}"
        trial.client.result(trial.complete(trial.evaluate(label)).job)
        inference = trial.complete(trial.infer(label, samples)).job
        predicted = trial.client.result(inference)[PREDICTION_OUTPUT]
        elements = np.concatenate([values.reshape(-1) for values in combined_model(trial, training).values()])
        own = {}
        for party, frame in rows.items():
            features, labels = scaled(frame)
            raw = frame.drop(columns="benign").to_numpy()
            own[party] = [number_secret(f"rows of {party}", raw, features), bit_secret(f"labels of {party}", labels.astype(int))]
        shown = breast_cancer_schema().scale(samples.to_numpy())
        asked = [number_secret("samples", samples.to_numpy(), shown), bit_secret("her labels", predicted)]
        weights = [weight_secret("weights", elements, scale_bits=PARAMETER_BITS)]
        yield Planted(trial, taps, rows, samples, own, asked, weights)
    finally:
        trial.down()
        for tap in taps.values():
            tap.close()


@pytest.fixture(scope="module")
def scanner(planted: Planted) -> Scanner:
    return Scanner(planted.everything)


def test_network_between_endpoints_shows_no_secret(planted: Planted, scanner: Scanner) -> None:
    assert scanner.num_patterns > 50_000
    for party, tap in planted.taps.items():
        recorded = tap.recorded
        assert len(recorded) > 50_000, f"the tap of {party} saw nothing of the jobs"
        assert scanner.find(recorded) == set()


@pytest.mark.parametrize("party", HOSPITALS)
def test_party_process_receives_and_sends_no_secret_in_the_clear(planted: Planted, scanner: Scanner, party: str) -> None:
    for name in ("received", "sent"):
        recorded = planted.recorded(party, name)
        assert len(recorded) > 10_000
        assert scanner.find(recorded) == set()


@pytest.mark.parametrize("party", HOSPITALS)
def test_worker_is_given_no_secret_but_its_own_party_s_rows(planted: Planted, scanner: Scanner, party: str) -> None:
    found = scanner.find(planted.recorded(party, "to_worker"))
    assert {name.split(" as ")[0] for name in found} == {f"rows of {party}", f"labels of {party}"}
    assert f"rows of {party} as scaled <f8" in found
    assert scanner.find(planted.recorded(party, "from_worker")) == set()


@pytest.mark.parametrize("party", HOSPITALS)
def test_party_keeps_no_secret_readable_in_logs_database_or_sealed_files(planted: Planted, scanner: Scanner, party: str) -> None:
    files = planted.at_rest(party)
    assert {"party.log", "state/worker.log", "state/confide.db"} <= set(files)
    assert sum(name.startswith("state/sealed/") for name in files) >= 2
    assert {name: found for name, data in files.items() if (found := scanner.find(data))} == {}


def test_columns_that_a_contract_drops_are_nowhere(planted: Planted) -> None:
    canary = NAME_CANARY.encode()
    assert canary in (planted.trial.folder / f"{FROM_RAW}-train.csv").read_bytes()
    for party, tap in planted.taps.items():
        assert canary not in tap.recorded
        for name in ("received", "sent", "to_worker", "from_worker"):
            assert canary not in planted.recorded(party, name)
        assert [name for name, data in planted.at_rest(party).items() if canary in data] == []
    # Sealed files do not show what is in them, so they are opened.
    config = load_party_config(planted.trial.folder / FROM_RAW / "party.yaml")
    with one_transaction(config.folder.database_file) as tables:
        record = tables.datasets.get("train")
    opened = open_sealed(config.folder.open_sealed(), record)
    assert set(opened) == {"features", "labels", "salt", "seed", "raw_salt"}
    assert opened["features"].shape == (ROWS, breast_cancer_schema().num_features)


@pytest.mark.parametrize("party", COMPUTING)
def test_unsealed_model_share_shows_no_secret(planted: Planted, scanner: Scanner, party: str) -> None:
    training = next(job for job in planted.trial.client.jobs() if job.produced_model is not None)
    assert scanner.find(model_share_bytes(planted.trial, party, training)) == set()


@pytest.mark.parametrize("party", HOSPITALS)
def test_scanner_finds_rows_and_labels_in_their_owner_s_own_file(planted: Planted, scanner: Scanner, party: str) -> None:
    found = scanner.find((planted.trial.folder / f"{party}-train.csv").read_bytes())
    assert f"rows of {party} as raw text" in found
    labels = "\n".join(str(label) for label in planted.rows[party]["benign"]).encode()
    assert scanner.find(labels) == {f"labels of {party} as lines of a file"}


def test_scanner_finds_unshared_transfers_through_a_tap_in_every_form(planted: Planted, scanner: Scanner) -> None:
    named = {f"{secret.name} as {form}": sorted(found) for secret in planted.everything for form, found in secret.forms.items()}
    assert all(named.values()), "a form without any pattern cannot be found"
    # One pattern of every form, each at another alignment.
    leaked = b"".join(b"#" * (1 + index % 8) + patterns[0] for index, patterns in enumerate(named.values()))
    with socket.create_server(("127.0.0.1", 0)) as sink:
        tap = WireTap(free_ports(1)[0], sink.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", tap.port)) as sender:
                receiver, _ = sink.accept()
                with receiver:
                    sender.sendall(leaked)
                    sender.shutdown(socket.SHUT_WR)
                    while receiver.recv(1 << 16):
                        pass
            assert scanner.find(tap.recorded) >= set(named)
        finally:
            tap.close()
