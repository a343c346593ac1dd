"""Small random torch modules: the export refuses them, or computes what torch computes, within the intervals it foretells."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from protocols.model.export import export_model
from protocols.model.intervals import intervals
from protocols.model.plain_layers import run_layers
from protocols.model.validation import validate_model

CHANNELS, LENGTH = 4, 9
ONCE = ("convolution", "norm", "layer", "leaky", "gelu", "tanh", "max", "mean")
OFTEN = ("keep", "again", "relu", "other")  # what overwrites shows where results are taken again


class Random(nn.Module):
    """Steps drawn one after the other; what is kept on the way is added later, as in a residual connection.

    Args:
        draws: of every step which, two settings, and whether it overwrites.
    """

    def __init__(self, draws: list[tuple[str, int, int, bool]]) -> None:
        super().__init__()
        self.draws = draws
        self.parts = nn.ModuleList([self._part(*draw) for draw in draws])
        self.end = nn.Sequential(nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(2 * CHANNELS, 3))

    @staticmethod
    def _part(kind: str, size: int, step: int, overwrites: bool) -> nn.Module:
        match kind:
            case "convolution":
                groups = (1, 2, 4)[step % 3]
                return nn.Conv1d(CHANNELS, CHANNELS, 2 * size - 1, padding=size - 1, groups=groups, bias=overwrites)
            case "norm":
                return nn.BatchNorm1d(CHANNELS, eps=10.0**-step, affine=overwrites)
            case "layer":
                return nn.LayerNorm(LENGTH, eps=10.0**-step, elementwise_affine=overwrites)
            case "relu":
                return nn.ReLU(inplace=overwrites)
            case "leaky":
                return nn.LeakyReLU(step / 4, inplace=overwrites)
            case "gelu":
                return nn.GELU()
            case "tanh":
                return nn.Tanh()
            case "max":
                return nn.MaxPool1d(2 * size - 1, stride=1, padding=size - 1, ceil_mode=overwrites)
            case "mean":
                return nn.AvgPool1d(2 * size - 1, stride=1, padding=size - 1, count_include_pad=not overwrites)
            case _:
                return nn.Identity()

    def forward(self, rows: Tensor) -> Tensor:
        values = kept = rows
        for (kind, _, _, overwrites), part in zip(self.draws, self.parts, strict=True):
            if kind == "keep":
                kept = values
            elif kind == "again" and overwrites:
                values += kept
            elif kind == "again":
                values = values + kept
            elif kind == "other":
                values = functional.leaky_relu(values, 0.5, inplace=overwrites)
            values = part(values)
        result: Tensor = self.end(values)
        return result


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(ONCE + 3 * OFTEN), st.integers(1, 3), st.integers(1, 4), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 2**32 - 1),
)
def test_random_module_is_refused_or_computes_the_same_within_its_intervals(
    draws: list[tuple[str, int, int, bool]], seed: int
) -> None:
    torch.manual_seed(seed)
    module = Random(draws)
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if values.is_floating_point():
            nn.init.uniform_(values, 0.0 if name.endswith("running_var") else -1.0, 1.0)
    refused = validate_model(module, (CHANNELS, LENGTH))
    if refused:
        # Everything that is drawn without its flag is on the list.
        assert any(overwrites for *_, overwrites in draws), refused
        return
    spec, weights = export_model(module, (CHANNELS, LENGTH))
    rows = torch.where(torch.rand(5, CHANNELS, LENGTH) < 0.5, -1.0, 1.0)
    module.eval().double()
    with torch.no_grad():
        wanted = module(rows.double()).numpy()
    flat = rows.reshape(5, -1).numpy().astype(np.float64)
    passes = run_layers(spec, weights, flat, layers=spec.layers, trains=False, coin=None)
    size = max(1.0, *(float(np.abs(done.output).max()) for done in passes))
    # float64 on both sides, in another order; a normalisation may lift differences by 1 / sqrt(epsilon), 317 at most, each time
    assert np.allclose(passes[-1].output, wanted, rtol=0, atol=1e-6 * size)
    found = intervals(spec, weights, batch_rows=None)
    for done in passes:
        low, high = found[done.layer.name]
        slack = 1e-9 * max(1.0, float(np.abs(low).max()), float(np.abs(high).max()))
        assert (done.output >= low - slack).all(), done.layer.name
        assert (done.output <= high + slack).all(), done.layer.name
