"""The text of --help: the yaml files in configs/ and in --config-dir, as they stand.

A new model, market or preset is listed by its yaml alone; see configs/README.md.
"""

import argparse
import re
from pathlib import Path

TEMPLATE = """\
python scripts/train.py [GROUP=CHOICE ...] [KEY=VALUE ...]

Fits one model to one market and measures how far back its gradient reaches.
  python scripts/train.py model=lstm data=recall data.max_days=25
  python scripts/train.py resume=FOLDER                           resume that run
  python scripts/train.py -m model=rnn,lstm seed=0,1,2            a sweep: all combinations
  python scripts/train.py -m experiment=memory                    a sweep from a preset
  tensorboard --logdir runs                                       compare runs

Below are the files in configs/. On the command line, `hidden_size: 32` of a model is
model.hidden_size=32.

{sections}

hydra/launcher=joblib    with -m: on all cores; Ray and Slurm: see configs/README.md
--config-dir DIR         add your own yaml files, as DIR/model/NAME.yaml: see configs/README.md
--cfg job                print the composed config
--hydra-help             list the options that Hydra adds
"""

# An entry of a defaults list that chooses from a group, with its comment.
ENTRY = re.compile(r"^ *- (\w+): (\w+) +# (.*)$", re.MULTILINE)

# What is no setting: comments and blank lines, the defaults list, and names with an underscore.
NO_SETTING = re.compile(r"^(?:defaults:.*\n(?:[ -].*\n)*|#.*\n|_.*\n|\s*\n)", re.MULTILINE)


def help_text(configs: Path, arguments: list[str]) -> str:
    """Return all groups with their choices, and all settings, given the command's arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    own = parser.parse_known_args(arguments)[0].config_dir
    folders = [configs] if own is None else [configs, own]
    train = read(configs / "train.yaml")
    groups = ENTRY.findall(train)
    sections = ["settings of the run as a whole\n" + indented(train.split("\nhydra:")[0], 2)]
    for group, default, comment in groups:  # which grows: groups within groups come last
        choices = choices_of(group, folders)
        sections.append(section(f"{group}=    {comment} (default: {default})", choices, default))
        within = ENTRY.findall(choices.get(default, ""))
        groups += [(f"{group}/{inner}", *rest) for inner, *rest in within]
    return TEMPLATE.format(sections="\n\n".join(sections))


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
        lines.append(f"  {name:<15} {comments[0] if comments else ''}".rstrip())
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
