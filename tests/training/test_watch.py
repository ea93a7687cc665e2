"""What a long run keeps of its probes: enough to draw, however long it goes on."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import built
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from statland.gradients.probe import WEIGHTS, measure, probe_batch, taught_weights
from statland.models.bare import Recurrence
from statland.models.base import SequenceModel
from statland.records.files import read_flow
from statland.records.recorder import Recorder
from statland.training import watch
from statland.training.watch import GradientWatch


def watching(folder: Path, steps: int = 100, every: int | None = 1) -> GradientWatch:
    market, model, _ = built("data.max_days=6", "data.min_days=6", "model.hidden_size=2")
    recorder = Recorder(folder, {} if folder.exists() else None)
    quiet = Console(quiet=True)
    return GradientWatch("x", model, market.validation(), 2, recorder, quiet, every, steps)


def test_the_course_is_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOMENTS", 8)
    seen = watching(tmp_path / "a")
    for updates in range(0, 300, 3):
        seen.probe(updates)
        steps = [step for step, _ in seen.course]
        assert len(steps) <= 8
        gaps = {b - a for a, b in pairwise(steps)}
        assert len(gaps) <= 1, "equal spaces"
        assert steps[0] == seen.first.step == 0
        assert seen.last.step == updates < steps[-1] + 3 * seen.stride
    assert seen.stride == 16
    seen.recorder.close()


def test_a_resumed_watch_has_seen_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOMENTS", 4)
    seen = watching(tmp_path / "a")
    for updates in range(11):
        seen.probe(updates)
    sizes = seen.recorder.sizes()
    seen.recorder.close()
    again = watching(tmp_path / "b")
    again.recorder.close()
    again.recorder = Recorder(tmp_path / "a", sizes)
    again.restore({"before": {"reach_days": 5}}, 3)
    again.recorder.close()
    assert again.gradient == {"before": {"reach_days": 5}}
    assert [step for step, _ in again.course] == [step for step, _ in seen.course]
    for (_, ours), (_, theirs) in zip(again.course, seen.course, strict=True):
        assert torch.equal(ours, theirs.double())
    assert (again.first.step, again.last.step, again.count) == (0, 10, 11)


@pytest.mark.parametrize(("steps", "drawn"), [(10_001, True), (10_000, False)])
def test_a_long_run_is_drawn_early(steps: int, drawn: bool, tmp_path: Path) -> None:
    seen = watching(tmp_path / "a", steps)
    seen.probe_if_due(0, seen.console)
    assert not (tmp_path / "a/profile.png").exists()
    seen.probe_if_due(1, seen.console)
    assert (tmp_path / "a/heatmap.png").exists() is drawn
    seen.recorder.close()


def board(folder: Path, tag: str) -> dict[int, float]:
    scalars = EventAccumulator(str(folder), {"scalars": 0}).Reload().Scalars(tag)
    return {scalar.step: scalar.value for scalar in scalars}


def test_what_taught_the_weights_is_recorded_before_and_after_training(tmp_path: Path) -> None:
    """Of all lags but the first day's, which adds an exact 0 to a recurrent matrix."""
    seen = watching(tmp_path / "a")
    seen.probe_if_due(0, seen.console)
    expected = taught_weights(seen.model, seen.batch, seen.last_flow)
    with torch.no_grad():
        for parameter in seen.model.parameters():
            parameter.mul_(1.5)
    seen.probe(3)
    seen.finish(7)
    sizes = seen.recorder.sizes()
    seen.recorder.close()
    found = read_flow(tmp_path / "a")
    assert {step for step, profiles in found.items() if WEIGHTS in profiles} == {0, 7}
    assert expected is not None
    for ours, theirs in zip(found[0][WEIGHTS], expected.profile, strict=True):
        assert torch.equal(ours, theirs.double())
    assert seen.gradient["before"]["log10_dp_dw"] == expected.dependence
    assert seen.gradient["after"]["log10_dp_dw"] != expected.dependence
    for when, step in (("before", 0), ("after", 7)):
        drawn = board(tmp_path / "a", f"profile_weights/{when}_training")
        assert list(drawn) == list(range(6))
        torch.testing.assert_close(
            torch.tensor(list(drawn.values())), found[step][WEIGHTS].median.float()
        )
    assert not torch.equal(found[0][WEIGHTS].median, found[7][WEIGHTS].median)

    again = watching(tmp_path / "b")
    again.recorder.close()
    again.recorder = Recorder(tmp_path / "a", sizes, step=3)
    again.restore({}, 3)  # TensorBoard drops what it had of lag 3 and on
    again.recorder.close()
    drawn = board(tmp_path / "a", "profile_weights/before_training")
    assert sorted(drawn) == list(range(6))


def test_the_dependence_on_a_weight_is_the_root_mean_square_of_autograds() -> None:
    """Over the companies of the batch, of |dp/dW| by autograd through the whole forward pass."""
    market, model, _ = built("model.hidden_size=6", "data.max_days=12")
    model, batch = model.double().eval(), probe_batch(market.validation())
    assert isinstance(model, SequenceModel)
    batch = batch._replace(x=batch.x.double(), y=batch.y.double())
    found = taught_weights(model, batch, measure(model, batch).flow)
    assert found is not None
    for name, log10 in found.dependence.items():
        each = zip(batch.x.split(1), batch.lengths.split(1), strict=True)
        weight = model.get_parameter(name)
        norms = [torch.autograd.grad(model(*one), weight)[0].norm() for one in each]
        assert log10 is not None
        assert 10**log10 == pytest.approx(torch.stack(norms).square().mean().sqrt().item(), 1e-10)


def test_a_model_without_a_state_or_with_a_part_of_that_name_has_no_profile(
    tmp_path: Path,
) -> None:
    seen = watching(tmp_path / "a")
    seen.probe(0)
    seen.recorder.close()
    flow = seen.last_flow
    _, without, _ = built("model=tcn", "data.max_days=6")
    assert taught_weights(without, seen.batch, flow) is None
    named = Recurrence(torch.nn.GRUCell(1, 2), initial=torch.zeros(2), parts=(WEIGHTS,))
    assert taught_weights(named, seen.batch, flow) is None
