"""What the figures show is what was measured; no pyplot, labels that say what is drawn."""

import io
import math
import struct

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from torch import Tensor

from statland.gradients import Flow, profile
from statland.gradients.figures import heatmap_figure, profile_figure, strips_figure
from statland.gradients.share import Profile

LAGS = torch.arange(50, dtype=torch.float64)
SPREAD = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)[:, None]


def probed(log10: Tensor, **parts: Tensor) -> dict[str, Profile]:
    """The profiles of five companies whose median flow to the inputs is `log10`."""
    quantities = {"state": log10 + 2, "x": log10, **parts}
    return {name: profile(SPREAD + log10) for name, log10 in quantities.items()}


def lines_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def texts_of(figure: Figure) -> str:
    """The figure's titles, axis labels and legend."""
    axes = figure.axes[0]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    names = [figure.get_suptitle(), axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    return " | ".join([*names, *entries]).replace("\n", " ")


def covers_nothing(figure: Figure) -> bool:
    """No legend or title overlaps any axes, and all of them are inside the figure."""
    figure.draw_without_rendering()
    texts = [figure.legends[0].get_window_extent(), figure._suptitle.get_window_extent()]
    texts.append(figure.axes[0].title.get_window_extent())
    panels = [axes.get_window_extent() for axes in figure.axes]
    apart = not any(text.overlaps(panel) for text in texts for panel in panels)
    box = figure.bbox
    return apart and all(box.x0 <= t.x0 and t.x1 <= box.x1 and box.y0 <= t.y0 for t in texts)


def test_a_matplotlibrc_changes_no_figure() -> None:
    drawn = set()
    for settings in ({}, {"text.usetex": True, "font.size": 3, "savefig.dpi": 20}):
        with matplotlib.rc_context(settings):
            profile_figure("a", probed(-LAGS)).savefig(png := io.BytesIO())
        drawn.add(png.getvalue())
    assert len(drawn) == 1


def test_the_profile() -> None:
    h, c = -0.5 * LAGS - 1, -0.5 * LAGS + 1
    after = probed(-0.5 * LAGS, h=h, c=c, weights=LAGS)
    before, said = probed(-1.0 * LAGS), "vanishes: 4 of 50"
    figure = profile_figure(
        "a: rnn on recall", after, before, span=49, theory=-0.5, subtitle=said, name="after 7 steps"
    )
    axes = figure.axes[0]
    lines = lines_of(axes)
    expected = {"before training: 99% from 2 days": -LAGS}
    expected |= {"after 7 steps: 99% from 4 days": -0.5 * LAGS}
    expected |= {"|dp/dh|": h, "|dp/dc|": c, "|dp/dW|: what a day adds": LAGS}
    expected["theory: -0.5 decades a day"] = -0.5 * LAGS
    for name, values in expected.items():
        np.testing.assert_allclose(lines[name].get_ydata(), values, atol=1e-12)
    assert len({lines[name].get_color() for name in expected}) == len(expected)
    assert set(lines["the answer: 49 days back"].get_xdata()) == {49}
    assert axes.get_ylim()[0] < -49
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-0.5 * 49 - 0.1, 0.1)  # from p10 to p90
    early, now = (lines[name] for name in list(expected)[:2])  # were they the same, both would show
    assert now.get_linewidth() < early.get_linewidth()
    for words in ("a: rnn on recall", said, "days back", "|dp/dx|"):
        assert words in texts_of(figure)
    assert covers_nothing(figure)
    same = profile_figure("a", before, before)
    assert [name for name in lines_of(same.axes[0]) if "training" in name] == [
        "before training: 99% from 2 days"
    ]


@pytest.mark.parametrize("theory", [1.235e-7, 0.301, -0.004365, -0.123456])
def test_no_legend_is_cut_off(theory: float) -> None:
    """Of a thousand days, many steps, and a decay of many figures."""
    lags = torch.arange(1000, dtype=torch.float64)
    now = probed(theory * lags, state=theory * lags, weights=theory * lags)
    dots = {"before": {0: 1.0, 999: 0.2}, "after": {0: 0.5, 999: 0.1}}
    figure = profile_figure(
        *("a", now, probed(0 * lags)),
        span=999,
        theory=theory,
        name="after 15000 steps",
        importance=dots,
    )
    figure.draw_without_rendering()
    extent = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= extent.x0
    assert extent.x1 <= figure.bbox.x1


def test_dots_are_the_importance_of_days() -> None:
    importance: dict[str, dict[int, float | None]] = {"before": {0: 0.2, 49: 0.0}}
    importance["after"] = {0: 0.1, 1: None, 49: 2.0}
    figure = profile_figure("a", probed(0 * LAGS), importance=importance)
    right = figure.axes[1]
    before, after = (line.get_xydata().tolist() for line in right.get_lines())
    assert (before, after) == ([[0, 0.2], [49, 0]], [[0, 0.1], [49, 2]])
    assert right.get_ylim()[0] == 0
    assert right.get_ylim()[1] >= 2
    assert {"importance before", "importance after"} <= set(lines_of(figure.axes[0]))
    assert covers_nothing(figure)


def test_a_measured_flow_alone_and_before_training() -> None:
    """Of a model without a state, which is drawn by its inputs; the reach is on its curve."""
    now, before = (
        Flow({"x": SPREAD + slope * LAGS}, SPREAD[:, 0], SPREAD[:, 0] > 9) for slope in (0, -1)
    )
    alone = lines_of(profile_figure("my model", now).axes[0])
    np.testing.assert_allclose(alone["median: 99% from 50 days"].get_ydata(), 0 * LAGS, atol=1e-12)
    figure = profile_figure("my model", now, before)
    names = {"before training: 99% from 2 days", "after training: 99% from 50 days"}
    assert names <= set(lines_of(figure.axes[0]))
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    places = {(*map(float, d.get_xdata()), *map(float, d.get_ydata())) for d in dots}
    assert places >= {(1.0, -1.0), (49.0, 0.0)}
    assert not any(word in texts_of(figure) for word in ("answer", "theory"))


def test_exact_zeros_and_what_is_lost_are_named() -> None:
    dead = torch.where(LAGS < 20, -0.05 * LAGS, -math.inf)
    lost = torch.full_like(LAGS, math.nan)
    figure = profile_figure("a", probed(dead), probed(-0.1 * LAGS), span=49)
    crosses = lines_of(figure.axes[0])["exactly 0 on 30 of 50 days"]
    assert list(crosses.get_xdata()) == list(range(20, 50))
    assert covers_nothing(figure)
    nothing = profile_figure("a", probed(lost), probed(-0.1 * LAGS), span=49)
    assert "after training: every state is nan" in texts_of(nothing)
    zero = profile_figure("a", probed(torch.full_like(LAGS, -math.inf)))
    assert "median: 0 on every day" in texts_of(zero)
    # A band goes down to zeros as far as anything is drawn: to the smallest median.
    log10 = (SPREAD - 0.1 * LAGS).clone()
    log10[0, 10:] = -math.inf
    one = {"x": profile(log10)}
    band = profile_figure("a", one, one).axes[0].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].min(), -4.9)


def test_the_heatmap() -> None:
    steps = [0, 1, 2, 5, 10, 500]
    slopes = [-0.1, -0.2, -0.05, -0.01, 0.3, 1.0]
    course = {step: 3 + slope * LAGS for step, slope in zip(steps, slopes, strict=True)}
    figure = heatmap_figure("a: rnn on recall", course, 49, "explodes")
    axes = figure.axes[0]
    (image,) = axes.images
    for place, slope in enumerate(slopes):  # against an even share
        flow = 10 ** (slope * LAGS.numpy())
        expected = np.log10(50 * flow / flow.sum())
        np.testing.assert_allclose(image.get_array()[:, place], expected, atol=1e-9)
    # One column per probe, equally wide, each named by its step.
    assert list(image.get_extent()) == [-0.5, 5.5, -0.5, 49.5]
    assert image.origin == "lower"
    assert axes.get_xticks().tolist() == [0, 1, 2, 3, 4, 5]
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(s) for s in steps]
    reaches = []
    for slope in slopes:
        flow = 10 ** (slope * LAGS.numpy())
        reaches.append((flow.cumsum() < (0.99 - 1e-9) * flow.sum()).sum())
    for reach in (p for p in axes.patches if isinstance(p, StepPatch)):
        assert reach.get_data().values.tolist() == reaches
        assert reach.get_data().edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    answer = lines_of(axes)["the answer: 49 days back"]
    assert set(answer.get_ydata()) == {49}
    # Where the reach is the answer, both show.
    assert reach.get_zorder() > answer.get_zorder()
    assert reach.get_linewidth() < answer.get_linewidth() / 2
    assert axes.get_ylim()[1] > 50.5  # room above it
    for words in ("a: rnn on recall", "explodes", "training step", "days back", "99% lies below"):
        assert words in texts_of(figure)
    assert covers_nothing(figure)
    # The scale is the same in every run.
    assert isinstance(image.colorbar, Colorbar)
    assert "of an even share" in image.colorbar.ax.get_ylabel()
    darkness = [-sum(image.to_rgba(value)) for value in (-400.0, -15, -7, -1.5, 0, 2)]
    assert darkness == sorted(darkness)
    assert len(set(darkness)) == 5  # an even share or more is dark


def test_every_grey_of_the_heatmap_is_explained() -> None:
    dead = torch.where(LAGS < 20, -0.05 * LAGS, -math.inf)
    course = {0: -0.1 * LAGS, 5: dead, 9: torch.full_like(LAGS, math.nan)}
    figure = heatmap_figure("a", course, 49, "diverged at step 31")
    axes = figure.axes[0]
    image, grey = axes.images
    cells = np.ma.masked_invalid(image.get_array())
    assert cells.mask[:, 0].sum() == 0
    assert cells.mask[:, 1].tolist() == [False] * 20 + [True] * 30
    assert cells.mask[:, 2].all()
    zeros = np.ma.filled(grey.get_array(), False)
    assert zeros[:, 1].tolist() == cells.mask[:, 1].tolist()
    assert zeros[:, [0, 2]].sum() == 0
    greys = {patch.get_label(): patch.get_facecolor() for patch in figure.legends[0].get_patches()}
    assert {"not measured", "exactly 0", "every state is nan"} == set(greys)
    assert len(set(greys.values())) == 3
    assert same_color(greys["not measured"], axes.get_facecolor())
    assert same_color(greys["exactly 0"], grey.to_rgba(1.0))
    assert "diverged at step 31" in texts_of(figure)
    reach = next(patch for patch in axes.patches if isinstance(patch, StepPatch))
    assert np.isnan(reach.get_data().values).tolist() == [False, False, True]


def test_they_draw_whatever_was_measured() -> None:
    """A single day, a single probe, exact zeros everywhere, hundreds of decades, odd names."""
    name = r"$\nope$ a_b^c {% $"
    for decay, lags in ((0.3, 2000), (-1.0, 1), (0.0, 2), (-math.inf, 30)):
        log10 = torch.full((3, lags), -math.inf).double()
        if math.isfinite(decay):
            log10 = decay * torch.arange(lags).double().expand(3, -1)
        one = {"x": profile(log10)}
        for figure in (
            profile_figure(name, one, one, theory=decay if math.isfinite(decay) else None),
            heatmap_figure(name, {0: log10[0]}, None, name),
            heatmap_figure(name * 5, dict.fromkeys(range(600), log10[0]), 7),
        ):
            file = io.BytesIO()
            figure.savefig(file, format="png")
            size = struct.unpack(">II", file.getvalue()[16:24])
            assert size == tuple(figure.canvas.get_width_height())


def test_strips_of_any_flows() -> None:
    """The first day on the left, an exact 0 drawn, days that a model does not have left grey."""
    exact = torch.where(LAGS < 20, 3.0, -math.inf)[:40]
    figure = strips_figure({"falls": probed(-1.0 * LAGS), "half": probed(exact)}, "two models")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["falls", "half"]
    values = np.ma.masked_invalid(axes.collections[0].get_array()).filled(np.nan)
    flow = 10.0 ** -LAGS.numpy()
    np.testing.assert_allclose(values[0], np.log10(50 * flow / flow.sum())[::-1])
    np.testing.assert_allclose(values[1][-20:], np.log10(2), atol=1e-12)
    assert (values[1][10:30] < -1e6).all()
    assert np.isnan(values[1][:10]).all()
