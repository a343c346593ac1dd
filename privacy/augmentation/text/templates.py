"""Template paraphrase: sentences of known forms are said in another way, with the same parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement
from privacy.augmentation.text.text_technique import TextTechnique


@dataclass(frozen=True)
class _Template:
    """One form of a sentence, and other ways to say it; `{what}` is the part that stays."""

    form: re.Pattern[str]
    others: tuple[str, ...]


# The part that stays ends with its sentence; a point between digits ends none.
_WHAT = r"(?P<what>(?:[^.;\n]|(?<=\d)\.(?=\d))+)"
_START = r"(?:(?<=^)|(?<=[.;\n] ))"


def _template(form: str, *others: str) -> _Template:
    return _Template(re.compile(_START + form.replace("{what}", _WHAT) + r"(?=\.)", flags=re.MULTILINE), others)


TEMPLATES = (
    _template("(?:The patient|Patient|Pt) denies {what}", "The patient reports no {what}", "By the patient's account no {what}"),
    _template(
        "(?:The patient|Patient|Pt) (?:reports|complains of|describes) {what}",
        "The patient mentions {what}",
        "The patient presents with {what}",
        "Complaint: {what}",
    ),
    _template("There (?:is|was) no {what}", "No {what} was found", "Absence of {what}"),
    _template("(?:Examination|On examination:) (?:shows|showed|reveals|revealed) {what}", "Found on examination: {what}"),
    _template("(?:The patient|Patient|Pt) was (?:given|treated with) {what}", "Treatment: {what}", "The patient received {what}"),
    _template("History of {what}", "Past history: {what}", "Known {what}"),
    _template("Follow-up in {what}", "To be seen again in {what}", "Review in {what}"),
    _template("Advised to {what}", "The advice is to {what}", "It was recommended to {what}"),
)


def _rewrite(text: str, settings: Settings, generator: np.random.Generator) -> str:
    for template in TEMPLATES:
        # Bound as defaults: the function is called within this turn alone, and the linter cannot know it.
        def said_otherwise(match: re.Match[str], others: tuple[str, ...] = template.others) -> str:
            if generator.random() >= settings["chance"]:
                return match.group(0)
            return others[generator.integers(len(others))].format(what=match.group("what"))

        text = template.form.sub(said_otherwise, text)
    return text


TECHNIQUE = TextTechnique(
    name="templates",
    medium=Medium.TEXT,
    what="Sentences of a few known forms of clinical notes are said in another way, with the same parts.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="What the sentence says stays word by word. Nothing but the detector removes identifiers: what it overlooks stays.",
    ),
    parameters=(Parameter("chance", "0", "1", whole=False, meaning="of a sentence of a known form to be said otherwise"),),
    measured_with={"chance": "0.5"},
    rewrite=_rewrite,
)
