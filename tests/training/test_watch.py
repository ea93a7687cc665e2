"""What a run records and draws of its gradient flow."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import DRAW, built, curves_of
from rich.console import Console

from statland.gradients import figures
from statland.gradients.probe import WEIGHTS, measure, measure_in_full, probe_batch
from statland.models.base import SequenceModel
from statland.records.files import read_flow
from statland.records.recorder import Recorder
from statland.training import watch
from statland.training.watch import GradientWatch, thinned


def watching(folder: Path, resumed_at: int = 0) -> GradientWatch:
    market, model, _ = built("data.max_days=6", "data.min_days=6", "model.hidden_size=2")
    recorder = Recorder(folder, resumed_at)
    batch = probe_batch(market.validation())
    seen = batch, market.answer(batch), 5
    return GradientWatch("x", model, *seen, recorder, Console(quiet=True), 1)


def test_what_is_drawn_is_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long run evenly chosen moments, the first and the last among them."""
    drawn: dict[str, object] = {}
    for name in ("profile_figure", "heatmap_figure"):
        monkeypatch.setattr(figures, name, lambda _, *a, name=name, **_k: drawn.setdefault(name, a))
    monkeypatch.setattr(Recorder, "figure", lambda *_: None)
    monkeypatch.setattr(watch, "MOMENTS", 8)
    seen = watching(tmp_path / "a")
    for updates in range(0, 300, 3):
        seen.probe(updates)
    seen.gradient["before"] = {"theory_decay_per_day": None, "importance": {}}
    seen.gradient["before"]["answer_importance"] = 0.5
    DRAW(seen)
    recorded = read_flow(tmp_path / "a")
    seen.recorder.close()
    assert list(recorded) == list(range(0, 300, 3))
    course, *_ = drawn["heatmap_figure"]
    steps = list(course)
    assert (len(steps), steps[0], steps[-1]) == (8, 0, 297)
    assert all(abs(b - a - 297 / 7) <= 3 for a, b in pairwise(steps))
    assert all(torch.equal(course[step], recorded[step]["x"].median) for step in steps)
    assert torch.equal(course[297], seen.last[1].profiles["x"].median)
    assert [probe for probe in thinned([0], 3)] == [0]


def test_what_days_add_to_the_weights_is_recorded_before_and_after_training(tmp_path: Path) -> None:
    """Of all lags but the first day's, which adds an exact 0 to a recurrent matrix."""
    seen = watching(tmp_path / "a")
    seen.probe_if_due(0, seen.console)
    expected = measure_in_full(seen.model, seen.batch, seen.answer, seen.last[1])
    with torch.no_grad():
        for parameter in seen.model.parameters():
            parameter.mul_(1.5)
    seen.probe(3)
    seen.finish(7)
    seen.recorder.close()
    found = read_flow(tmp_path / "a")
    assert {step for step, profiles in found.items() if WEIGHTS in profiles} == {0, 7}
    for ours, theirs in zip(found[0][WEIGHTS], expected.profiles[WEIGHTS], strict=True):
        assert torch.equal(ours, theirs.double())
    assert seen.gradient["before"]["log10_dp_dw"] == expected.gradient["log10_dp_dw"]
    assert seen.gradient["after"]["log10_dp_dw"] != expected.gradient["log10_dp_dw"]
    for when, step in (("before", 0), ("after", 7)):
        drawn = curves_of(tmp_path / "a")[f"profile_weights/{when}_training"]
        assert list(drawn) == list(range(6))
        values = torch.tensor([float(value) for value in drawn.values()])
        torch.testing.assert_close(values, found[step][WEIGHTS].median.float())
    assert not torch.equal(found[0][WEIGHTS].median, found[7][WEIGHTS].median)

    again = watching(tmp_path / "a", resumed_at=3)
    again.restore({"before": 5}, 3)  # TensorBoard drops what it had of lag 3 and on
    again.recorder.close()
    assert again.gradient == {"before": 5}
    resumed = curves_of(tmp_path / "a")["profile_weights/before_training"]
    assert sorted(resumed) == list(range(6))


def test_the_dependence_on_a_weight_is_the_root_mean_square_of_autograds() -> None:
    """Over the companies of the batch, of |dp/dW| by autograd through the whole forward pass."""
    market, model, _ = built("model.hidden_size=6", "data.max_days=12")
    model, batch = model.double().eval(), probe_batch(market.validation())
    assert isinstance(model, SequenceModel)
    batch = batch._replace(x=batch.x.double(), y=batch.y.double())
    found = measure_in_full(model, batch, None, measure(model, batch)).gradient["log10_dp_dw"]
    for name, log10 in found.items():
        each = zip(batch.x.split(1), batch.lengths.split(1), strict=True)
        weight = model.get_parameter(name)
        norms = [torch.autograd.grad(model(*one), weight)[0].norm() for one in each]
        assert log10 is not None
        assert 10**log10 == pytest.approx(torch.stack(norms).square().mean().sqrt().item(), 1e-10)
