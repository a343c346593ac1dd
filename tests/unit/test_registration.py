"""Registration: rows are checked, sealed and committed to, and open again only as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from parties.config import PartyConfig, load_party_config, write_party_config
from parties.registration import open_rows, register_dataset
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from parties.storage.sealed import Purpose
from privacy.preparation.contract import OnViolation
from protocols.errors import ConfideError, ErrorCode
from tests.support.small_table import ROWS, SCHEMA

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> PartyConfig:
    write_party_config(tmp_path / "party.yaml", party="hospital-a", listen="0.0.0.0:7443")
    config = load_party_config(tmp_path / "party.yaml")
    config.folder.create_storage()
    return config


def _register(config: PartyConfig, *, rows: str = ROWS, how: OnViolation = OnViolation.REFUSE) -> DatasetRecord:
    file, schema = config.state / "rows.csv", config.state / "schema.yaml"
    file.write_text(rows)
    schema.write_text(SCHEMA)
    return register_dataset(config, name="tumours", file=file, schema_file=schema, on_violation=how, now=NOW)


def test_registered_rows_open_again_scaled(config: PartyConfig) -> None:
    record = _register(config)
    rows = open_rows(config.folder.open_sealed(), record)
    assert (record.version, record.num_rows, dict(record.left_out)) == (1, 3, {})
    # Scaling maps the public range to [-1, 1]: 10 of 0..40 is -1/2, 5 of 0..10 is 0; exact in float64.
    np.testing.assert_array_equal(rows.features[:2], [[-0.5, 0.0], [1.0, -1.0]])
    np.testing.assert_array_equal(rows.labels, [1.0, 0.0, 1.0])


def test_registered_again_gets_the_next_version_and_another_commitment(config: PartyConfig) -> None:
    first, second = _register(config), _register(config)
    assert (first.version, second.version) == (1, 2)
    assert first.commitment != second.commitment
    open_rows(config.folder.open_sealed(), first)


def test_rows_outside_the_contract_are_refused_and_nothing_is_kept(config: PartyConfig) -> None:
    with pytest.raises(ConfideError) as caught:
        _register(config, rows=ROWS + "41,5,true\n")
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert "row 4" in caught.value.problems[0].where
    assert not list(config.folder.sealed_folder.iterdir())


def test_rows_outside_the_contract_are_left_out_and_counted_if_asked(config: PartyConfig) -> None:
    record = _register(config, rows=ROWS + "41,5,true\n,5,true\n", how=OnViolation.LEAVE_OUT)
    assert record.num_rows == 3
    assert dict(record.left_out) == {"out_of_range": 1, "missing": 1}


def test_rows_are_nowhere_in_the_clear(config: PartyConfig) -> None:
    _register(config)
    (config.state / "rows.csv").unlink()
    scaled = np.float64(31.337 / 20 - 1)
    needles = (b"31.337", scaled.tobytes(), np.float64(31.337).tobytes(), np.float32(31.337).tobytes())
    for path in config.state.rglob("*"):
        if path.is_file():
            assert not any(needle in path.read_bytes() for needle in needles), path


def test_more_rows_than_configured_are_refused(config: PartyConfig) -> None:
    with pytest.raises(ConfideError, match="allows 2") as caught:
        _register(config.model_copy(update={"max_rows": 2}))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("name", "file"), [("Not An Id", "rows.csv"), ("tumours", "rows.xlsx"), ("tumours", "missing.csv")])
def test_wrong_name_or_file_is_refused(config: PartyConfig, name: str, file: str) -> None:
    (config.state / "schema.yaml").write_text(SCHEMA)
    with pytest.raises(ConfideError) as caught:
        register_dataset(
            config,
            name=name,
            file=config.state / file,
            schema_file=config.state / "schema.yaml",
            on_violation=OnViolation.REFUSE,
            now=NOW,
        )
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_sealed_rows_replaced_by_others_of_the_same_owner_are_refused(config: PartyConfig) -> None:
    # The owner's own key seals other rows under the same id: the seal opens, the commitment tells.
    record, other = _register(config), _register(config, rows=ROWS.replace("true", "false"))
    sealed = config.folder.open_sealed()
    contents = sealed.read(Purpose.DATASET, other.object_id, other.sealed_name)
    name = sealed.write(Purpose.DATASET, record.object_id, contents)
    (config.folder.sealed_folder / name).replace(config.folder.sealed_folder / record.sealed_name)
    with pytest.raises(ConfideError) as caught:
        open_rows(sealed, record)
    assert caught.value.code is ErrorCode.STATE_DAMAGED


def test_registration_that_cannot_be_kept_leaves_no_sealed_rows(config: PartyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from parties.storage.datasets import DatasetStore

    def fail(_self: DatasetStore, _record: DatasetRecord) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(DatasetStore, "add", fail)
    with pytest.raises(OSError, match="disk full"):
        _register(config)
    assert not list(config.folder.sealed_folder.iterdir())
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        assert tables.datasets.latest() == ()
    database.close()
