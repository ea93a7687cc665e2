"""The text of --help: the yaml files on Hydra's search path, as they stand.

A new model, market or preset is listed by its yaml alone; see configs/README.md.
"""

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

# An entry of a defaults list that chooses from a group, with its comment.
ENTRY = re.compile(r"^ *- (\w+): (\w+) +# (.*)$", re.MULTILINE)

# What is no setting: comments and blank lines, the defaults list, and names with an underscore.
NO_SETTING = re.compile(r"^(?:defaults:.*\n(?:[ -].*\n)*|#.*\n|_.*\n|\s*\n)", re.MULTILINE)


def register_help() -> None:
    """Let ${help_from_configs:} in a config stand for the help text."""
    OmegaConf.register_new_resolver("help_from_configs", help_text, replace=True)


def help_text(_root_: DictConfig) -> str:
    """Return all groups with their choices, and all settings, for Hydra's help template.

    `_root_` is the composed config. It says where Hydra looks for yaml files.
    """
    sources = [source for source in _root_.hydra.runtime.config_sources if source.schema == "file"]
    folders = [Path(source.path) for source in sources]
    main = next(Path(source.path) for source in sources if source.provider == "main")
    train = read(main / "train.yaml")
    groups = ENTRY.findall(train)
    sections = ["settings of the run as a whole\n" + indented(train.split("\nhydra:")[0], 2)]
    for group, default, comment in groups:  # which grows: groups within groups come last
        choices = choices_of(group, folders)
        sections.append(section(f"{group}=    {comment} (default: {default})", choices, default))
        within = ENTRY.findall(choices.get(default, ""))
        groups += [(f"{group}/{inner}", *rest) for inner, *rest in within]
    return "\n\n".join(sections).replace("$", "$$")  # the template is a string.Template


def choices_of(group: str, folders: list[Path]) -> dict[str, str]:
    """The texts of a group's yaml files by name; of two with one name, Hydra takes the first."""
    paths = [path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")]
    return {path.stem: read(path) for path in sorted(paths, key=lambda path: path.stem)}


def section(heading: str, choices: dict[str, str], default: str) -> str:
    """A group: each choice with its first comment and its own settings, the default first.

    A line that several choices share is shown at the first of them.
    """
    lines = [heading]
    for name in sorted(choices, key=lambda name: (name != default, name)):
        head, text = "@package _global_" in choices[name], choices[name]
        comments = re.findall(r"^# (?!@package)(.*)", text, re.MULTILINE)
        lines.append(f"  {name:<16}{comments[0] if comments else ''}".rstrip())
        if not head:  # the settings of a preset are those of other groups
            own = indented(text, 6).splitlines()
            lines += [line for line in own if line not in lines]
    return "\n".join(lines)


def indented(text: str, spaces: int) -> str:
    """The settings in a yaml file as it has them, comments included."""
    settings = NO_SETTING.sub("", text + "\n")
    return "\n".join(" " * spaces + line for line in settings.splitlines())


def read(path: Path) -> str:
    """The text of a yaml file, whatever its encoding."""
    return path.read_text(encoding="utf-8-sig", errors="replace")
