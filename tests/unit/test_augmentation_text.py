"""Texts: no identifier survives, and what a technique rewrites still says the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

from privacy.augmentation.catalogue import TEXTS
from privacy.augmentation.text.synonyms import SETS
from privacy.augmentation.text.text_technique import Detector, TextTechnique, augmented

PLANTED = ("Zelda Quartermaine", "4711-0815", "Ignatius Vandermolen")
NOTES = (
    "Zelda Quartermaine reports fever. The patient denies chest pain. Follow-up in two weeks.",
    "Record 4711-0815. History of high blood pressure. There is no swelling. Medication was stopped.",
    "Seen by Ignatius Vandermolen. Examination shows mild oedema. The patient was given ibuprofen 2.5 g twice daily.",
)


@dataclass(frozen=True)
class _Find:
    start: int
    end: int


def _finder(*words: str) -> Detector:
    pattern = re.compile("|".join(map(re.escape, words)))
    return Detector(
        find=lambda text: [_Find(*match.span()) for match in pattern.finditer(text)],
        redact=lambda text: pattern.sub("[PERSON]", text),
    )


def _run(technique: TextTechnique, detector: Detector, seed: int = 0, chance: float = 1.0) -> list[str | None]:
    return augmented(NOTES, technique, {"chance": chance}, detector=detector, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("technique", TEXTS, ids=lambda technique: technique.name)
def test_planted_identifiers_never_survive(technique: TextTechnique) -> None:
    for seed in range(20):
        made = _run(technique, _finder(*PLANTED), seed)
        assert len([text for text in made if text is not None]) == len(NOTES)
        assert not any(word in (text or "") for text in made for word in PLANTED)
        assert made == _run(technique, _finder(*PLANTED), seed)


@pytest.mark.parametrize("technique", TEXTS, ids=lambda technique: technique.name)
def test_text_in_which_something_is_found_again_is_rejected(technique: TextTechnique) -> None:
    forgetful = Detector(_finder(*PLANTED).find, redact=lambda text: text)
    assert _run(technique, forgetful) == [None] * len(NOTES)


@pytest.mark.parametrize("technique", TEXTS, ids=lambda technique: technique.name)
def test_text_that_keeps_an_identifier_elsewhere_is_rejected(technique: TextTechnique) -> None:
    """A detector that finds a name only at the beginning of a text: the same name further on must not get through."""
    shy = Detector(
        find=lambda text: [_Find(0, 5)] if text.startswith("Ottil") else [],
        redact=lambda text: "[PERSON]" + text[5:] if text.startswith("Ottil") else text,
    )
    texts = ["Ottil called. The patient denies pain.", "Ottil called; then ottil left. The patient denies pain."]
    made = augmented(texts, technique, {"chance": 1.0}, detector=shy, generator=np.random.default_rng(1))
    assert made[0] is not None
    assert made[1] is None


@pytest.mark.parametrize("technique", TEXTS, ids=lambda technique: technique.name)
def test_chance_decides_how_much_changes(technique: TextTechnique) -> None:
    nothing_found = _finder("no such word")
    assert _run(technique, nothing_found, chance=0.0) == list(NOTES)
    assert all(made != note for made, note in zip(_run(technique, nothing_found, chance=1.0), NOTES, strict=True))


def test_synonyms_are_of_the_same_set_and_keep_the_rest() -> None:
    rewrite = TEXTS[0].rewrite
    for alike in SETS:
        for phrase in alike:
            made = {rewrite(f"Note: {phrase}, since May.", {"chance": 1.0}, np.random.default_rng(seed)) for seed in range(30)}
            assert made == {f"Note: {other}, since May." for other in alike if other != phrase}
    assert rewrite("Fever.", {"chance": 1.0}, np.random.default_rng(0)) == "Pyrexia."
    assert len({phrase for alike in SETS for phrase in alike}) == sum(map(len, SETS))  # no phrase is in two sets


def test_templates_keep_what_a_sentence_says() -> None:
    rewrite = TEXTS[1].rewrite
    text = "Pt reports fever of 38.5 degrees. The patient denies chest pain. He slept. There was no rash."
    made = {rewrite(text, {"chance": 1.0}, np.random.default_rng(seed)) for seed in range(50)}
    assert len(made) > 5
    for each in made:
        assert "fever of 38.5 degrees." in each
        assert re.search(r"\b(no|denies|absence of)\b[^.]* chest pain\.|no chest pain\.", each, flags=re.IGNORECASE)
        assert re.search(r"(No rash was found|Absence of rash)\.", each)
        assert "He slept." in each


@pytest.mark.slow
@pytest.mark.outside_world  # the detector's import asks whether there is IPv6, by a socket that it never connects
def test_names_in_notes_do_not_survive_the_established_detector() -> None:
    pytest.importorskip("presidio_analyzer")
    from privacy.reidentification.entities import find_entities, redact

    detector = Detector(find_entities, redact)
    notes = [
        "Mr John Smith was admitted. The patient denies chest pain. His e-mail is john.smith@example.org.",
        "Seen by Dr Mary Johnson on 12 March 2024. There is no fever. Follow-up in two weeks.",
    ]
    for technique in TEXTS:
        made = augmented(notes, technique, {"chance": 1.0}, detector=detector, generator=np.random.default_rng(0))
        assert any(text is not None for text in made)
        for text in made:
            assert text is None or not re.search(r"john|smith|mary|johnson|example\.org", text, flags=re.IGNORECASE)
