"""Masking by processes gives what the exponent gives, in order; a process that is lost or fed wrongly is no result."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from parties.linking.masker import NAME
from parties.linking.masking import BATCH, Maskers
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import SECRET_BYTES, Exponent
from protocols.secrets import SecretBytes

pytestmark = pytest.mark.outside_world  # starts the processes

KEY = Exponent.from_secret(SecretBytes(hashlib.shake_256(b"key").digest(SECRET_BYTES)))


def test_processes_mask_as_the_exponent_does_and_end() -> None:
    elements = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(2 * BATCH + 3)]
    with Maskers(KEY, processes=2) as maskers:
        pids = [process.pid for process in maskers._all]
        masked = maskers.hashed(elements)
        for which in (0, 1, BATCH - 1, BATCH, 2 * BATCH + 2):
            assert masked[which] == KEY.power_of_hash(elements[which])
        doubled = [point for batch in maskers.powers(masked[: BATCH + 1]) for point in batch]
        assert (doubled[0], doubled[BATCH]) == (KEY.power(masked[0]), KEY.power(masked[BATCH]))
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
        assert {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids} == {NAME}
    secret = KEY.export_secret_bytes()
    assert not any(secret in command or secret.hex().encode() in command for command in commands)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_value_that_is_no_point_is_refused() -> None:
    with Maskers(KEY, processes=1) as maskers:
        with pytest.raises(ConfideError) as caught:
            list(maskers.powers([bytes(31) + b"\x01"]))
        assert caught.value.code is ErrorCode.BAD_FRAME
        assert maskers.hashed([bytes(32)]) == [KEY.power_of_hash(bytes(32))]  # it goes on


def test_lost_process_is_no_result() -> None:
    with Maskers(KEY, processes=1) as maskers:
        maskers.hashed([bytes(32)])
        os.kill(maskers._all[0].pid, signal.SIGKILL)
        with pytest.raises(ConfideError) as caught:
            maskers.hashed([bytes(32)])
        assert caught.value.code is ErrorCode.WORKER_LOST
