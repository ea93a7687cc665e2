"""The scores of a run's model on companies that it is not trained on."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from statland.batch import Batch
from statland.data.base import Market
from statland.models.base import SequenceModel
from statland.records.recorder import Recorder
from statland.training.evaluation import baselines, evaluate, skill

log = logging.getLogger(__name__)


class Validation:
    """Scores a model during training and after it, beside the simplest forecasts."""

    def __init__(
        self, model: SequenceModel, market: Market, longer: Market | None, recorder: Recorder
    ) -> None:
        """Hold a market's validation batches, and those of `longer`, the same at older ages."""
        self.model, self.market, self.recorder = model, market, recorder
        self.baselines = baselines(market)
        self.batches = self._placed(market.validation())
        self.longer_batches = self._placed(longer.validation() if longer else [])
        self.scores: dict[str, float | None] = {}  # the last ones
        self.longer: dict[str, dict[str, float]] = {}  # before and after training
        self.again: float | None = None  # the loss on other companies, after training

    @property
    def loss(self) -> float | None:
        """The last loss."""
        return self.scores[self.market.loss]

    def score(self, updates: int) -> None:
        """Score the model after so many updates."""
        scores, name = self._evaluated(self.batches), self.market.loss
        self.scores = {**scores, "skill": skill(scores[name], self.baselines)}
        others = {f"score/{n}": value for n, value in self.scores.items() if n != name}
        self.recorder.scalars(updates, {"loss/validation": scores[name], **others})
        log.info("after %d updates: %s", updates, self.scores)
        if updates == 0:
            self._score_longer("before", updates)

    def score_trained(self, updates: int) -> None:
        """Score the trained model on longer histories, and on other companies.

        One validation alone may be luck.
        """
        if others := self.market.validation_again():
            self.again = self._evaluated(self._placed(others))[self.market.loss]
        self._score_longer("after", updates)

    def facts(self) -> dict[str, Any]:
        """What a run that is taken up needs of it, as plain values."""
        return {"validation": self.scores, "longer": self.longer}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Continue with the scores of `facts`."""
        self.scores, self.longer = facts["validation"], facts.get("longer", {})

    def _score_longer(self, when: str, updates: int) -> None:
        if self.longer_batches:
            self.longer[when] = self._evaluated(self.longer_batches)
            tags = {f"score/longer_{name}": value for name, value in self.longer[when].items()}
            self.recorder.scalars(updates, tags)

    def _evaluated(self, batches: list[Batch]) -> dict[str, float]:
        return evaluate(self.model, self.market, batches)

    def _placed(self, batches: list[Batch]) -> list[Batch]:
        weight: nn.Parameter = next(self.model.parameters())
        return [batch.to(weight.device, weight.dtype) for batch in batches]
