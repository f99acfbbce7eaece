"""Rows of a YAML list: values as they were written, whatever YAML would make of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from ssimrdo.text import shortened

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

_OF_YAML: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_OF_YAML}merge"
_NULL: Final = f"{_OF_YAML}null"
_SCALARS: Final = frozenset(
    f"{_OF_YAML}{name}" for name in ("bool", "float", "int", "null", "str", "timestamp", "value")
)
_COLLECTIONS: Final = frozenset((f"{_OF_YAML}map", f"{_OF_YAML}seq"))


class BadRowError(Exception):
    """A row of a manifest cannot be used; the message says where and why."""


def yaml_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each item of a list of mappings with its line.

    Nothing is built from tags: a date that does not exist, or bytes, are no matter. Values are
    texts, None where nothing is given, or lists and mappings of such. ``<<`` merges mappings.

    Raises
    ------
    BadRowError
        If an item is no such mapping.
    RecursionError
        If the text is nested too deeply.
    yaml.YAMLError
        If the text is no YAML.
    """
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return
    if not isinstance(root, yaml.SequenceNode):
        raise BadRowError("line 1: is no list of series")
    reader = _Reader()
    for item in root.value:
        if not isinstance(item, yaml.MappingNode):
            raise BadRowError(f"{_place(item)}: is no mapping of columns to values")
        yield item.start_mark.line + 1, reader.mapping(item)


class _Reader:
    """Reads mappings, each once however often it is merged into others."""

    def __init__(self) -> None:
        self._read: dict[int, dict[str, Any]] = {}
        self._begun: set[int] = set()

    def mapping(self, node: MappingNode) -> dict[str, Any]:
        """Return columns and values of a mapping."""
        known = self._read.get(id(node))
        if known is not None:
            return known
        _check_tag(node, _COLLECTIONS)
        if id(node) in self._begun:
            raise BadRowError(f"{_place(node)}: merges itself")
        self._begun.add(id(node))
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                # What comes first counts.
                merged = {**self._merged(value), **merged}
                continue
            name = _scalar(key)
            if name is None:
                raise BadRowError(f"{_place(key)}: names no column")
            if name in own:
                raise BadRowError(f"{_place(key)}: gives column {shortened(name, 60)} twice")
            own[name] = _value(value)
        self._read[id(node)] = {**merged, **own}
        return self._read[id(node)]

    def _merged(self, node: Node) -> dict[str, Any]:
        from yaml.nodes import MappingNode, SequenceNode

        merged: dict[str, Any] = {}
        for one in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(one, MappingNode):
                raise BadRowError(f"{_place(one)}: only mappings can be merged")
            merged = {**self.mapping(one), **merged}
        return merged


def _value(node: Node) -> Any:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if not isinstance(node, ScalarNode):
        _check_tag(node, _COLLECTIONS)
    if isinstance(node, SequenceNode):
        return [_scalar(item) for item in node.value]
    if isinstance(node, MappingNode):
        return {_scalar(key): _scalar(value) for key, value in node.value}
    return _scalar(node)


def _scalar(node: Node) -> str | None:
    from yaml.nodes import ScalarNode

    if not isinstance(node, ScalarNode):
        raise BadRowError(f"{_place(node)}: is nested too deeply")
    _check_tag(node, _SCALARS)
    text: str = node.value
    return None if node.tag == _NULL else text


def _check_tag(node: Node, known: Collection[str]) -> None:
    if node.tag not in known:
        tag = shortened(node.tag.replace(_OF_YAML, "!!"), 60)
        raise BadRowError(f"{_place(node)}: has the tag {tag}, which is not known here")


def _place(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"
