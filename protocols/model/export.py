"""Export of an ordinary torch module into a `ModelSpec` and its weights.

The module's code stays where it is: what leaves is the list of operators and the float32 weights. Left out, because they
compute nothing on (batch, features) rows: `nn.Identity`, `nn.Flatten` from dimension 1, and dropout with p = 0. Other dropout is
exported whether or not the module is in training mode: it works where a job trains, and nowhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.spec import MAX_WIDTH, ModelSpec
from protocols.model.validation import inspect_model

Weights = dict[str, NDArray[np.float32]]


def export_model(module: nn.Module, input_features: int) -> tuple[ModelSpec, Weights]:
    """Returns the architecture of a torch model and a copy of its weights.

    Args:
        module: the model; its forward takes one (batch, input_features) float32 tensor. Its code runs here, nowhere else.
        input_features: width of the rows, public.

    Returns:
        The specification, and by parameter name the weights as read-only float32 arrays, (out, in) and (out,), as secret as
        the module's own. Layers keep the qualified names of their modules; a name that begins with a digit, as in
        nn.Sequential, gets the prefix `layer_`.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault) with every problem, see `protocols.model.validation`;
            INVALID_ARGUMENT for something that is no module or a width out of range.
    """
    if not isinstance(module, nn.Module):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the model is not a torch.nn.Module", remedy="Pass an nn.Module object.")
    if type(input_features) is not int or not 1 <= input_features <= MAX_WIDTH:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"input_features must be a whole number from 1 to {MAX_WIDTH}")
    problems, steps = inspect_model(module, input_features)
    if problems:
        raise _invalid(problems)
    weights: Weights = {}
    for step in steps:
        if step.module is not None:
            weights[f"{step.layer.name}.weight"] = _copy(step.module.weight)
            if step.layer.bias:
                weights[f"{step.layer.name}.bias"] = _copy(step.module.bias)
    return ModelSpec(tuple(step.layer for step in steps)), weights


def _copy(parameter: Tensor) -> NDArray[np.float32]:
    values = np.array(parameter.detach().numpy(), dtype=np.float32, order="C", copy=True)
    values.setflags(write=False)
    return values


def _invalid(problems: tuple[Problem, ...]) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, f"{len(problems)} problem(s) in the model", problems=problems)
