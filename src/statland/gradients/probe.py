"""What is measured of a model on a fixed batch of old companies, whatever it is trained on."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from statland.batch import Batch, loss
from statland.gradients.activity import activity
from statland.gradients.flow import Flow, gradient_flow
from statland.gradients.importance import importance, importance_by_lag
from statland.gradients.norms import log10_norm
from statland.gradients.share import (
    Profile,
    decay_per_day,
    first_to_last,
    middle,
    profile,
    reach_days,
    share,
    word,
)
from statland.gradients.spectrum import (
    largest_singular_value,
    linear_decay,
    lyapunov_spectrum,
    spectral_radius,
)
from statland.gradients.weights import of_flow
from statland.models.base import RecurrentModel

COMPANIES = 16

# Beside state, its parts and x: what each day adds to the weights, of all weights together.
WEIGHTS = "weights"

# Lags that have a scalar of their own, so that runs can be compared in TensorBoard.
LAGS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Lyapunov exponents, which are means over days, are measured on so many companies, over so many
# days, and so many of the largest.
LYAPUNOV_COMPANIES, LYAPUNOV_DAYS, LYAPUNOV_COUNT = 4, 200, 16


class Measured(NamedTuple):
    """What was measured at one moment of training."""

    profiles: dict[str, Profile]  # by quantity: state, its parts if there are several, x, weights
    gradient: dict[str, Any]  # as summary.json has it
    scalars: dict[str, float | None]  # by TensorBoard tag
    flow: Flow


def probe_batch(batches: list[Batch]) -> Batch:
    """Select 16 companies, spread evenly over the oldest quarter; each is asked on its last day."""
    histories = [
        (x[i, : int(lengths[i])], y[i])
        for x, lengths, y in (batch.of_last_day() for batch in batches)
        for i in range(len(x))
    ]
    histories.sort(key=lambda company: -len(company[0]))  # stable: ties stay in order
    oldest = histories[: max(min(COMPANIES, len(histories)), len(histories) // 4)]
    places = torch.linspace(0, len(oldest) - 1, min(COMPANIES, len(oldest))).round().long()
    chosen = [oldest[place] for place in places.tolist()]
    x = torch.nn.utils.rnn.pad_sequence([history for history, _ in chosen], batch_first=True)
    lengths = torch.tensor([len(history) for history, _ in chosen])
    return Batch(x, lengths, torch.stack([y for _, y in chosen]))


def measure(
    model: nn.Module, batch: Batch, answer: Tensor | None = None, **options: Any
) -> Measured:
    """Measure the gradient flow, the share of the answer and its importance, and the units.

    `answer` (B, T) marks the days that the answer needs, None if they are not known. `options` are
    those of `gradient_flow`; its loss is by default the squared error. The model stays as it is.
    Of a model without a state nothing is measured that needs one.
    """
    options = {"loss": lambda p: loss(p, batch.y, "none")} | options
    flow = gradient_flow(model, batch.x, batch.lengths, **options)
    log10, profiles = flow.log10["x"], {name: profile(f) for name, f in flow.log10.items()}
    median = profiles["x"].median
    used, part = None, math.nan
    if answer is not None:
        used = importance(model, batch.x, answer, batch.lengths, **_exchange(batch, options))
        part = share(flow, answer)
    gradient: dict[str, Any] = {
        "verdict": word(log10),
        "answer_share": part if math.isfinite(part) else None,
        "answer_zero": part == -math.inf,
        "answer_importance": used,
        "reach_days": reach_days(log10),
        "decay_per_day": decay_per_day(median),
        "first_to_last": first_to_last(log10),
        "longest_lag": len(median) - 1,
        "lost_companies": int(flow.lost.sum()),
    }
    scalars: dict[str, float | None] = {
        "gradient/answer_importance": used,
        "gradient/answer_share": None if math.isnan(part) else part,
        **{f"profile_lag/{lag}": median[lag].item() for lag in LAGS if lag < len(median)},
        "profile_summary/log10_error": middle(flow.log10_error[~flow.lost]),
    }
    for name in ("decay_per_day", "first_to_last", "reach_days", "lost_companies"):
        scalars[f"profile_summary/{name}"] = gradient[name]
    if isinstance(model, RecurrentModel) and flow.states is not None:
        for name, matrix in model.recurrent_matrices().items():
            scalars[f"recurrence/{name}/spectral_radius"] = spectral_radius(matrix)
            scalars[f"recurrence/{name}/largest_singular_value"] = largest_singular_value(matrix)
        scalars |= activity(model, batch.x, batch.lengths, flow.states)
    return Measured(profiles, gradient, scalars, flow)


def measure_in_full(
    model: nn.Module, batch: Batch, answer: Tensor | None, measured: Measured, **options: Any
) -> Measured:
    """Add what is measured before and after training alone.

    The importance of the days at some lags, the Lyapunov exponents, the decay by theory, and what
    the days add to the recurrent weights.
    """
    lags = [lag for lag in LAGS if lag < len(measured.profiles["x"].median)]
    given = _exchange(batch, options)
    by_lag = {lag: importance_by_lag(model, batch.x, lag, batch.lengths, **given) for lag in lags}
    scalars: dict[str, float | None] = {
        f"profile_importance/{lag}": value for lag, value in by_lag.items()
    }
    gradient = measured.gradient | {
        "importance": by_lag,
        "theory_decay_per_day": linear_decay(model),
    }
    profiles = dict(measured.profiles)
    if isinstance(model, RecurrentModel):
        exponents = largest_lyapunov_exponents(model, batch)
        gradient["lyapunov"] = exponents.tolist()
        scalars["profile_summary/lyapunov_max"] = exponents[0].item()
        with suppress(RuntimeError, AttributeError):  # of a `cell` that torch.vmap cannot take
            weights = of_flow(model, batch.x, measured.flow, batch.lengths)
            gradient["log10_dp_dw"] = {n: _log10_rms(v) for n, v in weights.summed.items()}
            profiles[WEIGHTS] = profile(weights.together)
            if answer is not None:
                part = share(weights.together, answer)
                gradient["answer_share_of_weights"] = part if math.isfinite(part) else None
    return Measured(profiles, gradient, scalars, measured.flow)


def largest_lyapunov_exponents(model: RecurrentModel, batch: Batch) -> Tensor:
    """Return the largest exponents, in nats a day, over the first days that 4 companies traded."""
    x, lengths = batch.x[:LYAPUNOV_COMPANIES], batch.lengths[:LYAPUNOV_COMPANIES]
    return lyapunov_spectrum(model, x[:, : min(LYAPUNOV_DAYS, int(lengths.min()))], LYAPUNOV_COUNT)


def _exchange(batch: Batch, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of a flow those of an importance, and the targets."""
    return {"y": batch.y} | {n: v for n, v in options.items() if n in ("prediction", "inputs")}


def _log10_rms(log10: Tensor) -> float | None:
    """log10 of the root mean square of known values; None if there is none, or all are 0."""
    known = log10[~log10.isnan()]
    value = log10_norm(known).item() - math.log10(max(1, len(known))) / 2
    return value if math.isfinite(value) else None
