"""DP-SGD in one place by Opacus itself: its per-row gradients, its optimiser's clipping and noise, its Poisson sampler.

Installed beside the environment, never into it: pip install --no-deps --target build/tables opacus==1.6.0 opt-einsum==3.4.0

`PrivacyEngine.make_private` derives the sampling rate from the number of batches of a loader: 1257 rows in batches of 250 are six
batches to it, so it samples one row in six and divides by 209. The parts are put together here with the rate itself, so that both
trainings have the same.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

# Last in the path: nothing that is installed beside the environment stands in for what is in it.
sys.path.append(str(Path(__file__).resolve().parent.parent / "build" / "tables"))

Batch = tuple[torch.Tensor, torch.Tensor]


def is_installed() -> bool:
    """Whether there is an Opacus to compare with."""
    return importlib.util.find_spec("opacus") is not None


@dataclass(frozen=True)
class Settings:
    """What both trainings have alike.

    Attributes:
        steps: of the training.
        batch: expected rows of a step, by which sums are divided.
        noise_multiplier: deviation of the noise over the clipping bound.
        clip: the bound of the norm of a row's gradient.
        rate: the learning rate.
        momentum: of SGD.
    """

    steps: int
    batch: int
    noise_multiplier: float
    clip: float
    rate: float
    momentum: float


def train_with_opacus(
    module: nn.Module, features: torch.Tensor, labels: torch.Tensor, settings: Settings, *, seed: int
) -> nn.Module:
    """Trains the module itself, in float64, and returns it.

    Args:
        module: with its initial weights.
        features: (rows, *shape) float64.
        labels: (rows,) int64.
        settings: of the training.
        seed: of the sampler and of the noise.
    """
    from opacus.data_loader import DPDataLoader

    loader = DPDataLoader(
        TensorDataset(features, labels),
        sample_rate=settings.batch / len(labels),
        generator=torch.Generator().manual_seed(2 * seed + 1),
    )
    return _trained(module, islice(_again(loader), settings.steps), settings, noise=torch.Generator().manual_seed(2 * seed))


def replay_with_opacus(
    module: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    settings: Settings,
    *,
    noise: torch.Tensor,
    taken: torch.Tensor,
) -> nn.Module:
    """Trains like `train_with_opacus`, with draws that somebody else made.

    Args:
        module: as there, like features, labels and settings.
        features: as there.
        labels: as there.
        settings: as there.
        noise: (steps, numbers) float64, of the parameters in their order, each flat.
        taken: (steps, rows) bool, which rows are in a step.
    """
    return _trained(module, ((features[rows], labels[rows]) for rows in taken), settings, noise=noise)


def _again(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def _trained(
    module: nn.Module, batches: Iterable[Batch], settings: Settings, *, noise: torch.Generator | torch.Tensor
) -> nn.Module:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    class GivenNoise(DPOptimizer):
        """Its clipping and its division, with the next row of given noise in place of its own."""

        rows = iter(noise) if isinstance(noise, torch.Tensor) else iter(())

        def add_noise(self) -> None:
            parts = next(self.rows).split([parameter.numel() for parameter in self.params])
            for parameter, part in zip(self.params, parts, strict=True):
                parameter.grad = (parameter.summed_grad + part.view_as(parameter)).view_as(parameter)

    wrapped = GradSampleModule(module.double(), loss_reduction="mean")
    optimiser = (GivenNoise if isinstance(noise, torch.Tensor) else DPOptimizer)(
        torch.optim.SGD(wrapped.parameters(), lr=settings.rate, momentum=settings.momentum),
        noise_multiplier=settings.noise_multiplier,
        max_grad_norm=settings.clip,
        expected_batch_size=settings.batch,
        loss_reduction="mean",
        generator=None if isinstance(noise, torch.Tensor) else noise,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # rows need no gradients
        for rows, wanted in batches:
            optimiser.zero_grad()
            functional.cross_entropy(wrapped(rows), wanted).backward()
            optimiser.step()
    return wrapped.to_standard_module()
