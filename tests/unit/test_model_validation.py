"""Every problem of a model is reported, with the module's qualified name, its kind and a remedy."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from protocols.errors import Problem
from protocols.model.spec import MAX_LAYERS
from protocols.model.validation import validate_model


class Forward(nn.Module):
    """A module whose forward is given, with a linear layer to call."""

    def __init__(self, compute: Callable[["Forward", Tensor], object]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self._compute = compute

    def forward(self, rows: Tensor) -> object:
        return self._compute(self, rows)


def where_and_kind(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return [(problem.where, problem.what.split(":")[0]) for problem in problems]


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Flatten(0), "never"),
        (nn.SiLU(), "not yet"),
        (nn.ConvTranspose1d(3, 3, 1), "not yet"),
        (nn.Conv3d(3, 3, 1), "not yet"),
        (nn.MaxPool3d(2), "not yet"),
        (nn.LSTM(3, 3), "not yet"),
        (nn.GroupNorm(1, 3), "not yet"),
        (nn.InstanceNorm1d(3), "not yet"),
        (nn.MultiheadAttention(3, 1), "not yet"),
        (nn.Hardshrink(), "not yet"),
        (nn.SyncBatchNorm(3), "replace"),
        (nn.LogSoftmax(1), "replace"),
        (nn.AlphaDropout(0.5), "replace"),
        (nn.Dropout1d(0.5).eval(), "replace"),
        (nn.GELU("tanh"), "misconfigured"),
        (nn.BatchNorm1d(3, track_running_stats=False), "misconfigured"),
        (nn.BatchNorm1d(3, momentum=None), "misconfigured"),
        (nn.Softmax(), "misconfigured"),
        (nn.Softmax(0), "misconfigured"),
        (nn.Dropout(1.0), "misconfigured"),
        (nn.Dropout(0.001), "misconfigured"),
        (nn.Dropout(1 / 3), "misconfigured"),
        (nn.LazyLinear(3), "misconfigured"),
        (parametrizations.weight_norm(nn.Linear(3, 3)), "misconfigured"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_validate_refused_module_is_named_with_its_kind_and_a_remedy(module: nn.Module, kind: str) -> None:
    problems = validate_model(nn.Sequential(nn.Sequential(module), nn.Linear(3, 1)).train(), 3)
    assert where_and_kind(problems)[0] == ("0.0", kind)
    assert all(problem.remedy for problem in problems)


@pytest.mark.parametrize("harmless", [nn.Identity(), nn.Flatten(), nn.Dropout(0.0), nn.AlphaDropout(0.0)], ids=repr)
def test_validate_module_without_effect_is_accepted(harmless: nn.Module) -> None:
    assert validate_model(nn.Sequential(nn.Linear(3, 1), harmless), 3) == ()


@pytest.mark.parametrize(
    ("compute", "kind"),
    [
        (lambda self, rows: self.linear(rows) if rows.sum() > 0 else rows, "never"),
        (lambda self, rows: self.linear(torch.stack(list(rows))), "never"),
        (lambda self, rows: self.linear(rows) * float(rows[0, 0]), "never"),
        (lambda self, rows: self.linear(rows) / len(rows), "never"),
        (lambda self, rows: self.missing(rows), "misconfigured"),
        (lambda self, rows: (self.linear(rows), rows), "misconfigured"),
        (lambda self, rows: {"logit": self.linear(rows)}, "misconfigured"),
        (lambda self, rows: functional.silu(self.linear(rows)), "not yet"),
        (lambda self, rows: self.linear(rows).softmax(0), "misconfigured"),
        (lambda self, rows: self.linear(rows).log_softmax(1), "replace"),
        (lambda self, rows: self.linear(rows).squeeze(1), "replace"),
        (lambda self, rows: self.linear(rows) + 1, "replace"),
        (lambda self, rows: functional.dropout(self.linear(rows), 1.0), "misconfigured"),
        (lambda self, rows: self.linear(rows * rows.sigmoid()), "replace"),
        (lambda self, rows: self.linear(torch.maximum(rows, rows.sigmoid())), "not yet"),
        (lambda self, rows: self.linear(torch.add(rows, rows, alpha=2)), "replace"),
        (lambda self, rows: self.linear(rows.view(3, -1)), "replace"),
        (lambda self, rows: self.linear(rows) * rows.size(1), "never"),
        (lambda self, rows: functional.layer_norm(self.linear(rows), (1,)), "replace"),
        (lambda self, rows: self.linear(self.linear.weight * rows), "replace"),
        (lambda self, rows: self.linear(rows).item(), "never"),
        (lambda self, rows: self.linear(rows - torch.ones(3)), "replace"),
    ],
)
def test_validate_refused_forward_is_a_problem_of_the_model(compute: Callable[[Forward, Tensor], object], kind: str) -> None:
    problems = validate_model(Forward(compute), 3)
    assert ("model", kind) in where_and_kind(problems)


def test_validate_control_flow_deep_inside_names_the_module_and_finds_the_rest() -> None:
    class Branching(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows if rows.sum() > 0 else -rows

    module = nn.Sequential(nn.Linear(3, 2), nn.Sequential(Branching()), nn.Linear(2, 2), Branching(), nn.SiLU())
    assert where_and_kind(validate_model(module, 3)) == [("4", "not yet"), ("1.0", "never"), ("3", "never")]


@pytest.mark.parametrize(
    ("layers", "where", "kind"),
    [
        ((nn.Linear(3, 4), nn.Softmax(1), nn.Linear(4, 1)), "1", "not yet"),
        ((nn.Linear(3, 2), nn.Softmax(1)), "1", "replace"),
        ((nn.Linear(3, 4), nn.Softmax(1), nn.Dropout(0.5)), "2", "misconfigured"),
    ],
)
def test_validate_operator_at_the_wrong_end_is_refused_at_its_module(
    layers: tuple[nn.Module, ...], where: str, kind: str
) -> None:
    assert (where, kind) in where_and_kind(validate_model(nn.Sequential(*layers), 3))


def test_validate_failing_forward_does_not_repeat_its_message() -> None:
    def fail(_self: Forward, _rows: Tensor) -> object:
        raise RuntimeError("canary 4711")

    problems = validate_model(Forward(fail), 3)
    assert "RuntimeError" in problems[0].what
    assert "4711" not in str(problems)


def test_validate_wrong_widths_are_reported_at_each_layer() -> None:
    problems = validate_model(nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 1)), 3)
    assert [str(problem) for problem in problems] == [
        "0: misconfigured: takes 4 features, the rows have 3 (use nn.Linear(3, 5))",
        "1: misconfigured: takes 6 features, the step before gives 5 (use nn.Linear(5, 1))",
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_validate_other_dtype_is_misconfigured(dtype: torch.dtype) -> None:
    assert where_and_kind(validate_model(nn.Linear(3, 1).to(dtype), 3)) == [
        ("linear.weight", "misconfigured"),
        ("linear.bias", "misconfigured"),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_validate_weights_that_are_not_finite_are_misconfigured(value: float) -> None:
    module = nn.Linear(3, 1)
    with torch.no_grad():
        module.weight[0, 1] = value
    assert where_and_kind(validate_model(module, 3)) == [("linear.weight", "misconfigured")]


def test_validate_frozen_parameter_is_not_yet_supported() -> None:
    module = nn.Linear(3, 1)
    module.bias.requires_grad_(False)
    assert where_and_kind(validate_model(module, 3)) == [("linear.bias", "not yet")]


def test_validate_weights_on_another_device_are_misconfigured() -> None:
    assert ("linear.weight", "misconfigured") in where_and_kind(validate_model(nn.Linear(3, 1, device="meta"), 3))


def test_validate_tied_parameters_are_not_yet_supported() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    module[1].weight = module[0].weight
    assert where_and_kind(validate_model(module, 3)) == [("1.weight", "not yet")]


def test_validate_parameter_that_is_a_view_of_another_is_not_yet_supported() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    module[1].weight = nn.Parameter(module[0].weight.detach()[:1])
    assert where_and_kind(validate_model(module, 3)) == [("1.weight", "not yet")]


def test_validate_layer_called_twice_is_not_yet_supported() -> None:
    module = Forward(lambda self, rows: self.inner(self.inner(rows)))
    module.linear, module.inner = nn.Identity(), nn.Linear(3, 3)
    assert ("inner", "not yet") in where_and_kind(validate_model(module, 3))


def test_validate_unused_layer_is_misconfigured() -> None:
    module = Forward(lambda self, rows: self.linear(rows))
    module.spare = nn.Sequential(nn.Linear(3, 1))
    # the function kept as an attribute of Forward begins with an underscore, which marks the author's own machinery
    assert where_and_kind(validate_model(module, 3)) == [("spare.0", "misconfigured")]


def test_validate_own_parameter_and_buffer_are_not_yet_supported() -> None:
    module = Forward(lambda self, rows: self.linear(rows))
    module.scale = nn.Parameter(torch.ones(1))
    module.register_buffer("mean", torch.zeros(3))
    assert where_and_kind(validate_model(module, 3)) == [("scale", "not yet"), ("mean", "not yet")]


@pytest.mark.parametrize(
    "attach",
    [
        lambda module: module.register_forward_hook(lambda *_: None),
        lambda module: module.register_forward_pre_hook(lambda *_: None),
        lambda module: module.register_full_backward_hook(lambda *_: None),
        lambda module: module.weight.register_hook(lambda gradient: gradient),
        lambda module: setattr(module, "forward", lambda rows: rows),
    ],
)
def test_validate_hook_or_replaced_forward_is_never_supported(attach: Callable[[nn.Linear], object]) -> None:
    module = nn.Sequential(nn.Linear(3, 1))
    attach(module[0])
    assert "never" in {kind for _, kind in where_and_kind(validate_model(module, 3))}


def test_validate_lambda_attribute_is_replaced_by_a_module() -> None:
    module = Forward(lambda self, rows: self.activation(self.linear(rows)))
    module.activation = lambda values: values.sigmoid()
    assert where_and_kind(validate_model(module, 3)) == [("activation", "replace")]


def test_validate_subclass_of_linear_is_replaced() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    assert where_and_kind(validate_model(nn.Sequential(Doubled(3, 1)), 3)) == [("0", "replace")]


def test_validate_two_inputs_are_misconfigured() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
            return self.linear(rows)

    assert where_and_kind(validate_model(Two(), 3)) == [("model", "misconfigured")]


def test_validate_without_weights_is_misconfigured() -> None:
    assert where_and_kind(validate_model(nn.Sequential(nn.Sigmoid()), 3)) == [("model", "misconfigured")]


def test_validate_too_many_layers_is_not_yet_supported() -> None:
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(MAX_LAYERS + 1)))
    assert where_and_kind(validate_model(module, 1)) == [("model", "not yet")]
