"""Export accepts exactly what the operator list can express, and copies weights bit for bit."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Task
from protocols.model.export import export_model
from protocols.model.layers import Dropout, Linear, Relu, Sigmoid, Softmax, Tanh
from protocols.model.reference import probabilities
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Identity())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, 1, bias=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = torch.flatten(self.encoder(rows), 1)
        return torch.sigmoid(self.head(self.drop(hidden)))


def test_export_sequential_gives_layers_and_weights() -> None:
    module = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    spec, weights = export_model(module, 3)
    assert spec == ModelSpec.chain(3, layer_0=Linear(1), layer_1=Sigmoid())
    assert list(weights) == [parameter.name for parameter in spec.parameters]
    assert np.array_equal(weights["layer_0.weight"], module[0].weight.detach().numpy())


def test_export_single_linear_is_named_linear() -> None:
    spec, weights = export_model(nn.Linear(3, 1), 3)
    assert [layer.name for layer in spec.layers] == ["linear"]
    assert set(weights) == {"linear.weight", "linear.bias"}


def test_export_custom_forward_computes_the_same_as_torch() -> None:
    torch.manual_seed(5)
    module = Nested().eval()
    spec, weights = export_model(module, 5)
    assert [(layer.name, layer.operator.kind) for layer in spec.layers] == [
        ("encoder.0", "linear"),
        ("encoder.1", "sigmoid"),
        ("drop", "dropout"),
        ("head", "linear"),
        ("sigmoid", "sigmoid"),
    ]
    rows = torch.randn(7, 5)
    expected = module(rows).detach().numpy()
    # float32 against float64: a dot product of five terms and one of four, so a few units in the last place of float32
    assert np.allclose(probabilities(spec, weights, rows.numpy().astype(np.float64)), expected, rtol=0, atol=16 * 2**-24)


def test_export_result_is_a_copy_and_module_is_unchanged() -> None:
    module = nn.Sequential(OrderedDict(out=nn.Linear(2, 1)))
    before = set(vars(module))
    _, weights = export_model(module, 2)
    with torch.no_grad():
        module.out.weight.zero_()
    assert weights["out.weight"].any()
    assert not weights["out.weight"].flags.writeable
    assert set(vars(module)) == before


def test_export_manifest_reads_back_equal() -> None:
    spec, _ = export_model(Nested().eval(), 5)
    assert ModelSpec.from_document(spec.to_document()) == spec


def test_export_network_has_every_operator_and_weights_survive_their_bytes() -> None:
    torch.manual_seed(6)
    module = nn.Sequential(
        nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.25), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3), nn.Softmax(1)
    )
    spec, weights = export_model(module, 5)
    operators = (Linear(4), Relu(), Dropout("0.25"), Linear(4), Tanh(), Linear(3), Softmax())
    assert spec == ModelSpec.chain(5, **{f"layer_{number}": operator for number, operator in enumerate(operators)})
    assert ModelSpec.from_document(spec.to_document()) == spec
    read = weights_from_safetensors(weights_to_safetensors(weights, spec), spec)
    assert all(np.array_equal(read[name], value) for name, value in weights.items())
    rows = torch.randn(7, 5)
    expected = module.eval()(rows).detach().numpy()
    # float32 against float64: three layers of at most five terms each, a few units in the last place of float32
    found = probabilities(spec, weights, rows.numpy().astype(np.float64), task=Task.CLASSES)
    assert np.allclose(found, expected, rtol=0, atol=64 * 2**-24)


@pytest.mark.parametrize("training", [True, False])
def test_export_functions_give_the_same_layers_in_either_mode(training: bool) -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            hidden = functional.dropout(torch.tanh(functional.relu(self.first(rows))), 0.1, self.training)
            return functional.softmax(self.second(functional.dropout(hidden, 0.5, False)), dim=-1)

    module = Functions().train(training)
    spec, _ = export_model(module, 5)
    assert spec == ModelSpec.chain(
        5, first=Linear(4), relu=Relu(), tanh=Tanh(), dropout=Dropout("0.1"), second=Linear(3), softmax=Softmax()
    )
    assert {part.training for part in module.modules()} == {training}


def test_export_activation_used_twice_gives_two_layers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Linear(2, 2), nn.Linear(2, 1), nn.Sigmoid()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.act(self.second(self.act(self.first(rows)))).sigmoid()

    spec, _ = export_model(Shared(), 2)
    assert [layer.name for layer in spec.layers] == ["first", "act", "second", "act_1", "sigmoid"]


@pytest.mark.parametrize("width", [0, -1, 65_537, True])
def test_export_width_out_of_range_is_an_argument_error(width: int) -> None:
    with pytest.raises(ConfideError) as caught:
        export_model(nn.Linear(3, 1), width)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_export_with_problems_raises_all_of_them() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.GroupNorm(2, 4), nn.Linear(4, 1).double())
    with pytest.raises(ConfideError) as caught:
        export_model(module, 2)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert [problem.where for problem in caught.value.problems] == ["1", "2", "3.weight", "3.bias", "0"]
