"""The gated delta rule: a matrix that stores values under keys, day by day and all days at once.

N histories or heads of such, T days, D numbers a key and a value have.

    S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,  o_t = S_t q_t

S. Yang, J. Kautz and A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule", ICLR
2025. With P_t = alpha_t S_{t-1}, what is kept, and u_t = beta_t (v_t - P_t k_t), what is new under
the key, S_t is P_t + u_t k_t^T.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Days that `read_all_days` takes at once: fewer are more steps, more are larger triangles. Of 8,
# 16, 32 and 64 the fastest on a processor, at 200 and 1000 days, keys of 8 and of 16 numbers.
CHUNK = 16


class Entry(NamedTuple):
    """What one day, or each of several, does to the matrix and asks of it."""

    q: Tensor  # (..., D) what is looked up, of norm 1
    k: Tensor  # (..., D) the key under which is stored, of norm 1
    v: Tensor  # (..., D) the value that is stored
    log_alpha: Tensor  # (...) log of how much is kept of all that is stored
    beta: Tensor  # (...) how much is replaced of what is stored under k

    def on(self, day: int) -> "Entry":
        """That of one day of several."""
        return Entry(*(values[day] for values in self))


def store(S: Tensor, x: Entry) -> Tensor:
    """One day: S_{t-1} (..., D, D) to S_t."""
    P = x.log_alpha.exp()[..., None, None] * S
    u = x.beta[..., None] * (x.v - times(P, x.k))
    return P + outer(u, x.k)


def pull_store(S: Tensor, x: Entry, at_S: Tensor) -> tuple[Tensor, Entry]:
    """Of gradients dS at S_t (..., D, D) those at S_{t-1}, and at the entry but for q (zeros).

    du = dS k,  dk = dS^T u - beta P^T du,  dv = beta du,  dbeta = du (v - P k)
    dP = dS - beta du k^T,  dS_{t-1} = alpha dP,  dlog(alpha) = the sum of dP * P
    """
    alpha, beta = x.log_alpha.exp()[..., None, None], x.beta[..., None]
    P = alpha * S
    error = x.v - times(P, x.k)
    at_u = times(at_S, x.k)
    at_v = beta * at_u
    at_P = at_S - outer(at_v, x.k)
    at_k = times(at_S.mT, beta * error) - times(P.mT, at_v)
    at_log_alpha, at_beta = (at_P * P).sum((-2, -1)), (at_u * error).sum(-1)
    return alpha * at_P, Entry(torch.zeros_like(at_k), at_k, at_v, at_log_alpha, at_beta)


def read_all_days(x: Entry) -> Tensor:
    """o_t of all days (N, T, D), of an entry (N, T, D) and (N, T), from an empty matrix.

    A chunk of days at a time. With G_ti the product of alpha from day i + 1 to t, g_t that from the
    start of the chunk, and S the matrix before it,

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
    """(N, T, ...) to (N, T / C, C, ...); days of zeros at the end, which keep and store nothing."""
    days = values.shape[1]
    chunk = min(CHUNK, days)
    missing = -days % chunk
    values = pad(values, (0, 0) * (values.ndim - 2) + (0, missing))
    return values.unflatten(1, (-1, chunk))


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """M v of M (..., D, D) and v (..., D)."""
    return (matrices @ vectors[..., None])[..., 0]


def outer(a: Tensor, b: Tensor) -> Tensor:
    """a b^T (..., D, D) of a and b (..., D)."""
    return a[..., :, None] * b[..., None, :]
