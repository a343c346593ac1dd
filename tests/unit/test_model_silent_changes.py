"""What torch does beside the steps that are recorded (memory, modes, gradients, tensors put in later) is refused, never lost."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protocols.errors import ConfideError, ErrorCode
from protocols.model.export import export_model
from protocols.model.layers import BatchNorm, LayerNorm
from protocols.model.reference import outputs
from protocols.model.validation import validate_model

OVERWRITES = "overwrites what other steps still take"


class Forward(nn.Module):
    """A module whose forward is given."""

    def __init__(self, compute: Callable[["Forward", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu, self.flat, self.same = nn.ReLU(inplace=True), nn.Flatten(), nn.Identity()
        self._compute = compute

    def forward(self, rows: Tensor) -> Tensor:
        return self._compute(self, rows)


class WithDropout(Forward):
    """Likewise, with a dropout that overwrites."""

    def __init__(self, compute: Callable[["Forward", Tensor], Tensor]) -> None:
        super().__init__(compute)
        self.relu = nn.Dropout(0.5, inplace=True)  # type: ignore[assignment]


def adds_after_overwriting(overwrite: Callable[[Forward, Tensor], Tensor]) -> Callable[[Forward, Tensor], Tensor]:
    def compute(module: Forward, rows: Tensor) -> Tensor:
        before = module.first(rows)
        after = overwrite(module, before)
        return module.last(before + after)

    return compute


def adds_to_itself(module: Forward, rows: Tensor) -> Tensor:
    whole = alias = module.first(rows)
    whole += torch.tanh(alias)
    return module.last(whole + alias)


def overwrites_the_rows(module: Forward, rows: Tensor) -> Tensor:
    return module.last(functional.relu(rows, True) + module.first(rows))


def returns_what_was_overwritten(module: Forward, rows: Tensor) -> Tensor:
    whole = module.first(rows)
    whole.add_(rows)
    return whole


def largest_difference(module: nn.Module, width: int) -> float:
    """The largest difference between torch after `eval()` and the exported model."""
    spec, weights = export_model(module, width)
    module.eval()
    rows = torch.rand(6, width) * 2 - 1
    with torch.no_grad():
        wanted = module(rows.clone()).numpy()
    return float(abs(outputs(spec, weights, rows.numpy().astype("float64")) - wanted).max())


@pytest.mark.parametrize(
    ("compute", "where"),
    [
        (adds_after_overwriting(lambda module, values: module.relu(values)), "relu"),
        (adds_after_overwriting(lambda module, values: module.relu(module.flat(values))), "relu"),
        (adds_after_overwriting(lambda module, values: module.relu(module.same(values))), "relu"),
        (adds_after_overwriting(lambda _, values: functional.relu(values, inplace=True)), "model"),
        (adds_after_overwriting(lambda _, values: functional.leaky_relu(values, 0.1, True)), "model"),
        (adds_after_overwriting(lambda _, values: torch.relu_(values)), "model"),
        (adds_after_overwriting(lambda _, values: values.sigmoid_()), "model"),
        (adds_after_overwriting(lambda _, values: values.view(-1, 4).tanh_()), "model"),
        (adds_to_itself, "model"),
        (overwrites_the_rows, "model"),
        (returns_what_was_overwritten, "model"),
    ],
)
def test_step_that_overwrites_what_is_taken_again_is_refused_at_its_module(
    compute: Callable[[Forward, Tensor], Tensor], where: str
) -> None:
    found = [problem for problem in validate_model(Forward(compute), 4) if OVERWRITES in problem.what]
    assert [problem.where for problem in found] == [where]
    assert "inplace" in found[0].remedy


def test_dropout_that_overwrites_what_is_taken_again_is_refused() -> None:
    problems = validate_model(WithDropout(adds_after_overwriting(lambda module, values: module.relu(values))), 4)
    assert [problem.where for problem in problems if OVERWRITES in problem.what] == ["relu"]


def twice_changed(module: Forward, rows: Tensor) -> Tensor:
    values = module.first(rows)
    values += rows
    return module.last(module.relu(values))


@pytest.mark.parametrize(
    "compute",
    [
        twice_changed,
        lambda module, rows: module.last(module.relu(module.first(rows)) + rows),
        lambda module, rows: module.last(module.first(rows) + module.relu(rows)),  # the rows are taken before
        lambda module, rows: module.last(functional.relu(module.first(rows), inplace=True).view(rows.size(0), -1)),
    ],
)
def test_overwriting_what_nobody_takes_again_is_exported_and_computes_the_same(
    compute: Callable[[Forward, Tensor], Tensor],
) -> None:
    torch.manual_seed(3)
    module = Forward(compute)
    for problem in validate_model(module, 4):
        if "never used" in problem.what:
            delattr(module, problem.where)
    # float32 keeps 24 bits; five products and sums below 8 in each of two layers
    assert largest_difference(module, 4) < 1e-5


def only_in_training(module: Forward, rows: Tensor) -> Tensor:
    values = module.first(rows)
    return module.last(torch.relu(values) if module.training else values)


def without_gradients(module: Forward, rows: Tensor) -> Tensor:
    with torch.no_grad():
        values = module.first(rows)
    return module.last(values)


def with_fewer_digits(module: Forward, rows: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return module.last(torch.relu(module.first(rows)))


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        (only_in_training, "never: its forward computes something else after eval() than in training"),
        (without_gradients, "not yet: stops gradients (no_grad or inference_mode); all parameters are trained"),
        (with_fewer_digits, "misconfigured: computes with fewer digits (autocast), which does not travel"),
        (
            lambda module, rows: torch.softmax(module.first(rows), 1, torch.float16),
            "misconfigured: softmax: softmax runs over the features of a row",
        ),
    ],
)
def test_what_no_step_shows_is_one_problem_of_the_module_that_does_it(
    compute: Callable[[Forward, Tensor], Tensor], says: str
) -> None:
    module = Forward(compute)
    module.last = module.last if "softmax" not in says else nn.Identity()  # type: ignore[assignment]
    problems = [problem for problem in validate_model(nn.Sequential(module), 4) if "never used" not in problem.what]
    assert [(problem.where, problem.what) for problem in problems] == [("model" if "eval()" in says else "0", says)]


@pytest.mark.parametrize("training", [True, False])
def test_validation_leaves_modes_and_gradients_as_they_were(training: bool) -> None:
    module = Forward(only_in_training).train(training)
    module.first.train(not training)
    validate_model(module, 4)
    assert [module.training, module.first.training, module.last.training] == [training, not training, training]
    assert torch.is_grad_enabled()


def test_validation_under_no_grad_of_its_caller_is_no_problem_of_the_model() -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert validate_model(nn.Sequential(nn.Linear(4, 2)), 4) == ()


def with_tensor(layer: nn.Module, name: str, tensor: Tensor | None) -> nn.Module:
    setattr(layer, name, None if tensor is None else nn.Parameter(tensor))
    return layer


def without_variance() -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(4)
    layer.running_var = None  # type: ignore[assignment]
    return layer


@pytest.mark.parametrize(
    ("layer", "where", "says"),
    [
        (nn.BatchNorm1d(4, bias=False), "0", "BatchNorm1d: has a weight or a bias alone"),
        (with_tensor(nn.BatchNorm1d(4), "bias", None), "0", "BatchNorm1d: has a weight or a bias alone"),
        (without_variance(), "0", "BatchNorm1d: keeps no running statistics, so that predictions would mix rows"),
        (with_tensor(nn.LayerNorm(4), "weight", None), "0", "LayerNorm: has a bias alone"),
        (with_tensor(nn.Linear(4, 4), "weight", torch.ones(3, 4)), "0.weight", "has not the shape (4, 4) that its layer says"),
        (with_tensor(nn.LayerNorm(4), "weight", torch.ones(1)), "0.weight", "has not the shape (4,) that its layer says"),
    ],
)
def test_layer_with_tensors_that_it_was_not_built_with_is_named(layer: nn.Module, where: str, says: str) -> None:
    problems = validate_model(nn.Sequential(layer, nn.Linear(4, 2)), 4)
    assert [(problem.where, problem.what) for problem in problems] == [(where, f"misconfigured: {says}")]


def test_norm_takes_its_affine_from_its_tensors_as_torch_does() -> None:
    norm, layer = nn.BatchNorm1d(4, affine=False), nn.LayerNorm(4, elementwise_affine=False)
    for module in (norm, layer):
        with_tensor(module, "weight", torch.tensor([1.0, 2.0, 3.0, 4.0]))
        with_tensor(module, "bias", torch.ones(4))
    both = nn.Sequential(norm, layer, nn.Linear(4, 2))
    operators = [step.operator for step in export_model(both, 4)[0].layers]
    assert operators[:2] == [BatchNorm(affine=True), LayerNorm(affine=True, bias=True)]
    assert largest_difference(both, 4) < 1e-4


@pytest.mark.parametrize(
    ("layer", "says", "remedy"),
    [
        (nn.LeakyReLU(1.5), "negative_slope outside 0 to 1", "set negative_slope to 0 to 1"),
        (nn.LeakyReLU(-0.1), "negative_slope outside 0 to 1", "set negative_slope to 0 to 1"),
        (nn.LeakyReLU(float("nan")), "negative_slope outside 0 to 1", "set negative_slope to 0 to 1"),
        (nn.LeakyReLU(1 / 3), "more than 12 decimal places", "round it: negative_slope=0.333333333333"),
        (nn.BatchNorm1d(4, eps=1e-7), "eps outside 0.00001 to 1", "set eps to 0.00001 to 1"),
        (nn.BatchNorm1d(4, momentum=1.5), "momentum outside 0 to 1", "set momentum to 0 to 1"),
        (nn.LayerNorm(4, eps=0.0), "eps outside 0.00001 to 1", "set eps to 0.00001 to 1"),
    ],
)
def test_setting_out_of_range_is_named_with_the_range(layer: nn.Module, says: str, remedy: str) -> None:
    (problem,) = validate_model(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)), 4)
    assert problem.where == "1"
    assert problem.what.startswith(f"misconfigured: {type(layer).__name__}: has a number for ")
    assert says in problem.what
    assert problem.remedy == remedy


@pytest.mark.parametrize("width", [0, (), (4, 0), "4", 1 << 17])
def test_validate_of_no_shape_of_a_row_is_an_argument_error(width: object) -> None:
    with pytest.raises(ConfideError) as caught:
        validate_model(nn.Linear(4, 2), width)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
