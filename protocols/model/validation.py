"""Everything that keeps a torch module from running under secret sharing, found in one pass.

Each problem names the module by its qualified name (`encoder.0`), says its kind (never, not yet, replace, misconfigured) and
what to do. The checks:

1. modules: their type is on the list; nothing hooks into them or replaces their forward;
2. parameters and running statistics: float32 on the CPU, finite; parameters trainable, each of one layer alone;
3. the recorded forward: one input, one output, operators whose shapes fit (`protocols.model.tracing`, `protocols.model.graph`).
"""

from __future__ import annotations

import math
import types
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model import tracing
from protocols.model.graph import Step, read_graph
from protocols.model.layers import MAX_WIDTH, Shape
from protocols.model.operators import TENSORS, module_verdict
from protocols.model.verdicts import ProblemKind, Verdict

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_HOOK = Verdict(ProblemKind.NEVER, "has a hook, and code does not travel", "remove the hook before the export")
_FORWARD = Verdict(ProblemKind.NEVER, "its forward was replaced on the object", "define forward in the class")
_LAMBDA = Verdict(
    ProblemKind.REPLACE, "keeps a function or lambda as an attribute", "use a module such as nn.Sigmoid, or a method"
)
_DTYPE = Verdict(ProblemKind.MISCONFIGURED, "is not float32", "call model.float() before the export")
_DEVICE = Verdict(ProblemKind.MISCONFIGURED, "is not in the memory of the CPU", "call model.cpu() before the export")
_LAZY = Verdict(ProblemKind.MISCONFIGURED, "has no shape yet", "give all sizes to the layer")
_NOT_FINITE = Verdict(ProblemKind.MISCONFIGURED, "holds NaN or infinite weights", "initialise or train it again")
_FROZEN = Verdict(
    ProblemKind.NOT_YET, "is frozen; all parameters are trained", "set requires_grad to True, or fold the layer into another"
)
_NEGATIVE = Verdict(ProblemKind.MISCONFIGURED, "holds a negative variance", "initialise or train it again")
_OWN = Verdict(ProblemKind.NOT_YET, "a parameter or buffer outside torch's layers", "keep weights in torch's own layers only")
_TWICE = Verdict(ProblemKind.NOT_YET, "stands at two places with one set of weights", "give every layer weights of its own")
_UNUSED = Verdict(ProblemKind.MISCONFIGURED, "is never used by forward", "remove it, or use it")


def row_shape(input_features: int | Shape) -> Shape:
    """Returns the shape of a row.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a width or shape out of range.
    """
    shape = input_features if isinstance(input_features, tuple) else (input_features,)
    whole = all(type(size) is int and 1 <= size <= MAX_WIDTH for size in shape)
    if not whole or not 1 <= len(shape) <= 3 or math.prod(shape) > MAX_WIDTH:
        what = f"input_features must be a whole number from 1 to {MAX_WIDTH}, or one to three whose product is"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    return shape


def validate_model(module: nn.Module, input_features: int | Shape) -> tuple[Problem, ...]:
    """Returns every problem of a model, in the order of its modules; empty if `export_model` accepts it.

    Args:
        module: the model; its forward takes one (batch, *shape of a row) float32 tensor. Not changed.
        input_features: width of the rows, or the shape of one: (channels, length) or (channels, height, width); public.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a width or shape out of range.
    """
    return inspect_model(module, row_shape(input_features))[0]


def inspect_model(module: nn.Module, input_shape: Shape) -> tuple[tuple[Problem, ...], tuple[Step, ...]]:
    """Returns every problem and the accepted steps of a model; the steps are the whole model only if there is no problem."""
    root = nn.Sequential(OrderedDict(linear=module)) if tracing.is_leaf(module) else module
    problems = [*_check_modules(root), *_check_parameters(root), *_check_statistics(root)]
    trace = tracing.trace(root)
    problems += trace.problems
    if trace.graph is None:
        return tuple(problems), ()
    found, steps = read_graph(root, trace, input_shape)
    problems += found
    problems += _check_use(root, trace)
    problems += _check_shapes(steps)
    # A module that stands at two places is looked at twice; say it once.
    return tuple(dict.fromkeys(problems)), steps


def _visible(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules by qualified name, each once, without the inner modules of an operator such as attention."""
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        path, current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield path, current
        if not tracing.is_leaf(current):
            waiting = [(f"{path}.{child}".lstrip("."), inner) for child, inner in current.named_children()] + waiting


def _check_modules(root: nn.Module) -> Iterator[Problem]:
    for name, module in _visible(root):
        verdict = module_verdict(module) if tracing.is_leaf(module) else None
        if verdict is not None:
            yield verdict.at(name)
            continue  # the module has to go, and takes its hooks and parameters along
        if any(getattr(module, hooks, None) for hooks in _HOOKS):
            yield _HOOK.at(name)
        if "forward" in vars(module):
            yield _FORWARD.at(name)
        for attribute, value in vars(module).items():
            if isinstance(value, types.FunctionType) and attribute != "forward" and not attribute.startswith("_"):
                yield _LAMBDA.at(f"{name}.{attribute}".lstrip("."))
        yield from _check_own(name, module)


def _check_own(name: str, module: nn.Module) -> Iterator[Problem]:
    allowed = TENSORS.get(type(module), frozenset())
    for own in (*module._parameters, *module._buffers):
        if own not in allowed:
            yield _OWN.at(f"{name}.{own}".lstrip("."))


def _check_parameters(root: nn.Module) -> Iterator[Problem]:
    first_use: dict[int, str] = {}
    for name, parameter in root.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            yield _LAZY.at(name)
            continue
        yield from _check_parameter(name, parameter)
        if parameter.device.type == "cpu" and parameter.layout is torch.strided and parameter.numel():
            # Storage, not identity: a view into another parameter is tied to it as well.
            storage = parameter.untyped_storage().data_ptr()
            other = first_use.setdefault(storage, name)
            if other != name:
                yield _tied(other).at(name)


def _check_statistics(root: nn.Module) -> Iterator[Problem]:
    """Running means and variances travel with the weights."""
    for name, buffer in root.named_buffers():
        if not name.endswith(("running_mean", "running_var")):
            continue
        if buffer.dtype is not torch.float32:
            yield _DTYPE.at(name)
        if buffer.device.type != "cpu":
            yield _DEVICE.at(name)
        elif not bool(torch.isfinite(buffer).all()):
            yield _NOT_FINITE.at(name)
        elif name.endswith("running_var") and bool((buffer < 0).any()):
            yield _NEGATIVE.at(name)


def _check_parameter(name: str, parameter: nn.Parameter) -> Iterator[Problem]:
    if parameter.dtype is not torch.float32:
        yield _DTYPE.at(name)
    if not parameter.requires_grad:
        yield _FROZEN.at(name)
    if getattr(parameter, "_backward_hooks", None) or getattr(parameter, "_post_accumulate_grad_hooks", None):
        yield _HOOK.at(name)
    if parameter.device.type != "cpu" or parameter.layout is not torch.strided:
        yield _DEVICE.at(name)
    elif not bool(torch.isfinite(parameter.detach()).all()):
        yield _NOT_FINITE.at(name)


def _check_shapes(steps: tuple[Step, ...]) -> Iterator[Problem]:
    """Tensors that were replaced by others of a shape that the layer does not say."""
    for step in steps:
        for tensor in step.layer.operator.tensors(step.shapes_in) if step.fits else ():
            own = getattr(step.module, tensor.suffix, None)
            if own is None or tuple(own.shape) != tensor.shape:
                yield _other_shape(tensor.shape).at(f"{step.path}.{tensor.suffix}")


def _other_shape(shape: Shape) -> Verdict:
    return Verdict(
        ProblemKind.MISCONFIGURED, f"has not the shape {shape} that its layer says", "build the layer with its real sizes"
    )


def _check_use(root: nn.Module, trace: tracing.Trace) -> Iterator[Problem]:
    """Leaf modules that forward never calls, and layers with tensors that it calls twice."""
    called = set(trace.called)
    for name, module in _visible(root):
        inside_opaque = any(name.startswith(f"{path}.") for path in trace.opaque)
        if tracing.is_leaf(module) and name not in called and not inside_opaque:
            yield _UNUSED.at(name)
        if type(module) in TENSORS and trace.called.count(name) > 1:
            yield _TWICE.at(name)


def _tied(other: str) -> Verdict:
    return Verdict(ProblemKind.NOT_YET, f"shares its weights with {other}", "give every layer weights of its own")
