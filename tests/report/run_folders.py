"""Run folders made by hand, with the numbers given."""

from pathlib import Path
from typing import Any

from statland.records.summary import write_summary

CHOICES = {"model/init": "default", "data": "recall", "optimizer": "adam"}
FLOW = {"answer_zero": False, "decay_per_day": -0.1, "first_to_last": -1.0, "lyapunov": [-0.2]}


def made(folder: Path, model: str, days: int, seed: int, mse: float, **other: Any) -> None:
    """A run folder as a run leaves it; `other` holds entries of summary.json, and some numbers."""
    folder.mkdir(parents=True)
    curve = other.pop("curve", {0: 0.5, 50: mse, 100: mse})
    rows = [f"{step},loss/validation,{value}" for step, value in curve.items()]
    rows += ["0,speed/steps_per_second,10.0", "1,speed/steps_per_second,30.0"]
    (folder / "metrics.csv").write_text("\n".join(["step,tag,value", *rows]) + "\n")
    flow = [f"{step},x,{lag},{-0.1 * lag},0,0,4,0" for step in (0, 100) for lag in range(days)]
    (folder / "gradient_flow.csv").write_text("\n".join(["step,quantity,lag", *flow]) + "\n")
    sizes = {"batch_size": other.pop("batch_size")} if "batch_size" in other else {}
    size = other.pop("hidden_size", 32)
    before = FLOW | {"reach_days": other.pop("reach", 5), "verdict": other.pop("word", "holds")}
    before |= {"answer_share": other.pop("share", -0.5), "answer_importance": 0.0}
    after = before | {"reach_days": 3, "answer_importance": 0.9}
    config = {"seed": seed, "steps": 100, "sweep": "s", "published": other.pop("published", {})}
    config["model"] = {"_target_": "x", "hidden_size": size, "init": {"gain": days * 2}}
    config["data"] = {"max_days": days, "min_days": days, "path": other.pop("path", None)} | sizes
    summary = {"status": "completed", "steps": 100, "seconds": 3.0, "config": config}
    summary |= {"choices": CHOICES | {"model": model}, "span": days - 1, "parameters": 64}
    summary["validation"] = {"mse": mse, "mae": 0.1, "skill": 1 - mse / 0.25}
    summary["baselines"] = {"constant": 0.25, "persistence": 0.5}
    summary["gradient"] = {"before": before, "after": after}
    if other.get("status") == "diverged":
        del summary["gradient"]["after"]
    write_summary(folder, summary | other)


LOSSES = {
    ("rnn", 10): [0.020, 0.022, 0.024],
    ("lstm", 10): [0.001, 0.002, 0.003],
    ("rnn", 50): [0.20, 0.26, 0.21],
    ("lstm", 50): [0.21, 0.19, 0.26],
}


def made_all(folder: Path, **other: Any) -> Path:
    """A run of each model, age and seed of LOSSES."""
    for (model, days), losses in LOSSES.items():
        for seed, mse in enumerate(losses):
            made(folder / f"{model}-{days}-{seed}", model, days, seed, mse, **other)
    return folder
