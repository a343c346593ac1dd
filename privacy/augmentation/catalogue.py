"""The catalogue: every technique there is, closed; a name that is not here is no technique."""

from __future__ import annotations

from collections.abc import Mapping

from privacy.augmentation.image_technique import ImageTechnique
from privacy.augmentation.images import colour, crop, flip, noise, rotation, shift
from privacy.augmentation.table_techniques import TABLES
from privacy.augmentation.technique import Technique
from privacy.augmentation.text import synonyms, templates
from privacy.augmentation.text.text_technique import TextTechnique
from protocols.errors import ConfideError, ErrorCode

IMAGES: tuple[ImageTechnique, ...] = (
    flip.TECHNIQUE,
    rotation.TECHNIQUE,
    shift.TECHNIQUE,
    crop.TECHNIQUE,
    noise.TECHNIQUE,
    colour.TECHNIQUE,
)
TEXTS: tuple[TextTechnique, ...] = (synonyms.TECHNIQUE, templates.TECHNIQUE)
TECHNIQUES: Mapping[str, Technique] = {technique.name: technique for technique in (*TABLES, *IMAGES, *TEXTS)}


def technique_named(name: str) -> Technique:
    """Returns a technique.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): there is none of this name.
    """
    if name not in TECHNIQUES:
        what = f"{name[:64]!r} is no technique of the catalogue"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Choose one of {', '.join(TECHNIQUES)}.")
    return TECHNIQUES[name]
