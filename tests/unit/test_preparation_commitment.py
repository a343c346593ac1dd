"""The commitment fixes rows, hides them behind its salt, and has one known value."""

import hashlib
import itertools
import struct

import numpy as np
import pytest

from privacy.preparation.commitment import commit, verify
from privacy.preparation.contract import PreparedRows
from protocols.errors import ConfideError, ErrorCode

SCHEMA = "ab" * 32
SALT = bytes(range(32))


def rows_of(features: list[list[float]], labels: list[float]) -> PreparedRows:
    return PreparedRows(np.array(features), np.array(labels), {})


ROWS = rows_of([[1.0, -1.0], [0.5, 0.0]], [1.0, 0.0])


def test_commitment_is_the_documented_hash() -> None:
    text = b"confide.rows/1\x00" + SALT + bytes.fromhex(SCHEMA) + struct.pack("<QQ", 2, 2)
    text += struct.pack("<6d", 1.0, -1.0, 0.5, 0.0, 1.0, 0.0)
    assert commit(ROWS, schema_digest=SCHEMA, salt=SALT) == hashlib.sha256(text).hexdigest()
    assert commit(ROWS, schema_digest=SCHEMA, salt=SALT) == "180d9e07b1dbce62b2aaa1a3b608cd939a6d6436bfbafde6da9b7834e67b2be1"


def test_commitment_verifies_only_the_same_rows_schema_and_salt() -> None:
    commitment = commit(ROWS, schema_digest=SCHEMA, salt=SALT)
    assert verify(commitment, ROWS, schema_digest=SCHEMA, salt=SALT)
    assert not verify(commitment, ROWS, schema_digest="ac" * 32, salt=SALT)
    assert not verify(commitment, ROWS, schema_digest=SCHEMA, salt=bytes(32))
    for other in (
        rows_of([[1.0, -1.0], [0.5, 5e-324]], [1.0, 0.0]),
        rows_of([[0.5, 0.0], [1.0, -1.0]], [0.0, 1.0]),
        rows_of([[1.0, -1.0]], [1.0]),
        rows_of([[1.0], [-1.0]], [0.5, 0.0]),
        rows_of([[1.0, -1.0], [0.5, 0.0]], [0.0, 0.0]),
    ):
        assert not verify(commitment, other, schema_digest=SCHEMA, salt=SALT)
    assert not verify("not a digest", ROWS, schema_digest=SCHEMA, salt=SALT)


def test_commitment_does_not_depend_on_layout_or_the_sign_of_zero() -> None:
    same = PreparedRows(np.asfortranarray([[1.0, -1.0], [0.5, -0.0]]), np.array([1.0, -0.0]), {})
    assert verify(commit(ROWS, schema_digest=SCHEMA, salt=SALT), same, schema_digest=SCHEMA, salt=SALT)


def test_commitment_to_rows_with_few_values_is_not_found_without_the_salt() -> None:
    # one boolean feature and a label: four possible rows, all tried
    possible = [rows_of([[feature]], [label]) for feature, label in itertools.product((-1.0, 1.0), (0.0, 1.0))]
    target = commit(possible[2], schema_digest=SCHEMA, salt=SALT)
    guesses = {commit(rows, schema_digest=SCHEMA, salt=bytes(32)) for rows in possible}
    assert len(guesses) == 4
    assert target not in guesses
    assert [verify(target, rows, schema_digest=SCHEMA, salt=SALT) for rows in possible] == [False, False, True, False]


@pytest.mark.parametrize(("schema", "salt"), [(SCHEMA, b""), (SCHEMA, bytes(31)), ("", SALT), ("AB" * 32, SALT)])
def test_commitment_with_short_salt_or_digest_is_refused(schema: str, salt: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        commit(ROWS, schema_digest=schema, salt=salt)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
