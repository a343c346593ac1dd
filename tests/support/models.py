"""Models with many operators."""

from __future__ import annotations

from protocols.model.layers import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Relu,
    Softmax,
)
from protocols.model.spec import INPUT, Layer, ModelSpec

CHAIN = ModelSpec.chain(
    (2, 12, 12),
    first=Convolution(4, (3, 3), (1, 1), (1, 1), groups=2),
    norm=BatchNorm(),
    act=LeakyRelu("0.1"),
    pool=MaxPool((2, 2), (2, 2), (0, 0)),
    mean=AveragePool((2, 2), (1, 1), (1, 1)),
    adaptive=AdaptiveAveragePool((3, 3)),
    wide=LayerNorm(2),
    gelu=Gelu(),
    flat=Flatten(),
    drop=Dropout("0.25"),
    out=Linear(3),
    end=Softmax(),
)
SKIP = ModelSpec(
    (4,),
    (
        Layer("first", Linear(4), (INPUT,)),
        Layer("act", Relu(), ("first",)),
        Layer("sum", Add(), ("act", INPUT)),
        Layer("out", Linear(1), ("sum",)),
    ),
)
