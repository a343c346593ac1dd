"""A `ModelSpec` as crypten.nn modules over shared parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import Layer, LayerKind, ModelSpec
from protocols.mpc.tensor.coin import Coin
from protocols.mpc.tensor.loader import crypten
from protocols.mpc.tensor.shared_tensor import SharedTensor

_FINAL = (LayerKind.SIGMOID, LayerKind.SOFTMAX)


class Tanh(crypten.nn.Module):  # type: ignore[misc]
    """The hyperbolic tangent, which CrypTen has as a function but not as a module."""

    def forward(self, rows: SharedTensor) -> Any:
        """Returns tanh of every element."""
        return rows.tanh()


class Identity(crypten.nn.Module):  # type: ignore[misc]
    """Gives back what it gets."""

    def forward(self, rows: SharedTensor) -> SharedTensor:
        """Returns the tensor."""
        return rows


class CoinDropout(crypten.nn.Module):  # type: ignore[misc]
    """Drops values in training as the public coin of a layer says, and divides the others by 1 - rate, exactly.

    Args:
        layer: its name and rate.
        coin: gives the current step's mask.
    """

    def __init__(self, layer: Layer, coin: Coin | None) -> None:
        super().__init__()
        self.layer = layer
        self.coin = coin

    def forward(self, rows: SharedTensor) -> Any:
        """Returns what is kept; everything when the module does not train.

        Raises:
            ConfideError: INTERNAL (ours) for a training without a coin.
        """
        if not self.training:
            return rows
        if self.coin is None:
            raise ConfideError(ErrorCode.INTERNAL, "a dropout layer trains without a coin")
        mask = self.coin(self.layer.name, tuple(rows.size()))
        return rows.keep(mask, 1 / (1 - Fraction(self.layer.rate)))


@dataclass(frozen=True)
class SharedModule:
    """A model over shared parameters.

    Attributes:
        logits: the crypten.nn module that computes the last layer's input if that is a sigmoid or softmax, else the output.
        parameters: by the `ModelSpec`'s names, in its order.
        final: sigmoid or softmax if the model ends in one, else None.
    """

    logits: Any
    parameters: Mapping[str, SharedTensor]
    final: LayerKind | None = None

    def __call__(self, rows: SharedTensor) -> SharedTensor:
        """Returns (batch, outputs) logits of (batch, features) rows."""
        result: SharedTensor = self.logits(rows)
        return result

    def outputs(self, rows: SharedTensor) -> SharedTensor:
        """Returns (batch, outputs) of the whole model, its final sigmoid or softmax included."""
        logits: Any = self(rows)
        match self.final:
            case LayerKind.SIGMOID:
                logits = logits.sigmoid()
            case LayerKind.SOFTMAX:
                logits = logits.softmax(1)
        result: SharedTensor = logits
        return result


def build_module(
    model: ModelSpec, parameters: Mapping[str, SharedTensor], *, trains: bool, coin: Coin | None = None
) -> SharedModule:
    """Returns the model with the given parameters.

    Args:
        model: the architecture.
        parameters: by the `ModelSpec`'s names, secret.
        trains: whether autograd is on for them, and dropout drops.
        coin: dropout's public masks, (layer's name, shape) -> 0 and 1 for the current step; needed to train with dropout.
    """
    modules = [_module(layer, parameters, coin) for layer in logit_layers(model)] or [Identity()]
    logits = crypten.nn.Sequential(*modules)
    for module in (*modules, logits):
        # The parameters are shared already; encrypt() would look for a source that broadcasts them.
        module.encrypted = True
    logits.train(trains)
    last = model.layers[-1].kind
    return SharedModule(logits, dict(parameters), last if last in _FINAL else None)


def logit_layers(model: ModelSpec) -> Sequence[Layer]:
    """Returns the layers up to the logits: all, or all but a sigmoid or softmax at the end."""
    return model.layers[:-1] if model.layers[-1].kind in _FINAL else model.layers


def _module(layer: Layer, parameters: Mapping[str, SharedTensor], coin: Coin | None) -> Any:
    match layer.kind:
        case LayerKind.LINEAR:
            module = crypten.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
            module.set_parameter("weight", parameters[f"{layer.name}.weight"])
            if layer.bias:
                module.set_parameter("bias", parameters[f"{layer.name}.bias"])
            return module
        case LayerKind.RELU:
            return crypten.nn.ReLU()
        case LayerKind.SIGMOID:
            return crypten.nn.Sigmoid()
        case LayerKind.TANH:
            return Tanh()
        case LayerKind.SOFTMAX:
            return crypten.nn.Softmax(1)
        case LayerKind.DROPOUT:
            return CoinDropout(layer, coin)
