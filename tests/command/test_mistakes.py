"""Wrong command lines: one line that says what is allowed, no traceback, nothing left behind."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from forked import run_script


def names(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))


MODELS = f"allowed: {', '.join(names('model'))}"
MARKETS = f"allowed: {', '.join(names('data'))}"
LAUNCHERS = "hydra/launcher is"

# What is typed, and what is said; Hydra finds these: exit status 1.
OF_HYDRA = {
    # misspelled choices and groups
    "model=lsmt": f"model is 'lsmt'; {MODELS}; did you mean lstm?",
    "data=recal": f"data is 'recal'; {MARKETS}; did you mean recall?",
    "optimizer=adamw": "optimizer is 'adamw'; allowed: adam",
    "model/init=orthogonl": "did you mean orthogonal?",
    "experiment=memry": f"allowed: {', '.join(names('experiment'))}; did you mean memory?",
    "+experiment=foo": f"experiment is 'foo'; allowed: {', '.join(names('experiment'))}",
    "modell=lstm": "modell is no setting; allowed: model, data, optimizer, seed",
    "modl/init=default": "did you mean model/init?",
    "-m model=rnn,lsmt": "did you mean lstm?",
    "steps=5 -m model=rnn,lsmt": "did you mean lstm?",
    "hydra/launcher=bassic": "did you mean basic?",
    "-m hydra/launcher=slurm seed=1,2": f"{LAUNCHERS} 'slurm'; allowed: basic",
    "hydra/sweeper=bayes": "hydra/sweeper is 'bayes'; allowed: basic",
    # misspelled keys
    "stesp=5": "stesp is no setting; allowed: model, data, optimizer, seed, steps,",
    "data.max_dys=5": "allowed: data.min_days, data.max_days, data.batch_size, data.shock, "
    "data.noise; did you mean data.max_days?",
    "dat.max_days=5": "did you mean data.max_days?",
    "model.hiden_size=3": "did you mean model.hidden_size?",
    "model.init.gian=3 model/init=orthogonal": "did you mean model.init.gain?",
    "optimizer.momentun=0.9 optimizer=sgd": "did you mean optimizer.momentum?",
    "hydra.run.dirr=x": "did you mean hydra.run.dir?",
    "~data.nois": "did you mean data.noise?",
    "-m data.max_dys=5,6": "did you mean data.max_days?",
    "-m experiment=memory data.fillr=hard": "did you mean data.filler?",
    # settings that another choice has not
    "model=lstm model.nonlinearity=relu": "model.nonlinearity is no setting where model=lstm",
    "-m model=rnn,lstm model.nonlinearity=relu": "is no setting where model=lstm",
    # choices that are none
    "model=null": f"model is 'null'; {MODELS}",
    "model/init=null": f"model/init is 'null'; allowed: {', '.join(names('model/init'))}",
    "data=5": f"data is '5'; {MARKETS}",
    "model=[rnn,lstm]": f"model is '[rnn,lstm]'; {MODELS}",
    "+model=lstm": "model is chosen already; allowed: model=lstm",
    "++model=lstm": "allowed: model=lstm",
    # what sets nothing, or cannot be read
    "steps": "steps sets nothing; allowed: steps=VALUE",
    "=5": "=5 sets nothing; allowed: KEY=VALUE",
    "data.max_days=[5": "data.max_days=[5 cannot be read: ",
    "+seed=3": "An item is already at 'seed'",
    "-m seed=interval(1,2)": "does not support sweep type",
    "--config-name nope": "Cannot find primary config 'nope'",
    "hydra.run.dir=null": "hydra.run.dir=null",
    # sweeps without -m
    "model=rnn,lstm": "model=rnn,lstm is a sweep; allowed: with -m, or one value",
    "seed=range(3)": "seed=range(3) is a sweep; allowed: with -m",
}

# We find these: exit status 2.
OF_OURS = {
    "seed=-1": "seed is -1; allowed: a whole number from 0",
    "steps=many": "steps is 'many'; allowed: a whole number from 0",
    "steps=1e3": "steps is 1000.0; allowed: a whole number from 0",
    "steps=99999999999999999999": "steps is 99999999999999999999; allowed",
    "clip_norm=nan": "clip_norm is nan; allowed: a finite number above 0",
    "device=cudaa": "allowed: auto, cpu, cuda, mps; did you mean cuda?",
    "dtype=float46": "allowed: float32, float64; did you mean float64?",
    "runs_dir=null": "runs_dir is None; allowed: a folder",
    "runs_dir=${nowhere}": "Interpolation key 'nowhere' not found",
    "data.noise=${nowhere}": "nowhere",
    "-m sweep=null seed=1,2": "sweep is None; allowed: a folder",
    "+stesp=5": "stesp is no setting; allowed: checkpoint_every",
    "+model.hiden_size=5": "model.hiden_size is no setting of statland.models.rnn_cell.RNNCell",
    "model.hidden_size=0": "model.hidden_size is 0; allowed: a whole number from 1",
    "model.hidden_size=16384 model.num_layers=999": "recurrent weights; allowed: at most",
    "model.nonlinearity=rleu": "allowed: tanh, relu, identity; did you mean relu?",
    "model=rnn model.nonlinearity=identity": "'identity'; allowed: tanh, relu",
    "model=lstm model/init=identity": "model/init=identity needs a recurrent matrix without gates, "
    "which model LSTM does not have; allowed: default, chrono, forget_bias, orthogonal",
    "model.init=constant": "model.init is 'constant'; allowed: a choice of model/init=",
    "~model": "model is missing",
    "for_model=5": "for_model is 5; allowed: {NAME: {KEY: VALUE}}",
    "++for_model.lstm=5": "for_model is {'lstm': 5}; allowed: {NAME: {KEY: VALUE}}",
    "~data.noise": "data.noise is missing",
    "published=5": "published is 5; allowed: {WHAT: WHAT A PAPER PRINTED}",
    "++published.lstm=[5]": "published is {'lstm': [5]}; allowed: {WHAT: WHAT A PAPER PRINTED}",
    "model._target_=os.system": "allowed: statland.models.*, and packages named by trust=",
    "model._target_=torch.optim.Adam": "torch.optim.Adam; allowed: statland.models.*",
    "+model._partial_=true": "model._partial_ is no setting",
    "+model.init._partial_=false": "model.init._partial_ is no setting",
    "model._target_=statland.models.base.unroll": "allowed: a SequenceModel",
    "model.init._target_=statland.models.base.os.mkdir": "which was not found",
    "model.init._target_=statland.models.init.torch": "which statland.models does not define",
    "optimizer._target_=torch.optim.Optimizer": "optimizer.lr is no setting of torch.optim.Optim",
    "data.min_days={_target_:os.getcwd}": "allowed: _target_ in model, model.init, data and",
    "+data.x=[{_target_:os.getcwd}]": "data.x is no setting",
    "data=stocks data.path=[{_target_:pandas.read_pickle,filepath_or_buffer:evil.pkl}]": (
        "data.path[0]._target_ is pandas.read_pickle; allowed: _target_ in model, model.init, data"
    ),
    "model.init._target_=statland.command.mistakes.os.mkdir": "allowed: statland.models.*, and",
    "data._target_=statland.data.stocks.pd.read_pickle": "which was not found",
    "data._target_=statland.models.lstm.LSTM": "allowed: statland.data.*, and packages named by",
    "optimizer._target_=statland.models.lstm.LSTM": "allowed: torch.optim.*, and packages named",
    "resume={_target_:os.getcwd}": "which is no run folder",
    "model.hidden_size=[[{_target_:os.getcwd}]]": "model.hidden_size[0][0]._target_ is os.getcwd",
    "trust=os": "trust is 'os'; allowed: [names of Python packages]",
    "trust=[a.b]": "trust is ['a.b']; allowed: [names of Python packages]",
    "trust=[nowhere] model._target_=nowhere.M": "No module named 'nowhere'",
    "sweep=../out -m seed=0,1": "sweep is ../out, which leaves runs; allowed: the name of a folder",
    "resume=empty": "which is no run folder: it has no run.json",
    "optimizer._target_=torch.optim.Adm": "did you mean Adam?",
    "optimizer._target_=torch.optim.LBFGS": "which needs a function that computes the loss again",
    "optimizer.lr=-1": "optimizer.lr is -1; allowed: a finite number at least 0",
    "optimizer=rmsprop optimizer.alpha=1.5": "optimizer.alpha is 1.5; allowed: a finite number at "
    "least 0 and at most 1",
    "optimizer.fused=abc": "optimizer.fused is 'abc'; allowed: true, false",
    "+optimizer.betas=0.9": "optimizer.betas is 0.9; allowed: [2 numbers]",
    "+optimizer.betas=[0.9,2]": "optimizer.betas is 2; allowed: a finite number at least 0",
    "+optimizer.foreach=true": "`fused` and `foreach`",
    "data.max_days=3": "data.max_days 3 is shorter than data.min_days 5",
    "data.max_days=1000000000": "too many prices for a batch; allowed: at most",
    "data.batch_size=0": "data.batch_size is 0; allowed: a whole number from 1 to 1000000000",
    "data=recall data.filler=esay": "allowed: easy, hard; did you mean easy?",
    "data=garch data.alpha=0.5 data.beta=0.5": "a sum below 1",
    "data=stocks data.path=nowhere": "nowhere: no such folder",
    "data=stocks data.path=empty": "empty: no CSV file in this folder",
    "data=stocks data.path=prices": "prices/a.csv, row 2, column Close: '-1'",
    "data=stocks data.min_days=90000 data.max_days=90000": "too few for one sample",
    "resume=nowhere": "resume is nowhere, which is no run folder",
    "-m resume=nowhere seed=1,2": "resume is nowhere; allowed: without -m",
    "-m seed=1,2 steps=-1": "no job of the sweep can begin: steps is -1; allowed",
    "~seed": "hydra.run.dir: Interpolation key 'seed' not found",
    "hydra.job.chdir=true": "hydra.job.chdir and hydra.output_subdir are set; allowed",
    "hydra.run.dir=x/y/z/w seed=-1": "seed is -1",
    "clip_norm=1" + "0" * 400: "allowed: a finite number above 0",
    "data.noise=1" + "0" * 400: "allowed: a finite number at least 0",
    "-m seed=range(0,0)": "no job of the sweep can begin: it has none",
    "-m seed=glob(*)": "no job of the sweep can begin: it has none",
    "-m seed=": "no job of the sweep can begin: seed is ''; allowed",
}


def typed(
    folder: Path,
    arguments: str,
    env: dict[str, str] | None = None,
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    (folder / "prices").mkdir()
    (folder / "prices/a.csv").write_text("Date,Close\n2020-01-02,-1\n")
    (folder / "empty").mkdir()
    if env is None and preexec_fn is None:
        return run_script("train.py", *arguments.split(), folder=folder)
    command = [sys.executable, str(ROOT / "scripts/train.py"), *arguments.split()]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | (env or {}),
        preexec_fn=preexec_fn,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("arguments", [*OF_HYDRA, *OF_OURS])
def test_a_mistake_is_told_in_one_line(arguments: str, tmp_path: Path) -> None:
    done = typed(tmp_path, arguments)
    assert done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (OF_HYDRA | OF_OURS)[arguments] in done.stderr
    assert done.returncode == (1 if arguments in OF_HYDRA else 2)
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "empty", "prices"]


@pytest.mark.parametrize("arguments", ["model=lsmt", "model=null", "seed=-1"])
def test_a_full_traceback_for_who_asks(arguments: str, tmp_path: Path) -> None:
    done = typed(tmp_path, arguments, {"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == (2 if arguments == "seed=-1" else 1)
    assert "Traceback" in done.stderr


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    """Only mistakes are told in one line: an error in the middle of a run says where it was."""
    (tmp_path / "sitecustomize.py").write_text(
        "import statland.training.fit\n"
        "def broken(parameters): raise KeyError('a bug')\n"
        "statland.training.fit.gradient_norm = broken\n"
    )
    done = typed(tmp_path, "steps=5", {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "in broken" in done.stderr


@pytest.mark.slow
def test_too_little_memory_is_told_in_one_line(tmp_path: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))

    sizes = "model.hidden_size=256 data.batch_size=100000 data.min_days=100 data.max_days=100"
    done = typed(tmp_path, f"{sizes} steps=1 probe_every=null", preexec_fn=little)
    assert done.returncode == 1
    assert done.stderr.startswith("error: not enough memory: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("dashes", [(), ("-m",), ("--config-dir", "mine")])
def test_a_group_that_a_model_has_not(dashes: tuple[str, ...]) -> None:
    """model/init= with a model that lists no init; Hydra's words tell to append with +."""
    from hydra.errors import ConfigCompositionException
    from statland.command.explain import explain

    hydra = "Could not override 'model/init'. No match in the defaults list. To append to your ..."
    arguments = [*dashes, "model=convolution", "model/init=orthogonal"]
    said = explain(ConfigCompositionException(hydra), arguments)
    start = "model/init is no setting where model=convolution; allowed with model="
    assert said.startswith(start)
    assert {"lstm", "rnn_cell"} <= set(said.removeprefix(start).split(", ")) <= set(names("model"))


def test_a_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import MissingConfigException

    from statland.command import explain

    monkeypatch.setitem(explain.EXTRAS, "kubernetes", "k8s")
    said = explain.explain(MissingConfigException("no"), ["-m", "hydra/launcher=kubernetes"])
    assert said == (
        "hydra/launcher is 'kubernetes', which is not installed; allowed after "
        "pip install -e '.[k8s]'"
    )
