"""A commitment to samples: the bytes that are hashed, what it binds to, and that samples equal as shared are equal in it."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from privacy.preparation.query_commitment import commit_query, verify_query
from protocols.errors import ConfideError, ErrorCode

SALT = bytes(range(32))
SAMPLES = np.array([[0.5, -1.0, 0.25], [1.0, 0.0, -0.125]])


def test_commitment_is_the_digest_of_salt_shape_and_fixed_point_numbers() -> None:
    numbers = [32768, -65536, 16384, 65536, 0, -8192]
    data = b"confide.query/1\0" + SALT + struct.pack("<QQ", 2, 3) + struct.pack("<6q", *numbers)
    assert commit_query(SAMPLES, salt=SALT) == hashlib.sha256(data).hexdigest()


def test_commitment_verifies_its_samples_and_no_others() -> None:
    commitment = commit_query(SAMPLES, salt=SALT)
    assert verify_query(commitment, SAMPLES, salt=SALT)
    assert verify_query(commitment, np.asfortranarray(SAMPLES), salt=SALT)
    other = SAMPLES.copy()
    other[1, 2] += 2.0**-16
    assert not verify_query(commitment, other, salt=SALT)
    assert not verify_query(commitment, SAMPLES, salt=bytes(32))
    assert not verify_query(commitment, SAMPLES.reshape(3, 2), salt=SALT)
    assert not verify_query("", SAMPLES, salt=SALT)


def test_samples_that_are_shared_alike_have_one_commitment() -> None:
    assert commit_query(SAMPLES + 2.0**-20, salt=SALT) == commit_query(SAMPLES, salt=SALT)
    assert commit_query(SAMPLES * np.where(SAMPLES == 0, -0.0, 1), salt=SALT) == commit_query(SAMPLES, salt=SALT)


@pytest.mark.parametrize(
    ("samples", "salt", "code"),
    [
        (SAMPLES, b"short", ErrorCode.INVALID_ARGUMENT),
        (SAMPLES[0], SALT, ErrorCode.INVALID_ARGUMENT),
        (SAMPLES * 7.5, SALT, ErrorCode.INVALID_DATA),
        (SAMPLES * np.nan, SALT, ErrorCode.INVALID_DATA),
    ],
)
def test_commitment_to_what_is_not_shared_is_refused(samples: np.ndarray, salt: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConfideError) as caught:
        commit_query(samples, salt=salt)
    assert caught.value.code is code
    assert "7.5" not in str(caught.value)
