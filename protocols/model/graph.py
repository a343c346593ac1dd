"""Turns recorded steps into the graph of layers that a `ModelSpec` is.

Every step takes results of steps before it; what each result is (its shape) is known from the input's shape on, so that a layer
that does not fit is named with what would.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import fx, nn

from protocols.errors import Problem
from protocols.model import operators
from protocols.model.fitting import misfit
from protocols.model.layers import MAX_ELEMENTS, Add, Dropout, Flatten, Misfit, Operator, Shape, Softmax, Square
from protocols.model.overwriting import overwriting_steps
from protocols.model.spec import INPUT, MAX_LAYERS, Layer
from protocols.model.tracing import Trace
from protocols.model.verdicts import ProblemKind, Verdict, refused_function

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
_ADDITIONS = ("add", "iadd", "add_")
_RESHAPES = ("view", "reshape")

_ONE_INPUT = Verdict(ProblemKind.MISCONFIGURED, "forward takes more than one input", "take one tensor of rows")
_ONE_OUTPUT = Verdict(
    ProblemKind.MISCONFIGURED, "forward returns more or less than one tensor", "return one (batch, outputs) tensor"
)
_UNUSED_RESULT = Verdict(ProblemKind.MISCONFIGURED, "its result is never used", "remove it, or use it")
_UNUSED_ROWS = Verdict(ProblemKind.MISCONFIGURED, "forward does not use its input", "pass the rows through the layers")
_SEVERAL = Verdict(
    ProblemKind.NOT_YET, "joins several results otherwise than by adding two of them", "use x + y on two results of one shape"
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
_OVERWRITES = Verdict(
    ProblemKind.MISCONFIGURED,
    "overwrites what other steps still take",
    "leave inplace at False, and write x = x + y for x += y, relu(x) for relu_(x)",
)
_CONSTANT = Verdict(ProblemKind.REPLACE, "uses a parameter, buffer or constant tensor directly", "express it as nn.Linear")


@dataclass(frozen=True)
class Step:
    """A layer, where it stands in the author's model, the module that holds its tensors, and the shapes of a row around it.

    Attributes:
        fits: whether it can take its input.
    """

    path: str
    layer: Layer
    module: nn.Module | None
    shapes_in: tuple[Shape, ...]
    shape: Shape
    fits: bool


@dataclass(frozen=True)
class _Result:
    """What a recorded step gives: of which layer, and the shape of a row; None after a step that is not on the list."""

    layer: str
    shape: Shape | None


@dataclass
class _Reader:
    """Where the reading stands: what recorded steps gave, the layers so far."""

    root: nn.Module
    trace: Trace
    input_shape: Shape
    results: dict[fx.Node, _Result] = field(default_factory=dict)
    batch_sizes: set[fx.Node] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    returned: str | None = None

    def read(self, node: fx.Node) -> Iterator[Problem]:
        match node.op:
            case "placeholder":
                if self.results:
                    yield _ONE_INPUT.at("")
                self.results[node] = _Result(INPUT, None if self.results else self.input_shape)
            case "get_attr":
                yield _CONSTANT.at(self.scope(node))
            case "output":
                yield from self._read_output(node)
            case _:
                yield from self._read_step(node)

    def _read_step(self, node: fx.Node) -> Iterator[Problem]:
        if _is_batch_size(node):
            self.batch_sizes.add(node)
            return
        sources = [source for source in node.all_input_nodes if source in self.results]
        if not sources:
            self.results[node] = _Result(INPUT, None)  # of a constant, which has been named, or of a size
            if not any(source.op == "get_attr" for source in node.all_input_nodes):
                yield refused_function(operators.function_name(node.target)).at(self.scope(node))
            return
        self.results[node] = _Result(self.results[sources[0]].layer, None)
        if node.op == "call_module":
            yield from self._read_module(node, sources)
        else:
            yield from self._read_function(node, sources)

    def _read_module(self, node: fx.Node, sources: list[fx.Node]) -> Iterator[Problem]:
        path = str(node.target)
        module = self.root.get_submodule(path)
        before = self.results[sources[0]]
        if path in self.trace.opaque or operators.module_verdict(module) is not None:
            return  # the verdict on the module itself has been given
        if len(sources) > 1:
            yield _SEVERAL.at(path)
            return
        if operators.dropped(module):
            self.results[node] = before
            return
        operator = operators.module_operator(module, before.shape)
        if isinstance(operator, Verdict):
            yield operator.at(path)
            return
        yield from self._append(node, path, operator, (before,), module if type(module) in operators.TENSORS else None)

    def _read_function(self, node: fx.Node, sources: list[fx.Node]) -> Iterator[Problem]:
        name = operators.function_name(node.target)
        scope = self.scope(node)
        befores = tuple(self.results[source] for source in sources)
        if name in _ADDITIONS and _adds_two(node):
            pair = tuple(self.results[source] for source in node.args if isinstance(source, fx.Node) and source in self.results)
            if len(pair) == 2:
                yield from self._append(node, _join(scope, "add"), Add(), pair, None)
                return
        constants = any(source not in self.results and source not in self.batch_sizes for source in node.all_input_nodes)
        if len(sources) > 1 or constants:
            known = refused_function(name)
            yield (_SEVERAL.named(name) if len(sources) > 1 and known.kind is ProblemKind.NOT_YET else known).at(scope)
            return
        before = befores[0]
        args, kwargs = _settings(node)
        if operators.function_dropped(name, args, kwargs):
            self.results[node] = before
            return
        operator: Operator | Verdict
        if name in _RESHAPES and operators.keeps_rows(args, before.shape, is_batch=self.batch_sizes.__contains__):
            operator = Flatten()
        elif name == "mul" and node.args == (node.args[0],) * 2 and not node.kwargs:
            operator = Square()
        else:
            operator = operators.function_operator(name, args, kwargs, before.shape)
        if isinstance(operator, Verdict):
            yield operator.at(scope)
        else:
            yield from self._append(node, _join(scope, operator.kind), operator, (before,), None)

    def _append(
        self, node: fx.Node, path: str, operator: Operator, befores: tuple[_Result, ...], module: nn.Module | None
    ) -> Iterator[Problem]:
        if isinstance(operator, Flatten) and befores[0].shape is not None and len(befores[0].shape) == 1:
            self.results[node] = befores[0]  # flat rows stay as they are
            return
        name = self._layer_name(path)
        if not _NAME.fullmatch(name):
            yield _BAD_NAME.at(path)
        shapes = tuple(before.shape for before in befores if before.shape is not None)
        if len(shapes) < len(befores):
            # Nothing is known of the input, but a linear layer says what it gives.
            found = (module.out_features,) if isinstance(module, nn.Linear) else None
            self.results[node] = _Result(befores[0].layer, found)
            return
        shape, problem = self._shape_after(operator, befores, shapes, module)
        if problem is not None:
            yield problem.at(path)
        self.results[node] = _Result(name, shape)
        layer = Layer(name, operator, tuple(before.layer for before in befores))
        self.steps.append(Step(path, layer, module, shapes, () if shape is None else shape, fits=problem is None))

    def _shape_after(
        self, operator: Operator, befores: tuple[_Result, ...], shapes: tuple[Shape, ...], module: nn.Module | None
    ) -> tuple[Shape | None, Verdict | None]:
        """The shape of a row of the result, as far as it can be said, and why the operator does not fit."""
        what = None if module is None else misfit(module, shapes[0], after_rows=befores[0].layer == INPUT)
        if what is not None:
            return ((module.out_features,) if isinstance(module, nn.Linear) else None), what
        try:
            shape = operator.output_shape(shapes)
        except Misfit as error:
            return None, Verdict(ProblemKind.MISCONFIGURED, str(error), "choose other sizes, or give input_shape as the rows are")
        if math.prod(shape) > MAX_ELEMENTS:
            return None, Verdict(ProblemKind.NOT_YET, f"gives more than {MAX_ELEMENTS} numbers for a row", "use smaller layers")
        return shape, None

    def _read_output(self, node: fx.Node) -> Iterator[Problem]:
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned not in self.results:
            yield _ONE_OUTPUT.at("")
            return
        last = self.results[returned]
        self.returned = last.layer
        if last.shape is not None and len(last.shape) != 1:
            what = f"gives rows of shape {last.shape}; a model gives (features,)"
            yield Verdict(ProblemKind.MISCONFIGURED, what, "end with nn.Flatten() and nn.Linear").at("")

    def _layer_name(self, path: str) -> str:
        """The module's qualified name; a leading digit (nn.Sequential) gets a prefix, a repeated name a number."""
        name = path if not path[:1].isdigit() else f"layer_{path}"
        taken = {INPUT, *(step.layer.name for step in self.steps)}
        return next(name for name in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 2))) if name not in taken)

    def scope(self, node: fx.Node) -> str:
        """The qualified name of the module whose forward made a step."""
        return self.trace.scopes.get(node.name, "")


def read_graph(root: nn.Module, trace: Trace, input_shape: Shape) -> tuple[list[Problem], tuple[Step, ...]]:
    """Returns the problems of the recorded steps, and the accepted ones in order.

    Args:
        root: the model that was recorded.
        trace: its record, with a graph.
        input_shape: of a row, as forward takes it.
    """
    reader = _Reader(root, trace, input_shape)
    nodes = list(trace.graph.nodes) if trace.graph is not None else []
    problems = [problem for node in nodes for problem in reader.read(node)]
    if trace.graph is not None:
        steps = overwriting_steps(trace.graph, root.get_submodule)
        problems += [_OVERWRITES.at(str(step.target) if step.op == "call_module" else reader.scope(step)) for step in steps]
    if not any(isinstance(module, operators.LAYERS) for module in root.modules()):
        problems.append(_NO_LINEAR.at(""))
    if len(reader.steps) > MAX_LAYERS:
        problems.append(_TOO_LONG.at(""))
    problems += _check_endings(reader.steps, reader.returned)
    if not problems:  # else what is used is not known
        problems += _check_used(reader.steps, reader.returned)
    return problems, tuple(reader.steps)


def _check_endings(steps: list[Step], returned: str | None) -> Iterator[Problem]:
    """What may stand only at the end of a model, or not there."""
    for step in steps:
        last, layer = layer_is(step, returned), step.layer
        if isinstance(layer.operator, Softmax) and not last:
            yield _INNER_SOFTMAX.at(step.path)
        elif isinstance(layer.operator, Softmax) and math.prod(step.shape) <= 2:
            yield _NARROW_SOFTMAX.at(step.path)
        elif isinstance(layer.operator, Dropout) and last:
            yield _LAST_DROPOUT.at(step.path)


def layer_is(step: Step, returned: str | None) -> bool:
    """Says whether a step's result is what the model returns."""
    return step.layer.name == returned


def _check_used(steps: list[Step], returned: str | None) -> Iterator[Problem]:
    used = {name for step in steps for name in step.layer.inputs} | {returned}
    if INPUT not in used:
        yield _UNUSED_ROWS.at("")
    for step in steps:
        if step.layer.name not in used:
            yield _UNUSED_RESULT.at(step.path)


def _is_batch_size(node: fx.Node) -> bool:
    """Whether a step only asks for the number of rows, and only to put every row on one line with it."""
    name = operators.function_name(node.target)
    if name == "size" and node.args[1:] == (0,):
        return all(_reshapes(user) for user in node.users)
    if name == "getitem" and len(node.args) == 2 and node.args[1] == 0:
        return _is_sizes(node.args[0]) and all(_reshapes(user) for user in node.users)
    return _is_sizes(node) and bool(node.users) and all(_is_batch_size(user) for user in node.users)


def _is_sizes(node: object) -> bool:
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
        return False
    name = operators.function_name(node.target)
    return (name == "getattr" and node.args[1:] == ("shape",)) or (name == "size" and len(node.args) == 1)


def _reshapes(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and operators.function_name(node.target) in _RESHAPES


def _adds_two(node: fx.Node) -> bool:
    return len(node.args) == 2 and not node.kwargs and all(isinstance(source, fx.Node) for source in node.args)


def _settings(node: fx.Node) -> tuple[tuple[object, ...], dict[str, object]]:
    """The arguments after the input."""
    if node.args:
        return tuple(node.args[1:]), dict(node.kwargs)
    return (), {name: value for name, value in node.kwargs.items() if name != "input"}


def _join(scope: str, name: str) -> str:
    return ".".join(filter(None, (scope, name)))
