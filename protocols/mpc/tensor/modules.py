"""A `ModelSpec` as crypten.nn modules over shared parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocols.model.spec import Layer, LayerKind, ModelSpec
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.shared_tensor import SharedTensor


@dataclass(frozen=True)
class SharedModule:
    """A model over shared parameters.

    Attributes:
        logits: the crypten.nn module that computes the last layer's input if that is a sigmoid, else the output.
        parameters: by the `ModelSpec`'s names, in its order.
    """

    logits: Any
    parameters: Mapping[str, SharedTensor]

    def __call__(self, rows: SharedTensor) -> SharedTensor:
        """Returns (batch, outputs) logits of (batch, features) rows."""
        result: SharedTensor = self.logits(rows)
        return result


def build_module(model: ModelSpec, parameters: Mapping[str, SharedTensor], *, trains: bool) -> SharedModule:
    """Returns the model with the given parameters; `trains` turns autograd on for them."""
    layers = logit_layers(model)
    modules = [_module(layer, parameters) for layer in layers]
    logits = crypten.nn.Sequential(*modules)
    for module in (*modules, logits):
        # The parameters are shared already; encrypt() would look for a source that broadcasts them.
        module.encrypted = True
    logits.train(trains)
    return SharedModule(logits, dict(parameters))


def logit_layers(model: ModelSpec) -> Sequence[Layer]:
    """Returns the layers up to the logit: all, or all but a sigmoid at the end."""
    ends_in_sigmoid = model.layers[-1].kind is LayerKind.SIGMOID
    return model.layers[:-1] if ends_in_sigmoid else model.layers


def _module(layer: Layer, parameters: Mapping[str, SharedTensor]) -> Any:
    match layer.kind:
        case LayerKind.LINEAR:
            module = crypten.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
            module.set_parameter("weight", parameters[f"{layer.name}.weight"])
            if layer.bias:
                module.set_parameter("bias", parameters[f"{layer.name}.bias"])
            return module
        case LayerKind.SIGMOID:
            return crypten.nn.Sigmoid()
