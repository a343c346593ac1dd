"""Registration of different columns of the same people: one alignment, no identifier kept, nothing left out."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from parties.alignment_secrets import AlignBy, make_alignment_secret, read_alignment_secret
from parties.config import PartyConfig, load_party_config, write_party_config
from parties.registration import open_rows, register_dataset
from parties.server.party import dataset_ref
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from privacy.preparation.contract import OnViolation
from protocols.errors import ConfideError, ErrorCode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAD = "api_version: confide/v1\nkind: TableSchema\nname: part\ncolumns:\n  - {name: patient, role: identifier}\n"
FIRST = HEAD + "  - {name: dose, role: feature, type: float, range: [0, 40]}\n  - {name: ill, role: label, type: boolean}\n"
OTHER = HEAD + "  - {name: nodes, role: feature, type: integer, range: [0, 10]}\n"
FIRST_ROWS = "patient,dose,ill\nperson-17,10,true\nperson-4,20,false\n"
OTHER_ROWS = "nodes,patient\n5,person-17\n0,person-4\n"


@pytest.fixture
def config(tmp_path: Path) -> PartyConfig:
    write_party_config(tmp_path / "party.yaml", party="hospital-a", listen="0.0.0.0:7443")
    config = load_party_config(tmp_path / "party.yaml")
    config.folder.create_storage()
    return config


@pytest.fixture
def align_by(tmp_path: Path) -> AlignBy:
    make_alignment_secret(tmp_path / "alignment.key")
    return AlignBy(tmp_path / "alignment.key", "study")


def _register(
    config: PartyConfig, schema: str, rows: str, align_by: AlignBy | None, *, how: OnViolation = OnViolation.REFUSE
) -> DatasetRecord:
    file, schema_file = config.state / "rows.csv", config.state / "schema.yaml"
    file.write_text(rows)
    schema_file.write_text(schema)
    return register_dataset(config, name="part", file=file, schema_file=schema_file, on_violation=how, now=NOW, align_by=align_by)


def test_parts_of_the_same_people_get_one_alignment_and_their_own_columns(config: PartyConfig, align_by: AlignBy) -> None:
    first, other = _register(config, FIRST, FIRST_ROWS, align_by), _register(config, OTHER, OTHER_ROWS, align_by)
    assert first.alignment == other.alignment
    assert len(first.alignment) == 64
    assert first.commitment != other.commitment
    refs = [dataset_ref("hospital-a", record) for record in (first, other)]
    assert [(ref.num_features, ref.has_label, ref.num_rows) for ref in refs] == [(1, True, 2), (1, False, 2)]
    rows = open_rows(config.folder.open_sealed(), other)
    np.testing.assert_array_equal(rows.features, [[0.0], [-1.0]])
    assert rows.labels.shape == (0,)
    database = open_database(config.folder.database_file)
    with database.transaction() as tables:
        assert tables.datasets.get("part") == other
    database.close()


@pytest.mark.parametrize("rows", ["nodes,patient\n0,person-4\n5,person-17\n", OTHER_ROWS + "1,person-9\n"])
def test_part_of_other_people_or_another_order_gets_another_alignment(rows: str, config: PartyConfig, align_by: AlignBy) -> None:
    assert _register(config, OTHER, rows, align_by).alignment != _register(config, FIRST, FIRST_ROWS, align_by).alignment


def test_identifiers_and_the_secret_are_kept_nowhere(config: PartyConfig, align_by: AlignBy) -> None:
    _register(config, OTHER, OTHER_ROWS, align_by)
    (config.state / "rows.csv").unlink()
    secret = read_alignment_secret(align_by.secret_file)
    align_by.secret_file.unlink()
    for path in config.state.rglob("*"):
        if path.is_file():
            assert not any(needle in path.read_bytes() for needle in (b"person-", secret, secret.hex().encode())), path


def test_rows_without_a_label_are_refused_unless_they_are_aligned(config: PartyConfig) -> None:
    with pytest.raises(ConfideError, match="beside other columns") as caught:
        _register(config, OTHER, OTHER_ROWS, None)
    assert caught.value.code is ErrorCode.INVALID_SCHEMA
    assert _register(config, FIRST, FIRST_ROWS, None).alignment == ""


def test_aligned_rows_are_not_left_out(config: PartyConfig, align_by: AlignBy) -> None:
    with pytest.raises(ConfideError, match="not left out") as caught:
        _register(config, OTHER, OTHER_ROWS + "99,person-9\n", align_by, how=OnViolation.LEAVE_OUT)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(ConfideError, match="1 cell"):
        _register(config, OTHER, OTHER_ROWS + "99,person-9\n", align_by)


def test_alignment_secret_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "alignment.key"
    make_alignment_secret(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(read_alignment_secret(file)) == 32
    with pytest.raises(ConfideError, match="not overwritten"):
        make_alignment_secret(file)
    make_alignment_secret(tmp_path / "other.key")
    assert read_alignment_secret(tmp_path / "other.key") != read_alignment_secret(file)


def test_alignment_secret_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "alignment.key"
    file.write_text("ab" * 32)
    file.chmod(0o644)
    with pytest.raises(ConfideError) as caught:
        read_alignment_secret(file)
    assert caught.value.code is ErrorCode.FILE_MODE
    file.chmod(0o600)
    assert read_alignment_secret(file) == b"\xab" * 32
    file.write_text("our study of 2026")
    with pytest.raises(ConfideError, match="64 hexadecimal digits") as caught:
        read_alignment_secret(file)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "our study" not in str(caught.value)
