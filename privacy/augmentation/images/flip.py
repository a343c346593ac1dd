"""Flip: an image is mirrored."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    mirrored = generator.random(len(images)) < settings["chance"]
    return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


TECHNIQUE = ImageTechnique(
    name="flip",
    medium=Medium.IMAGE,
    what="Images are mirrored left to right with a given chance.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=True,
        note="A second flip gives the image back. Wrong where left and right mean something: letters, digits, organs.",
    ),
    parameters=(Parameter("chance", "0", "1", whole=False, meaning="of an image to be mirrored"),),
    measured_with={"chance": "0.5"},
    make=_make,
)
