"""Reads the steps of a model's `forward` with torch.fx, past every module that cannot be read.

torch.fx runs `forward` once with a stand-in for the rows and records what is done to it; nothing but the names of operators
is kept. A module whose `forward` cannot be recorded (control flow that depends on values, and the like) ends the recording;
it is then named as a problem, treated as one opaque step, and the model is read again, so that one run finds all of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from protocols.errors import Problem
from protocols.model import operators
from protocols.model.verdicts import ProblemKind, Verdict

_MAX_UNREADABLE = 64

_CONTROL_FLOW = Verdict(
    ProblemKind.NEVER,
    "its forward depends on the values of its input (if, for, len, float or a conversion)",
    "write it without: every row passes through the same layers",
)
_MODES = Verdict(
    ProblemKind.NEVER,
    "its forward computes something else after eval() than in training",
    "write one forward for both; dropout and batch norm know the difference by themselves",
)
_NO_GRADIENT = Verdict(
    ProblemKind.NOT_YET, "stops gradients (no_grad or inference_mode); all parameters are trained", "remove it from forward"
)
_LOW_PRECISION = Verdict(
    ProblemKind.MISCONFIGURED, "computes with fewer digits (autocast), which does not travel", "remove it from forward"
)


@dataclass(frozen=True)
class Trace:
    """What was recorded.

    Attributes:
        graph: the steps; None if the model's own forward cannot be recorded.
        scopes: by node name, the qualified name of the module whose forward made the step.
        called: qualified names of the leaf modules that were called, in order, with repetitions.
        opaque: qualified names of modules that could not be read.
        problems: one for each of these, and for what forward does around its steps.
    """

    graph: fx.Graph | None
    scopes: dict[str, str]
    called: tuple[str, ...]
    opaque: frozenset[str]
    problems: tuple[Problem, ...]


def trace(root: nn.Module) -> Trace:
    """Records the forward of a model; the author's code runs once per module that cannot be read, and twice more."""
    attributes = set(vars(root))
    modes = [(module, module.training) for module in root.modules()]
    try:
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            # A job trains or does not; the model is read as it trains, whatever mode its author left it in.
            found = _record(root, attributes, training=True)
            if found.graph is None:
                return found
            other = _record(root, attributes, training=False, skip=found.opaque)
            if other.graph is not None and other.opaque == found.opaque and _steps(other.graph) == _steps(found.graph):
                return found
            return replace(found, problems=(*found.problems, _MODES.at("")))
    finally:
        for module, mode in modes:
            module.training = mode


def _record(root: nn.Module, attributes: set[str], *, training: bool, skip: frozenset[str] = frozenset()) -> Trace:
    for module in root.modules():
        module.training = training
    opaque = set(skip)
    problems: list[Problem] = []
    while True:
        tracer = _Tracer(frozenset(opaque))
        try:
            graph = tracer.trace(root)
        # Whatever the author's forward raises on a stand-in means the same: it cannot be recorded.
        except Exception as error:
            where = next(reversed(tracer.module_stack), "")
            problems.append(_unreadable(error).at(where))
            if not where or len(problems) >= _MAX_UNREADABLE:
                return Trace(None, {}, (), frozenset(opaque | {where}), tuple(problems))
            opaque.add(where)
            continue
        finally:
            # torch.fx keeps constants on the module it reads; leave the author's module as it was.
            for name in set(vars(root)) - attributes:
                delattr(root, name)
        scopes = {name: path for name, (path, _) in tracer.node_name_to_scope.items()}
        return Trace(graph, scopes, tuple(tracer.called), frozenset(opaque), (*problems, *tracer.around))


def _steps(graph: fx.Graph) -> list[tuple[str, str, str]]:
    """The steps of a recording as texts, without what a dropout is told of the mode."""
    found = []
    for node in graph.nodes:
        name = operators.function_name(node.target)
        is_dropout = name == "dropout" and node.op == "call_function"
        found.append((node.op, name, str(node.args[:2] if is_dropout else (node.args, node.kwargs))))
    return found


class _Result(fx.Proxy):
    """A stand-in that tells `x += y` from `x = x + y`: the first changes x wherever it stands."""

    def __iadd__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    """A recorder that takes torch's own modules, and modules known to be unreadable, as single steps."""

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.called: list[str] = []
        self.around: dict[Problem, None] = {}
        self._opaque = opaque

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if kind.startswith("call"):
            where = [path for path, _ in self.module_stack.values()]
            scope = next(reversed(where[:-1] if kind == "call_module" else where), "")
            self.around |= {_NO_GRADIENT.at(scope): None} if not torch.is_grad_enabled() else {}
            self.around |= {_LOW_PRECISION.at(scope): None} if torch.is_autocast_enabled("cpu") else {}
        return super().create_node(kind, *args, **kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """See `fx.Tracer`."""
        return _Result(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._opaque or is_leaf(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            self.called.append(path)
        return super().call_module(m, forward, args, kwargs)  # type: ignore[no-untyped-call, unused-ignore]


def is_leaf(module: nn.Module) -> bool:
    """Says whether a module is one operator (torch's own, or a subclass of its layers) rather than the author's composition."""
    if isinstance(module, operators.CONTAINERS):
        return False
    return type(module).__module__.split(".")[0] == "torch" or isinstance(module, operators.LAYERS)


def _unreadable(error: Exception) -> Verdict:
    if isinstance(error, fx.proxy.TraceError | TypeError) or "symbolic tracing" in str(error):
        return _CONTROL_FLOW
    # The message of the author's own exception could hold anything, so only its type is repeated.
    return Verdict(
        ProblemKind.MISCONFIGURED,
        f"its forward fails with {type(error).__name__} when it is recorded by torch.fx",
        "call it on one row first; then make forward take one tensor and use only layers",
    )
