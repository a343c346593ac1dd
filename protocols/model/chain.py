"""Turns recorded steps into the one line of operators that a `ModelSpec` is.

Every step takes the result of the step before it and nothing else; a second input, a branch, a second output or a width that
does not fit is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import fx, nn

from protocols.errors import Problem
from protocols.model import operators
from protocols.model.operators import LINEAR, Operator, ProblemKind, Verdict
from protocols.model.spec import MAX_LAYERS, MAX_WIDTH, Layer, LayerKind
from protocols.model.tracing import Trace

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")

_ONE_INPUT = Verdict(ProblemKind.MISCONFIGURED, "forward takes more than one input", "take one (batch, features) tensor")
_ONE_OUTPUT = Verdict(
    ProblemKind.MISCONFIGURED, "forward returns more or less than one tensor", "return one (batch, outputs) tensor"
)
_NOT_LAST = Verdict(ProblemKind.NOT_YET, "forward returns something else than the last step's result", "return the last result")
_BRANCH = Verdict(
    ProblemKind.NOT_YET, "branches and skip connections are not supported", "pass each layer the output of the one before"
)
_NO_LINEAR = Verdict(ProblemKind.MISCONFIGURED, "has no layer with weights", "use at least one nn.Linear")
_TOO_LONG = Verdict(ProblemKind.NOT_YET, f"has more than {MAX_LAYERS} layers", "use fewer")
_BAD_NAME = Verdict(
    ProblemKind.MISCONFIGURED, "a layer's name is at most 64 letters, digits, _ and .", "name the module differently"
)
_INNER_SOFTMAX = Verdict(
    ProblemKind.NOT_YET, "softmax between layers is not supported", "use it at the end, or another activation"
)
_NARROW_SOFTMAX = Verdict(
    ProblemKind.REPLACE,
    "softmax over two classes is one sigmoid with twice the exchange of messages",
    "end with nn.Linear(..., 1) and nn.Sigmoid",
)
_LAST_DROPOUT = Verdict(ProblemKind.MISCONFIGURED, "dropout at the end would drop predictions", "remove it")
_CONSTANT = Verdict(ProblemKind.REPLACE, "uses a parameter, buffer or constant tensor directly", "express it as nn.Linear")


@dataclass(frozen=True)
class Step:
    """A layer, where it stands in the author's model and, for linear ones, the module that holds its weights."""

    path: str
    layer: Layer
    module: nn.Linear | None


@dataclass
class _Reader:
    """Where the reading stands: the last result, its width (None after a step that is not on the list), what was found."""

    root: nn.Module
    trace: Trace
    width: int | None
    last: fx.Node | None = None
    steps: list[Step] = field(default_factory=list)

    def read(self, node: fx.Node) -> Iterator[Problem]:
        match node.op:
            case "placeholder":
                if self.last is not None:
                    yield _ONE_INPUT.at("")
                else:
                    self.last = node
                return
            case "get_attr":
                yield _CONSTANT.at(self._scope(node))
                return
            case "output":
                yield from self._read_output(node)
                return
            case _:
                yield from self._read_step(node)

    def _read_step(self, node: fx.Node) -> Iterator[Problem]:
        inputs = [source for source in node.all_input_nodes if source.op != "get_attr"]
        if inputs != [self.last]:
            yield _BRANCH.at(self._scope(node))
        self.last = node
        if node.op == "call_module":
            yield from self._read_module(str(node.target))
            return
        name = operators.function_name(node.target)
        if operators.function_dropped(name, tuple(node.args[1:]), node.kwargs):
            return
        operator = operators.function_operator(name, tuple(node.args[1:]), node.kwargs)
        if operator is not None:
            yield from self._append_operator(".".join(filter(None, (self._scope(node), operator.kind.value))), operator)
        else:
            self.width = None
            yield operators.function_verdict(name).at(self._scope(node))

    def _read_module(self, path: str) -> Iterator[Problem]:
        module = self.root.get_submodule(path)
        if path in self.trace.opaque or operators.module_verdict(module) is not None:
            self.width = None  # the verdict on the module itself has been given
        elif isinstance(module, LINEAR):
            yield from self._append_linear(path, module)
        elif (operator := operators.module_operator(module)) is not None:
            yield from self._append_operator(path, operator)

    def _append_operator(self, path: str, operator: Operator) -> Iterator[Problem]:
        name = self._layer_name(path)
        yield from _check_name(name, path)
        if self.width is not None:
            self.steps.append(Step(path, Layer(name, operator.kind, self.width, self.width, False, operator.rate), None))

    def _append_linear(self, path: str, linear: nn.Linear) -> Iterator[Problem]:
        name = self._layer_name(path)
        yield from _check_name(name, path)
        wide_in, wide_out = linear.in_features, linear.out_features
        if self.width is not None and wide_in != self.width:
            source = "the step before gives" if self.steps else "the rows have"
            yield Verdict(
                ProblemKind.MISCONFIGURED,
                f"takes {wide_in} features, {source} {self.width}",
                f"use nn.Linear({self.width}, {wide_out})",
            ).at(path)
        if not (1 <= wide_in <= MAX_WIDTH and 1 <= wide_out <= MAX_WIDTH):
            yield Verdict(ProblemKind.NOT_YET, f"a width is outside 1 to {MAX_WIDTH}", "use narrower layers").at(path)
        self.width = wide_out
        self.steps.append(Step(path, Layer(name, LayerKind.LINEAR, wide_in, wide_out, linear.bias is not None), linear))

    def _read_output(self, node: fx.Node) -> Iterator[Problem]:
        returned = node.args[0]
        if not isinstance(returned, fx.Node):
            yield _ONE_OUTPUT.at("")
        elif returned is not self.last:
            yield _NOT_LAST.at("")

    def _layer_name(self, path: str) -> str:
        """The module's qualified name; a leading digit (nn.Sequential) gets a prefix, a repeated name a number."""
        name = path if not path[:1].isdigit() else f"layer_{path}"
        taken = {step.layer.name for step in self.steps}
        return next(name for name in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 2))) if name not in taken)

    def _scope(self, node: fx.Node) -> str:
        return self.trace.scopes.get(node.name, "")


def read_chain(root: nn.Module, trace: Trace, input_features: int) -> tuple[list[Problem], tuple[Step, ...]]:
    """Returns the problems of the recorded steps, and the accepted ones in order.

    Args:
        root: the model that was recorded.
        trace: its record, with a graph.
        input_features: width of the rows.
    """
    reader = _Reader(root, trace, input_features)
    nodes = list(trace.graph.nodes) if trace.graph is not None else []
    problems = [problem for node in nodes for problem in reader.read(node)]
    if not any(isinstance(module, nn.Linear) for module in root.modules()):
        problems.append(_NO_LINEAR.at(""))
    if len(reader.steps) > MAX_LAYERS:
        problems.append(_TOO_LONG.at(""))
    problems += _check_endings(reader.steps)
    return problems, tuple(reader.steps)


def _check_name(name: str, path: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield _BAD_NAME.at(path)


def _check_endings(steps: list[Step]) -> Iterator[Problem]:
    """What may stand only at the end of a model, or not there."""
    for step in steps:
        last, layer = step is steps[-1], step.layer
        if layer.kind is LayerKind.SOFTMAX and not last:
            yield _INNER_SOFTMAX.at(step.path)
        elif layer.kind is LayerKind.SOFTMAX and layer.in_features <= 2:
            yield _NARROW_SOFTMAX.at(step.path)
        elif layer.kind is LayerKind.DROPOUT and last:
            yield _LAST_DROPOUT.at(step.path)
