"""Bounded noise on every pixel."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    return np.clip(images + settings["width"] * generator.uniform(-1, 1, images.shape), -1.0, 1.0)


TECHNIQUE = ImageTechnique(
    name="noise",
    medium=Medium.IMAGE,
    what="Every value of every pixel is moved by a uniform amount of at most the width.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="The mean of many copies comes back to the image. This noise is no differential privacy.",
    ),
    parameters=(Parameter("width", "0", "1", whole=False, meaning="the greatest move, where black to white is 2"),),
    measured_with={"width": "0.3"},
    make=_make,
)
