"""Steps of a recorded forward that overwrite what other steps still read.

A recorded step names the results it takes, not the memory they lie in. After `y = relu_(x)` torch reads y wherever x is used
again; the graph of layers would read what x was before. Such a model is refused, since it would compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import fx, nn

from protocols.model.operators import function_name

# Functions with a setting `inplace`, and where it stands among the arguments.
_INPLACE_ARGUMENT = {"relu": 1, "leaky_relu": 2, "dropout": 3}
# What may return its input, or another view of its memory. Dropout returns its input after `eval()`.
_SHARING_FUNCTIONS = frozenset({"flatten", "view", "reshape", "contiguous", "identity", "dropout"})
_SHARING_MODULES = (nn.Identity, nn.Flatten, nn.modules.dropout._DropoutNd)
_READS_SIZES = frozenset({"size", "getattr"})


def overwriting_steps(graph: fx.Graph, module_at: Callable[[str], nn.Module]) -> Iterator[fx.Node]:
    """Yields every step that overwrites a result which a later step, or what forward returns, takes as it was before.

    Args:
        graph: the recorded forward.
        module_at: the module of a qualified name.
    """
    memory: dict[fx.Node, fx.Node] = {}  # of every result: the result that first lay there
    overwritten: dict[fx.Node, fx.Node] = {}
    found: set[fx.Node] = set()
    for node in graph.nodes:
        reads = [] if _reads_sizes(node) else node.all_input_nodes
        for by in dict.fromkeys(overwritten[source] for source in reads if source in overwritten):
            if by not in found:
                found.add(by)
                yield by
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        module = module_at(str(node.target)) if node.op == "call_module" else None
        writes = source is not None and _writes(node, module)
        shares = writes or isinstance(module, _SHARING_MODULES) or (module is None and _name(node) in _SHARING_FUNCTIONS)
        memory[node] = memory.get(source, source) if source is not None and shares else node
        if writes:
            overwritten |= {other: node for other in memory if memory[other] is memory[node] and other is not node}


def _writes(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a step overwrites its first input."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = _name(node)
    if name == "iadd" or (name.endswith("_") and not name.endswith("__")):
        return True
    position = _INPLACE_ARGUMENT.get(name, len(node.args))
    inplace: Any = node.args[position] if position < len(node.args) else node.kwargs.get("inplace", False)
    return bool(inplace)


def _name(node: fx.Node) -> str:
    return function_name(node.target) if node.op in ("call_function", "call_method") else ""


def _reads_sizes(node: fx.Node) -> bool:
    return _name(node) in _READS_SIZES
