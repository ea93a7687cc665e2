"""gradient_flow on any module, each against autograd through the module itself, in float64."""

import copy
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from oracles import State, Step, agree, by_autograd, squared, tensors_of
from rich.progress import Progress
from torch import Tensor, nn

from statland import gradients
from statland.gradients import Recurrence, backward, gradient_flow, weight_flow
from statland.gradients.share import answer_share

B, T, F, H, K = 3, 7, 2, 4, 3


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(B, T, F, dtype=torch.float64), torch.randn(B, K, dtype=torch.float64)


HEAD = nn.Linear(H, K).double()


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_cell(kind: Any) -> None:
    cell, (x, y) = kind(F, H).double(), data()
    zeros = x.new_zeros(B, H)
    start = (zeros, zeros) if kind is nn.LSTMCell else zeros
    expected = by_autograd(cell, start, lambda s: HEAD(tensors_of(s)[0]), x, y)
    agree(gradient_flow(cell, x, loss=squared(y, HEAD)), expected, {"0": "h", "1": "c"})


@pytest.mark.parametrize(("layers", "batch_first"), [(1, True), (2, False)])
@pytest.mark.parametrize("kind", [partial(nn.RNN, nonlinearity="relu"), nn.RNN, nn.GRU, nn.LSTM])
def test_a_whole_recurrence(kind: Any, layers: int, batch_first: bool) -> None:
    """The oracle runs the module itself a day at a time, from the state that it has given."""
    options = {"batch_first": batch_first, "dropout": 0.5 * (layers > 1)}
    module, (x, y) = kind(F, H, layers, **options).double(), data()
    still = copy.deepcopy(module).eval()
    still.batch_first = True

    def step(x_t: Tensor, state: State) -> State:
        """The state with the companies first."""
        first = [part.transpose(0, 1).contiguous() for part in tensors_of(state)]
        _, after = still(x_t[:, None], tuple(first) if len(first) > 1 else first[0])
        last = tuple(part.transpose(0, 1) for part in tensors_of(after))
        return last if len(last) > 1 else last[0]

    zeros = x.new_zeros(B, layers, H)
    start = (zeros, zeros) if kind is nn.LSTM else zeros
    expected = by_autograd(step, start, lambda s: HEAD(tensors_of(s)[0][:, -1]), x, y)
    laid_out = x if batch_first else x.transpose(0, 1)
    agree(gradient_flow(module, laid_out, loss=squared(y, HEAD)), expected, {"0": "h", "1": "c"})


MATRIX = torch.randn(H, H, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def leaky(x_t: Tensor, state: State) -> Tensor:
    """One tensor (B, H)."""
    assert isinstance(state, Tensor)
    return 0.9 * state + torch.tanh(state @ MATRIX + x_t.sum(1, keepdim=True))


def fast_weights(x_t: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """A matrix and a count: tensors (B, H, 2) and (B,)."""
    matrix, count = state
    written = torch.einsum("bf,h->bhf", x_t, MATRIX[0])
    return 0.8 * matrix + written * count.cos()[:, None, None], count * 1.1 + x_t[:, 0]


STEPS: dict[str, tuple[Step, State, Callable[[Any], Tensor]]] = {
    "a function of a tensor": (leaky, torch.zeros(H), lambda s: s),
    "a function of two tensors": (
        fast_weights,
        (torch.ones(H, 2), torch.full((), 0.5)),
        lambda s: s[0].sum(2) * s[1][:, None],
    ),
    "a cell with a head": (nn.GRUCell(F, H, bias=False), torch.zeros(H), nn.Linear(H, H)),
    "a cell of two tensors": (
        nn.LSTMCell(F, H, bias=False),
        (torch.rand(H), torch.rand(H)),
        lambda s: s[0] + s[1],
    ),
}


@pytest.mark.parametrize("name", list(STEPS))
def test_any_step_and_readout(name: str) -> None:
    step, initial, readout = (
        part.double() if isinstance(part, nn.Module) else part for part in STEPS[name]
    )
    x, y = data()
    parts = tuple(part.double().expand(B, *part.shape) for part in tensors_of(initial))
    start = parts if isinstance(initial, tuple) else parts[0]
    expected = by_autograd(step, start, lambda s: HEAD(readout(s)), x, y)
    agree(gradient_flow(Recurrence(step, readout, initial), x, loss=squared(y, HEAD)), expected)


def test_the_parts_of_a_state_have_names() -> None:
    initial = STEPS["a function of two tensors"][1]
    named = Recurrence(fast_weights, lambda s: s[0].sum(2), initial, parts=("matrix", "count"))
    x, y = data()
    flow = gradient_flow(named, x, loss=squared(y, HEAD))
    assert set(flow.log10) == {"state", "matrix", "count", "x"}
    with pytest.raises(ValueError, match="zip"):
        Recurrence(leaky, None, torch.zeros(H), ("a", "b"))


def feed_forward() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(T * F), nn.Dropout(), nn.Linear(T * F, H))


def test_any_module_at_its_inputs() -> None:
    module, (x, y) = feed_forward().double(), data()
    flow = gradient_flow(module, x, loss=squared(y, HEAD))
    seen = x.clone().requires_grad_()
    squared(y, HEAD)(copy.deepcopy(module).eval()(seen)).sum().backward()
    agree(flow, {"x": seen.grad.norm(dim=2).flip(1)})


@pytest.mark.parametrize("make", [feed_forward, lambda: nn.LSTM(F, H, 2, True, True, 0.5)])
def test_dropout_is_off_and_the_module_stays_as_it_is(make: Callable[[], nn.Module]) -> None:
    module, x = make().train(), torch.randn(B, T, F)
    before = copy.deepcopy(module)
    once, still = (
        gradient_flow(m, x, loss=lambda p: p.square().sum(1))
        for m in (module, copy.deepcopy(module).eval())
    )
    for name in once.log10:
        assert once.log10[name].isfinite().any()
        assert torch.equal(once.log10[name], still.log10[name])
    assert [m.training for m in module.modules()] == [m.training for m in before.modules()]
    for name, value in before.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


def test_what_draws_by_itself_does_not_move_the_random_numbers() -> None:
    """A functional dropout is on even in evaluation mode."""
    noisy = Recurrence(lambda x_t, h: nn.functional.dropout(h) + x_t, initial=torch.zeros(F))
    x, random = torch.randn(B, T, F), torch.get_rng_state()
    gradient_flow(noisy, x, loss=lambda p: p.sum(1))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_loss_gives_one_value_a_company() -> None:
    for module in (nn.GRU(F, H, batch_first=True), feed_forward()):
        for loss, shape in {
            lambda p: p.mean(): r"\(\)",
            lambda p: p.square(): rf"\({B}, {H}\)",
            lambda p: p.square().sum(0): rf"\({H},\)",
        }.items():
            said = rf"the loss has shape {shape}; expected one value a company, \({B},\)"
            with pytest.raises(ValueError, match=said):
                gradient_flow(module, torch.randn(B, T, F), loss=loss)


VOCABULARY = 11
SMALL = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None}
GPT2 = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16}
MAMBA = {"hidden_size": 8, "num_hidden_layers": 2, "state_size": 4, "pad_token_id": None}


class Tagger(nn.Module):
    """A prediction for each day (B, T, K) of token ids."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(VOCABULARY, H), kind(H, H, 2, batch_first=True)
        self.head = nn.Linear(H, K)

    def forward(self, ids: Tensor | None = None, inputs_embeds: Tensor | None = None) -> Tensor:
        embedded = self.embedding(ids) if inputs_embeds is None else inputs_embeds
        return self.head(self.rnn(embedded)[0])

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding


def language_model(name: str) -> nn.Module:
    if name == "GRU":
        return Tagger()
    transformers = pytest.importorskip("transformers")
    if name == "GPT-2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL, **GPT2))
    return transformers.MambaForCausalLM(transformers.MambaConfig(**SMALL, **MAMBA))


def at_last(out: Any) -> Tensor:
    return getattr(out, "logits", out)[:, -1]


@pytest.mark.parametrize("name", ["GRU", "GPT-2", "Mamba"])
def test_a_language_model_by_token(name: str) -> None:
    """The oracle gives the model the embedded tokens."""
    model, ids = language_model(name).double(), torch.randint(VOCABULARY, (B, T))
    embedding, target = model.get_input_embeddings(), torch.randint(K, (B,))

    def loss(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target, reduction="none")

    flow = gradient_flow(model, ids, loss=loss, at=embedding, prediction=at_last)
    seen = embedding(ids).detach().requires_grad_()
    loss(at_last(model.eval()(inputs_embeds=seen))).sum().backward()
    rtol = 1e-5 if name == "Mamba" else 1e-10  # some of it is in float32, whatever the weights
    agree(flow, {"x": seen.grad.norm(dim=2).flip(1)}, rtol=rtol)
    with pytest.raises(ValueError, match=r"x is torch.int64: .* as at="):
        gradient_flow(model, ids, loss=loss)
    returned = r"returns (\(3, 7, 3\)|a \w+); expected predictions \(3, K\), such as out\[:, -1\]"
    with pytest.raises(ValueError, match=returned):
        gradient_flow(model, ids, loss=loss, at=embedding)
    with pytest.raises(ValueError, match="at is a Linear that is no part of the model"):
        gradient_flow(model, ids, loss=loss, at=nn.Linear(1, 1))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_both_ways_agree(kind: type[nn.RNNBase]) -> None:
    """As itself, and behind an embedding; at a block that returns a tuple, only its last day."""
    model, ids = Tagger(kind), torch.randint(VOCABULARY, (B, 40))
    loss = squared(torch.randn(B, H))
    alone = gradient_flow(model.rnn, model.embedding(ids), loss=loss)
    model.head = nn.Identity()
    behind = gradient_flow(model, ids, loss=loss, at=model.embedding, prediction=at_last)
    torch.testing.assert_close(behind.log10["x"], alone.log10["x"], rtol=0, atol=1e-9)
    torch.testing.assert_close(behind.log10_error, alone.log10_error, rtol=0, atol=1e-9)
    tuples = gradient_flow(model, ids, loss=loss, at=model.rnn, prediction=at_last).log10["x"]
    expected = torch.full((B, 40), -math.inf, dtype=torch.float64)
    expected[:, 0] = 0  # the prediction is what it returns of the last day
    torch.testing.assert_close(tuples, expected)


def test_padding_that_a_mask_leaves_out() -> None:
    """Each company's flow is that which it has alone."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model, x, ages = nn.TransformerEncoder(layer, 2), torch.randn(B, T, 4), torch.tensor([7, 3, 5])
    mask = torch.arange(T) >= ages[:, None]

    def loss(p: Tensor) -> Tensor:
        return p.square().sum(1)

    def last_day(out: Tensor) -> Tensor:
        return out[torch.arange(B), ages - 1]

    given: Any = {"inputs": {"src_key_padding_mask": mask}, "prediction": last_day}
    flow = gradient_flow(model, x, ages, loss, **given).log10["x"]
    for company, age in enumerate(ages.tolist()):
        alone = x[company : company + 1, :age]
        expected = gradient_flow(model, alone, loss=loss, prediction=at_last).log10["x"]
        torch.testing.assert_close(flow[company : company + 1, :age], expected)
        assert flow[company, age:].isnan().all()
    answer = torch.arange(T) == ages[:, None] - 2  # of each the last but one day
    on_lags = gradients.share(flow, answer)
    assert on_lags == pytest.approx(answer_share(flow, (torch.arange(T) == 1).expand(B, T)))
    used = gradients.importance(model, x, answer, ages, **given)
    padded = x.masked_fill(mask[..., None], 5.0)
    assert used == pytest.approx(gradients.importance(model, padded, answer, ages, **given))
    assert used > 0


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_a_cell_in_its_own_precision(weight: float) -> None:
    """A closure over a float32 tensor, over more days than float32 has powers of two."""
    own = torch.tensor(weight)
    cell = Recurrence(lambda x_t, h: (h + x_t) @ own.view(1, 1), initial=torch.zeros(1))
    flow = gradient_flow(cell, torch.rand(B, 400, 1), dtype=None, device=None).log10["x"]
    expected = math.log10(weight) * torch.arange(1, 401, dtype=torch.float64)
    torch.testing.assert_close(flow, expected.expand(B, -1), rtol=1e-5, atol=1e-5)


def test_a_progress_bar_that_takes_seconds_to_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of it for a day forward, and for a segment back."""
    seen: list[bool] = []
    monkeypatch.setattr(Progress, "update", lambda *_, advance, visible: seen.append(visible))
    rnn, x = nn.GRU(F, H, batch_first=True), torch.randn(B, 70, F)
    plain = gradient_flow(rnn, x, loss=lambda p: p.sum(1)).log10["state"]
    for patience in (100, -1):
        monkeypatch.setattr(backward, "PATIENCE", patience)
        shown = gradient_flow(rnn, x, loss=lambda p: p.sum(1), progress=True).log10["state"]
        assert torch.equal(shown, plain)
    assert seen == [False] * 73 + [True] * 73


def test_what_takes_no_lengths_says_so() -> None:
    x, ages = torch.randn(B, T, F), torch.tensor([7, 3, 1])
    with pytest.raises(ValueError, match="Sequential takes no lengths"):
        gradient_flow(feed_forward(), x, ages, lambda p: p.sum(1))


def examples(text: str) -> list[str]:
    """The indented blocks of a docstring."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return [textwrap.dedent(part) for part in paragraphs if part.startswith("    ")]


def test_the_examples_of_the_docstrings_run() -> None:
    x, y = torch.randn(5, 12, 3), torch.randn(5, 1)

    def step(x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        return torch.tanh(h + c), c * 0.9 + x_t.sum(1, keepdim=True)

    names = {name: getattr(gradients, name) for name in gradients.__all__}
    names |= {"nn": nn, "torch": torch, "x": x, "y": y, "step": step}
    for code in examples(gradient_flow.__doc__ or ""):
        exec(code, names)
    flow = names["flow"]
    assert set(flow.log10) == {"state", "x"}
    assert flow.log10_error.isfinite().all()
    for code in examples(weight_flow.__doc__ or ""):
        exec(code, names)
    assert names["added"].log10["weight_hh_l0"].shape == names["added"].together.shape == (5, 12)
    (code,) = examples(Recurrence.__doc__ or "")
    for line in code.splitlines():
        made = eval(line, names)
        assert gradient_flow(made, x, loss=lambda p: p.sum(1)).log10["state"].shape == (5, 12)


def test_the_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "src/statland/gradients/README.md").read_text()
    section = text.partition("## Your own model")[2].partition("\n## ")[0]
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(code, names)
    assert names["flow"].log10["x"].isnan().sum(1).tolist() == [0, 7, 3]
    assert {path.name for path in tmp_path.iterdir()} == {"profile.png", "strips.png"}
