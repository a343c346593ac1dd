"""A `ModelSpec` as crypten.nn modules over shared parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import (
    AdaptiveAveragePool,
    Add,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Operator,
    Relu,
    Sigmoid,
    Softmax,
    Tanh,
)
from protocols.model.spec import INPUT, Layer, ModelSpec
from protocols.mpc.combination import Combination
from protocols.mpc.tensor.coin import Coin
from protocols.mpc.tensor.layers import (
    Affine,
    Applied,
    CoinDropout,
    HyperbolicTangent,
    Identity,
    InTurn,
    OneHotEmbedding,
    SharedBatchNorm,
    SharedConvolution,
    SharedLayerNorm,
    SharedMaxPool,
    SharedMeans,
)
from protocols.mpc.tensor.normalising import BatchNormTensors, folded_norms
from protocols.mpc.tensor.shared_tensor import SharedTensor
from protocols.mpc.values import SharedValue

_FINAL = (Sigmoid, Softmax)


@dataclass(frozen=True)
class SharedModule:
    """A model over shared parameters.

    Attributes:
        model: the architecture.
        modules: a crypten.nn module for every layer, by its name.
        parameters: by the `ModelSpec`'s names, in its order.
    """

    model: ModelSpec
    modules: Mapping[str, Any]
    parameters: Mapping[str, SharedTensor]

    def __call__(self, rows: SharedTensor) -> SharedTensor:
        """Returns (batch, outputs) of flat (batch, features) rows: the input of a final sigmoid or softmax, else the output."""
        return self._run(rows, logit_layers(self.model))

    @cached_property
    def norms(self) -> Sequence[SharedBatchNorm]:
        """The batch norms' modules."""
        return [module for module in self.modules.values() if isinstance(module, SharedBatchNorm)]

    def outputs(self, rows: SharedTensor) -> SharedTensor:
        """Returns (batch, outputs) of the whole model, its final sigmoid or softmax included."""
        return self._run(rows, self.model.layers)

    def prepare(self, *, for_session: bool) -> list[SharedValue]:
        """Makes what an inference derives from the parameters alone, and returns every value that it multiplies rows with.

        Some rounds for all batch norms together; none if there is no batch norm.

        Args:
            for_session: whether the masks of what is made serve all later segments.
        """
        names = {layer.name for layer in self.model.layers if isinstance(layer.operator, BatchNorm)}
        made = self._fold_norms(sorted(names), for_session=for_session) if names else []
        weights = [name for name in self.parameters if name.endswith(".weight") and name.removesuffix(".weight") not in names]
        return [tensor.operand().view.value for tensor in (*made, *(self.parameters[name] for name in weights))]

    def moved_statistics(self) -> dict[str, Combination]:
        """Returns the running statistics after a training step, by the parameters' names; secret, with pending factors."""
        moved: dict[str, Combination] = {}
        for layer in self.model.layers:
            if isinstance(layer.operator, BatchNorm):
                names = (f"{layer.name}.running_mean", f"{layer.name}.running_var")
                old = (self.parameters[name] for name in names)
                moved.update(zip(names, self.modules[layer.name].moved(Fraction(layer.operator.momentum), *old), strict=True))
        return moved

    def _fold_norms(self, names: Sequence[str], *, for_session: bool) -> list[SharedTensor]:
        held = [
            BatchNormTensors(
                weight=self.parameters.get(f"{name}.weight", SharedTensor(1.0).expand(variance.size())),
                bias=self.parameters.get(f"{name}.bias", SharedTensor(0.0).expand(variance.size())),
                mean=self.parameters[f"{name}.running_mean"],
                variance=variance,
                epsilon=self.modules[name].epsilon,
            )
            for name in names
            for variance in (self.parameters[f"{name}.running_var"],)
        ]
        folded = folded_norms(held, for_session=for_session)
        for name, (scale, shift) in zip(names, folded, strict=True):
            self.modules[name].folded = (scale, shift)
        return [scale for scale, _ in folded]

    def _run(self, rows: SharedTensor, layers: Sequence[Layer]) -> SharedTensor:
        if any(not norm.training and norm.folded is None for norm in self.norms):
            self.prepare(for_session=False)
        shape = self.model.input_shape
        folded: Any = rows if len(shape) == 1 else rows.reshape((int(rows.size(0)), *shape))
        results = {INPUT: folded}
        for layer in layers:
            results[layer.name] = self.modules[layer.name](*[results[name] for name in layer.inputs])
        result: SharedTensor = results[layers[-1].name if layers else INPUT]
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
    modules = _modules(model, parameters, coin)
    for module in modules.values():
        # The parameters are shared already; encrypt() would look for a source that broadcasts them.
        module.encrypted = True
        module.train(trains)
    return SharedModule(model, modules, dict(parameters))


def logit_layers(model: ModelSpec) -> Sequence[Layer]:
    """Returns the layers up to the logits: all, or all but a sigmoid or softmax at the end."""
    return model.layers[:-1] if isinstance(model.layers[-1].operator, _FINAL) else model.layers


def _modules(model: ModelSpec, parameters: Mapping[str, SharedTensor], coin: Coin | None) -> dict[str, Any]:
    """A module for every layer; a rectifier whose result only a max-pool takes runs after it: they commute, and less is left."""
    modules = {layer.name: _module(model, layer, parameters, coin) for layer in model.layers}
    takers: dict[str, list[Layer]] = {}
    for layer in model.layers:
        for name in layer.inputs:
            takers.setdefault(name, []).append(layer)
    for layer in model.layers:
        match layer.operator, takers.get(layer.name, []):
            case (Relu() | LeakyRelu(), [Layer(operator=MaxPool()) as taker]):
                modules[taker.name] = InTurn(modules[taker.name], modules[layer.name])
                modules[layer.name] = Identity()
    return modules


def _module(model: ModelSpec, layer: Layer, parameters: Mapping[str, SharedTensor], coin: Coin | None) -> Any:
    shape, *_ = model.shapes_into(layer)
    # What the layer trains; running statistics are no parameters of a module.
    tensors = layer.operator.tensors(model.shapes_into(layer))
    own = {tensor.suffix: parameters[f"{layer.name}.{tensor.suffix}"] for tensor in tensors if tensor.is_trained}
    match layer.operator:
        case Linear():
            return Affine(**own)
        case Convolution() as operator:
            return SharedConvolution(operator, shape, **own)
        case MaxPool() as operator:
            return SharedMaxPool(operator, shape)
        case (AveragePool() | AdaptiveAveragePool()) as operator:
            return SharedMeans(operator, shape)
        case BatchNorm(epsilon=epsilon):
            return SharedBatchNorm(Fraction(epsilon), **own)
        case LayerNorm(dims=dims, epsilon=epsilon):
            return SharedLayerNorm(dims, Fraction(epsilon), **own)
        case Embedding():
            return OneHotEmbedding(**own)
        case Dropout(rate=rate):
            return CoinDropout(layer.name, Fraction(rate), coin)
        case operator:
            return _without_parameters(operator)


def _without_parameters(operator: Operator) -> Any:
    match operator:
        case Relu():
            return Applied(lambda rows: rows.relu())
        case LeakyRelu(slope=slope):
            return Applied(lambda rows: rows.leaky_relu(Fraction(slope)))
        case Gelu():
            return Applied(lambda rows: rows.gelu())
        case Sigmoid():
            return Applied(lambda rows: rows.sigmoid())
        case Tanh():
            return HyperbolicTangent()
        case Softmax():
            return Applied(lambda rows: rows.softmax(1))
        case Flatten():
            return Applied(lambda rows: rows.reshape(int(rows.size(0)), -1))
        case Add():
            return Applied(lambda left, right: left.add(right))
        case _:
            raise ConfideError(ErrorCode.INVALID_MODEL, f"{operator.kind} is not computed on shares")
