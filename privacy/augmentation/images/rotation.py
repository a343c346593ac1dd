"""Rotation by a small angle."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique, resampled
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    angles = np.deg2rad(settings["degrees"]) * generator.uniform(-1, 1, len(images))
    cosines, sines, ratio = np.cos(angles), np.sin(angles), images.shape[2] / images.shape[3]
    maps = np.zeros((len(images), 2, 3))
    # Coordinates go from -1 to 1 along both sides: of an oblong image, the sine needs their ratio.
    maps[:, 0, 0], maps[:, 0, 1] = cosines, -sines * ratio
    maps[:, 1, 0], maps[:, 1, 1] = sines / ratio, cosines
    return resampled(images, maps)


TECHNIQUE = ImageTechnique(
    name="rotation",
    medium=Medium.IMAGE,
    what="Images are turned by a uniform angle about their middle; beyond the edge the edge goes on.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="A turned face or scan is as recognisable as before.",
    ),
    parameters=(Parameter("degrees", "0", "45", whole=False, meaning="the greatest angle to either side"),),
    measured_with={"degrees": "12"},
    make=_make,
)
