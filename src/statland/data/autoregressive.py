"""A market that remembers one day: every value is a share of the day before's, plus noise."""

from typing import Annotated

import numpy as np

from statland.data.base import Companies, Days, SyntheticMarket, direction
from statland.settings import Range

Correlation = Annotated[float, Range(above=-1, below=1)]


class Autoregressive(SyntheticMarket):
    """AR(1): x_t = rho x_{t-1} + sqrt(1 - rho^2) z_t, with z_t standard normal and independent.

    Begun in the long run's distribution: on every day the mean is 0 and the variance 1, and days k
    apart have the covariance rho^k. The best forecast of the next value is rho times today's, with
    a mean squared error of 1 - rho^2: no earlier day helps.

    It marks no answer: today decides, but no run can solve it, so a share would forecast nothing.
    """

    forecasts_returns = True
    score = staticmethod(direction)

    def __init__(
        self, min_days: Days, max_days: Days, batch_size: Companies, rho: Correlation, seed: int
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.rho = rho

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,), values (B, T) and the next day's (B,)."""
        companies, days = len(ages), int(ages.max())
        values = rng.standard_normal((days + 1, companies))
        values[1:] *= np.sqrt(1 - self.rho**2)
        for day in range(days):
            values[day + 1] += self.rho * values[day]
        return values[:-1].T, values[ages, np.arange(companies)]
