"""What is measured of a model on a fixed batch of old companies, whatever it is trained on."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from statland.batch import Batch
from statland.gradients.activity import activity
from statland.gradients.flow import (
    Flow,
    Profile,
    decay_per_day,
    first_to_last,
    gradient_flow,
    profile,
    reach_days,
)
from statland.gradients.spectrum import (
    largest_singular_value,
    lyapunov_spectrum,
    recurrent_matrices,
    spectral_radius,
)
from statland.models.base import RecurrentModel

COMPANIES = 16

# Lags that have a scalar of their own, so that runs can be compared in TensorBoard.
LAGS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Lyapunov exponents are asked for on so many companies, so many of the largest.
LYAPUNOV_COMPANIES, LYAPUNOV_COUNT = 4, 16


class Probed(NamedTuple):
    """The profiles of the gradient flow after so many updates, by quantity."""

    step: int
    profiles: dict[str, Profile]


class Measured(NamedTuple):
    """The gradient flow of one moment of training, and what goes with it."""

    profiles: dict[str, Profile]  # by quantity: state, its parts where it has several, x
    gradient: dict[str, Any]  # decay_per_day, first_to_last, reach_days, reach_is_bounded
    scalars: dict[str, float]  # by TensorBoard tag


def probe_batch(batches: list[Batch]) -> Batch:
    """Of validation batches, 16 companies spread evenly over the oldest quarter."""
    histories = [
        (x[i, : int(lengths[i])], y[i]) for x, lengths, y in batches for i in range(len(x))
    ]
    histories.sort(key=lambda company: -len(company[0]))  # stable: ties stay in order
    oldest = histories[: max(min(COMPANIES, len(histories)), len(histories) // 4)]
    places = torch.linspace(0, len(oldest) - 1, min(COMPANIES, len(oldest))).round().long()
    chosen = [oldest[place] for place in places.tolist()]
    x = torch.nn.utils.rnn.pad_sequence([history for history, _ in chosen], batch_first=True)
    lengths = torch.tensor([len(history) for history, _ in chosen])
    return Batch(x, lengths, torch.stack([y for _, y in chosen]))


def measure(model: RecurrentModel, batch: Batch) -> Measured:
    """The gradient flow, the recurrent matrices and the units' activity; `model` stays as it is."""
    flow = gradient_flow(model, batch.x, batch.lengths, lambda p: _squared_error(p, batch.y))
    profiles = {name: profile(log10) for name, log10 in flow.log10.items()}
    gradient = _summary(flow, profiles["state"])
    median = profiles["state"].median
    scalars = {
        "grad_flow/decay_per_day": gradient["decay_per_day"],
        "grad_flow/first_to_last": gradient["first_to_last"],
        "grad_flow/reach_days": gradient["reach_days"],
        "grad_flow/log10_error": flow.log10_error[~flow.lost].quantile(0.5).item()
        if not flow.lost.all()
        else math.nan,
        "grad_flow/lost_companies": gradient["lost_companies"],
        **{f"grad_flow_lag/{lag}": median[lag].item() for lag in LAGS if lag < len(median)},
    }
    for name, matrix in recurrent_matrices(model).items():
        scalars[f"recurrence/{name}/spectral_radius"] = spectral_radius(matrix)
        scalars[f"recurrence/{name}/largest_singular_value"] = largest_singular_value(matrix)
    return Measured(profiles, gradient, scalars | activity(model, batch.x, batch.lengths))


def largest_lyapunov_exponents(model: RecurrentModel, batch: Batch) -> Tensor:
    """The largest exponents, in nats a day, over the days that all of a few companies traded."""
    x, lengths = batch.x[:LYAPUNOV_COMPANIES], batch.lengths[:LYAPUNOV_COMPANIES]
    return lyapunov_spectrum(model, x[:, : int(lengths.min())], LYAPUNOV_COUNT)


def verdict(gradient: dict[str, Any], span: int | None) -> str:
    """One line: how far the gradient reaches, how far back the answer lies, the decay per day."""
    reach = gradient["reach_days"]
    if reach is None:
        lost = gradient["lost_companies"]
        return (
            f"the state of all {lost} companies is nan: no gradient to be seen"
            if lost
            else "the gradient is 0 on every day"
        )
    if reach == 0 and not gradient["reach_is_bounded"]:
        return "the histories are one day long: there is no way back to measure"
    days = _days(reach) if gradient["reach_is_bounded"] else f"all {_days(reach)} measured"
    answer = "where the answer lies is not known"
    if span is not None:
        answer = f"the answer lies {_days(span)} back"
    decay, theory = gradient["decay_per_day"], gradient["theory_decay_per_day"]
    if math.isnan(decay):  # a single day has no slope
        return f"the gradient reaches {days}; {answer}"
    by_theory = "" if theory is None else f", by theory {theory:+.4g}"
    return f"the gradient reaches {days}; {answer} ({decay:+.4g} decades a day{by_theory})"


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _summary(flow: Flow, state: Profile) -> dict[str, Any]:
    reach, is_bounded = reach_days(state.median)
    return {
        "decay_per_day": decay_per_day(state.median),
        "first_to_last": first_to_last(flow.log10["state"]),
        "reach_days": reach,
        "reach_is_bounded": is_bounded,
        "lost_companies": int(flow.lost.sum()),
    }


def _squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().mean(1)
