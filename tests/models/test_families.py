"""Presets that compare families: they are of one size, or the comparison would say little."""

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


@pytest.mark.parametrize("model", ["rnn", "lstm_forget1", "gru", "tcn"])
def test_those_of_tcn2018_have_about_the_paper_s_70000(model: str) -> None:
    weights = built("experiment=tcn2018", f"model={model}").model.parameters()
    assert sum(weight.numel() for weight in weights) == pytest.approx(70000, rel=0.02)
