"""What the comments of a yaml file say: the first line what it is, one behind a key what it does.

PyYAML drops comments, but knows where in the text each key and each value ends.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

Pair = tuple[yaml.Node, yaml.Node]


class Setting(NamedTuple):
    """A key with its value."""

    key: str  # dotted, as it is typed on the command line
    value: str  # as the file has it
    comment: str


class ConfigFile(NamedTuple):
    """A yaml file of a config group."""

    name: str
    about: str  # the comment on the first line
    is_preset: bool  # its keys are those of other files
    defaults: list[Setting]  # Hydra's defaults list: groups with a choice, or names of files
    settings: list[Setting]  # all other keys, but those that start with _


def read(path: Path, group: str) -> ConfigFile:
    """Read a yaml file of a config group; "" is the group of train.yaml.

    Raises yaml.YAMLError or UnicodeDecodeError where it cannot be read.
    """
    text = path.read_text(encoding="utf-8-sig")
    head = [line.lstrip("# ").rstrip() for line in text[: _first_key(text)].splitlines()]
    about = next((line for line in head if line and not line.startswith("@package")), "")
    is_preset = "@package _global_" in head
    package = group.replace("/", ".") + "." if group and not is_preset else ""
    root = yaml.compose(text, yaml.SafeLoader)
    pairs: list[Pair] = root.value if isinstance(root, yaml.MappingNode) else []
    listed = [node for key, node in pairs if key.value == "defaults"]
    others = [pair for pair in pairs if pair[0].value != "defaults"]
    defaults = [setting for node in listed for setting in _defaults(node, text)]
    return ConfigFile(path.stem, about, is_preset, defaults, list(_settings(others, package, text)))


def _first_key(text: str) -> int:
    """Where the comments at the top of a file end."""
    found = re.search(r"^(?!#)", text, re.MULTILINE)
    return found.start() if found else len(text)


def _settings(pairs: list[Pair], prefix: str, text: str) -> Iterator[Setting]:
    """Every key with a value, nested ones dotted; {KEY: VALUE} on one line is one value."""
    for key, node in pairs:
        name = f"{prefix}{key.value}"
        if str(key.value).startswith("_"):
            continue
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            yield from _settings(node.value, f"{name}.", text)
        else:
            yield Setting(name, _written(node), _comment(key, node, text))


def _defaults(listed: yaml.Node, text: str) -> Iterator[Setting]:
    """The entries of a defaults list: `model: lstm`, or `lstm` alone, which has no value."""
    for entry in listed.value if isinstance(listed, yaml.SequenceNode) else []:
        if isinstance(entry, yaml.MappingNode):
            for key, node in entry.value:
                yield Setting(str(key.value), _written(node), _comment(key, node, text))
        else:
            yield Setting(str(entry.value), "", _comment(entry, entry, text))


def _written(node: yaml.Node) -> str:
    """A value on one line, without the quotes of a text."""
    if isinstance(node, yaml.SequenceNode):
        return "[" + ",".join(_written(entry) for entry in node.value) + "]"
    if isinstance(node, yaml.MappingNode):
        return "{" + ",".join(f"{key.value}: {_written(entry)}" for key, entry in node.value) + "}"
    return str(node.value) or ("null" if node.tag.endswith(":null") else "''")


def _comment(key: yaml.Node, node: yaml.Node, text: str) -> str:
    """What stands behind # on the line where a value ends, or else its key."""
    for end in (node.end_mark, key.end_mark):
        rest = text[end.index :].split("\n", 1)[0]
        if found := re.match(r":?\s+#+\s*(.*)", rest):
            return found.group(1).strip()
    return ""
