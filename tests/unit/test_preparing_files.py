"""Raw files on the disk that change, and new ones that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parties.preparing.files import new_file
from parties.raw_file import raw_source
from protocols.errors import ConfideError, ErrorCode


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    (tmp_path / "ward.csv").write_text("a,b\n1,2\n")
    return tmp_path / "ward.csv"


def change(path: Path, how: str) -> None:
    if how == "appended":
        with path.open("a") as file:
            file.write("x")
        return
    path.unlink()
    if how == "replaced":
        path.write_text("a,b\n1,2\n")


@pytest.mark.parametrize("how", ["appended", "replaced", "removed"])
def test_file_that_changes_while_it_is_open_is_refused(ward: Path, how: str) -> None:
    with pytest.raises(ConfideError) as caught, raw_source(ward):
        change(ward, how)
    assert caught.value.code is ErrorCode.FILE_CHANGED


def test_pipe_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv", "nothing.csv", "rows.txt"):
        with pytest.raises(ConfideError) as caught, raw_source(tmp_path / name):
            pass
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_bytes(b"kept")
    with pytest.raises(ConfideError, match="exists"), new_file(tmp_path / "out.parquet"):
        pass
    assert (tmp_path / "out.parquet").read_bytes() == b"kept"


def test_file_that_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_file(tmp_path / "out.parquet") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    with new_file(tmp_path / "out.parquet") as file:
        file.write(b"whole")
    assert (tmp_path / "out.parquet").read_bytes() == b"whole"
    assert (tmp_path / "out.parquet").stat().st_mode & 0o777 == 0o600
