"""What the figures show is what was measured; no pyplot, labels that say what is drawn."""

import math
import struct
import subprocess
import sys

import numpy as np
import torch
from matplotlib.figure import Figure

from statland.gradients.figures import heatmap_figure, profile_figure
from statland.gradients.flow import profile
from statland.gradients.probe import Probed


def probed(step: int, decay: float, lags: int = 50) -> Probed:
    flat = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)[:, None]
    log10 = flat + decay * torch.arange(lags, dtype=torch.float64)
    return Probed(step, {"state": profile(log10), "h": profile(log10 - 1), "c": profile(log10)})


def texts(figure: Figure) -> str:
    axes = figure.axes[0]
    legends = [axes.get_legend(), *figure.legends]
    entries = [text.get_text() for legend in legends if legend for text in legend.get_texts()]
    return " | ".join([axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *entries])


def test_the_profile() -> None:
    figure = profile_figure("rnn on recall", probed(0, -1.0), probed(700, -0.5), 49, -0.5)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    lags = np.arange(50)
    np.testing.assert_allclose(lines["before training"].get_ydata(), -1.0 * lags, atol=1e-12)
    np.testing.assert_allclose(lines["after 700 steps"].get_ydata(), -0.5 * lags, atol=1e-12)
    np.testing.assert_allclose(lines["theory: -0.5 decades a day"].get_ydata(), [0, -24.5])
    assert set(lines["the answer: 49 days back"].get_xdata()) == {49}
    assert any(set(np.asarray(line.get_ydata())) == {-2.0} for line in figure.axes[0].get_lines())
    np.testing.assert_allclose(lines["of it, through h"].get_ydata(), -0.5 * lags - 1, atol=1e-12)
    band = figure.axes[0].collections[1].get_paths()[0].vertices[:, 1]
    assert band.min() == -0.5 * 49 - 0.1  # from p10
    assert band.max() == 0.1  # to p90
    shown = texts(figure)
    for words in ("rnn on recall", "days back", "gradient flow", "through h", "through c"):
        assert words in shown
    low, high = figure.axes[0].get_ylim()
    assert low < -49
    assert high > 0


def test_the_heatmap() -> None:
    lags = torch.arange(50.0)
    course = {step: 3 - 0.1 * (1 + step / 100) * lags.double() for step in (0, 100, 200)}
    figure = heatmap_figure("rnn on recall", course, 49)
    axes = figure.axes[0]
    mesh = np.asarray(axes.collections[0].get_array())
    assert mesh.shape == (50, 3)
    np.testing.assert_allclose(mesh[10], [-1, -2, -3], atol=1e-12)
    assert mesh[0].tolist() == [0, 0, 0]
    borders = np.asarray(axes.collections[0].get_coordinates())
    assert borders[0, :, 0].tolist() == [0, 50, 150, 200]
    assert borders[:2, 0, 1].tolist() == [-0.5, 0.5]
    answer = next(line for line in axes.get_lines() if "49 days" in str(line.get_label()))
    assert set(answer.get_ydata()) == {49}
    reach = next(line for line in axes.get_lines() if "reach" in str(line.get_label()))
    assert list(reach.get_ydata()) == [20, 10, 6]
    for words in ("training step", "days back", "49 days"):
        assert words in texts(figure)


def test_they_draw_whatever_was_measured() -> None:
    """A single day, a single probe, exact zeros everywhere, hundreds of decades."""
    for decay, lags in ((0.3, 2000), (-0.3, 2000), (-1.0, 1), (0.0, 2), (-math.inf, 30)):
        log10 = torch.full((3, lags), -math.inf).double()
        if math.isfinite(decay):
            log10 = decay * torch.arange(lags).double().expand(3, -1)
        one = Probed(0, {"state": profile(log10)})
        for figure in (
            profile_figure("a", one, one, None, decay if math.isfinite(decay) else None),
            heatmap_figure("b", {0: log10[0]}, None),
            heatmap_figure("b", {0: log10[0], 5: log10[0]}, 7),
        ):
            assert png_size(figure) == tuple(figure.canvas.get_width_height())


def png_size(figure: Figure) -> tuple[int, int]:
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png")
    return struct.unpack(">II", file.getvalue()[16:24])


def test_no_pyplot() -> None:
    modules = "statland.gradients.figures, statland.report.figures"
    code = f"import sys, {modules}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
