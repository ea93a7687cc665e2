"""Why a gradient vanishes or survives: saturated units, dead ReLUs, gates, on data."""

import torch
from torch import Tensor

from statland.models.base import RecurrentModel, unroll

# |tanh| above this: the slope is below a tenth.
SATURATED = 0.95


@torch.no_grad()
def activity(model: RecurrentModel, x: Tensor, lengths: Tensor) -> dict[str, float]:
    """What the units do on the days that each company traded; x is (B, T, F), lengths (B,).

    activations/tanh_saturated: share of values whose slope is below 0.1. activations/tanh_slope:
    the mean of tanh' = 1 - tanh^2. activations/relu_active: share of values above 0.
    activations/relu_dead: share of units that are 0 on every day of every company.
    gates/<gate>_mean and _p90: how far a gate is open, its mean and its 90th percentile.
    """
    states = unroll(model, x).transpose(0, 1)  # (B, T, S)
    before = torch.cat([model.initial_state(len(x))[:, None], states[:, :-1]], dim=1)
    traded = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    found = {}
    for name, values in model.activations(x[traded], before[traded]).items():
        if name == "tanh":
            found["activations/tanh_saturated"] = (values.abs() > SATURATED).double().mean()
            found["activations/tanh_slope"] = (1 - values.double().square()).mean()
        elif name == "relu":
            found["activations/relu_active"] = (values > 0).double().mean()
            found["activations/relu_dead"] = (values <= 0).all(0).double().mean()
        elif name in model.gates:
            ordered = values.double().flatten().sort().values
            found[f"gates/{name}_mean"] = ordered.mean()
            found[f"gates/{name}_p90"] = ordered[round(0.9 * (len(ordered) - 1))]
    return {name: value.item() for name, value in found.items()}
