"""Why a gradient vanishes or survives: saturated units, dead ReLUs, gates, on data."""

import torch
from torch import Tensor

from statland.models.activation import tanh_slope
from statland.models.base import RecurrentModel, State, evaluating, traded

# |tanh| above this: the slope is below a tenth.
SATURATED = 0.95


@torch.no_grad()
def activity(model: RecurrentModel, x: Tensor, lengths: Tensor, states: State) -> dict[str, float]:
    """What the units do on the days that each company traded.

    x is (B, T, F), lengths (B,), and states (T + 1, B, ...) those before each day.

    units/tanh_saturated: share of values whose slope is below 0.1. units/tanh_slope:
    the mean of tanh', by the pre-activation. units/relu_active: share of values above 0.
    units/relu_dead: share of units that are 0 on every day of every company.
    units/gate_<gate>_mean and _p90: how far a gate is open, its mean and its 90th percentile.
    """
    is_traded = traded(lengths, x.shape[1])
    before = {n: part[:-1].to(x).transpose(0, 1)[is_traded] for n, part in states.items()}
    with evaluating(model):
        activations = model.activations(x[is_traded], before)
    found = {}
    for name, values in activations.items():
        if name == "tanh":
            found["units/tanh_saturated"] = (values.tanh().abs() > SATURATED).double().mean()
            found["units/tanh_slope"] = tanh_slope(values.double()).mean()
        elif name == "relu":
            found["units/relu_active"] = (values > 0).double().mean()
            found["units/relu_dead"] = (values <= 0).all(0).double().mean()
        else:
            found[f"units/gate_{name}_mean"] = values.double().mean()
            # Of a million values the 90th percentile is found without sorting them.
            place = 1 + round(0.9 * (values.numel() - 1))
            found[f"units/gate_{name}_p90"] = values.flatten().kthvalue(place).values
    return {name: value.item() for name, value in found.items()}
