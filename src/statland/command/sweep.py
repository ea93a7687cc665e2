"""The jobs of a sweep: which there are, which folder is each one's, how far they have come."""

import copy
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.command.compose import plain
from statland.records.identity import Identity, read_identity, write_identity
from statland.records.summary import finite_json, read_summary
from statland.settings import SettingError, flatten
from statland.training.config import without_machine

# What may stand in a folder's name on any system, unquoted, and what TensorBoard shows as it is.
UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")

# The longest folder name that most file systems take is 255.
LONGEST = 150

ENDED = ("completed", "diverged")

Settings = dict[str, Any] | SettingError


def name_pattern(overrides: list[Override]) -> str:
    """A job's name, for Hydra to fill in: its model, and what else differs between the jobs.

    lstm-max_days=50-seed=1. A choice of a config group goes by its name alone; a value that cannot
    stand in a folder's name, such as a path, is left out.
    """
    name, filled = "${hydra:runtime.choices.model}", 40
    final = {override.get_key_element().lstrip("+"): override for override in overrides}
    for key, override in final.items():
        if key == "model" or not override.is_discrete_sweep():
            continue
        values = [value.split("=")[-1].strip("'\"") for value in override.sweep_string_iterator()]
        if any(UNSAFE.search(value) or not value for value in values):
            continue
        is_group = key in ("data", "optimizer", "model/init")
        short = "" if is_group else key.split(".")[-1] + "="
        filled += 1 + len(short) + max(map(len, values))
        if filled > LONGEST:
            break
        name += f"-{short}${{hydra:runtime.choices.{key}}}" if is_group else f"-{short}${{{key}}}"
    return name


def jobs_of(overrides: list[Override], of_hydra: list[str]) -> Iterator[Settings]:
    """The resolved config of every job of a sweep, or why it has none.

    Hydra takes some time to compose a config. It composes one for each combination of config
    groups; where jobs differ in a value alone, that is set on a copy.
    """
    composed: dict[str, list[str]] = {}  # of the same key the last one holds
    updated: dict[str, list[Override]] = {}
    for override in overrides:
        key = override.get_key_element()
        swept = override.is_discrete_sweep()
        texts = (
            list(override.sweep_string_iterator())
            if swept
            else [override.get_value_element_as_str()]
        )
        lines = [f"{key}={text}" for text in texts]
        composed.pop(key, None)
        updated.pop(key, None)
        is_value = "." in key or key in ("seed", "steps")
        if len(lines) > 1 and is_value and not key.startswith(("+", "~")):
            updated[key] = OverridesParser.create().parse_overrides(lines)
        else:
            composed[key] = lines
    for choices in itertools.product(*composed.values()):
        config = compose("train", [*of_hydra, *choices])
        for values in itertools.product(*updated.values()):
            job = copy.deepcopy(config)
            try:
                for value in values:
                    OmegaConf.update(job, value.key_or_group, value.value(), merge=True)
                yield plain(job, [f"{key}=" for key in (*composed, *updated)])
            except SettingError as error:
                yield error
            except OmegaConfBaseException as error:  # the key is not there: Hydra says so too
                raise HydraException(str(error)) from error


class Place(NamedTuple):
    """Where a job's run is, or is to be."""

    folder: Path
    note: str = ""  # why it is not where one would look for it


def place(sweep: Path, identity: Identity, name: str) -> Place:
    """The folder of the run of that identity in a sweep's folder, new or as it was left.

    A run that is there keeps its folder, whatever that is called. A new one is called `name`, or,
    where another run is called that, for what tells the two apart as well. Two processes that ask
    at once get the same answer.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".lock"):
        found = runs_in(sweep)
        ours = [folder for folder, other in found.items() if other.same_run(identity)]
        if ours:
            ended = (f for f in ours if (read_summary(f) or {}).get("status") in ENDED)
            return Place(next(ended, ours[0]))
        failed = _failed_before(sweep, identity)
        folder = failed or _free(sweep, name, identity, found)
        folder.mkdir(exist_ok=True)
        write_identity(folder, identity)
        return Place(folder, _why_beside(sweep / name, folder, identity, found))


def runs_in(sweep: Path) -> dict[Path, Identity]:
    """The runs in a sweep's folder; what is damaged is left out, and nothing is put there."""
    found = {}
    for path in sorted(sweep.glob("*/run.json")):
        stamp = path.stat().st_mtime_ns
        if path not in _read or _read[path][0] != stamp:
            try:
                identity = read_identity(path.parent)
            except SettingError:
                continue
            if identity is None:
                continue
            _read[path] = (stamp, identity)
        found[path.parent] = _read[path][1]
    return found


def run_of(sweep: Path, values: Mapping[str, Any]) -> Path | None:
    """The folder of a run of these settings, if there is one."""
    settings = finite_json(without_machine(values))
    found = (folder for folder, other in runs_in(sweep).items() if other.settings == settings)
    return next(found, None)


# Of a thousand jobs each looks at all the runs: what has been read once is not read again.
_read: dict[Path, tuple[int, Identity]] = {}


def _failed_before(sweep: Path, identity: Identity) -> Path | None:
    """The folder of a job of these settings that failed before it began."""
    for path in sorted(sweep.glob("*/summary.json")):
        if (path.parent / "run.json").exists():
            continue
        summary = read_summary(path.parent) or {}
        if without_machine(summary.get("config", {})) == identity.settings:
            return path.parent
    return None


def _free(sweep: Path, name: str, identity: Identity, found: Mapping[Path, Identity]) -> Path:
    """A folder that is not there yet: `name`, and what differs from the run that has it."""
    folder = sweep / name
    if not folder.exists():
        return folder
    if (other := found.get(folder)) is not None:
        ours, theirs = flatten(identity.settings), flatten(other.settings)
        differs = [
            f"{key.split('.')[-1]}={value}"
            for key, value in ours.items()
            if value != theirs.get(key) and not UNSAFE.search(str(value))
        ]
        folder = sweep / "-".join([name, *differs])[:LONGEST]
    if not folder.exists() and folder.name != name:
        return folder
    text = dumps([identity.settings, identity.files], sort_keys=True)
    return sweep / f"{name}-{sha256(text.encode()).hexdigest()[:8]}"


def _why_beside(
    usual: Path, folder: Path, identity: Identity, found: Mapping[Path, Identity]
) -> str:
    """Why a job's folder is another than the usual one, if one would wonder."""
    other = found.get(usual)
    if folder == usual or other is None:
        return ""
    if other.files != identity.files:
        return f"{usual.name} was trained on other price files; this run is beside it"
    if other.settings | {"steps": identity.settings["steps"]} == identity.settings:
        return f"{usual.name} has {other.settings['steps']} steps; this run is beside it"
    return ""


def without_run(sweep: Path, values: Mapping[str, Any], name: str) -> Path:
    """A folder in which to say that a job cannot begin: that of an earlier try, or a new one."""
    settings = finite_json(without_machine(values))
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".lock"):
        identity = Identity(settings, {}, {})
        folder = _failed_before(sweep, identity) or _free(sweep, name, identity, runs_in(sweep))
        folder.mkdir(exist_ok=True)
        return folder


class Progress:
    """How many jobs of a sweep are done; jobs in other processes count by a file in its folder."""

    VARIABLE = "STATLAND_SWEEP"

    @classmethod
    def begin(cls, sweep: Path, jobs: int) -> list[str]:
        """Overrides that let every job find its sweep's count, on every launcher."""
        name = f".jobs-{time.time_ns()}-{os.getpid()}"
        value = f"{sweep.resolve() / name}|{jobs}|{time.time():.0f}"
        return [f"+hydra.job.env_set.{cls.VARIABLE}='{value}'"]

    @classmethod
    def count(cls) -> str:
        """Count a job as done: how many are, of how many, and about how long the rest will take."""
        if cls.VARIABLE not in os.environ:
            return ""
        path, jobs, started = os.environ[cls.VARIABLE].rsplit("|", 2)
        with open(path, "ab") as file:
            file.write(b".")
            file.flush()
            done = os.stat(path).st_size
        if done >= int(jobs):
            os.unlink(path)
            return f" ({done} of {jobs})"
        left = (time.time() - float(started)) / done * (int(jobs) - done)
        return f" ({done} of {jobs}, about {_duration(left)} to go)"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
