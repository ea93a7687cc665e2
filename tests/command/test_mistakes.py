"""Wrong command lines: one line that says what is allowed, no traceback, nothing left behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OWN, ROOT, refusal
from forked import run_script
from hydra import compose, initialize_config_dir

from statland.command.mistakes import describe, hydra_arguments


def names(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml")))


# What Hydra cannot compose, and words of the message.
OF_HYDRA = {
    # misspelled choices and groups
    "model=lsmt": f"model is 'lsmt'; allowed: {names('model')}; did you mean lstm?",
    "optimizer=adamw": "optimizer is 'adamw'; allowed: adam, rmsprop, sgd; did you mean adam?",
    "model/init=orthogonl": "model/init is 'orthogonl'; allowed: chrono, constant, default",
    "modell=lstm": "modell is no setting; allowed: model, data, optimizer, seed",
    # misspelled keys
    "stesp=5": "stesp is no setting; allowed: model, data, optimizer, seed, steps,",
    "data.max_dys=5": "allowed: data.min_days, data.max_days, data.longer_days, "
    "data.batch_size, data.shock, data.noise; did you mean data.max_days?",
    "model.init.gian=3 model/init=orthogonal": "did you mean model.init.gain?",
    # settings that another choice does not have
    "model=lstm model.nonlinearity=relu": "model.nonlinearity is no setting; allowed: model.init, "
    "model.hidden_size, model.num_layers",
    # what is no choice, or sets nothing, or cannot be read
    "model=null": "must be a string or a list",
    "steps": "missing EQUAL",
    "data.max_days=[5": "'[5'",
    "+seed=3": "An item is already at 'seed'",
    "model=rnn,lstm": "To sweep over it, add --multirun",
}

# What cannot be checked or built, and words of the message.
OF_OURS = {
    "steps=1e3": "steps is 1000.0; allowed: a whole number from 0",
    "clip_norm=1" + "0" * 400: "allowed: a finite number above 0",
    "clip_norm=nan": "clip_norm is nan",
    "dtype=half": "dtype is 'half'; allowed: float32, float64",
    "data.max_days=3": "data.max_days 3 is shorter than data.min_days 5",
    "model._target_=statland.models.rnn.Rnn": "statland.models.rnn.Rnn, which statland.models does",
    "+optimizer.foreach=true": "optimizer: `fused` and `foreach`",
    "device=cudaa": "allowed: auto, cpu, cuda, mps; did you mean cuda?",
    "runs_dir=${nowhere}": "Interpolation key 'nowhere' not found",
    "folder=''": "folder is ''; allowed: a text or null",
    "+stesp=5": "stesp is no setting; allowed: checkpoint_every",
    "~model": "model is missing",
    "++for_model.rnn_cell=5": "for_model.rnn_cell is 5; allowed: {...}",
    "++published.lstm=[5]": "published is {'lstm': [5]}; allowed: {WHAT: WHAT A PAPER PRINTED}",
    "trust=[a.b]": "trust is ['a.b']; allowed: names of Python packages, 'trust=[a,b]'",
    "trust=a.b": "trust is ['a.b']; allowed: names of Python packages, 'trust=[a,b]'",
    "+model.hiden_size=5": "model.hiden_size is no setting of RNNCell",
    "model.hidden_size=0": "model.hidden_size is 0; allowed: a whole number from 1",
    "model.nonlinearity=rleu": "allowed: tanh, relu, identity; did you mean relu?",
    "model=lstm model/init=identity": "model/init=identity needs a recurrent matrix without gates, "
    "which model LSTM does not have; allowed: default, chrono, forget_bias, orthogonal",
    "model=mingru model/init=constant": "allowed: default, chrono, forget_bias",
    "model/init=chrono": "allowed: default, constant, identity, orthogonal",
    "model.init=constant": "model.init is 'constant'; allowed: a choice of model/init=",
    "+optimizer.betas=[0.9,2]": "optimizer: Invalid beta parameter at index 1: 2",
    "+model._partial_=true": "model._partial_ is no setting",
    "model._target_=statland.models.base.unroll": "which is no subclass of torch.nn",
    "trust=[nowhere] model._target_=nowhere.M": "No module named 'nowhere'",
    "optimizer._target_=torch.optim.Adm": "did you mean Adam?",
    # what one part cannot have, or not together with another
    "data=adding data.convention=product": "convention is 'product'; allowed: sum, anywhere, hoch",
    "data=adding data.min_days=3 data.convention=hochreiter": "data.min_days is 3; allowed: at "
    "least 4 where data.convention is hochreiter",
    "data=adding data.max_days=long data.min_days=null": "max_days is 'long'; allowed: a whole",
    "data=temporal_order data.task=6c": "data.task is '6c'; allowed: 6a, 6b",
    "data=temporal_order data.task=2": "data.task is 2; allowed: 6a, 6b",
    "data=temporal_order data.min_days=3": "is 3; allowed: at least 4 where data.task is 6a",
    "data=temporal_order data.min_days=4 data.task=6b": "at least 5 where data.task is 6b",
    "data=pairs data.pairs=4 data.max_days=11": "at least 12, for 4 keys",
    "data=pairs data.pairs=4 data.vocabulary=7": "at least 8 for 4 pairs",
    "model=transformer model.num_heads=3": "model.num_heads is 3 with model.hidden_size 32; "
    "allowed: a hidden size that is a multiple of 6",
    "model=transformer model.hidden_size=36": "multiple of 8",
    "model=lru model.r_min=0.9 model.r_max=0.5": "model.r_min 0.9 is above model.r_max 0.5",
    f"{OWN} trust=[two_files] model=convolution data=parity data.labels=every": "data.labels is "
    "every; allowed: last, as Convolution has no every_day",
}

# Whole commands, their exit status (1: Hydra refuses it, 2: we do), and words of the message.
COMMANDS = {
    "model=lsmt": (1, "did you mean lstm?"),
    "-m data.max_dys=5,6": (1, "did you mean data.max_days?"),
    "--config-name nope": (1, "Cannot find primary config 'nope'"),
    "hydra.run.dir=x/y/z/w seed=-1": (2, "seed is -1; allowed: a whole number from 0"),
    "data=stocks data.path=prices": (2, "prices/a.csv, row 2, column Close: '-1'"),
    "-m seed=1,2 steps=-1": (2, "no job of the sweep can begin: steps is -1; allowed"),
    "-m seed=range(0,0)": (2, "no job of the sweep can begin: it has none"),
    "-m resume=prices seed=1,2": (2, "resume is set; allowed: without -m"),
    "resume=prices": (2, "resume is prices, which is no run folder: it has no run.json"),
    f"hydra.run.dir={'a' * 300}": (1, "File name too long"),
    "folder=\udcff": (1, "is not UTF-8; allowed: names that are"),
    "-m seed=0,1 runs_dir=prices/a.csv": (1, "Not a directory: 'prices/a.csv"),
}


@pytest.mark.parametrize("arguments", list(COMMANDS), ids=lambda text: text[:40])
def test_a_command_with_a_mistake(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices/a.csv").write_text("Date,Close\n2020-01-02,-1\n")
    done = run_script("train.py", *arguments.split(), folder=tmp_path)
    status, words = COMMANDS[arguments]
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "prices"]


@pytest.mark.parametrize("arguments", list(OF_HYDRA))
def test_what_cannot_be_composed(arguments: str) -> None:
    with (
        initialize_config_dir(str(ROOT / "configs"), version_base="1.3"),
        pytest.raises(Exception) as refused,  # noqa: PT011  # of many types
    ):
        compose("train", arguments.split())
    message = describe(refused.value)
    assert message is not None
    assert OF_HYDRA[arguments] in message


@pytest.mark.parametrize("arguments", list(OF_OURS))
def test_what_cannot_be_built(arguments: str) -> None:
    message = refusal(*arguments.split())
    assert OF_OURS[arguments] in message
    assert len(message.splitlines()) == 1


def test_a_full_traceback_for_who_asks(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "model=lsmt"]
    env = os.environ | {"HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_bug_keeps_its_traceback_and_what_the_machine_lacks_has_none() -> None:
    def described(error: Exception) -> str | None:
        with pytest.raises(type(error)) as raised:
            raise error
        return describe(raised.value)

    assert described(KeyError("a bug")) is None
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(described(full)).startswith("the disk is full: ")
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        assert str(described(error)).startswith("not enough memory: ")


def test_arguments_as_hydra_reads_them() -> None:
    assert hydra_arguments(["seed=1", "-m", "resume=a=b"]) == ["-m", "seed=1", "resume='a=b'"]
    assert hydra_arguments(["hydra.run.dir=a b", "folder=null"]) == ["folder='a b'", "folder=null"]
    assert hydra_arguments(["resume='a'", "resume=${x}"]) == ["resume='a'", "resume=${x}"]


@pytest.mark.parametrize("name", ["a'b", "\\'", "c\\", "${seed}", "d\\${seed}'e\\\\", "f'${x}\\'"])
def test_a_folder_of_any_name_is_resumed(name: str) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", hydra_arguments([f"resume=/{name}"]))
    assert config.resume == f"/{name}"
