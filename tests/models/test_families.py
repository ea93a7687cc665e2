"""The preset that compares families: they are of one size, or the comparison would say little."""

import pytest
import yaml
from conftest import MODELS, ROOT, built

PRESET = yaml.safe_load((ROOT / "configs/experiment/families.yaml").read_text())
FAMILIES = PRESET["hydra"]["sweeper"]["params"]["model"].split(",")


@pytest.mark.parametrize("model", FAMILIES)
def test_each_has_about_5000_parameters(model: str) -> None:
    weights = built("experiment=families", f"model={model}").model.parameters()
    assert sum(weight.numel() for weight in weights) == pytest.approx(5000, rel=0.1)


def test_every_family_is_there() -> None:
    """But for what differs from one of them in its initialisation alone, or who runs it."""
    variants = {"rnn", "irnn", "rnn_orthogonal", "lstm_forget1"}
    assert set(FAMILIES) == set(MODELS) - variants
