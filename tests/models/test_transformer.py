"""The causal transformer: what a day sees, and that only days between days count."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from statland.models.transformer import Attention, Block, Transformer, rotated


def small(features: int = 2, dropout: float = 0.0) -> Transformer:
    return Transformer(features, 1, 12, 2, 3, 20, dropout).double()


def moved_by(days: int, vectors: Tensor) -> Tensor:
    """The vectors turned as those of the days `days`, `days` + 1, ..."""
    return rotated(pad(vectors, (0, 0, days, 0)))[..., days:, :]


def test_products_of_rotated_vectors_depend_on_the_days_between_alone() -> None:
    """q_i . k_j is that of days moved by any number, and of i = j that of the vectors unturned."""
    q, k = torch.randn(2, 1, 6).double().expand(2, 40, 6)
    products = rotated(q) @ rotated(k).T  # (40, 40)
    for moved in (1, 77, 10_000):
        later = moved_by(moved, q) @ moved_by(moved, k).T
        torch.testing.assert_close(later, products, rtol=0, atol=1e-10)
    for between in range(-39, 40):
        values = products.diagonal(between)
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=0, atol=1e-10)
    assert abs(products[0, 0] - q[0] @ k[0]) < 1e-12
    assert abs(products[0, 1] - products[1, 0]) > 1e-3  # the past is not the future


def test_a_rotation_is_that_of_complex_numbers() -> None:
    """Coordinates i and i + D/2 are the real and imaginary part of z, turned by e^(i day speed)."""
    x = torch.randn(5, 8).double()
    z = torch.complex(x[:, :4], x[:, 4:])
    speed = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)  # 10000^(-2i/8)
    turned = z * torch.exp(1j * torch.arange(3, 8)[:, None] * speed)
    expected = torch.cat([turned.real, turned.imag], dim=1)
    torch.testing.assert_close(moved_by(3, x), expected, rtol=0, atol=1e-14)


def test_a_later_day_changes_no_earlier_prediction() -> None:
    """Bit for bit, whatever comes; and each earlier day does change it."""
    model, x = small(), torch.randn(1, 30, 2).double()
    for age in (1, 2, 17, 29):
        changed = x.clone()
        changed[0, age:] = 1e6
        lengths = torch.tensor([age])
        assert torch.equal(model(changed, lengths), model(x, lengths))
        for day in range(age):
            changed = x.clone()
            changed[0, day] += 1
            assert not torch.equal(model(changed, lengths), model(x, lengths))


def test_attention_and_block_by_their_equations() -> None:
    """Day by day and head by head: softmax over the days so far; the norms stand before."""
    block, h = Block(12, 3, 20, 0.4).double().eval(), torch.randn(1, 9, 12).double()
    for norm in (block.attention_norm, block.feedforward_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    middle = h + by_hand(block.attention, block.attention_norm(h))
    up, _, down = block.feedforward
    expected = middle + down(up(block.feedforward_norm(middle)).relu())
    torch.testing.assert_close(block(h), expected, rtol=0, atol=1e-12)


def by_hand(attention: Attention, h: Tensor) -> Tensor:
    q, k, v = attention.in_projection(h[0]).chunk(3, dim=1)
    days = []
    for day in range(len(q)):
        heads = []
        for rows in torch.arange(12).chunk(3):
            turned_q, turned_k = moved_by(5, q[:, rows]), moved_by(5, k[:, rows])
            weights = (turned_k[: day + 1] @ turned_q[day] / math.sqrt(4)).softmax(0)
            heads.append(weights @ v[: day + 1, rows])
        days.append(torch.cat(heads))
    return (torch.stack(days) @ attention.out_projection.weight.T)[None]


def test_memory_grows_with_the_days_and_not_with_their_square() -> None:
    """No (T, T) table is kept: of what forward saves for backward the largest is (B, T, .)."""
    sizes: list[int] = []
    model, x = small(1, dropout=0.1).float(), torch.randn(1, 600, 1)

    def saved(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        model(x, torch.tensor([600]))
    assert max(sizes) <= 600 * 3 * 12
