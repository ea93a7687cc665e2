"""What a long run keeps of its probes: enough to draw, however long it goes on."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import built
from rich.console import Console

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
