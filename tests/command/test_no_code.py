"""No code from data: a preset, a config file or an argument names nothing that is called."""

import copy
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import ROOT, composed
from hypothesis import given, settings
from hypothesis import strategies as st

from statland.records.identity import Identity, write_identity
from statland.settings import SettingError
from statland.training import build
from statland.training.config import check, without_machine

PRESET = "# @package _global_\n# what it is for\n"

# The file evil.py beside the command leaves one behind as soon as it is imported.
LOGGING = """\
hydra:
  {0}_logging:
    formatters:
      simple:
        (): evil.run
"""
HANDLER = """\
hydra:
  job_logging:
    handlers:
      file: {class: evil.Handler}
    root: {handlers: [file]}
"""
PRESETS = {
    "callback": "hydra:\n  callbacks:\n    theirs:\n      _target_: evil.Callback\n",
    "ours replaced": "hydra:\n  callbacks:\n    folders:\n      _target_: evil.Callback\n",
    "launcher": "hydra:\n  launcher:\n    _target_: evil.Launcher\n",
    "sweeper": "hydra:\n  sweeper:\n    _target_: evil.Sweeper\n",
    "logging of hydra": LOGGING.format("hydra"),
    "logging of jobs": LOGGING.format("job"),
    "handler": HANDLER,
    "another launcher": "defaults:\n  - override /hydra/launcher: joblib\n",
    "environment": "hydra:\n  job:\n    env_set: {PATH: evil}\n",
    "trusts": "trust: [evil]\nhydra:\n  overrides:\n    task: ['trust=[evil]']\n",
    "by a sweep": "hydra:\n  sweeper:\n    params:\n      +hydra.job.env_set.PATH: evil,more\n",
}
MODELS = {
    "model": "_target_: evil.run\n",
    "group": "# @package _global_\n" + PRESETS["callback"] + "model: {_target_: evil.run}\n",
}
TYPED = (
    "+hydra.callbacks.theirs._target_=evil.Callback",
    "hydra.callbacks.folders._target_=evil.Callback",
    "+hydra.job_logging.handlers.theirs={class:evil.Handler}",
    "+hydra.hydra_logging.formatters.theirs={class:evil.Formatter}",
    "-m +hydra.launcher.deep._target_=evil.run",
    "-m hydra.launcher={_target_:evil.Launcher}",
    "--experimental-rerun=config.pickle",
    "--exp config.pickle",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()\n")
    for name, text in PRESETS.items():
        path = tmp_path / "theirs/experiment" / f"{name.replace(' ', '_')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PRESET + text)
    (tmp_path / "theirs/model").mkdir()
    for name, text in MODELS.items():
        (tmp_path / f"theirs/model/their_{name}.yaml").write_text(text)
    return tmp_path


def refused(folder: Path, *arguments: str) -> str:
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/train.py"), *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{folder}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts] == before
    return done.stderr


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_calls_nothing(name: str, folder: Path) -> None:
    if name == "another launcher":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    preset = f"experiment={name.replace(' ', '_')}"
    many = ["-m"] if name in ("by a sweep", "trusts") else []
    assert "allowed: " in refused(folder, "--config-dir", "theirs", *many, "steps=1", preset)


def test_hydra_s_own_options_are_there(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config-dir", "theirs"]
    for option in ("--hydra-help", "--info=config", "--cfg=hydra"):
        done = subprocess.run([*command, option], cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_a_sweep_over_presets_calls_nothing(folder: Path) -> None:
    (folder / "theirs/experiment/honest.yaml").write_text(f"{PRESET}steps: 1\n")
    sweep = ("-m", "experiment=honest,logging_of_jobs")
    assert "hydra.job_logging" in refused(folder, "--config-dir", "theirs", *sweep)


@pytest.mark.parametrize("name", [*MODELS, "launcher"])
def test_a_config_calls_nothing(name: str, folder: Path) -> None:
    """Nor one that is put in the place of one of Hydra's own."""
    if name == "launcher":
        basic = folder / "theirs/hydra/launcher/basic.yaml"
        basic.parent.mkdir(parents=True)
        basic.write_text("_target_: evil.Launcher\n")
        said = refused(folder, "--config-dir", "theirs", "-m", "seed=0,1")
        assert "hydra/launcher/basic.yaml replaces a part of Hydra; allowed: another name" in said
        return
    refused(folder, "--config-dir", "theirs", f"model=their_{name}")


@pytest.mark.parametrize("argument", TYPED)
def test_an_argument_calls_nothing(argument: str, folder: Path) -> None:
    assert "allowed: " in refused(folder, *argument.split())


@pytest.mark.parametrize(
    "tampered",
    [
        ("data", "path", [{"_target_": "evil.run"}]),
        ("data", "_target_", "evil.run"),
        ("model", "init", {"_target_": "evil.run"}),
    ],
)
def test_a_run_folder_from_someone_else_calls_nothing(
    tampered: tuple[str, str, Any], folder: Path
) -> None:
    group, key, value = tampered
    own = without_machine(composed("data=stocks"))
    own[group][key] = value
    choices = {"model": "rnn_cell", "model/init": "default", "data": "stocks", "optimizer": "adam"}
    (folder / "run").mkdir()
    write_identity(folder / "run", Identity(own, {}, choices))
    (folder / "run/.lock").touch()
    assert "_target_ is evil.run; allowed: " in refused(folder, "resume=run")


COMPOSED = [
    composed("model=lstm", "model/init=forget_bias", "data=stocks"),
    composed("model=rnn_orthogonal", "optimizer=sgd"),
]
NAMES = ["evil.run", "os.mkdir", "builtins.exec", "pandas.read_pickle", "torch.load", "", 5, None]
NAMES += ["statland.models.base.os.mkdir", "statland.data.stocks.pd.read_pickle", "..os.mkdir"]


def places(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting, also of those that hold others, and one more in each."""
    yield (*above, "more")
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def targets() -> st.SearchStrategy[Any]:
    """A _target_ with arguments, in lists and dicts of any depth."""
    more = st.dictionaries(st.sampled_from(["_args_", "_partial_", "path"]), st.just([1]))
    alone = st.builds(lambda name, m: {"_target_": name, **m}, st.sampled_from(NAMES), more)
    return st.recursive(
        alone,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "init", "_args_"]), inner, min_size=1)
        ),
    )


def importing_ours(name: str) -> ModuleType:
    assert name.startswith(("statland.", "torch.optim"))
    return importlib.import_module(name)


@settings(deadline=None)
@given(st.data())
def test_a_target_at_any_place_is_refused(data: st.DataObject) -> None:
    """Nothing but the bench's own modules is imported; nothing is called."""
    values = copy.deepcopy(data.draw(st.sampled_from(COMPOSED)))
    *above, last = data.draw(st.sampled_from(list(places(values))))
    inner = values
    for key in above:
        inner = inner[key]
    inner[last] = data.draw(targets())
    guarded = SimpleNamespace(import_module=importing_ours)
    with patch.object(build, "importlib", guarded), pytest.raises(SettingError):
        build.build(check(values), torch.device("cpu"))
