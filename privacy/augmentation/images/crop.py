"""Crop: a part of the image, enlarged to the whole."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique, resampled
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    size = generator.uniform(settings["least"], 1.0, len(images))
    maps = np.zeros((len(images), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = size
    maps[:, :, 2] = generator.uniform(-1, 1, (len(images), 2)) * (1 - size)[:, None]
    return resampled(images, maps)


TECHNIQUE = ImageTechnique(
    name="crop",
    medium=Medium.IMAGE,
    what="A part of the image, anywhere in it, is enlarged to the whole.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="May cut off what the label is about; a marked part, for example a name on a scan, stays in some copies.",
    ),
    parameters=(Parameter("least", "0.5", "1", whole=False, meaning="the least part of each side that stays"),),
    measured_with={"least": "0.8"},
    make=_make,
)
