"""A whole session of a convolutional network is private SGD in one place with the same draws."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from protocols.model.export import export_model
from protocols.mpc.inputs import LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.training import Optimiser, OptimiserKind
from tests.support.mpc_world import run_world
from tests.support.noisy_sums import a_noisy_sums_job, rows_for
from tests.support.noisy_sums_draws import draws_of

OWNERS = {"alpha": 60, "beta": 50, "gamma": 40}
STEPS, BATCH, RATE, MOMENTUM = 6, 40, 0.5, 0.9


def test_session_of_convolutions_is_private_sgd_in_one_place_with_the_same_draws() -> None:
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(8, 3))
    spec, weights = export_model(module, (1, 6, 6))
    how = Optimiser(OptimiserKind.SGD, str(RATE), momentum=str(MOMENTUM))
    job = a_noisy_sums_job(OWNERS, steps=STEPS, batch_size=BATCH, dealer="delta", optimiser=how, spec=spec)
    plan, rows = derive_plan(job), rows_for(job)
    inputs = {party: LocalInputs(rows=part, initial_weights=weights) for party, part in rows.items()}
    world = run_world(job, plan, inputs, seed="replayed")
    shares = [world.outputs[party].model_share or {} for party in job.computing_parties]

    draws = draws_of(job, plan, seed="replayed")
    parts = [part for party in OWNERS for part in rows[party].values()]
    features = torch.tensor(np.concatenate([part[0] for part in parts])).reshape(-1, 1, 6, 6)
    labels = torch.tensor(np.concatenate([part[1] for part in parts])).long()
    parameters = {name: parameter.detach().double() for name, parameter in module.named_parameters()}
    momenta = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def loss(values: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(module, values, (row[None],)), label[None])

    sizes = [parameter.numel() for parameter in parameters.values()]
    clipped = 0
    for taken, noise in zip(torch.tensor(draws.taken), torch.tensor(draws.noise), strict=True):
        found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, features[taken], labels[taken])
        norms = torch.sqrt(sum(part.flatten(1).square().sum(1) for part in found.values()))
        clipped += int((norms > 1).sum())
        for (name, part), here in zip(found.items(), noise.split(sizes), strict=True):
            total = torch.einsum("r,r...->...", torch.clamp(1 / norms, max=1.0), part) + here.view_as(parameters[name])
            momenta[name] = MOMENTUM * momenta[name] + total / BATCH
            parameters[name] = parameters[name] - RATE * momenta[name]

    assert 0 < clipped < draws.taken.sum()
    # A sum is off by half a unit of 2^-20 and a little of every row's cut, in every step; kept weights by 2^-25. What weights
    # that are off do to later gradients multiplies this, in so few steps by less than ten. A row of norm 1 that is in the wrong
    # step moves weights by RATE / BATCH, over a thousand times as much.
    a_step = (2.0**-21 + draws.taken.sum(1).max() * 2.0**-35) / BATCH * RATE / (1 - MOMENTUM)
    for spec_of, parameter in zip(spec.parameters, parameters.values(), strict=True):
        opened = sum(share[spec_of.name] for share in shares) / 2.0**24
        assert np.abs(opened - parameter.numpy()).max() <= 10 * STEPS * a_step + 2.0**-25
