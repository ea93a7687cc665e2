"""Presets that compare families: they are of one size, or the comparison would say little."""

import pytest
import yaml
from conftest import ROOT, built

PRESET = yaml.safe_load((ROOT / "configs/experiment/families.yaml").read_text())
FAMILIES = PRESET["hydra"]["sweeper"]["params"]["model"].split(",")


@pytest.mark.parametrize("model", FAMILIES)
def test_each_has_about_5000_parameters(model: str) -> None:
    weights = built("experiment=families", f"model={model}").model.parameters()
    assert sum(weight.numel() for weight in weights) == pytest.approx(5000, rel=0.1)
