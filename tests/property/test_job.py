"""The job document, for any change of a valid one: read exactly, or refused as a document, job or model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from tests.support.hostile import VALUES, at_paths, replaced
from tests.support.jobs import a_training, an_evaluation, an_inference
from tests.support.parts import in_parts

JOBS = (a_training(), an_evaluation(), an_inference(), in_parts(a_training()))
DOCUMENTS = [job.to_document() for job in JOBS]
REFUSALS = {ErrorCode.INVALID_DOCUMENT, ErrorCode.INVALID_JOB, ErrorCode.INVALID_MODEL}


def read(data: bytes) -> Job | ErrorCode:
    try:
        return Job.from_bytes(data)
    except ConfideError as error:
        return error.code


@given(st.sampled_from(DOCUMENTS), st.data(), VALUES)
def test_from_bytes_any_value_anywhere_is_read_exactly_or_refused(
    document: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    path = data.draw(st.sampled_from(at_paths(document)))
    written = canonical_bytes(replaced(document, path, value))
    found = read(written)
    # What is read is written back byte for byte: nothing is dropped, and one job has one digest.
    assert found in REFUSALS if isinstance(found, ErrorCode) else found.to_bytes() == written


@given(st.sampled_from(DOCUMENTS), st.data())
def test_from_bytes_any_field_left_out_is_refused(document: dict[str, Any], data: st.DataObject) -> None:
    left_out = data.draw(st.sampled_from(sorted(document)))
    assert read(canonical_bytes({key: value for key, value in document.items() if key != left_out})) is ErrorCode.INVALID_JOB


@given(st.binary(max_size=200))
def test_from_bytes_any_bytes_are_refused(data: bytes) -> None:
    assert read(data) in REFUSALS


@given(st.sampled_from(DOCUMENTS), st.data())
def test_from_bytes_any_cut_is_refused(document: dict[str, Any], data: st.DataObject) -> None:
    written = canonical_bytes(document)
    assert read(written[: data.draw(st.integers(0, len(written) - 1))]) is ErrorCode.INVALID_DOCUMENT
