"""Shift by whole pixels."""

from __future__ import annotations

import numpy as np

from privacy.augmentation.image_technique import Images, ImageTechnique
from privacy.augmentation.technique import Medium, Parameter, Reads, Settings, Statement


def _make(images: Images, settings: Settings, generator: np.random.Generator) -> Images:
    most = int(settings["pixels"])
    down, right = generator.integers(-most, most + 1, (2, len(images)))
    # Beyond the edge the edge goes on: the pixel to read is the nearest that exists.
    rows = np.clip(np.arange(images.shape[2])[None, :] - down[:, None], 0, images.shape[2] - 1)
    columns = np.clip(np.arange(images.shape[3])[None, :] - right[:, None], 0, images.shape[3] - 1)
    moved = np.take_along_axis(images, rows[:, None, :, None], axis=2)
    return np.take_along_axis(moved, columns[:, None, None, :], axis=3)


TECHNIQUE = ImageTechnique(
    name="shift",
    medium=Medium.IMAGE,
    what="Images are moved by whole pixels; beyond the edge the edge goes on.",
    statement=Statement(
        reads=Reads.OWN_ROW,
        groups=1,
        reversible=False,
        note="All but the edges is the image itself, and several copies together show the edges too.",
    ),
    parameters=(Parameter("pixels", "0", "32", whole=True, meaning="the greatest move, down or up and left or right"),),
    measured_with={"pixels": "1"},
    make=_make,
)
