"""What a technique for texts is, and the screen that every text passes before and after.

1. Identifiers are removed from the text, by the detector that the report on re-identification uses.
2. The technique rewrites what is left.
3. The result is looked at again. It is rejected if the detector finds anything in it, sure or not, or if it holds a word that was
   found in step 1: a rejected text is no text of the augmented set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from privacy.augmentation.technique import Settings, Technique


class Found(Protocol):
    """What a detector says of one identifier in a text: its characters from `start` to before `end`."""

    @property
    def start(self) -> int:
        """The first character."""
        ...

    @property
    def end(self) -> int:
        """The character after the last."""
        ...


@dataclass(frozen=True)
class Detector:
    """Finds identifiers in texts, and writes texts without them.

    Attributes:
        find: returns what is found.
        redact: returns the text with a mark such as [PERSON] in place of each.
    """

    find: Callable[[str], Sequence[Found]]
    redact: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class TextTechnique(Technique):
    """A technique for texts.

    Attributes:
        rewrite: returns one copy of a text whose identifiers are removed, drawn with the generator. Called by `augmented` alone.
    """

    rewrite: Callable[[str, Settings, np.random.Generator], str]


def augmented(
    texts: Iterable[str], technique: TextTechnique, settings: Settings, *, detector: Detector, generator: np.random.Generator
) -> list[str | None]:
    """Returns one copy of every text, None where it was rejected; in order.

    Args:
        texts: secret.
        technique: how they are rewritten.
        settings: its parameters.
        detector: of identifiers; what it does not find stays.
        generator: the randomness.
    """
    return [_one(text, technique, settings, detector, generator) for text in texts]


def _one(
    text: str, technique: TextTechnique, settings: Settings, detector: Detector, generator: np.random.Generator
) -> str | None:
    identifiers = {text[found.start : found.end].strip().casefold() for found in detector.find(text)} - {""}
    made = technique.rewrite(detector.redact(text), settings, generator)
    kept = any(identifier in made.casefold() for identifier in identifiers)
    return None if kept or detector.find(made) else made
