"""What a technique for images is, and how an image is read between its points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.augmentation.technique import Settings, Technique

Images: TypeAlias = NDArray[np.float64]  # (images, channels, height, width) in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class ImageTechnique(Technique):
    """A technique for images.

    Attributes:
        make: returns one copy of every image, drawn with the generator; labels stay what they are.
    """

    make: Callable[[Images, Settings, np.random.Generator], Images]


def resampled(images: Images, maps: NDArray[np.float64]) -> Images:
    """Returns images read through affine maps, linearly between points; beyond the edge the edge goes on.

    Args:
        images: the images.
        maps: (images, 2, 3) float64, from a point of the result to the point that is read; both go from -1 to 1, x first.
    """
    import torch  # takes seconds, and only this function needs it

    pixels = torch.as_tensor(images)
    grid = torch.nn.functional.affine_grid(torch.as_tensor(maps), list(pixels.shape), align_corners=False)
    read = torch.nn.functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    limited: Images = np.clip(read.numpy(), -1.0, 1.0)
    return limited
