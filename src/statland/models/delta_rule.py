"""The gated delta rule: a matrix that stores values under keys, day by day and all days at once.

N histories, of one head each, T days in chunks of C, keys and values of D numbers.

    S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,  o_t = S_t q_t

S. Yang, J. Kautz and A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule", ICLR
2025. With P_t = alpha_t S_{t-1}, what is kept, and u_t = beta_t (v_t - P_t k_t), what is new under
the key, S_t is P_t + u_t k_t^T.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Days of a chunk: the fastest of 4, 8, 16 and 32 on a processor, at 400 days, with keys of 8.
CHUNK = 16


class Entry(NamedTuple):
    """What one day, or each of several, stores in the matrix."""

    k: Tensor  # (..., D) the key under which is stored, of norm 1
    v: Tensor  # (..., D) the value that is stored
    log_alpha: Tensor  # (...) log of how much is kept of all that is stored
    beta: Tensor  # (...) how much is replaced of what is stored under k


def store(S: Tensor, x: Entry) -> Tensor:
    """Map S_{t-1} (..., D, D) to S_t."""
    P = x.log_alpha.exp()[..., None, None] * S
    u = x.beta[..., None] * (x.v - times(P, x.k))
    return P + u[..., :, None] * x.k[..., None, :]


def store_all_days(x: Entry) -> Tensor:
    """Return S_T (N, D, D), from entries (N, T, ...) and an empty matrix."""
    return _by_chunk(x)[0][:, -1].mT


def read_all_days(q: Tensor, x: Entry) -> Tensor:
    """Return o_t of all days (N, T, D), from q (N, T, D), entries (N, T, ...) and an empty matrix.

    o_t = g_t S q_t + sum_{i<=t} G_ti (q_t k_i) u_i, in the symbols of `_by_chunk`.
    """
    S_T, u, G, g = _by_chunk(x)
    chunked = in_chunks(q)
    alone, by_S = (((chunked @ in_chunks(x.k).mT) * G).tril() @ u).chunk(2, dim=-1)
    read = alone + (g * chunked - by_S) @ S_T[:, :-1]
    return read.flatten(1, 2)[:, : q.shape[1]]


def _by_chunk(x: Entry) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve all chunks at once; return S^T before each and after the last, and u, G and g.

    With G_ti the product of alpha from day i + 1 to t, g_t that from the start of the chunk, and S
    the matrix before it,

        u_t + beta_t sum_{i<t} G_ti (k_t k_i) u_i = beta_t (v_t - g_t S k_t)

    so that all u of a chunk solve one triangular system, which is linear in S: u = a - b S^T. With
    it S^T after the chunk is g_C S^T + sum_i G_Ci k_i u_i^T, linear in S^T too: only this is done
    one chunk after the other. S^T is (N, T / C + 1, D, D), a and b (N, T / C, C, 2 D), G
    (N, T / C, C, C), whose upper triangle does not count, and g (N, T / C, C, 1).
    """
    k, v, log_alpha, beta = (in_chunks(values) for values in x)  # (N, T / C, C, ...)
    day = torch.arange(k.shape[2], device=k.device)
    # As sums of logarithms from i + 1 to t, not as differences of sums, which would cancel.
    is_summed = (day[:, None] < day) & (day <= day[:, None, None])  # (t, i, j): i < j <= t
    G = (log_alpha @ is_summed.flatten(0, 1).T.to(k)).exp().unflatten(-1, (len(day), -1))
    g, beta = log_alpha.cumsum(-1).exp()[..., None], beta[..., None]
    right = torch.cat([beta * v, beta * g * k], dim=-1)
    triangle = beta * G * (k @ k.mT)  # only what is below the diagonal counts
    u = torch.linalg.solve_triangular(triangle, right, upper=False, unitriangular=True)
    added, erased = ((G[..., -1, :, None] * k).mT @ u).chunk(2, dim=-1)
    kept = g[..., -1:, :] * torch.eye(k.shape[-1]).to(k) - erased
    S_T = [torch.zeros_like(added[:, 0])]
    # unbind, as the gradient of indexing would be as large as all chunks, for every chunk.
    for kept_c, added_c in zip(kept.unbind(1), added.unbind(1), strict=True):
        S_T.append(torch.baddbmm(added_c, kept_c, S_T[-1]))
    return torch.stack(S_T, dim=1), u, G, g


def in_chunks(values: Tensor) -> Tensor:
    """Map (N, T, ...) to (N, T / C, C, ...), padded at the end by days of zeros."""
    chunk = min(CHUNK, values.shape[1])
    missing = -values.shape[1] % chunk
    return pad(values, (0, 0) * (values.ndim - 2) + (0, missing)).unflatten(1, (-1, chunk))


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return M v of M (..., D, D) and v (..., D)."""
    return (matrices @ vectors[..., None])[..., 0]
