"""Whether a torch layer fits the rows that reach it, and which one would."""

from __future__ import annotations

import math

from torch import nn

from protocols.model.layers import MAX_WIDTH, Shape
from protocols.model.verdicts import ProblemKind, Verdict

_WIDTH = Verdict(ProblemKind.NOT_YET, f"a width is outside 1 to {MAX_WIDTH}", "use narrower layers")


def misfit(module: nn.Module, shape: Shape, *, after_rows: bool) -> Verdict | None:
    """Returns why a layer that holds tensors does not fit its input, or None if it does.

    Args:
        module: one of `protocols.model.operators.LAYERS`.
        shape: of a row of its input.
        after_rows: whether the input is the model's own.
    """
    match module:
        case nn.Linear():
            return _linear(module, shape, after_rows=after_rows)
        case nn.Conv1d() | nn.Conv2d():
            return _channels(module, shape, module.in_channels, len(module.kernel_size))
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            dims = {nn.BatchNorm1d: (0, 1), nn.BatchNorm2d: (2,)}[type(module)]
            return _channels(module, shape, module.num_features, *dims)
        case nn.LayerNorm():
            own = tuple(module.normalized_shape)
            if shape[-len(own) :] != own:
                what = f"normalises {_words(own)}, the step before gives {_words(shape)}"
                return Verdict(ProblemKind.MISCONFIGURED, what, f"use nn.LayerNorm({shape[-1]})")
        case nn.Embedding():
            return _embedding(module, shape, after_rows=after_rows)
    return None


def _linear(module: nn.Linear, shape: Shape, *, after_rows: bool) -> Verdict | None:
    wide_in, wide_out = module.in_features, module.out_features
    if not (1 <= wide_in <= MAX_WIDTH and 1 <= wide_out <= MAX_WIDTH):
        return _WIDTH
    if wide_in == shape[-1]:
        return None
    source = "the rows have" if after_rows else "the step before gives"
    flat = len(shape) > 1 and math.prod(shape) == wide_in
    remedy = "put nn.Flatten() before it" if flat else f"use nn.Linear({shape[-1]}, {wide_out})"
    return Verdict(ProblemKind.MISCONFIGURED, f"takes {wide_in} features, {source} {_words(shape)}", remedy)


def _channels(module: nn.Module, shape: Shape, channels: int, *dims: int) -> Verdict | None:
    name = type(module).__name__
    if len(shape) - 1 not in dims:
        form = {0: "(features,)", 1: "(channels, length)", 2: "(channels, height, width)"}
        what = f"takes rows of shape {' or '.join(form[count] for count in dims)}, not {_words(shape)}"
        remedy = "say what shape rows have: export_model(module, (1, 28, 28)); or use the layer of that many dimensions"
        return Verdict(ProblemKind.MISCONFIGURED, what, remedy)
    if shape[0] != channels:
        what = f"takes {channels} channels, the step before gives {_words(shape)}"
        return Verdict(ProblemKind.MISCONFIGURED, what, f"use nn.{name}({shape[0]}, ...)")
    return None


def _embedding(module: nn.Embedding, shape: Shape, *, after_rows: bool) -> Verdict | None:
    if not after_rows:
        return Verdict(
            ProblemKind.MISCONFIGURED, "looks up what layers computed", "let it take the rows: one-hot, (places, categories)"
        )
    if len(shape) != 2 or shape[1] != module.num_embeddings:
        what = f"takes one-hot rows of {module.num_embeddings} categories a place, the rows have {_words(shape)}"
        return Verdict(ProblemKind.MISCONFIGURED, what, f"give input_shape as (places, {module.num_embeddings})")
    return None


def _words(shape: Shape) -> str:
    return str(shape[0]) if len(shape) == 1 else f"shape {shape}"
