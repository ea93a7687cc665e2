"""GARCH(1,1) returns: calm and wild days cluster, yet nothing can be learnt about the next return.

T. Bollerslev, "Generalized autoregressive conditional heteroskedasticity", J. Econometrics 31
(1986).
"""

from typing import Annotated

import numpy as np
import torch

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, direction
from statland.settings import Range, SettingError


class Garch(SyntheticMarket):
    """The honest control: returns r_t = s_t z_t, with z_t standard normal and independent.

    s_t^2 = (1 - alpha - beta) + alpha r_{t-1}^2 + beta s_{t-1}^2, so that the variance is 1 in
    the long run. The best forecast of the next return is zero, with a mean squared error of 1.
    """

    forecasts_returns = True
    score = staticmethod(direction)

    def __init__(
        self,
        min_days: Days,
        max_days: Days,
        batch_size: Companies,
        alpha: Annotated[float, Range(0)],
        beta: Annotated[float, Range(0)],
        seed: int,
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.alpha, self.beta = alpha, beta
        if alpha + beta >= 1:
            raise SettingError(
                f"data.alpha {alpha} plus data.beta {beta} is {alpha + beta:g}; "
                f"allowed: a sum below 1, or the variance has no bound"
            )

    def _held_out(self, rng: np.random.Generator) -> list[Batch]:
        """Return each history twice: its tomorrow, and that with the other sign.

        Over such a pair a forecast f errs by f^2 more than zero does, whatever it is: none wins
        by luck.
        """
        return [
            Batch(torch.cat([x, x]), torch.cat([lengths, lengths]), torch.cat([y, -y]))
            for x, lengths, y in super()._held_out(rng)
        ]

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,), returns (B, T) and the next day's (B,)."""
        companies, days = len(ages), int(ages.max())
        z = rng.standard_normal((days + 1, companies))
        growth = self.alpha * z * z + self.beta  # s_{t+1}^2 = omega + growth_t s_t^2
        variance = np.ones_like(z)
        for day in range(days):
            np.multiply(growth[day], variance[day], out=variance[day + 1])
            variance[day + 1] += 1 - self.alpha - self.beta
        returns = (np.sqrt(variance) * z).T
        return returns[:, :-1], returns[np.arange(companies), ages]
