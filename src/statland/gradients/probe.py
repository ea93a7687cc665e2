"""What is measured of a model on a fixed batch of old companies, whatever it is trained on."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from statland.batch import Batch
from statland.gradients.activity import activity
from statland.gradients.flow import Flow, gradient_flow
from statland.gradients.norms import log10_together
from statland.gradients.reach import (
    Profile,
    decay_per_day,
    first_to_last,
    middle,
    profile,
    reach_days,
)
from statland.gradients.spectrum import (
    largest_singular_value,
    lyapunov_spectrum,
    spectral_radius,
)
from statland.gradients.weights import of_flow
from statland.gradients.words import word
from statland.models.base import RecurrentModel, SequenceModel

COMPANIES = 16

# Beside state, its parts and x: what each day adds to the weights, of all weights together.
WEIGHTS = "weights"

# Lags that have a scalar of their own, so that runs can be compared in TensorBoard.
LAGS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Lyapunov exponents are asked for on so many companies, so many of the largest.
LYAPUNOV_COMPANIES, LYAPUNOV_COUNT = 4, 16


class Measured(NamedTuple):
    """The gradient flow of one moment of training, and what goes with it."""

    profiles: dict[str, Profile]  # by quantity: state, its parts where it has several, x
    gradient: dict[str, Any]  # quantity, and of it decay_per_day, first_to_last, reach_days, ...
    scalars: dict[str, float]  # by TensorBoard tag
    flow: Flow


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


def measure(model: SequenceModel, batch: Batch) -> Measured:
    """The gradient flow, the recurrent matrices and the units' activity; `model` stays as it is.

    A model without a state has its flow to the inputs, and nothing that needs a state.
    """
    flow = gradient_flow(model, batch.x, batch.lengths, lambda p: _squared_error(p, batch.y))
    profiles = profiles_of(flow)
    quantity = leading(profiles)
    gradient = _summary(flow, profiles, quantity)
    median = profiles[quantity].median
    scalars = {
        "gradient/first_to_last": gradient["first_to_last"],
        "gradient/reach_days": gradient["reach_days"],
        **{f"profile_lag/{lag}": median[lag].item() for lag in LAGS if lag < len(median)},
        "profile_summary/decay_per_day": gradient["decay_per_day"],
        "profile_summary/log10_error": middle(flow.log10_error[~flow.lost]),
        "profile_summary/lost_companies": gradient["lost_companies"],
        "profile_summary/reach_inputs_days": gradient["reach_inputs_days"],
    }
    if isinstance(model, RecurrentModel) and flow.states is not None:
        for name, matrix in model.recurrent_matrices().items():
            scalars[f"recurrence/{name}/spectral_radius"] = spectral_radius(matrix)
            scalars[f"recurrence/{name}/largest_singular_value"] = largest_singular_value(matrix)
        scalars |= activity(model, batch.x, batch.lengths, flow.states)
    return Measured(profiles, gradient, scalars, flow)


class Contributions(NamedTuple):
    """How the prediction depends on the recurrent weights."""

    profile: Profile  # what each day adds, all weights together
    dependence: dict[str, float | None]  # by weight, log10 of the root mean square of ||u dp_b/dW||


def weight_contributions(model: SequenceModel, batch: Batch, flow: Flow) -> Contributions | None:
    """Measure what the days add to the recurrent weights, given the flow of the batch.

    None for a model without a state, and for one whose `cell` torch.vmap cannot take. The mean
    square is over the companies whose sum is known; None if there is no such company, or all sums
    are 0.
    """
    if not isinstance(model, RecurrentModel):
        return None
    try:
        found = of_flow(model, batch.x, flow, batch.lengths)
    except (RuntimeError, AttributeError):  # by vmap; the run goes on
        return None
    dependence = {name: _log10_rms(log10) for name, log10 in found.summed.items()}
    return Contributions(profile(found.together), dependence)


def profiles_of(flow: Flow) -> dict[str, Profile]:
    """The profiles of a measured flow, by quantity."""
    return {name: profile(log10) for name, log10 in flow.log10.items()}


def leading(profiles: Mapping[str, Profile]) -> str:
    """The quantity that a run's numbers are of: the state where there is one, else the inputs."""
    return "state" if "state" in profiles else "x"


def largest_lyapunov_exponents(model: SequenceModel, batch: Batch) -> Tensor | None:
    """The largest exponents, in nats a day, over the days that all of a few companies traded.

    None for a model without a state.
    """
    if not isinstance(model, RecurrentModel):
        return None
    x, lengths = batch.x[:LYAPUNOV_COMPANIES], batch.lengths[:LYAPUNOV_COMPANIES]
    return lyapunov_spectrum(model, x[:, : int(lengths.min())], LYAPUNOV_COUNT)


def _summary(flow: Flow, profiles: Mapping[str, Profile], quantity: str) -> dict[str, Any]:
    reach, is_bounded = reach_days(profiles[quantity].median)
    reach_inputs, inputs_bounded = reach_days(profiles["x"].median)
    change = first_to_last(flow.log10[quantity])
    return {
        "quantity": quantity,
        "verdict": word(change),
        "decay_per_day": decay_per_day(profiles[quantity].median),
        "first_to_last": change,
        "reach_days": reach,
        "reach_is_bounded": is_bounded,
        "reach_inputs_days": reach_inputs,
        "reach_inputs_is_bounded": inputs_bounded,
        "longest_lag": len(profiles[quantity].median) - 1,
        "lost_companies": int(flow.lost.sum()),
    }


def _log10_rms(log10: Tensor) -> float | None:
    """Of values given by their log10, that of their root mean square."""
    known = log10[~log10.isnan()]
    value = log10_together(known) - math.log10(max(1, len(known))) / 2
    return value if math.isfinite(value) else None


def _squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().mean(1)
