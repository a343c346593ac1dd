"""Synonyms: words and phrases of clinical notes are exchanged for others that mean the same.

The table is small and ours: sets of equal meaning in English notes. A larger one would change meanings more often than it helps;
texts of other fields pass through nearly unchanged.
"""

from __future__ import annotations

import re

import numpy as np

from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement
from privacy.augmentation.text.text_technique import TextTechnique

SETS: tuple[tuple[str, ...], ...] = (
    ("shortness of breath", "breathlessness", "dyspnoea"),
    ("high blood pressure", "hypertension"),
    ("heart attack", "myocardial infarction"),
    ("stroke", "cerebrovascular accident"),
    ("fever", "pyrexia"),
    ("itching", "pruritus"),
    ("nosebleed", "epistaxis"),
    ("vomiting", "emesis"),
    ("swelling", "oedema"),
    ("tiredness", "fatigue"),
    ("difficulty swallowing", "dysphagia"),
    ("high blood sugar", "hyperglycaemia"),
    ("low blood sugar", "hypoglycaemia"),
    ("rapid heart rate", "tachycardia"),
    ("slow heart rate", "bradycardia"),
    ("irregular heartbeat", "arrhythmia"),
    ("blood clot", "thrombus"),
    ("gallstones", "cholelithiasis"),
    ("physician", "doctor"),
    ("medication", "medicine"),
    ("began", "started", "commenced"),
    ("stopped", "discontinued"),
    ("shows", "demonstrates"),
    ("increased", "raised", "elevated"),
    ("reduced", "decreased", "lowered"),
    ("twice daily", "two times a day"),
    ("once daily", "every day"),
    ("approximately", "about", "roughly"),
    ("mild", "slight"),
    ("severe", "intense"),
    ("improved", "got better"),
    ("worsened", "got worse"),
)
_SET_OF = {phrase: alike for alike in SETS for phrase in alike}
# The longest first: "low blood sugar" is no "blood sugar" with a word before it.
_PHRASES = re.compile(rf"\b({'|'.join(sorted(map(re.escape, _SET_OF), key=len, reverse=True))})\b", flags=re.IGNORECASE)


def _rewrite(text: str, settings: Settings, generator: np.random.Generator) -> str:
    def exchanged(match: re.Match[str]) -> str:
        phrase = match.group(0)
        if generator.random() >= settings["chance"]:
            return phrase
        others = [other for other in _SET_OF[phrase.lower()] if other != phrase.lower()]
        other = others[generator.integers(len(others))]
        return other.capitalize() if phrase[0].isupper() else other

    return _PHRASES.sub(exchanged, text)


TECHNIQUE = TextTechnique(
    name="synonyms",
    medium=Medium.TEXT,
    what="Words and phrases of clinical notes are exchanged for others of the same meaning, from a small table.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="Who knows the table gets close to the text again. Nothing but the detector removes identifiers: what it overlooks "
        "stays.",
    ),
    parameters=(Parameter("chance", "0", "1", whole=False, meaning="of a phrase of the table to be exchanged"),),
    measured_with={"chance": "0.5"},
    rewrite=_rewrite,
)
