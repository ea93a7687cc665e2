"""Laws that every model of configs/model obeys, and those of the hand-written recurrence."""

import math
import re

import pytest
import torch
from conftest import PAIRS, built, settings_of
from torch import Tensor, nn

from statland.batch import Batch, loss
from statland.models.base import (
    RecurrentModel,
    SequenceModel,
    at_last_day,
    evaluating,
    predict_answers,
    unroll,
)
from statland.models.init import default
from statland.models.rnn import RNN
from statland.models.rnn_cell import RNNCell, Unroll
from statland.settings import SettingError
from statland.training.build import build_model


def ragged(days: int = 9, companies: int = 6, features: int = 1) -> Batch:
    lengths = torch.randint(1, days + 1, (companies,))
    lengths[1] = days
    x = torch.randn(companies, days, features, dtype=torch.float64)
    return Batch(x, lengths, torch.randn(companies, 1, dtype=torch.float64))


def loss_and_gradients(model: SequenceModel, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """The sum, not the mean, so that a company alone and in a batch can be compared."""
    loss = (model(batch.x, batch.lengths) - batch.y).square().sum()
    return loss, list(torch.autograd.grad(loss, list(model.parameters())))


def close(ours: list[Tensor], theirs: list[Tensor], relative: float = 1e-10) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).norm() <= relative * max(b.norm(), 1e-30)


def unrolled(model: RecurrentModel, x: Tensor, lengths: Tensor) -> Tensor:
    """The predictions by `cell`, read off at each company's last day."""
    states = unroll(model, x)
    return model.readout({name: at_last_day(days, lengths) for name, days in states.items()})


def test_forward_equals_the_unrolled_cell(recurrent: RecurrentModel) -> None:
    x, lengths, y = ragged(days=80)  # hand-written sweeps take 64 days at once
    predictions = recurrent(x, lengths), unrolled(recurrent, x, lengths)
    close(*([prediction] for prediction in predictions))
    losses = [(prediction - y).square().sum() for prediction in predictions]
    close(*(list(torch.autograd.grad(loss, list(recurrent.parameters()))) for loss in losses))


def test_a_state_keeps_its_names_and_shapes(recurrent: RecurrentModel) -> None:
    """And what the units did has one row per company, each gate between 0 and 1."""
    state, x_t = recurrent.initial_state(5), torch.randn(5, 1).double()
    after = recurrent.cell(x_t, state)
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in state.items()}
    for name, values in recurrent.activations(x_t, after).items():
        assert len(values) == 5
        assert name in ("tanh", "relu") or ((values >= 0) & (values <= 1)).all()


def test_evaluating_leaves_each_part_as_it_was() -> None:
    """A part that was set to evaluation mode before stays there."""
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)))
    model[1][1].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before == [True] * 4 + [False]


@pytest.mark.parametrize("padding", [7.0, math.nan, math.inf])
def test_a_company_alone_equals_itself_in_a_batch(padding: float, model: SequenceModel) -> None:
    batch = ragged()
    is_padding = torch.arange(batch.x.shape[1]) >= batch.lengths[:, None]
    assert is_padding.any()
    batch = batch._replace(x=torch.where(is_padding[..., None], padding, batch.x))
    loss, gradients = loss_and_gradients(model, batch)
    alone = [
        loss_and_gradients(model, Batch(b.x[:, : int(b.lengths)], b.lengths, b.y))
        for b in (Batch(*(t[i : i + 1] for t in batch)) for i in range(len(batch.x)))
    ]
    close([sum(one for one, _ in alone)], [loss])
    close([sum(parts) for parts in zip(*(g for _, g in alone), strict=True)], gradients)


@pytest.mark.parametrize(("model_name", "market_name"), PAIRS)
def test_every_parameter_moves_in_one_step(model_name: str, market_name: str) -> None:
    market, model, optimizer = built(f"model={model_name}", f"data={market_name}")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = market.train_batch(0)
    loss(predict_answers(model, batch), batch.answers).backward()
    optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@pytest.mark.parametrize(("layers", "days"), [(1, 1), (3, 200)])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_hand_written_equals_nn_rnn(nonlinearity: str, layers: int, days: int) -> None:
    """Outputs and all gradients, the input's too, against torch.nn.RNN with the same state dict."""
    ours = RNNCell(2, 1, 5, layers, nonlinearity, default).double()
    theirs = nn.RNN(2, 5, layers, nonlinearity=nonlinearity, batch_first=True).double()
    theirs.load_state_dict(ours.recurrence.state_dict())
    x, lengths, y = ragged(days, features=2)
    results = []
    for module in (ours.recurrence, theirs):
        seen = x.clone().requires_grad_()
        if module is theirs:
            hidden = at_last_day(theirs(seen)[0].transpose(0, 1), lengths)
        else:
            hidden = module(seen.transpose(0, 1), lengths)
        loss = (ours.output(hidden) - y).square().sum()
        names = [name for name, _ in theirs.named_parameters()]
        weights = [module.get_parameter(name) for name in names]
        results.append([hidden, *torch.autograd.grad(loss, [seen, *weights])])
    close(*results)


def test_a_vanished_gradient_stays_right() -> None:
    """The backward sweep stops early once the gradient is exactly 0; the sums must not change."""
    ours = RNNCell(1, 1, 4, 2, "tanh", default).double()
    with torch.no_grad():
        for index in range(2):
            ours.layer(index).weight_hh.mul_(1e-3)
    x, _, y = ragged(days=400)
    lengths = torch.tensor([400, 390, 150, 395, 380, 3])
    for some in (torch.ones(6, dtype=torch.bool), torch.arange(6) < 2):
        batch = Batch(x[some].requires_grad_(), lengths[some], y[some])
        theirs = RNN(1, 1, 4, 2, "tanh", default).double()
        theirs.load_state_dict(ours.state_dict())
        both = []
        for model in (ours, theirs):
            loss, gradients = loss_and_gradients(model, batch)
            loss = (model(batch.x, batch.lengths) - batch.y).square().sum()
            both.append([*gradients, *torch.autograd.grad(loss, batch.x)])
        close(*both)
    assert (both[0][-1][:, :100] == 0).all()  # it did vanish


def test_settings_out_of_bounds_are_refused(model_name: str) -> None:
    settings = settings_of(f"model={model_name}")
    for key in settings["model"].keys() - {"_target_", "init"}:
        for wrong in (-1, 10**10, math.nan, "many", None, True, [1]):
            changed = {**settings, "model": {**settings["model"], key: wrong}}
            with pytest.raises(
                SettingError, match=re.escape(f"model.{key} is {wrong!r}; allowed: ")
            ):
                build_model(changed, torch.device("cpu"))


def test_same_seed_draws_the_weights_of_nn_rnn() -> None:
    for layers in (1, 3):
        states = []
        for name in ("rnn_cell", "rnn"):
            _, model, _ = built(f"model={name}", f"model.num_layers={layers}")
            states.append(model.state_dict())
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", "modrelu"])
@pytest.mark.parametrize("ends", [None, [3, 5, 2]])
def test_hand_written_backward_against_central_differences(
    nonlinearity: str, ends: list[int] | None
) -> None:
    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    lengths = None if ends is None else torch.tensor(ends)
    inputs = randn(5, 3, 2), randn(4, 2), randn(4, 4), randn(4)
    inputs += (randn(4),) if nonlinearity == "modrelu" else ()
    assert torch.autograd.gradcheck(
        lambda x, U, W, b, *c: Unroll.apply(x, U, W, b, nonlinearity, lengths, *c), inputs
    )


def test_cell_is_twice_differentiable_and_the_fast_path_says_that_it_is_not() -> None:
    model = RNNCell(1, 1, 3, 1, "tanh", default).double()
    x, lengths, _ = ragged(days=4, companies=2)

    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: unrolled(model, x, lengths), (x,))
    (gradient,) = torch.autograd.grad(model(x, lengths).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_gradient_that_is_small_but_not_zero_goes_all_the_way() -> None:
    """The early stop waits for an exact 0: 300 days of a weight of 0.9 are 2e-14, and count."""
    model = RNNCell(1, 1, 1, 1, "identity", default).double()
    with torch.no_grad():
        model.layer(0).weight_hh.fill_(0.9)
        model.layer(0).weight_ih.fill_(1.0)
        model.output.weight.fill_(1.0)
    x = torch.zeros(1, 300, 1, dtype=torch.float64, requires_grad=True)
    model(x, torch.tensor([300])).sum().backward()
    expected = 0.9 ** torch.arange(299, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(x.grad[0, :, 0], expected, rtol=1e-10, atol=0)
