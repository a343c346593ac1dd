"""Files: whole or not at all, secret ones closed to others; sealed ones open only where they belong."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from parties.arrays import arrays_from_bytes, arrays_to_bytes
from parties.storage.files import exclusive_lock, make_folder, read_public, read_secret, write_public, write_secret
from parties.storage.sealed import Purpose, SealedFiles, StorageKey, generate_storage_key
from protocols.errors import ConfideError, ErrorCode

ROWS = b"0.25 0.75 the rows nobody else may read"


@pytest.fixture
def sealed(tmp_path: Path) -> SealedFiles:
    return SealedFiles(tmp_path, generate_storage_key())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_file_has_mode_0600_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_secret(tmp_path / "key", b"secret")
    finally:
        os.umask(old)
    assert _mode(tmp_path / "key") == 0o600
    assert read_secret(tmp_path / "key") == b"secret"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_secret_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_secret(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfideError) as caught:
        read_secret(tmp_path / "key")
    assert caught.value.code is ErrorCode.FILE_MODE
    assert f"{mode:04o}" in str(caught.value)


def test_write_over_a_file_replaces_it_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_public(tmp_path / "file", b"a longer first version")
    write_public(tmp_path / "file", b"second")
    assert read_public(tmp_path / "file", max_bytes=100) == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_write_that_cannot_finish_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfideError) as caught:
        write_secret(tmp_path / "taken", b"secret")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_read_of_folder_pipe_missing_or_too_large_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    write_secret(tmp_path / "large", bytes(11))
    for name in ("pipe", ".", "missing", "large"):
        with pytest.raises(ConfideError) as caught:
            read_secret(tmp_path / name, max_bytes=10)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_make_folder_closes_it_and_the_parents_it_makes(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert _mode(tmp_path / "a") == _mode(tmp_path / "a" / "b") == 0o700
    make_folder(tmp_path / "a" / "b")
    write_public(tmp_path / "file", b"")
    with pytest.raises(ConfideError):
        make_folder(tmp_path / "file")


def test_lock_held_by_another_is_refused_at_once_and_free_afterwards(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "lock", busy="taken"):
        with pytest.raises(ConfideError, match="taken") as caught, exclusive_lock(tmp_path / "lock", busy="taken"):
            pass
        assert caught.value.code is ErrorCode.STATE_LOCKED
    with exclusive_lock(tmp_path / "lock", busy="taken"):
        pass


def test_sealed_file_after_round_trip_is_equal_and_hides_everything(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", ROWS)
    stored = (tmp_path / name).read_bytes()
    assert sealed.read(Purpose.DATASET, "tumours/1", name) == ROWS
    assert _mode(tmp_path / name) == 0o600
    assert ROWS not in stored
    assert b"tumours" not in stored
    assert "tumours" not in name


def test_sealed_same_contents_twice_gives_unrelated_files(sealed: SealedFiles, tmp_path: Path) -> None:
    first, second = (sealed.write(Purpose.DATASET, "tumours/1", ROWS) for _ in range(2))
    a, b = (tmp_path / first).read_bytes(), (tmp_path / second).read_bytes()
    magic = 8
    assert first != second
    assert a[:magic] == b[:magic]
    # Independent keys and nonces: of the other bytes about one in 256 agrees by chance; 20 are far outside that.
    assert sum(x == y for x, y in zip(a[magic:], b[magic:], strict=True)) < 20


def _damaged(sealed: SealedFiles, name: str, *, purpose: Purpose = Purpose.DATASET, object_id: str = "tumours/1") -> None:
    with pytest.raises(ConfideError) as caught:
        sealed.read(purpose, object_id, name)
    assert caught.value.code is ErrorCode.STATE_DAMAGED


def test_sealed_file_altered_in_any_byte_does_not_open(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", b"rows")
    whole = (tmp_path / name).read_bytes()
    for position in range(len(whole)):
        altered = bytearray(whole)
        altered[position] ^= 0x40
        (tmp_path / name).write_bytes(altered)
        _damaged(sealed, name)


def test_sealed_file_cut_or_extended_does_not_open(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", b"rows")
    whole = (tmp_path / name).read_bytes()
    for data in (whole[:-1], whole + b"\0", b"", whole[:8], whole[:80]):
        (tmp_path / name).write_bytes(data)
        _damaged(sealed, name)


def test_sealed_files_swapped_do_not_open(sealed: SealedFiles, tmp_path: Path) -> None:
    first = sealed.write(Purpose.DATASET, "tumours/1", b"rows of version one")
    second = sealed.write(Purpose.DATASET, "tumours/2", b"rows of version two")
    one, two = (tmp_path / first).read_bytes(), (tmp_path / second).read_bytes()
    (tmp_path / first).write_bytes(two)
    (tmp_path / second).write_bytes(one)
    _damaged(sealed, first)
    _damaged(sealed, second, object_id="tumours/2")


def test_sealed_file_with_header_of_another_does_not_open(sealed: SealedFiles, tmp_path: Path) -> None:
    first = sealed.write(Purpose.DATASET, "tumours/1", b"first")
    second = sealed.write(Purpose.DATASET, "tumours/1", b"other")
    one, two = (tmp_path / first).read_bytes(), (tmp_path / second).read_bytes()
    (tmp_path / first).write_bytes(two[:80] + one[80:])
    _damaged(sealed, first)


def test_sealed_file_for_other_purpose_does_not_open(sealed: SealedFiles) -> None:
    name = sealed.write(Purpose.OUTPUT_SHARE, "tumours/1", ROWS)
    _damaged(sealed, name, purpose=Purpose.MODEL_SHARE)


def test_sealed_file_under_other_storage_key_does_not_open(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", ROWS)
    _damaged(SealedFiles(tmp_path, generate_storage_key()), name)


def test_sealed_file_missing_or_with_a_path_for_a_name_is_refused(sealed: SealedFiles) -> None:
    for name in ("0" * 32 + ".sealed", "../confide.db", "/etc/passwd", ""):
        _damaged(sealed, name)


def test_sealed_file_open_to_others_is_refused(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", ROWS)
    (tmp_path / name).chmod(0o644)
    with pytest.raises(ConfideError) as caught:
        sealed.read(Purpose.DATASET, "tumours/1", name)
    assert caught.value.code is ErrorCode.FILE_MODE


def test_sealed_file_deleted_twice_is_gone(sealed: SealedFiles, tmp_path: Path) -> None:
    name = sealed.write(Purpose.DATASET, "tumours/1", ROWS)
    sealed.delete(name)
    sealed.delete(name)
    assert not list(tmp_path.iterdir())


def test_storage_key_shows_nothing_and_refuses_pickling() -> None:
    key = StorageKey(b"k" * 32)
    assert repr(key) == "StorageKey(secret)"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(ConfideError):
        StorageKey(b"short")


def test_arrays_after_round_trip_keep_dtype_shape_and_values() -> None:
    shares = np.array([[-(2**63), 2**63 - 1], [0, 1], [7, -7]], dtype=np.int64)
    arrays = {"shares": shares, "turned": shares.T, "rows": np.array([0.1, -0.5])}
    read = arrays_from_bytes(arrays_to_bytes(arrays))
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_arrays_from_other_bytes_are_refused() -> None:
    for data in (b"", b"\x80\x04pickle", b"\xff" * 64):
        with pytest.raises(ConfideError) as caught:
            arrays_from_bytes(data)
        assert caught.value.code is ErrorCode.STATE_DAMAGED
