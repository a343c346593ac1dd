"""Reads a schema from YAML without constructing anything.

The text is parsed into its syntax tree only; every scalar is taken as the text that was written, so that `range: [5, 30]` and
`range: ["5", "30"]` mean the same and no number passes through a float. Tags, anchors and doubled keys are refused.
"""

from __future__ import annotations

import yaml

from privacy.preparation.schema import TableSchema, read_schema
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_SCHEMA_BYTES = 1024 * 1024
_MAX_DEPTH = 8
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
)

Tree = str | list["Tree"] | dict[str, "Tree"]


def schema_from_yaml(data: bytes) -> TableSchema:
    """Reads a schema file.

    Args:
        data: the file's bytes, UTF-8, at most `MAX_SCHEMA_BYTES`.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): not YAML (with the line), or every problem with its path
            (`columns[3].range`).
    """
    if len(data) > MAX_SCHEMA_BYTES:
        raise _invalid(Problem("", f"{len(data)} bytes; at most {MAX_SCHEMA_BYTES} are read", "describe one table only"))
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _invalid(Problem(line, "is not YAML", "check indentation, colons and quotes")) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise _invalid(Problem("", "is not YAML in UTF-8", "save it as UTF-8 text")) from None
    problems: list[Problem] = []
    tree = _read(root, "", problems, set()) if root is not None else ""
    if problems:
        raise _invalid(*problems)
    if not isinstance(tree, dict):
        raise _invalid(Problem("", "must be a mapping", "start with api_version, kind, name and columns"))
    return read_schema(tree)


def _read(node: yaml.Node, where: str, problems: list[Problem], seen: set[int]) -> Tree:
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
        problems.append(Problem(line, "is nested too deeply", "see the example schema"))
        return ""
    if isinstance(node, yaml.SequenceNode):
        return [_read(item, f"{where}[{position}]", problems, seen) for position, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, where, problems, seen)
    return str(node.value)


def _read_mapping(node: yaml.MappingNode, where: str, problems: list[Problem], seen: set[int]) -> Tree:
    tree: dict[str, Tree] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        path = f"{where}.{key[:64]}".lstrip(".")
        if not key or key in tree:
            problems.append(
                Problem(f"{path} (line {key_node.start_mark.line + 1})", "is empty or stands twice", "name each once")
            )
            continue
        tree[key] = _read(value_node, path, problems, seen)
    return tree


def _invalid(*problems: Problem) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_SCHEMA, f"{len(problems)} problem(s) in the schema file", problems=problems)
