"""Every family of models side by side: forward and backward, on one thread."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor
from torch.linalg import matrix_exp

from statland.benchmark.runs import ROOT, composed
from statland.benchmark.timing import both_ways, medians, ragged
from statland.models.linear_recurrence import linear_recurrence
from statland.training.build import build

COMPANIES, UNITS = 32, 64

# The fused modules of PyTorch that the families are held against, by the model that runs each.
FUSED = {"rnn": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}


def families(seconds: float) -> pd.DataFrame:
    """A row a family and length: milliseconds, and their ratio to each fused module's.

    One step of exprnn is also held against one of rnn_orthogonal and a matrix exponential.
    """
    rows = []
    for days in (200, 1000):
        batch = ragged(days, COMPANIES, youngest=days)
        steps: dict[str, Callable[[], object]] = {}
        for name in family_names():
            width = "channels" if name == "tcn" else "hidden_size"
            settings = composed(f"model={name}", f"model.{width}={UNITS}")
            steps[name] = both_ways(build(settings, torch.device("cpu")).model, batch)
        # Orthogonal too: where a gradient vanishes to an exact 0, rnn_cell's sweep ends early.
        settings = composed("model=rnn_orthogonal", f"model.hidden_size={UNITS}")
        steps["equal"] = both_ways(build(settings, torch.device("cpu")).model, batch)
        ms = medians(steps | {"exp": exponential(UNITS)}, 2 * seconds)
        parts = ms.pop("equal") + ms.pop("exp")
        for name, value in ms.items():
            ratios = {f"/ {fused}": value / ms[key] for key, fused in FUSED.items()}
            with_exp = value / parts if name == "exprnn" else float("nan")
            row = {"model": name, "days": days, "ms": value} | ratios
            rows.append(row | {"/ (rnn + exp)": with_exp})
    return pd.DataFrame(rows)


def family_names() -> list[str]:
    """The models of configs/model that are no variants of others."""
    paths = sorted((ROOT / "configs/model").glob("*.yaml"))
    return [path.stem for path in paths if "\n_target_:" in path.read_text()]


def exponential(size: int) -> Callable[[], None]:
    """A matrix exponential and its gradient."""
    matrix = torch.randn(size, size, requires_grad=True)
    return lambda: matrix_exp(matrix - matrix.T).sum().backward()


def sweeps(seconds: float) -> pd.DataFrame:
    """A row a kind of numbers and length: h_t = a_t h_{t-1} + b_t by hand, and by autograd."""
    rows = []
    for days in (200, 1000):
        for dtype in (torch.float32, torch.complex64):
            a, b = (torch.rand(days, COMPANIES, UNITS, dtype=dtype) / 2 for _ in "ab")
            a, b = a.requires_grad_(), b.requires_grad_()
            ms = medians(
                {"by hand": swept(linear_recurrence, a, b), "autograd": swept(loop, a, b)}, seconds
            )
            rows.append(
                {"numbers": str(dtype).removeprefix("torch."), "days": days}
                | {f"{name} ms": value for name, value in ms.items()}
                | {"by hand / autograd": ms["by hand"] / ms["autograd"]}
            )
    return pd.DataFrame(rows)


def loop(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence as one would write it, over a and b (T, B, H)."""
    h, days = torch.zeros_like(b[0]), []
    for a_t, b_t in zip(a.unbind(0), b.unbind(0), strict=True):
        h = a_t * h + b_t
        days.append(h)
    return torch.stack(days)


def swept(sweep: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Callable[[], object]:
    """Forward and backward of one sweep; every day's gradient from above is 1."""
    ones = torch.ones_like(b)
    return lambda: torch.autograd.grad(sweep(a, b), (a, b), ones)
