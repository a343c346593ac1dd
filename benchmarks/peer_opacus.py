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
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

# Last in the path: nothing that is installed beside the environment stands in for what is in it.
sys.path.append(str(Path(__file__).resolve().parent.parent / "build" / "tables"))


def is_installed() -> bool:
    """Whether there is an Opacus to compare with."""
    return importlib.util.find_spec("opacus") is not None


def train_with_opacus(
    module: nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    steps: int,
    batch: int,
    noise_multiplier: float,
    clip: float,
    rate: float,
    momentum: float,
    seed: int,
) -> nn.Module:
    """Trains the module itself, in float64, and returns it.

    Args:
        module: with its initial weights.
        features: (rows, *shape) float64.
        labels: (rows,) int64.
        steps: of the training.
        batch: expected rows of a step, by which sums are divided.
        noise_multiplier: deviation of the noise over the clipping bound.
        clip: the bound of the norm of a row's gradient.
        rate: the learning rate.
        momentum: of SGD.
        seed: of the sampler and of the noise.
    """
    from opacus import GradSampleModule
    from opacus.data_loader import DPDataLoader
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(module.double(), loss_reduction="mean")
    optimiser = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=rate, momentum=momentum),
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_batch_size=batch,
        loss_reduction="mean",
        generator=torch.Generator().manual_seed(2 * seed),
    )
    loader = DPDataLoader(
        TensorDataset(features, labels), sample_rate=batch / len(labels), generator=torch.Generator().manual_seed(2 * seed + 1)
    )
    done = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # rows need no gradients
        while done < steps:
            for rows, wanted in loader:
                if done == steps:
                    break
                optimiser.zero_grad()
                functional.cross_entropy(wrapped(rows), wanted).backward()
                optimiser.step()
                done += 1
    return wrapped.to_standard_module()
