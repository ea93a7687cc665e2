"""--help is made from the comments in configs/: a new yaml is listed, and held to have comments."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from statland.command.comments import read

from statland.settings import flatten

CONFIGS = ROOT / "configs"
FILES = sorted(path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml"))
TRAIN = Path("train")
PRESETS = [path for path in FILES if path.parent.name == "experiment"]
GROUPED = [path for path in FILES if path != TRAIN and path not in PRESETS]
OF_HYDRA = [path for path in FILES if path.parts[0] == "hydra"]  # need plugins to be composed


class Row(NamedTuple):
    """A key in the help text."""

    value: str
    meaning: str


def helped(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts/train.py"), "--help"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def shown() -> str:
    return helped().stdout


def sections(text: str) -> dict[str, str]:
    """What stands below each heading, such as model=, without line breaks inside a meaning."""
    joined = re.sub(r"\n {34}", " ", text)
    return {part.split()[0]: part for part in joined.strip().split("\n\n")}


def keys(text: str) -> dict[str, list[Row]]:
    """The rows of each key: of one that means several things, several."""
    rows: dict[str, list[Row]] = {}
    for section in sections(text).values():
        for key, value, meaning in re.findall(r"^ +([\w.]+)=(\S+) +(\S.*)$", section, re.MULTILINE):
            rows.setdefault(key, []).append(Row(value, meaning))
    return rows


@pytest.mark.parametrize("path", [p for p in FILES if p != TRAIN], ids=str)
def test_each_choice_is_listed_with_its_first_comment(path: Path, shown: str) -> None:
    lines = (CONFIGS / f"{path}.yaml").read_text().splitlines()
    about = next(line for line in lines if not line.startswith("# @package"))
    section = sections(shown)[f"{path.parent}="]
    assert re.search(
        rf"^  {path.name} +{re.escape(about.removeprefix('# '))}", section, re.MULTILINE
    )


@pytest.mark.parametrize("path", [p for p in [TRAIN, *GROUPED] if p not in OF_HYDRA], ids=str)
def test_each_key_of_the_composed_config_is_listed_with_its_default(path: Path, shown: str) -> None:
    choice = [] if path == TRAIN else [f"{path.parent}={path.name}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", choice)
    listed = keys(shown)
    settings = OmegaConf.to_container(config, resolve=False)
    assert isinstance(settings, dict)
    for key, value in flatten({str(group): part for group, part in settings.items()}).items():
        written = [row.value for row in listed[key]]
        for row in listed[key]:
            written += re.findall(rf"with {path.name} (\S+?)(?:;|$)", row.meaning)
        if isinstance(value, str) and value.startswith("${now:"):
            value = "${now:...}"
        assert value in [yaml.safe_load(text) for text in written], key


@pytest.mark.parametrize("path", [TRAIN, *GROUPED], ids=str)
def test_each_comment_is_shown(path: Path, shown: str) -> None:
    text = (CONFIGS / f"{path}.yaml").read_text().split("\nhydra:")[0]
    comments = re.findall(r"^ *[a-z]\w*:.* # (.*)", text, re.MULTILINE)
    assert len(comments) == len(own_settings(path))
    for comment in comments:
        assert comment in re.sub(r"\s+", " ", shown)


def own_settings(path: Path) -> list[str]:
    """The keys that a file sets, as yaml itself reads them."""
    content = yaml.safe_load((CONFIGS / f"{path}.yaml").read_text()) or {}
    for_model = content.pop("for_model", None)  # what it says of a model is on one line
    own = [] if for_model is None else [f"for_model.{name}" for name in for_model] or ["for_model"]
    own += ["published"] if content.get("published") == {} else []
    return own + [
        key
        for key in flatten(content)
        if key != "defaults" and (path != TRAIN or not key.startswith("hydra."))
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_and_each_key_has_a_comment(path: Path) -> None:
    file = read(CONFIGS / f"{path}.yaml", "")
    assert file.about, f"{path}.yaml begins without a comment that says what it is"
    comments = {setting.key: setting.comment for setting in file.settings}
    for key in own_settings(path):
        assert comments[key], f"{path}.yaml: {key} has no comment that says what it does"


def test_shared_keys_are_listed_once(shown: str) -> None:
    for group in ("model", "data", "optimizer"):
        listed = keys(sections(shown)[f"{group}="])
        files = [path for path in GROUPED if str(path.parent) == group]
        parsed = [read(CONFIGS / f"{path}.yaml", group) for path in files]
        pairs = {(s.key, s.comment) for file in parsed for s in file.settings}
        for key in {key for key, _ in pairs}:
            meanings = [comment for other, comment in pairs if other == key]
            mine = [row for row in listed[key] if row.meaning.startswith(tuple(meanings))]
            assert len(mine) == len(meanings), key


def test_help_fits_the_screen_and_imports_nothing_slow(tmp_path: Path) -> None:
    done = helped(folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "hydra" in imported
    assert not imported & {"torch", "pandas", "numpy", "matplotlib", "tensorboard"}
    assert not list(tmp_path.iterdir())


MINE = """\
# mine; costs $5
defaults:
  - rnn_cell
  - _self_

depth: "7 # 8"  # how deep, in ${units}
num_layers: 3  # layers, each fed by the one below
"""


def test_yaml_files_of_ones_own_are_listed(tmp_path: Path) -> None:
    for name, text in {
        "model/mine.yaml": MINE,
        "model/rnn.yaml": "# hidden behind the bench's own\n",
        "data/broken.yaml": "a: [1",
        "data/bare.yaml": "beta: 3\n",
        "experiment/first.yaml": "# @package _global_\n# my preset\nsteps: 3\n",
        "hydra/launcher/farm.yaml": "# my cluster\n",
        "other/thing.yaml": "# of another program\n",
    }.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = helped("--config-dir", "own", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = sections(done.stdout)
    assert re.search(r"^  mine +mine; costs \$5$", listed["model="], re.MULTILINE)
    assert re.search(r"^  broken +cannot be read$", listed["data="], re.MULTILINE)
    assert re.search(r"^  bare\n    data.beta=3$", listed["data="], re.MULTILINE)
    assert re.search(r"^  first +my preset$", listed["experiment="], re.MULTILINE)
    assert re.search(r"^  farm +my cluster$", listed["hydra/launcher="], re.MULTILINE)
    assert re.search(
        r"^    model.depth=7 # 8 +how deep, in \$\{units\}$", listed["model="], re.MULTILINE
    )
    (layers,) = keys(done.stdout)["model.num_layers"]
    assert layers.value == "1"
    assert layers.meaning.endswith("; with mine 3")
    for absent in ("hidden behind", "another program"):
        assert absent not in done.stdout


def test_comments_are_read_wherever_yaml_allows_them(tmp_path: Path) -> None:
    text = """\
# first
# second
_target_: x.y  # not a setting
defaults:
  - a
plain: 1  # one
quoted: "a # b"  # two
empty:  # three
flow: [0.9, 0.999]  # four
block:  # five
  - 1
  - 2
nested:  # of a mapping: not shown
  inner: {}  # six
  bare: x#y
last: 'it''s'  # seven"""
    (tmp_path / "a.yaml").write_text(text)
    file = read(tmp_path / "a.yaml", "model/init")
    assert file.about == "first"
    assert [d.key for d in file.defaults] == ["a"]
    package = "model.init."
    comments = {s.key.removeprefix(package): s.comment for s in file.settings}
    assert list(comments.values()) == ["one", "two", "three", "four", "five", "six", "", "seven"]
