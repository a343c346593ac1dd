"""Reads YAML into texts, lists and mappings without constructing anything.

The text is parsed into its syntax tree only; every scalar is taken as the text that was written, so that `range: [5, 30]` and
`range: ["5", "30"]` mean the same and no number passes through a float. Tags, anchors and doubled keys are refused.
"""

from __future__ import annotations

import yaml

from protocols.errors import ConfideError, ErrorCode, Problem

_MAX_DEPTH = 8
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
)

Tree = str | list["Tree"] | dict[str, "Tree"]


def mapping_from_yaml(data: bytes, *, max_bytes: int, what: str, code: ErrorCode) -> dict[str, Tree]:
    """Reads a file that holds one mapping.

    Args:
        data: the file's bytes, UTF-8.
        max_bytes: how many are read at most.
        what: what the file is, for messages: `schema`.
        code: of the error if it is none.

    Raises:
        ConfideError: of the code given (the author's fault): too long, or not such YAML (with the line), all problems at once.
    """

    def invalid(*problems: Problem) -> ConfideError:
        return ConfideError(code, f"{len(problems)} problem(s) in the {what} file", problems=problems)

    if len(data) > max_bytes:
        raise invalid(Problem("", f"{len(data)} bytes; at most {max_bytes} are read", "describe one table only"))
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise invalid(Problem(line, "is not YAML", "check indentation, colons and quotes")) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise invalid(Problem("", "is not YAML in UTF-8", "save it as UTF-8 text")) from None
    problems: list[Problem] = []
    tree = _read(root, "", problems, set(), what) if root is not None else ""
    if problems:
        raise invalid(*problems)
    if not isinstance(tree, dict):
        raise invalid(Problem("", "must be a mapping", "start with api_version, kind and name"))
    return tree


def _read(node: yaml.Node, where: str, problems: list[Problem], seen: set[int], what: str) -> Tree:
    line = f"{where or 'the file'} (line {node.start_mark.line + 1})"
    # An alias gives the same node again; repeated aliases would grow without bound.
    if id(node) in seen and not isinstance(node, yaml.ScalarNode):
        problems.append(Problem(line, "uses an anchor or alias", "write it out"))
        return ""
    seen.add(id(node))
    if node.tag not in _PLAIN_TAGS:
        problems.append(Problem(line, "uses a YAML tag", "write plain values"))
        return ""
    if where.count(".") + where.count("[") >= _MAX_DEPTH:
        problems.append(Problem(line, "is nested too deeply", f"see the example of a {what}"))
        return ""
    if isinstance(node, yaml.SequenceNode):
        return [_read(item, f"{where}[{position}]", problems, seen, what) for position, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, where, problems, seen, what)
    return str(node.value)


def _read_mapping(node: yaml.MappingNode, where: str, problems: list[Problem], seen: set[int], what: str) -> Tree:
    tree: dict[str, Tree] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        path = f"{where}.{key[:64]}".lstrip(".")
        if not key or key in tree:
            problems.append(
                Problem(f"{path} (line {key_node.start_mark.line + 1})", "is empty or stands twice", "name each once")
            )
            continue
        tree[key] = _read(value_node, path, problems, seen, what)
    return tree
