"""What a researcher keeps of her jobs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from parties.client.records import JobRecords
from protocols.errors import ConfideError, ErrorCode
from tests.support.jobs import CREATED, a_training, an_inference

JOB = an_inference()
IDS = {"prediction": "0f" * 16}


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    records = JobRecords(tmp_path / "jobs")
    records.add(JOB, request_ids=IDS)
    return records


def refusal(records: JobRecords, job_id: str) -> ErrorCode:
    with pytest.raises(ConfideError) as caught:
        records.job(job_id)
    return caught.value.code


def test_job_is_found_by_its_id_and_by_an_unambiguous_beginning(records: JobRecords) -> None:
    assert records.job(JOB.job_id) == records.job(JOB.job_id[:6]) == JOB


def test_job_kept_again_keeps_its_request_ids(records: JobRecords) -> None:
    records.add(JOB, request_ids={"prediction": "ff" * 16})
    assert records.request_id(JOB.job_id, "prediction") == IDS["prediction"]


def test_job_over_a_wide_table_is_kept_and_found(records: JobRecords) -> None:
    schema = {"columns": [{"name": f"column-{number}", "range": ["0", "1"]} for number in range(1_000)]}
    job = an_inference(schema=schema)
    records.add(job, request_ids=IDS)
    assert records.job(job.job_id) == job


def test_jobs_are_listed_the_latest_first(records: JobRecords) -> None:
    later_by = timedelta(hours=1)
    later = a_training(created=CREATED + later_by, agree_by=CREATED + 2 * later_by, expires=CREATED + 2 * later_by)
    records.add(later, request_ids={})
    assert records.jobs() == [later, JOB]


@pytest.mark.parametrize("job_id", ["", "0" * 32, "*", "../x", "[0-9a-f]", JOB.job_id + "0"])
def test_job_unknown_ambiguous_or_no_id_is_unknown(job_id: str, records: JobRecords) -> None:
    assert refusal(records, job_id) is ErrorCode.UNKNOWN_JOB


def test_salt_of_an_inference_is_kept_and_a_training_has_none(records: JobRecords) -> None:
    job = an_inference(nonce="01" * 16)
    records.add(job, request_ids=IDS, query_salt=b"s" * 32)
    assert records.query_salt(job.job_id[:8]) == b"s" * 32
    training = a_training()
    records.add(training, request_ids={})
    with pytest.raises(ConfideError) as caught:
        records.query_salt(training.job_id)
    assert caught.value.code is ErrorCode.UNKNOWN_JOB


def test_request_id_of_an_output_that_the_job_has_not_is_unknown(records: JobRecords) -> None:
    with pytest.raises(ConfideError) as caught:
        records.request_id(JOB.job_id, "weights")
    assert caught.value.code is ErrorCode.UNKNOWN_OUTPUT


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"job": "x"}'])
def test_record_that_is_damaged_is_reported_as_such(content: bytes, records: JobRecords) -> None:
    path = next(records.folder.glob("*.json"))
    path.write_bytes(content)
    assert refusal(records, JOB.job_id) is ErrorCode.STATE_DAMAGED


def test_records_can_be_read_by_their_owner_alone(records: JobRecords) -> None:
    assert {path.stat().st_mode & 0o777 for path in records.folder.iterdir()} == {0o600}
