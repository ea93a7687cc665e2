"""No code from data: no setting and no run folder names anything that is imported or called."""

import copy
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import composed, ran
from forked import run_script

from statland.records.identity import Identity, write_identity
from statland.report import load
from statland.settings import SettingError
from statland.training import build
from statland.training.config import check, without_machine


@pytest.mark.parametrize(
    "tampered",
    [
        {"data": {"path": [{"_target_": "evil.run"}]}},
        {"model": {"_target_": "evil.run"}, "trust": ["evil"]},
    ],
)
def test_a_run_folder_from_someone_else_runs_nothing(
    tampered: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()\n")
    own = without_machine(composed("data=stocks"))
    for group, values in tampered.items():
        own[group] = own[group] | values if isinstance(values, dict) else values
    choices = {"model": "rnn_cell", "model/init": "default", "data": "stocks", "optimizer": "adam"}
    (tmp_path / "run").mkdir()
    write_identity(tmp_path / "run", Identity(own, {}, choices))
    overrides = tmp_path / "run/.hydra/overrides.yaml"
    overrides.parent.mkdir()
    composed_by_hydra = ["hydra.launcher._target_=evil.run", "hydra.searchpath=[pkg://evil]"]
    overrides.write_text(json.dumps([*composed_by_hydra, "trust=[evil]"]))
    refused = run_script("train.py", "resume=run", folder=tmp_path)
    assert refused.returncode == 2
    assert "_target_ is evil.run; allowed: " in refused.stderr
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("name", ["run.json", "metrics.csv", ".hydra/config.yaml"])
def test_a_link_in_a_run_folder_is_not_written_through(name: str, tmp_path: Path) -> None:
    """Nor waited for, if it is a pipe: one line says so, and a report leaves the folder out."""
    ran(tmp_path / "run", "steps=2", "data.max_days=6", "probe_every=null")
    (tmp_path / "elsewhere").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for make in (lambda path: path.symlink_to(tmp_path / "elsewhere"), os.mkfifo):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).unlink(missing_ok=True)
        make(tmp_path / "run" / name)
        refused = run_script("train.py", "resume=run", "steps=4", folder=tmp_path)
        assert refused.stderr.startswith(f"error: run/{name} is a link, a pipe or a device; ")
        (skipped,) = load(tmp_path / "run").attrs["skipped"]
        assert skipped.startswith(f"{tmp_path}/run: SettingError: ")
    assert set(tmp_path.rglob("*")) <= {*before, tmp_path / "run" / name, tmp_path / "run/.hydra"}


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


def importing_ours(name: str) -> ModuleType:
    assert name.startswith(("statland.", "torch.optim"))
    return importlib.import_module(name)


def test_a_target_at_any_place_is_refused() -> None:
    """Nothing but the bench's own modules is imported; nothing is called."""
    number = 0
    for composed_values in COMPOSED:
        for *above, last in places(composed_values):
            number += 1
            target = {"_target_": NAMES[number % len(NAMES)], "_args_": [1]}
            values = inner = copy.deepcopy(composed_values)
            for key in above:
                inner = inner[key]
            inner[last] = (target, [[target]], {"init": {"a": target}})[number % 3]
            guarded = SimpleNamespace(import_module=importing_ours)
            with patch.object(build, "importlib", guarded), pytest.raises(SettingError):
                build.build(check(values), torch.device("cpu"))
