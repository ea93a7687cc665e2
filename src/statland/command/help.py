"""The text of --help, made from the comments in the yaml files on Hydra's search path.

A new model, market or preset is listed by its yaml alone; see configs/README.md.
"""

import re
import textwrap
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from statland.command.comments import ConfigFile, Setting, read
from statland.command.explain import EXTRAS

WIDTH = 100  # columns of the text
COLUMN = 34  # where the meanings begin; that of a longer key goes on the next line

LAUNCHER = Setting("hydra/launcher", "basic", "with -m: where the runs of a sweep take place")

# Hydra's own launchers have no yaml in which a comment could say what they are.
LAUNCHERS = {
    "basic": "here, one after another",
    "joblib": "here, on all cores; hydra.launcher.n_jobs=2: on two",
    "ray": "on Ray, started here",
    "submitit_local": "as on Slurm, but here, to try it",
    "submitit_slurm": "on a Slurm cluster",
}

Row = tuple[str, str]  # what is typed, and what it means


def register_help() -> None:
    """Let ${help_from_comments:} in a config stand for the help text."""
    OmegaConf.register_new_resolver("help_from_comments", help_text, replace=True)


def help_text(_root_: DictConfig) -> str:
    """All groups, their choices and all keys, for Hydra's help template, in which $ is $$.

    `_root_` is the composed config; it says where Hydra looks for yaml files.
    """
    sources = [source for source in _root_.hydra.runtime.config_sources if source.schema == "file"]
    folders = [Path(source.path) for source in sources]
    main = next(Path(source.path) for source in sources if source.provider == "main")
    train = read(main / "train.yaml", "")
    entries = [*train.defaults, LAUNCHER]
    sections = []
    for entry in entries:  # which grows: groups within a group, such as model/init, come last
        if entry.key == "_self_":
            rows = [_row(s, 2) for s in train.settings if not s.key.startswith("hydra.")]
            sections.append(_section(entry.comment, rows))
            continue
        choices = _launchers(folders) if entry == LAUNCHER else _choices(folders, entry.key)
        sections.append(_section(f"{entry.key}=    {entry.comment}", _rows(entry.value, choices)))
        entries += _groups_within(entry, choices)
    return "\n\n".join(sections).replace("$", "$$")


def _groups_within(group: Setting, choices: list[ConfigFile]) -> list[Setting]:
    """The groups of which a group's default choice makes a choice, as model does of model/init."""
    default = next((choice for choice in choices if choice.name == group.value), None)
    inner = [entry for entry in default.defaults if entry.value] if default else []
    return [entry._replace(key=f"{group.key}/{entry.key}") for entry in inner]


def _choices(folders: list[Path], group: str) -> list[ConfigFile]:
    """The yaml files of a group; of two with the same name Hydra takes the first, and so do we."""
    choices: dict[str, ConfigFile] = {}
    for path in (path for folder in folders for path in sorted((folder / group).glob("*.yaml"))):
        try:
            choices.setdefault(path.stem, read(path, group))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):  # the others can be used all the same
            choices.setdefault(path.stem, ConfigFile(path.stem, "cannot be read", False, [], []))
    return list(choices.values())


def _launchers(folders: list[Path]) -> list[ConfigFile]:
    """The launchers that have a yaml file, are installed, or could be."""
    described = {choice.name: choice for choice in _choices(folders, LAUNCHER.key)}
    plugins = {Path(name).stem for name in ConfigStore.instance().list(LAUNCHER.key)}
    installed = {EXTRAS[name] for name in plugins if name in EXTRAS}
    choices = []
    for name in sorted({*described, *plugins, *EXTRAS}):
        choice = described.get(name, ConfigFile(name, LAUNCHERS.get(name, ""), False, [], []))
        if (extra := EXTRAS.get(name)) and extra not in installed:
            choice = choice._replace(about=f"{choice.about}; pip install -e '.[{extra}]' first")
        choices.append(choice)
    return choices


def _rows(default: str, choices: list[ConfigFile]) -> list[Row]:
    """A group's choices, each with the keys that it alone has; then the keys that they share."""
    names = {choice.name for choice in choices}
    parents = {c.name: d.key for c in choices for d in c.defaults if d.key in names}
    owners: dict[Row, dict[str, str]] = {}  # of a key with the same comment: choice -> value
    for choice in choices:
        for key, value, comment in [] if choice.is_preset else choice.settings:
            owners.setdefault((key, comment), {})[choice.name] = value
    rows = []
    for choice in sorted(choices, key=lambda choice: _order(choice.name, default, parents)):
        about = f"{choice.about} (default)" if choice.name == default else choice.about
        rows.append((f"  {choice.name}", about))
        for (key, comment), values in owners.items():
            if list(values) == [choice.name]:
                rows.append(_row(Setting(key, values[choice.name], comment), 4))
    for (key, comment), values in owners.items():
        if len(values) > 1:
            rows.append(_shared(key, comment, values, default, names - parents.keys()))
    return rows


def _order(name: str, default: str, parents: dict[str, str]) -> tuple[bool, str, bool, str]:
    """What choices are sorted by: the default first, behind each choice those that build on it."""
    root = name
    for _ in parents:  # at most so many steps, so that a circle has an end
        root = parents.get(root, root)
    return root != default, root, root != name, name


def _shared(key: str, comment: str, values: dict[str, str], default: str, roots: set[str]) -> Row:
    """The row of a key of several choices, with what differs between them."""
    value = values.get(default, next(iter(values.values())))
    notes = [comment]
    if not values.keys() >= roots:
        notes.append(f"only {', '.join(values)}")
    notes += [f"with {name} {other}" for name, other in values.items() if other != value]
    return _row(Setting(key, value, "; ".join(notes)), 2)


def _row(setting: Setting, indent: int) -> Row:
    """KEY=VALUE and its comment; a resolver, such as ${now:%Y-%m-%d}, without what it is given."""
    value = re.sub(r"\$\{(\w+):[^}]*\}", r"${\1:...}", setting.value)
    return f"{' ' * indent}{setting.key}={value}", setting.comment


def _section(heading: str, rows: list[Row]) -> str:
    """A heading above two columns, the right one wrapped."""
    lines = [heading]
    for typed, meaning in rows:
        first, *rest = textwrap.wrap(meaning, WIDTH - COLUMN) or [""]
        if len(typed) > COLUMN - 2 and meaning:
            lines.append(typed)
            typed = ""
        lines.append(f"{typed:<{COLUMN}}{first}".rstrip())
        lines += [" " * COLUMN + line for line in rest]
    return "\n".join(lines)
