"""Files that people write in YAML: read, checked against a model, and refused with the line of the mistake.

Belongs here: finding that line. Does not belong here: what a file means, or rules that span several of its entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class YamlMistake(ValueError):
    """A file that can't be used. The message names the file, the line and what is wrong there."""


class Lines:
    """Where in a file each entry stands."""

    def __init__(self, root: yaml.Node | None) -> None:
        self._root = root

    def of(self, *path: int | str) -> int:
        """Line, from 1, of the deepest entry on ``path`` that there is."""
        node, line = self._root, 1
        for part in path:
            if node is None:
                break
            line = node.start_mark.line + 1
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                node = None
        return node.start_mark.line + 1 if node is not None else line


def read_yaml(path: Path, model: type[Model], setting: str) -> tuple[Model, Lines]:
    """The file as ``model`` understands it. ``setting`` is the variable that names the file, told when there is none.

    Raises:
        YamlMistake: with the file, the line, and the first thing that is wrong.
    """
    try:
        text = path.read_text("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        given = yaml.safe_load(text)
    except OSError as error:
        raise YamlMistake(f"{path}: {error.strerror}. {setting} names the file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlMistake(f"{path}: no YAML: {error}") from error
    for before, again in _twice(root):
        raise YamlMistake(
            f"{path}, line {again.start_mark.line + 1}: {again.value} stands in line {before.start_mark.line + 1} already."
        )
    lines = Lines(root)
    try:
        return model.model_validate(given), lines
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise YamlMistake(f"{path}, line {lines.of(*first['loc'])}: {where}: {first['msg']}") from None


def _twice(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys that stand twice in one mapping, of which YAML silently takes the last."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and seen.setdefault(key.value, key) is not key:
                yield seen[key.value], key
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twice(value)
