"""Risk reports as documents: one form, strict reading, signed by the owner that they name."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.identity.directory import Directory
from governance.identity.keys import SigningKey
from governance.risk_report import StatedRisk, read_risk_report, sign_risk_report, verify_risk_report
from protocols.errors import ConfideError, ErrorCode
from tests.support.risk import a_stated_risk

KEY, OTHER_KEY = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)) for byte in (1, 2))
KEYS = {"hospital-a": KEY, "hospital-b": OTHER_KEY}
DIRECTORY = cast(Directory, SimpleNamespace(consortium="demo", party=lambda name: SimpleNamespace(signing_key=KEYS[name].public)))


def same(first: StatedRisk, second: StatedRisk) -> bool:
    return first.digest == second.digest and first.figures == second.figures


def test_report_is_read_as_it_was_written() -> None:
    stated = a_stated_risk()
    assert same(read_risk_report(stated.to_document()), stated)
    assert same(verify_risk_report(sign_risk_report(stated, KEY), DIRECTORY), stated)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "confide.risk-report/0"),
        ("owner", "Hospital A"),
        ("version", ""),
        ("time", "yesterday"),
        ("datasets", []),
        ("datasets", ["hospital-a/train"]),
        ("datasets", ["hospital-b/train/1", "hospital-a/train/1"]),
        ("members", -1),
        ("others", 1.5),
        ("shadows", "64"),
        ("seeds", [True]),
        ("method", "guessed"),
        ("figures", {"auc": ["0.5", "0.6", "0.7"]}),
        ("figures", {"auc": ["nan", "0", "1"]}),
        ("more", 1),
    ],
)
def test_report_with_a_wrong_field_is_refused(field: str, value: Any) -> None:
    document = a_stated_risk().to_document() | {field: value}
    with pytest.raises(ConfideError) as refused:
        read_risk_report(document)
    assert refused.value.code is ErrorCode.INVALID_DOCUMENT


def test_report_of_another_owner_or_consortium_is_not_believed() -> None:
    signed = sign_risk_report(a_stated_risk(owner="hospital-b"), OTHER_KEY)
    forged = replace(signed, signer="hospital-a")
    elsewhere = sign_risk_report(a_stated_risk(consortium="other"), KEY)
    for wrong, code in ((forged, ErrorCode.BAD_SIGNATURE), (elsewhere, ErrorCode.INVALID_DOCUMENT)):
        with pytest.raises(ConfideError) as refused:
            verify_risk_report(wrong, DIRECTORY)
        assert refused.value.code is code


@pytest.mark.parametrize("text", ["0230-01-01T00:00:00Z", "2026-1-31T12:00:00Z"])
def test_time_in_another_form_than_its_one_is_refused(text: str) -> None:
    document = {**a_stated_risk().to_document(), "time": text}
    with pytest.raises(ConfideError) as refused:
        read_risk_report(document)
    assert "time" in {problem.where for problem in refused.value.problems}
