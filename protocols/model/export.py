"""Export of an ordinary torch module into a `ModelSpec` and its weights.

The module's code stays where it is: what leaves is the graph of operators and the float32 weights, with the running statistics
of batch norms. Left out, because they compute nothing: `nn.Identity`, flattening of flat rows, and dropout with p = 0. Other
dropout is exported whether or not the module is in training mode: it works where a job trains, and nowhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.folding import fold_batch_norms
from protocols.model.layers import Shape
from protocols.model.sklearn_export import export_sklearn as export_sklearn
from protocols.model.spec import ModelSpec
from protocols.model.validation import inspect_model, row_shape

Weights = dict[str, NDArray[np.float32]]


def export_model(module: nn.Module, input_features: int | Shape, *, fold: bool = False) -> tuple[ModelSpec, Weights]:
    """Returns the architecture of a torch model and a copy of its weights.

    Args:
        module: the model; its forward takes one float32 tensor of (batch, *shape of a row). Its code runs here, nowhere else.
            An `nn.Embedding` takes the rows, which are one-hot, (places, categories), where torch takes indices.
        input_features: width of the rows, or the shape of one: (channels, length) or (channels, height, width). Rows are flat
            in data sets; the model folds them. Public.
        fold: whether a batch norm right after a convolution or linear layer is worked into its weights. The result computes
            the same as the module in `eval()`, with fewer rounds, and a training of it knows no batch norm any more.

    Returns:
        The specification, and by parameter name the weights as read-only float32 arrays of torch's shapes, as secret as
        the module's own. Layers keep the qualified names of their modules; a name that begins with a digit, as in
        nn.Sequential, gets the prefix `layer_`.

    Raises:
        ConfideError: INVALID_MODEL (the author's fault) with every problem, see `protocols.model.validation`;
            INVALID_ARGUMENT for something that is no module or a width or shape out of range.
    """
    if not isinstance(module, nn.Module):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the model is not a torch.nn.Module", remedy="Pass an nn.Module object.")
    shape = row_shape(input_features)
    problems, steps = inspect_model(module, shape)
    if problems:
        raise _invalid(problems)
    weights: Weights = {}
    for step in steps:
        for tensor in step.layer.operator.tensors(step.shapes_in):
            weights[f"{step.layer.name}.{tensor.suffix}"] = _copy(getattr(step.module, tensor.suffix))
    # Reading the manifest back checks what only shows in the whole, as its number of parameters.
    spec = ModelSpec.from_document(ModelSpec(shape, tuple(step.layer for step in steps)).to_document())
    return fold_batch_norms(spec, weights) if fold else (spec, weights)


def _copy(parameter: Tensor) -> NDArray[np.float32]:
    values = np.array(parameter.detach().numpy(), dtype=np.float32, order="C", copy=True)
    values.setflags(write=False)
    return values


def _invalid(problems: tuple[Problem, ...]) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, f"{len(problems)} problem(s) in the model", problems=problems)
