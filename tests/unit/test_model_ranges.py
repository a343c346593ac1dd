"""The range analysis bounds everything that rows within [-1, 1] can do, says what is proven, and refuses what is certain."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import FIXED_POINT, FixedPoint
from protocols.job import Task
from protocols.model import ranges
from protocols.model.export import export_model
from protocols.model.intervals import are_cheap, intervals
from protocols.model.layers import AdaptiveAveragePool, BatchNorm, Convolution, Flatten, LayerNorm, Linear, MaxPool, Relu, Sigmoid
from protocols.model.norm_bounds import NormSource, sizes_of
from protocols.model.plain_layers import Coin, layer_gradient, run_layers
from protocols.model.plain_losses import loss_slope, targets
from protocols.model.ranges import GRADIENT, MOMENTUM, RESULT, SLOPE, VARIANCE, RangeReport, Standing, analyse
from protocols.model.spec import INPUT, ModelSpec
from protocols.plan.ranges import refuse_overflow
from protocols.training import Loss, Optimiser, OptimiserKind, Training
from tests.support.jobs import sgd

SGD = replace(sgd(3, 6, "0.5", "0.9"), loss=Loss.CROSS_ENTROPY)
PLAIN_SGD = replace(SGD, optimiser=Optimiser(OptimiserKind.SGD, "0.5"))
ADAM = replace(SGD, optimiser=Optimiser(OptimiserKind.ADAM, "0.01", beta1="0.9", beta2="0.999", epsilon="0.0001"))


class Everything(nn.Module):
    """Most operators in one model, on rows of 2 x 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, stride=1, padding=1, groups=2), nn.BatchNorm2d(4)
        self.second, self.max, self.mean = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.adaptive, self.flat, self.wide = nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(8, 6)
        self.layer, self.gelu, self.leaky, self.drop = nn.LayerNorm(6), nn.GELU(), nn.LeakyReLU(0.3), nn.Dropout(0.25)
        self.tanh, self.sigmoid, self.out, self.end = nn.Tanh(), nn.Sigmoid(), nn.Linear(6, 3), nn.Softmax(1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        first = self.norm(self.first(rows))
        both = torch.relu(self.second(first) + first)
        small = self.flat(self.adaptive(self.mean(self.max(both))))
        inner = self.drop(self.gelu(self.layer(self.wide(small))))
        return self.end(self.out(self.leaky(inner) + self.tanh(inner) + self.sigmoid(inner)))


def a_model(seed: int = 0) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    generator = torch.Generator().manual_seed(seed)
    module = Everything()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.8, generator=generator)
    return export_model(module, (2, 8, 8))


def extreme_rows(spec: ModelSpec, count: int, seed: int) -> np.ndarray:
    """Rows at the corners of [-1, 1], and some inside."""
    generator = np.random.default_rng(seed)
    corners = generator.choice([-1.0, 1.0], (count, spec.input_features))
    return np.where(generator.random((count, 1)) < 0.7, corners, generator.uniform(-1, 1, corners.shape))


def keeps(seed: int) -> Coin:
    return lambda layer, shape: np.random.default_rng([seed, len(layer)]).integers(0, 2, shape)


@pytest.mark.parametrize("trains", [True, False])
def test_intervals_hold_every_value_that_extreme_rows_give(trains: bool) -> None:
    spec, weights = a_model()
    found = intervals(spec, weights, batch_rows=6 if trains else None)
    for seed in range(20):
        rows = extreme_rows(spec, 6, seed)
        for done in run_layers(spec, weights, rows, layers=spec.layers, trains=trains, coin=keeps(seed) if trains else None):
            low, high = found[done.layer.name]
            # the same sums in another order, numbers below 2^20
            assert (done.output >= low - 1e-9).all(), done.layer.name
            assert (done.output <= high + 1e-9).all(), done.layer.name


def test_interval_of_a_linear_layer_is_reached_by_the_rows_of_its_signs() -> None:
    spec, weights = export_model(nn.Linear(5, 3), 5)
    low, high = intervals(spec, weights, batch_rows=None)["linear"]
    for output in range(3):
        worst = np.sign(weights["linear.weight"][output]).astype(np.float64)[np.newaxis]
        given = [
            run_layers(spec, weights, rows, layers=spec.layers, trains=False, coin=None)[0].output for rows in (worst, -worst)
        ]
        assert given[0][0, output] == pytest.approx(high[0, output], abs=1e-12)
        assert given[1][0, output] == pytest.approx(low[0, output], abs=1e-12)


def largest(report: RangeReport, quantity: str, where: str, *, grown: bool = False) -> float:
    bound = next(bound for bound in report.bounds if (bound.quantity, bound.where) == (quantity, where))
    return float(2.0 ** (bound.grown_bits if grown else bound.start_bits))


@pytest.mark.parametrize("growth", [1.0, ranges.GROWTH])
def test_bounds_hold_for_results_slopes_gradients_and_momenta_of_extreme_batches(growth: float) -> None:
    spec, weights = a_model()
    report = analyse(spec, weights, numbers=FIXED_POINT, training=SGD, batch_rows=6)
    grown = growth > 1
    scaled = {name: values.astype(np.float64) * growth for name, values in weights.items()}
    for seed in range(10):
        rows = extreme_rows(spec, 6, seed)
        wanted = targets(np.random.default_rng(seed).integers(0, 3, 6), 3, Task.CLASSES)
        passes = run_layers(spec, scaled, rows, layers=spec.layers[:-1], trains=True, coin=keeps(seed))
        slopes = {passes[-1].layer.name: loss_slope(Loss.CROSS_ENTROPY, passes[-1].output, wanted)}
        for done in reversed(passes):
            name = done.layer.name
            # bounds are of one row's loss; the mean over 6 rows is a sixth of it in every row
            assert np.abs(done.output).max() <= largest(report, RESULT, name, grown=grown), name
            assert 6 * np.abs(slopes[name]).max() <= largest(report, SLOPE, name, grown=grown), name
            if isinstance(done.layer.operator, BatchNorm):
                assert done.inputs[0].var(axis=(0, 2, 3)).max() <= largest(report, VARIANCE, name, grown=grown)
            by_inputs, gradients = layer_gradient(done, scaled, slopes[name])
            for parameter, gradient in gradients.items():
                size = float(np.abs(gradient).max())
                assert size <= largest(report, GRADIENT, parameter, grown=grown), parameter
                assert 10 * size <= largest(report, MOMENTUM, parameter, grown=grown), parameter  # momentum 0.9
            for taken, slope in zip(done.layer.inputs, by_inputs, strict=True):
                if taken != INPUT:
                    slopes[taken] = slopes.get(taken, 0.0) + slope


def scaled_by(first: float, second: float = 1.0) -> RangeReport:
    spec = ModelSpec.chain(4, first=Linear(4, bias=False), act=Relu(), second=Linear(2))
    weights = {"first.weight": np.full((4, 4), first), "second.weight": np.full((2, 4), second), "second.bias": np.zeros(2)}
    return analyse(spec, weights, numbers=FIXED_POINT, training=PLAIN_SGD, batch_rows=6)


def standings(report: RangeReport, quantity: str) -> dict[str, Standing]:
    return {bound.where: bound.standing for bound in report.bounds if bound.quantity == quantity}


def test_small_weights_are_proven_and_say_nothing() -> None:
    report = scaled_by(0.1)
    assert {bound.standing for bound in report.bounds} == {Standing.CANNOT}
    assert report.warnings == ()
    assert report.in_words == ("no result, gradient or step can leave its limit, whatever the rows are",)


def test_layer_that_can_overflow_at_its_weights_is_named_with_its_bound() -> None:
    # 4 * 1000 = 2^11.97, times 4 * 200 is 2^21.6
    report = scaled_by(1000.0, 200.0)
    assert standings(report, RESULT) == {"first": Standing.CANNOT, "act": Standing.CANNOT, "second": Standing.NOT_PROVEN}
    assert report.warnings[0] == (
        "second: its result is not proven to stay below 2^20: the worst rows give 2^22 at the initial weights"
    )


def test_layer_that_can_overflow_once_norms_have_grown_is_named_with_both_bounds() -> None:
    # 2^11.97 * 2^7.64 = 2^19.6, and both layers four times as large give 2^23.6
    report = scaled_by(1000.0, 50.0)
    assert standings(report, RESULT)["second"] is Standing.NOT_PROVEN
    assert report.warnings[0] == (
        "second: its result is not proven to stay below 2^20: "
        "at most 2^20 at the initial weights, 2^24 once their norms are 4 times as large"
    )


def test_layer_that_overflows_for_every_row_is_refused_by_its_name() -> None:
    spec = ModelSpec.chain(4, first=Linear(4), act=Sigmoid(), second=Linear(4), third=Linear(2))
    weights = {
        "first.weight": np.zeros((4, 4)), "first.bias": np.full(4, 20.0), "second.weight": np.full((4, 4), 1000.0),
        "second.bias": np.zeros(4), "third.weight": np.full((2, 4), 1000.0), "third.bias": np.zeros(2),
    }  # fmt: skip
    report = analyse(spec, weights, numbers=FIXED_POINT, training=None, batch_rows=1)
    assert standings(report, RESULT)["third"] is Standing.WILL
    with pytest.raises(ConfideError) as caught:
        refuse_overflow(report)
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert [problem.where for problem in caught.value.problems] == ["third"]
    refuse_overflow(scaled_by(1000.0, 200.0))  # possible is not certain


def test_weights_that_nobody_knows_are_bounded_by_their_declared_limit_and_warned_of_in_words_alone() -> None:
    spec, _ = a_model()
    report = analyse(spec, None, numbers=FIXED_POINT, training=None, batch_rows=1)
    assert standings(report, RESULT)["first"] is Standing.CANNOT  # 9 weights below 2^10 and a bias
    assert report.warnings == ()
    assert report.problems == ()
    assert "held as shares" in report.in_words[0]


def test_weights_that_begin_at_zero_are_bounded_as_if_they_began_where_torch_does() -> None:
    spec = ModelSpec.chain(1 << 14, first=Linear(1 << 6), second=Linear(2))
    zeros = {parameter.name: np.zeros(parameter.shape) for parameter in spec.parameters}
    report = analyse(spec, zeros, numbers=FIXED_POINT, training=PLAIN_SGD, batch_rows=6)
    # 4 * 2^14 * 2^-7 / 2 = 2^8 and a bias of at most 4
    assert largest(report, RESULT, "first", grown=True) == 2.0**9


def test_adam_is_held_to_its_own_limit_of_gradients() -> None:
    spec, weights = a_model()
    report = analyse(spec, weights, numbers=FIXED_POINT, training=ADAM, batch_rows=6)
    found = {(bound.quantity, bound.limit_bits) for bound in report.bounds if "." in bound.where}
    assert found == {(GRADIENT, FIXED_POINT.gradient_limit_bits)}


def test_gradients_of_sgd_are_held_to_the_limit_of_their_sum_over_the_batch() -> None:
    spec, weights = a_model()

    def limits(training: Training, rows: int) -> set[int]:
        report = analyse(spec, weights, numbers=FIXED_POINT, training=training, batch_rows=rows)
        return {bound.limit_bits for bound in report.bounds if bound.quantity == GRADIENT}

    assert limits(PLAIN_SGD, 128) == {FIXED_POINT.update_limit_bits}
    assert limits(PLAIN_SGD, 1 << 15) == {FIXED_POINT.value_limit_bits - 15}
    assert limits(replace(PLAIN_SGD, loss=Loss.MEAN_SQUARED_ERROR), 128) == {FIXED_POINT.value_limit_bits}


def test_other_limits_are_the_ones_compared_with() -> None:
    spec = ModelSpec.chain((4, 4), flat=Flatten(), out=Linear(1))
    weights = {"out.weight": np.ones((1, 16)), "out.bias": np.zeros(1)}
    training: Training = replace(PLAIN_SGD, loss=Loss.BINARY_CROSS_ENTROPY)
    wide, narrow = (
        analyse(spec, weights, numbers=FixedPoint(value_limit_bits=bits), training=training, batch_rows=6) for bits in (20, 3)
    )
    assert standings(wide, RESULT)["out"] is Standing.CANNOT
    assert standings(narrow, RESULT) == {"flat": Standing.CANNOT, "out": Standing.NOT_PROVEN}


def zeros(spec: ModelSpec, **given: np.ndarray) -> dict[str, np.ndarray]:
    named = {name.replace("__", "."): values for name, values in given.items()}
    return {parameter.name: named.get(parameter.name, np.zeros(parameter.shape)) for parameter in spec.parameters}


def bounds_of(spec: ModelSpec, weights: dict[str, np.ndarray] | None, quantity: str) -> dict[str, Standing]:
    return standings(analyse(spec, weights, numbers=FIXED_POINT, training=PLAIN_SGD, batch_rows=6), quantity)


def test_batch_norm_at_inference_is_bounded_by_its_weight_and_its_running_statistics() -> None:
    spec = ModelSpec.chain(1, norm=BatchNorm(), out=Linear(1, bias=False))
    weights = {
        "norm.weight": np.array([50.0]), "norm.bias": np.zeros(1), "norm.running_mean": np.array([-900.0]),
        "norm.running_var": np.zeros(1), "out.weight": np.ones((1, 1)),
    }  # fmt: skip
    given = run_layers(spec, weights, np.ones((1, 1)), layers=spec.layers, trains=False, coin=None)[0].output[0, 0]
    assert given > 2.0**20  # 50 * 901 / sqrt(0.00001) is 2^23.8
    source = NormSource(spec, weights, growth=1.0, limit=2.0**10)
    assert sizes_of(spec, source, batch_rows=None, loss=None).results["norm"] >= given * (1 - 1e-12)
    # the same model with its weights as shares
    report = analyse(spec, None, numbers=FIXED_POINT, training=None, batch_rows=1)
    assert standings(report, RESULT)["norm"] is Standing.NOT_PROVEN


def test_gradient_of_a_batch_norms_weight_is_bounded_where_one_place_has_all_of_the_slope() -> None:
    places = 64
    spec = ModelSpec.chain((1, places), norm=BatchNorm(), top=MaxPool((64,), (64,), (0,)), flat=Flatten(), out=Linear(1))
    weights = zeros(spec, norm__weight=np.ones(1), norm__running_var=np.ones(1), out__weight=np.ones((1, 1)))
    rows = np.full((1, places), -1.0)
    rows[0, 7] = 1.0
    training = replace(PLAIN_SGD, loss=Loss.BINARY_CROSS_ENTROPY)
    passes = run_layers(spec, weights, rows, layers=spec.layers, trains=True, coin=None)
    slope = loss_slope(Loss.BINARY_CROSS_ENTROPY, passes[-1].output, np.zeros((1, 1)))
    for done in reversed(passes):
        (slope,), gradients = layer_gradient(done, weights, slope)
    found = abs(float(gradients["norm.weight"][0]))
    assert found > 7.9  # sqrt(63) deviations off, times a slope of nearly 1
    report = analyse(spec, weights, numbers=FIXED_POINT, training=training, batch_rows=1)
    assert largest(report, GRADIENT, "norm.weight") >= found


def test_slope_of_the_squared_error_after_a_sigmoid_reaches_labels_below_zero() -> None:
    spec = ModelSpec.chain(2, out=Linear(1), end=Sigmoid())
    weights = zeros(spec, out__bias=np.array([20.0]))
    given = run_layers(spec, weights, np.zeros((1, 2)), layers=spec.layers, trains=True, coin=None)[-1].output
    slope = float(loss_slope(Loss.MEAN_SQUARED_ERROR, given, np.array([[-1.0]]))[0, 0])
    source = NormSource(spec, weights, growth=1.0, limit=2.0**10)
    assert sizes_of(spec, source, batch_rows=1, loss=Loss.MEAN_SQUARED_ERROR).slopes["end"] >= slope
    assert slope > 3.99


@pytest.mark.parametrize("known", [True, False])
def test_bounds_that_leave_float64_are_not_proven(known: bool) -> None:
    layers = {f"wide{number}": Linear(64, bias=False) for number in range(120)}
    spec = ModelSpec.chain(64, **layers, norm=LayerNorm(), out=Linear(2))
    weights = {name: values + 500.0 for name, values in zeros(spec).items()} if known else None
    report = analyse(spec, weights, numbers=FIXED_POINT, training=PLAIN_SGD, batch_rows=6)
    assert standings(report, RESULT)["wide119"] is Standing.NOT_PROVEN
    assert standings(report, VARIANCE)["norm"] is Standing.NOT_PROVEN
    assert standings(report, SLOPE)["wide0"] is Standing.NOT_PROVEN
    assert standings(report, GRADIENT)["wide0.weight"] is Standing.NOT_PROVEN
    assert report.problems == ()


def test_weight_of_zero_stops_a_bound_that_left_float64() -> None:
    layers = {f"wide{number}": Linear(4, bias=False) for number in range(120)}
    spec = ModelSpec.chain(4, **layers, gate=Linear(2, bias=False))
    weights = {name: values + 600.0 for name, values in zeros(spec).items()} | {"gate.weight": np.zeros((2, 4))}
    source = NormSource(spec, weights, growth=1.0, limit=2.0**10)
    sizes = sizes_of(spec, source, batch_rows=6, loss=Loss.CROSS_ENTROPY)
    assert sizes.results["wide119"] == np.inf
    assert sizes.results["gate"] == 0.0
    assert sizes.slopes["wide0"] == 0.0


def test_variances_before_a_batch_norm_are_held_to_the_limit_of_its_running_statistics() -> None:
    spec = ModelSpec.chain(2, wide=Linear(2), norm=BatchNorm(), out=Linear(2))
    # A variance of up to 60^2 would leave 2^10, and so would what the running variance follows.
    weights = zeros(spec, wide__weight=np.full((2, 2), 30.0), norm__weight=np.ones(2), norm__running_var=np.ones(2))
    assert bounds_of(spec, weights, VARIANCE) == {"norm": Standing.NOT_PROVEN}
    small = weights | {"wide.weight": np.full((2, 2), 0.5)}
    assert bounds_of(spec, small, VARIANCE) == {"norm": Standing.CANNOT}
    rows = spec.chain(2, wide=Linear(2), norm=LayerNorm(), out=Linear(2))
    assert bounds_of(rows, zeros(rows, wide__weight=np.full((2, 2), 30.0)), VARIANCE) == {"norm": Standing.CANNOT}


def test_layer_norm_of_deviations_beyond_its_domain_for_every_row_is_refused_by_its_name() -> None:
    spec = ModelSpec.chain(2, wide=Linear(4), norm=LayerNorm(), out=Linear(2))
    # Two of four values are 4000 apart, so the variance is at least 4000^2 / 8 = 2^20.9
    weights = zeros(spec, wide__bias=np.array([900.0, 0.0, 0.0, -900.0]), wide__weight=np.full((4, 2), 1e-3))
    assert bounds_of(spec, weights, VARIANCE)["norm"] is Standing.NOT_PROVEN  # 1800 apart, at least 2^18.6
    far = weights | {"wide.bias": np.array([2000.0, 0.0, 0.0, -2000.0])}
    report = analyse(spec, far, numbers=FixedPoint(parameter_limit_bits=12), training=None, batch_rows=1)
    with pytest.raises(ConfideError) as caught:
        refuse_overflow(report)
    assert [problem.where for problem in caught.value.problems] == ["norm"]
    assert "variance of what it takes is beyond 2^20" in caught.value.problems[0].what


def test_intervals_of_a_wide_kernel_take_no_more_memory_than_a_few_results() -> None:
    spec = ModelSpec.chain((1, 128, 128), wide=Convolution(1, (30, 30), (1, 1), (15, 15)), flat=Flatten(), out=Linear(1))
    weights = zeros(spec, wide__weight=np.ones((1, 1, 30, 30)))
    assert are_cheap(spec)
    tracemalloc.start()
    try:
        analyse(spec, weights, numbers=FIXED_POINT, training=None, batch_rows=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # all windows side by side would take 129 * 129 * 900 numbers, 120 MB


def test_model_too_large_for_intervals_has_the_bounds_by_norms() -> None:
    pools = {f"pool{number}": AdaptiveAveragePool((256, 256)) for number in range(200)}
    spec = ModelSpec.chain((1, 256, 256), **pools, flat=Flatten(), out=Linear(1))
    assert not are_cheap(spec)
    weights = zeros(spec, out__weight=np.ones((1, 1 << 16)))
    report = analyse(spec, weights, numbers=FIXED_POINT, training=None, batch_rows=1)
    assert largest(report, RESULT, "out") == 2.0**17  # 2^16 and a bias of 0
    assert standings(report, RESULT)["pool199"] is Standing.CANNOT
