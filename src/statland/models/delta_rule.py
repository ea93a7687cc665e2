"""The gated delta rule: a matrix that stores values under keys, day by day and all days at once.

N histories, of one head each, T days, keys and values of D numbers.

    S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,  o_t = S_t q_t

S. Yang, J. Kautz and A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule", ICLR
2025. With P_t = alpha_t S_{t-1}, what is kept, and u_t = beta_t (v_t - P_t k_t), what is new under
the key, S_t is P_t + u_t k_t^T.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Days that `read_all_days` takes at once: the fastest of 8, 16, 32 and 64 on a processor, at 200
# and 1000 days, with keys of 8 and of 16 numbers.
CHUNK = 16


class Entry(NamedTuple):
    """What one day, or each of several, stores in the matrix and looks up."""

    q: Tensor  # (..., D) what is looked up, of norm 1
    k: Tensor  # (..., D) the key under which is stored, of norm 1
    v: Tensor  # (..., D) the value that is stored
    log_alpha: Tensor  # (...) log of how much is kept of all that is stored
    beta: Tensor  # (...) how much is replaced of what is stored under k


def store(S: Tensor, x: Entry) -> Tensor:
    """Map S_{t-1} (..., D, D) to S_t."""
    P = x.log_alpha.exp()[..., None, None] * S
    u = x.beta[..., None] * (x.v - times(P, x.k))
    return P + u[..., :, None] * x.k[..., None, :]


def read_all_days(x: Entry) -> Tensor:
    """Return o_t of all days (N, T, D), from entries (N, T, ...) and an empty matrix.

    One chunk of days at a time. With G_ti the product of alpha from day i + 1 to t, g_t that from
    the start of the chunk, and S the matrix before it,

        u_t + beta_t sum_{i<t} G_ti (k_t k_i) u_i = beta_t (v_t - g_t S k_t)
        o_t = g_t S q_t + sum_{i<=t} G_ti (q_t k_i) u_i

    so that all u of a chunk solve one triangular system, which is linear in S.
    """
    days = x.q.shape[1]
    q, k, v, log_alpha, beta = (in_chunks(values) for values in x)  # (N, days / C, C, ...)
    # As sums of logarithms from i + 1 to t, not as differences of sums, which would cancel.
    to_later = log_alpha[..., None].expand(*log_alpha.shape, log_alpha.shape[-1]).tril(-1)
    G = to_later.cumsum(-2).exp().tril()
    g = log_alpha.cumsum(-1).exp()[..., None]
    beta = beta[..., None]
    triangle = beta * G * (k @ k.mT)  # only what is below the diagonal counts
    right = torch.cat([beta * v, beta * g * k], dim=-1)
    solved = torch.linalg.solve_triangular(triangle, right, upper=False, unitriangular=True)
    u_alone, u_by_S = solved.chunk(2, dim=-1)
    by_u, by_S, last, end = (q @ k.mT) * G, g * q, G[..., -1, :, None] * k, g[..., -1:, :]

    S_T, read = q.new_zeros(len(q), q.shape[-1], q.shape[-1]), []  # S_T is S transposed
    # unbind, as the gradient of indexing would be as large as all chunks, for every chunk.
    chunks = zip(*(t.unbind(1) for t in (u_alone, u_by_S, by_u, by_S, last, end)), strict=True)
    for u_alone_c, u_by_S_c, by_u_c, by_S_c, last_c, end_c in chunks:
        u = u_alone_c - u_by_S_c @ S_T
        read.append(by_S_c @ S_T + by_u_c @ u)
        S_T = end_c * S_T + last_c.mT @ u
    return torch.cat(read, dim=1)[:, :days]


def in_chunks(values: Tensor) -> Tensor:
    """Map (N, T, ...) to (N, T / C, C, ...), padded at the end by days of zeros."""
    chunk = min(CHUNK, values.shape[1])
    missing = -values.shape[1] % chunk
    return pad(values, (0, 0) * (values.ndim - 2) + (0, missing)).unflatten(1, (-1, chunk))


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return M v of M (..., D, D) and v (..., D)."""
    return (matrices @ vectors[..., None])[..., 0]
