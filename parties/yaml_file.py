"""YAML files of operators, read strictly: plain values only, no duplicate keys, no references, and the line of every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from parties.storage.files import read_public
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_YAML_BYTES = 64 * 1024
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlFile:
    """A parsed file.

    Attributes:
        path: where it lies.
        content: its mapping of plain values.
        lines: the line, from 1, at which each field stands.
    """

    path: Path
    content: Mapping[str, object]
    lines: Mapping[FieldPath, int]

    def problem(self, field: FieldPath, what: str, remedy: str) -> Problem:
        """Returns a problem that names file, line and field; of a missing field, the line of what should hold it."""
        known = next((field[:length] for length in range(len(field), -1, -1) if field[:length] in self.lines), ())
        line = self.lines.get(known, 1)
        return Problem(f"{self.path}:{line} {'.'.join(str(part) for part in field)}".rstrip(), what, remedy)


def read_yaml(path: Path) -> YamlFile:
    """Reads a YAML file.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault): not YAML, not a mapping, duplicate keys, anchors or tags;
            INVALID_ARGUMENT: it cannot be read.
    """
    data = read_public(path, max_bytes=MAX_YAML_BYTES)
    lines: dict[FieldPath, int] = {}
    problems: list[Problem] = []
    loader = yaml.SafeLoader("")
    try:
        text = data.decode("utf-8")
        if any(isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken) for token in yaml.scan(text)):
            problems.append(Problem(str(path), "anchors, aliases and tags are not read", "write the values out"))
        node = yaml.compose(text, Loader=yaml.SafeLoader) if not problems else None
        if node is not None:
            _collect(node, (), lines, problems, path)
        content = loader.construct_document(node) if node is not None and not problems else {}
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        # The parser's own text may quote the file, which may hold what should not be there: only the place is told.
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problems, content = [Problem(where, "this is not YAML", "check indentation and quotes")], {}
    finally:
        loader.dispose()
    if not problems and not isinstance(content, dict):
        problems.append(Problem(str(path), "the file must hold fields", "write `name: value` lines"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{path} cannot be read", problems=problems)
    return YamlFile(path, content, lines)


def _collect(node: yaml.Node, field: FieldPath, lines: dict[FieldPath, int], problems: list[Problem], path: Path) -> None:
    lines.setdefault(field, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                problems.append(Problem(f"{path}:{line}", "a field's name must be a text", "quote it"))
            elif (*field, name) in lines:
                problems.append(Problem(f"{path}:{line} {name}", "the field stands there twice", "remove one"))
            lines[(*field, name)] = line
            _collect(value, (*field, name), lines, problems, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _collect(value, (*field, number), lines, problems, path)
