"""Flow behind saturated units, where 1 - tanh^2 and 1 - sigmoid are 0 but for rounding."""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import nn

from statland.gradients import Recurrence, gradient_flow
from statland.gradients.activity import activity
from statland.models.gru import GRU
from statland.models.init import default
from statland.models.lstm import LSTM
from statland.models.rnn import RNN
from statland.models.rnn_cell import RNNCell

# By kind: (weight of the input, of h, bias) of each row block. All units and gates are saturated,
# at one end or the other.
ROWS = {
    "RNN": [(0.5, 20.0, 0.25)],
    "LSTM": [(0.3, 2.0, 38.0), (0.1, -1.0, 45.0), (0.5, 3.0, 21.0), (0.2, 1.5, -39.0)],
    "GRU": [(0.3, 2.0, -41.0), (0.1, 3.0, 44.0), (0.5, 1.5, 23.0)],
}
DAYS = [0.5, 1.0, 0.25, 0.75, 0.5]


def sigmoid(a: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-a))


def rnn(x: mpmath.mpf, h: mpmath.mpf) -> list[mpmath.mpf]:
    [(u, w, b)] = ROWS["RNN"]
    return [mpmath.tanh(u * x + w * h + b)]


def lstm(x: mpmath.mpf, h: mpmath.mpf, c: mpmath.mpf) -> list[mpmath.mpf]:
    i, f, g, o = (u * x + w * h + b for u, w, b in ROWS["LSTM"])
    c = sigmoid(f) * c + sigmoid(i) * mpmath.tanh(g)
    return [sigmoid(o) * mpmath.tanh(c), c]


def gru(x: mpmath.mpf, h: mpmath.mpf) -> list[mpmath.mpf]:
    (u_r, w_r, b_r), (u_z, w_z, b_z), (u_n, w_n, b_n) = ROWS["GRU"]
    r, z = sigmoid(u_r * x + w_r * h + b_r), sigmoid(u_z * x + w_z * h + b_z)
    return [(1 - z) * mpmath.tanh(u_n * x + b_n + r * w_n * h) + z * h]


STEPS: dict[str, Callable[..., list[mpmath.mpf]]] = {"RNN": rnn, "LSTM": lstm, "GRU": gru}


def in_many_digits(kind: str) -> dict[str, list[float]]:
    """log10 of |dh_T/dh_t|, |dh_T/dc_t| and |dh_T/dx_t| by lag, from differences in 120 digits."""
    step, found = STEPS[kind], {"h": [], "c": [], "x": []}
    with mpmath.workdps(120):
        state = [mpmath.mpf(0)] * (2 if kind == "LSTM" else 1)
        for day, x in enumerate(map(mpmath.mpf, DAYS)):

            def last(x: mpmath.mpf, *state: mpmath.mpf, later: list[float]) -> mpmath.mpf:
                return rolled(step, later, step(x, *state))

            towards = mpmath.diff(lambda x, s=state, d=day: last(x, *s, later=DAYS[d + 1 :]), x)
            found["x"].insert(0, log10(towards))
            state = step(x, *state)
            for place, name in enumerate("hc"[: len(state)]):
                towards = mpmath.diff(
                    lambda v, s=tuple(state), p=place, d=day: rolled(
                        step, DAYS[d + 1 :], [*s[:p], v, *s[p + 1 :]]
                    ),
                    state[place],
                )
                found[name].insert(0, log10(towards))
    return found


def rolled(
    step: Callable[..., list[mpmath.mpf]], days: list[float], state: list[mpmath.mpf]
) -> mpmath.mpf:
    for x in days:
        state = step(mpmath.mpf(x), *state)
    return state[0]


def log10(value: mpmath.mpf) -> float:
    return float(mpmath.log10(abs(value))) if abs(value) > mpmath.mpf(10) ** -90 else -math.inf


def filled(module: nn.Module, kind: str) -> nn.Module:
    """The module with the weights of ROWS; what stands above the recurrence passes h on."""
    u, w, b = torch.tensor(ROWS[kind], dtype=torch.float64).T
    values = {"weight_ih": u[:, None], "weight_hh": w[:, None], "bias_ih": b, "bias_hh": 0 * b}
    with torch.no_grad():
        for name, parameter in module.double().named_parameters():
            given = [value for key, value in values.items() if key in name]
            parameter.copy_(given[0] if given else torch.tensor(float("weight" in name)))
    return module


MODULES = {
    "rnn_cell": (RNNCell(1, 1, 1, 1, "tanh", default), "RNN"),
    "rnn": (RNN(1, 1, 1, 1, "tanh", default), "RNN"),
    "lstm": (LSTM(1, 1, 1, 1, default), "LSTM"),
    "gru": (GRU(1, 1, 1, 1, default), "GRU"),
    "nn.RNN": (nn.RNN(1, 1, batch_first=True), "RNN"),
    "nn.LSTM": (nn.LSTM(1, 1, batch_first=True), "LSTM"),
    "nn.GRU": (nn.GRU(1, 1, batch_first=True), "GRU"),
    "nn.RNNCell": (nn.RNNCell(1, 1), "RNN"),
    "nn.LSTMCell": (nn.LSTMCell(1, 1), "LSTM"),
    "nn.GRUCell": (nn.GRUCell(1, 1), "GRU"),
    "Recurrence": (Recurrence(nn.GRUCell(1, 1), initial=torch.zeros(1)), "GRU"),
}


@pytest.mark.parametrize("name", MODULES)
def test_flow_behind_saturated_units_and_gates(name: str) -> None:
    module, kind = MODULES[name]
    x = torch.tensor(DAYS, dtype=torch.float64).view(1, -1, 1)
    log10 = gradient_flow(filled(module, kind), x).log10
    expected = in_many_digits(kind)
    names = {"h": "h", "c": "c", "x": "x"} if kind == "LSTM" else {"h": "state", "x": "x"}
    for part, quantity in names.items():
        assert log10[quantity][0].tolist() == pytest.approx(expected[part], abs=1e-9)
    assert log10["x"].isfinite().all()
    assert log10["x"].min() < -15  # not 0, though 1 - tanh^2 is


def test_the_mean_slope_of_saturated_units() -> None:
    model = filled(RNNCell(1, 1, 1, 1, "tanh", default), "RNN")
    assert isinstance(model, RNNCell)
    x, lengths = torch.tensor(DAYS).double().view(1, -1, 1), torch.tensor([5])
    flow = gradient_flow(model, x)
    [(u, w, b)] = ROWS["RNN"]
    a = u * x.flatten() + w * flow.states["h"][:-1].flatten() + b
    later = {name: states[1:] for name, states in flow.states.items()}
    assert activity(model, x[:, 1:], lengths - 1, later)["units/tanh_saturated"] >= 0.75
    found = activity(model, x, lengths, flow.states)["units/tanh_slope"]
    assert found == pytest.approx((1 / a.cosh() ** 2).mean().item(), rel=1e-12)
