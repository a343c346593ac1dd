"""Colour: brightness, contrast and the strength of each channel."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    gain = 1 + settings["strength"] * generator.uniform(-1, 1, (len(images), images.shape[1], 1, 1))
    brightness = settings["strength"] * generator.uniform(-1, 1, (len(images), 1, 1, 1))
    return np.clip(images * gain + brightness, -1.0, 1.0)


TECHNIQUE = ImageTechnique(
    name="colour",
    medium=Medium.IMAGE,
    what="Each channel is multiplied by a number near 1, and the whole image made darker or lighter.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="Shapes stay, and with them whatever they show. Wrong where a shade is a measurement, as in a CT.",
    ),
    parameters=(Parameter("strength", "0", "0.5", whole=False, meaning="the greatest change of each"),),
    measured_with={"strength": "0.2"},
    make=_make,
)
