"""Runs side by side: colours belong to families, curves show, no corner sets the limits."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import MODELS, ROOT
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from statland.drawing import COLOURS, UNKNOWN, styles
from statland.report.figures import (
    curves_figure,
    dependence_figure,
    forecast_figure,
    grid_figure,
    profiles_figure,
)
from statland.report.strips import strips_figure

EVERY = styles({name: name for name in MODELS})


def curve(axes: Axes, name: str) -> Line2D:
    return next(line for line in axes.get_lines() if line.get_label() == name)


def legend_of(figure: Figure) -> dict[str, Line2D]:
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return dict(zip(names, figure.legends[0].legend_handles, strict=True))


def runs_of(*rows: tuple[str, str], **columns: object) -> pd.DataFrame:
    """Trained runs of a market and a model each, with these columns."""
    frame = pd.DataFrame(rows, columns=["market", "model"])
    known = {"steps": 5, "best_baseline": 0.25, "span": np.nan, "theory_before": np.nan}
    folders = [str(place) for place in range(len(frame))]
    return frame.assign(contestant=frame["model"], folder=folders, **known | columns)


def each(runs: pd.DataFrame, value: Any) -> dict[str, Any]:
    return {folder: value for folder in runs["folder"]}


def profiled(rows: Sequence[tuple[int, str]]) -> Figure:
    """Profiles of some days that fall by a tenth of a decade a day, and half that when trained."""
    runs = runs_of(*((f"days={days}", name) for days, name in rows))
    runs["span"] = np.where(runs["market"] == "days=100", 99.0, np.nan)
    profiles: dict[str, Any] = {
        folder: {"before": -0.1 * np.arange(days), "after": -0.05 * np.arange(days)}
        for folder, (days, _) in zip(runs["folder"], rows, strict=True)
    }
    return profiles_figure(runs, profiles)


def test_a_hue_belongs_to_a_family_whatever_else_is_drawn() -> None:
    families = {name: style for name, style in EVERY.items() if style.colour in COLOURS}
    for some in (MODELS[::-1], MODELS[2:], [*families, "another", "a_third"], *zip(families)):
        found = styles({name: name for name in some})
        assert all(found[name].colour == families[name].colour for name in {*some} & {*families})
    assert len({(style.colour, style.marker) for style in EVERY.values()}) == len(MODELS)
    preset = yaml.safe_load((ROOT / "configs/experiment/families.yaml").read_text())
    compared = preset["hydra"]["sweeper"]["params"]["model"].split(",")
    assert len({styles({n: n for n in compared})[n].colour for n in compared}) == len(compared)
    # Families that have no colour take those that are free, by their place.
    known = next(iter(families))
    new = styles({name: name for name in (known, *"abcdefghijklmnopqrs")})
    assert all(new[name].colour != new[known].colour for name in "abcdefghi")
    assert len({(style.colour, style.marker) for style in new.values()}) == 20


def test_contestants_of_one_model_are_blends_of_its_colour() -> None:
    for model in MODELS:
        mine = [f"{model} size={size}" for size in range(6)]
        found = styles(dict.fromkeys(mine, model))
        first, last = (np.array(to_rgb(found[name].colour)) for name in (mine[0], mine[-1]))
        assert found[mine[0]].colour == styles({model: model})[model].colour
        target = 1.0 if (last >= first).all() else 0.0
        for name in mine[1:]:
            shares = (np.array(to_rgb(found[name].colour)) - first) / (target - first + 1e-9)
            assert shares[np.abs(target - first) > 0.1].std() < 0.02
        assert len({found[name].colour for name in mine}) == 6
        assert len({found[name].marker for name in mine}) == 6
    styles({f"m{number}": "one" for number in range(100)})


def test_one_legend_is_right_for_all_panels() -> None:
    """Two markets, each with models that the other has not, in another order."""
    runs = runs_of(("one", "gru"), ("one", "lstm"), ("two", "tcn"), ("two", "gru"))
    figure = curves_figure(runs, each(runs, [(0, 0.5), (10, 0.4)]))
    legend, style = legend_of(figure), styles({name: name for name in ("gru", "lstm", "tcn")})
    assert list(legend) == ["gru", "lstm", "tcn", "best baseline"]
    for axes, names in zip(figure.axes, (["gru", "lstm"], ["tcn", "gru"]), strict=True):
        for name in names:
            assert curve(axes, name).get_color() == style[name].colour
            assert (legend[name].get_color(), legend[name].get_marker()) == style[name][:2]


def test_curves_are_the_mean_over_seeds_of_what_is_finite() -> None:
    runs = runs_of(*[("m", "a")] * 3)
    seeds = [[(0, 1.0), (10, 0.5)], [(0, 3.0), (10, np.nan)], [(0, 5.0), (10, 0.1)]]
    axes = curves_figure(runs, dict(zip(runs["folder"], seeds, strict=True))).axes[0]
    np.testing.assert_allclose(curve(axes, "a").get_ydata(), [3.0, 0.3])
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} >= {(0, 1), (0, 5), (10, 0.1), (10, 0.5)}
    assert axes.get_yscale() == "log"
    assert any(set(line.get_ydata()) == {0.25} for line in axes.get_lines())
    empty = curves_figure(runs, each(runs, [])).axes[0]
    assert len(curve(empty, "a").get_ydata()) == 0


def test_coincident_curves_all_show() -> None:
    """The next one is thinner and lies above, or thicker and below; no markers coincide."""
    (axes,) = profiled([(200, name) for name in MODELS]).axes
    lines = [curve(axes, name) for name in MODELS]
    for one, next_one in pairwise(lines):
        thick, thin = sorted((one, next_one), key=lambda line: -line.get_linewidth())
        assert thick.get_linewidth() >= thin.get_linewidth() + 0.8
        assert thick.get_zorder() < thin.get_zorder()
    dots = [line for line in axes.get_lines() if line.get_marker() != "None"]
    assert min(dot.get_zorder() for dot in dots) > max(line.get_zorder() for line in lines)
    after = [dot for dot in dots if same_color(dot.get_markerfacecolor(), dot.get_color())]
    starts = [dot.get_markevery()[0] for dot in after]
    assert len(set(starts)) == len(MODELS)
    assert max(starts) < after[0].get_markevery()[1]


def test_profiles_share_a_scale_unless_it_flattens_one() -> None:
    figure = profiled([(days, name) for days in (10, 100, 1000) for name in MODELS])
    lows = [axes.get_ylim()[0] for axes in figure.axes]
    assert lows[2] < -99.9 < -20 < lows[1] < -9.9 < -4 < lows[0]
    assert len({axes.get_ylim() for axes in profiled([(80, "a"), (100, "a")]).axes}) == 1
    for axes, days in zip(figure.axes, (10, 100, 1000), strict=True):
        for style, slope in (("--", -0.1), ("-", -0.05)):  # before training, and after
            lines = [line for line in axes.get_lines() if line.get_linestyle() == style]
            assert len(lines) == len(MODELS)
            assert all(np.allclose(line.get_ydata(), slope * np.arange(days)) for line in lines)
        answers = [line for line in axes.get_lines() if line.get_linestyle() == "-."]
        assert [set(line.get_xdata()) for line in answers] == ([{99}] if days == 100 else [])
    assert list(legend_of(figure)) == [*MODELS, "before training", "after training", "the answer"]


def test_a_profile_is_the_median_seeds() -> None:
    runs = runs_of(*[("m", "a")] * 3)
    seeds = [{"before": [0.0], "after": [0.0, level, -np.inf]} for level in (-3.0, -1.0, np.nan)]
    axes = profiles_figure(runs, dict(zip(runs["folder"], seeds, strict=True))).axes[0]
    np.testing.assert_allclose(curve(axes, "a").get_ydata(), [0, -1, np.nan])
    assert "|dp/dx|" in axes.figure.get_supylabel()


def test_theory_is_drawn_where_it_is_known_and_nothing_that_was_not_trained() -> None:
    flat = list(-0.3 * np.arange(50) + 1)
    runs = runs_of(("m", "a"), ("m", "b"), steps=0, span=1.0, theory_before=[-0.3, np.nan])
    figure = profiles_figure(runs, each(runs, {"before": flat, "after": flat}))
    assert list(legend_of(figure)) == ["a", "b", "theory"]
    (theory,) = (line for line in figure.axes[0].get_lines() if line.get_color() == "black")
    np.testing.assert_allclose(theory.get_ydata(), flat)


@pytest.mark.parametrize("count", [2, 13])
def test_many_panels_stay_legible(count: int) -> None:
    figure = profiled([(days, name) for days in range(5, 5 + count) for name in MODELS[:2]])
    figure.draw_without_rendering()
    assert len(figure.axes) == count
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert min(box.width / figure.dpi / 1.3, box.height / figure.dpi) > 1.4  # inches
        assert not box.overlaps(legend)
    for one, other in combinations(figure.axes, 2):
        assert not one.title.get_window_extent().overlaps(other.get_window_extent())


ROWS, COLUMNS = [10, 25, 50, 100, 200], [0.5, 0.9, 1.0, 2.0]


def grid_of(gradient: np.ndarray, loss: np.ndarray, exponents: np.ndarray) -> Figure:
    rows, columns = (values.ravel() for values in np.meshgrid(ROWS, COLUMNS, indexing="ij"))
    frame = pd.DataFrame({"days": rows, "gain": columns, "validation": loss.ravel()})
    frame["first_to_last_before"], frame["lyapunov_before"] = gradient.ravel(), exponents.ravel()
    return grid_figure(frame, "days", "gain")


def test_no_corner_sets_the_grids_limits_and_what_diverged_keeps_its_place() -> None:
    gradient = np.linspace(-9, 4, 20).reshape(5, 4)
    loss = 10 ** np.linspace(-3, -1, 20).reshape(5, 4)
    drawn = [axes.collections[0] for axes in grid_of(gradient, loss, gradient).axes[:2]]
    np.testing.assert_allclose([mesh.get_clim() for mesh in drawn], [(-12, 12), (-3, -1)])
    np.testing.assert_allclose(np.asarray(drawn[0].get_array()), gradient)
    np.testing.assert_allclose(np.asarray(drawn[1].get_array()), np.log10(loss))
    gradient[4, 3], loss[4, 3] = 300.0, 1e30
    loss[2], loss[:, 0], gradient[:, 0] = np.nan, np.nan, np.nan  # in all of these runs
    figure = grid_of(gradient, loss, gradient)
    assert "no finite value" in legend_of(figure)
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.5", "0.9", "1", "2"]
        assert len(axes.get_yticks()) == 5
    limits = figure.axes[1].collections[0].get_clim()
    np.testing.assert_allclose(limits, np.log10([loss[0, 1], loss[4, 2]]))  # not the corner
    grey = np.ma.masked_invalid(figure.axes[1].collections[0].get_array()).mask
    np.testing.assert_array_equal(grey, np.isnan(loss))


def test_the_lyapunov_line_is_right_where_rows_are_missing() -> None:
    """The exponent is 0 midway between the second and third column, whatever rows are there."""
    exponents, loss = np.tile([-1.5, -0.5, 0.5, 1.5], (5, 1)), np.full((5, 4), 0.1)
    for rows in ([0, 1, 2, 3, 4], [1, 2, 3, 4], [0, 4]):
        known = np.full((5, 4), np.nan)
        known[rows] = exponents[rows]
        figure = grid_of(loss, loss, known)
        for axes in figure.axes[:2]:
            points = np.concatenate([path.vertices for path in axes.collections[1].get_paths()])
            np.testing.assert_allclose(points[:, 0], 2.0)  # cells are centred on 0.5, 1.5, ...
            assert (points[:, 1].min(), points[:, 1].max()) == (rows[0] + 0.5, rows[-1] + 0.5)
        assert list(legend_of(figure)) == ["Lyapunov exponent 0"]
    for none in (np.abs(exponents), exponents * np.nan):
        assert not legend_of(grid_of(loss, loss, none))


def forecast() -> pd.DataFrame:
    """Three seeds of each model on two markets: the higher the share, the sooner solved."""
    runs = runs_of(*((m, name) for m in ("one", "two") for name in MODELS for _ in range(3)))
    share = -runs["model"].map(MODELS.index) - 0.1 * (runs.index % 3) + (runs["market"] == "one")
    steps = (-50 * share).where(share > -4).clip(lower=1)
    return runs.assign(steps=400, share_before=share, steps_to_solve=steps, solved=steps.notna())


def test_the_forecast_has_a_dot_per_run_and_links_the_medians() -> None:
    runs = forecast()
    runs.loc[0, ["share_before", "steps_to_solve"]] = -np.inf, np.nan
    (axes,) = (figure := forecast_figure(runs)).axes
    never = next(text.get_position()[1] for text in axes.texts if "not solved" in text.get_text())
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert 400 < band.y0 < never < band.y1
    small, large = (
        {line.get_color(): line for line in axes.get_lines() if line.get_markersize() == size}
        for size in (4, 9)
    )
    for name, own in runs.groupby("contestant", sort=False):
        points = np.stack([own["share_before"].clip(-50, 3), own["steps_to_solve"].fillna(never)])
        colour = EVERY[str(name)].colour
        np.testing.assert_allclose(small[colour].get_xydata().T, points)
        medians = [np.median(points[:, own["market"] == m], axis=1) for m in ("one", "two")]
        np.testing.assert_allclose(large[colour].get_xydata(), sorted(medians, key=lambda m: m[0]))
    left, right = axes.get_xlim()
    assert left < -50
    assert right > runs["share_before"].max()
    assert set(legend_of(figure)) == set(MODELS)
    for steps in (400, 1e308):
        nobody = runs.assign(steps_to_solve=np.nan, solved=False, steps=steps)
        forecast_figure(nobody).draw_without_rendering()


def strips() -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """One seed each of an even gradient, of one that vanishes, and of one that diverged."""
    runs = runs_of(("m", "lost"), ("m", "falls"), ("m", "even"), span=9.0, solved_below=0.025)
    runs = runs.assign(share_before=[-30.0, -9.0, 0.0], status=["diverged", *["completed"] * 2])
    runs = runs.assign(solved=[False, False, True], steps_to_solve=[np.nan, np.nan, 70.0])
    falls, even = -1.0 * np.arange(10), np.full(10, 700.0)
    found = [{"before": 3 * falls}, {"before": falls, "after": even}]
    found += [{"before": even, "after": np.where(np.arange(10) < 9, even, -np.inf)}]
    return runs, dict(zip(runs["folder"], found, strict=True))


def test_strips_are_ordered_by_the_share_and_dark_where_it_is_even() -> None:
    figure = strips_figure(*strips())
    before, after = figure.axes[:2]
    assert [text.get_text() for text in before.get_yticklabels()] == ["even", "falls", "lost"]
    assert (before.get_title(), after.get_title()) == ("before training", "after training")
    mesh = before.collections[0]
    values = np.asarray(mesh.get_array())
    np.testing.assert_allclose(values[0], 0, atol=1e-12)
    flow = 10.0 ** -np.arange(10)
    np.testing.assert_allclose(values[1], np.log10(10 * flow / flow.sum())[::-1])  # first day left
    darkest = min(mesh.cmap.colors, key=sum)
    assert all(same_color(mesh.to_rgba(value), darkest) for value in (0.0, 2.0))
    assert sum(mesh.to_rgba(values[1, 0])) > sum(mesh.to_rgba(values[1, -3])) > sum(darkest)
    assert before.get_xticks().tolist() == [0, 9]
    names = [text.get_text() for text in before.get_xticklabels()]
    assert names == ["first day:\nthe answer", "last day"]
    (right,) = after.child_axes
    said = [text.get_text() for text in right.get_yticklabels()]
    assert said == ["1 of 1, 70 steps", "0 of 1", "0 of 1, 1 diverged"]


def test_a_strip_counts_unsolved_seeds_as_never_as_the_table_does() -> None:
    """The median of 50, 70 and never is 70; where most never solve there is none to tell."""
    steps = {"most": (np.nan, 50.0, 70.0), "few": (np.nan, 50.0, np.nan)}
    runs = runs_of(*(("m", name) for name in steps for _ in range(3)), solved_below=0.025)
    runs = runs.assign(status="completed", share_before=[0.0] * 3 + [-1.0] * 3)
    runs["steps_to_solve"] = [*steps["most"], *steps["few"]]
    runs["solved"] = runs["steps_to_solve"].notna()
    figure = strips_figure(runs, each(runs, {"before": np.zeros(3), "after": np.zeros(3)}))
    (right,) = figure.axes[1].child_axes
    said = [text.get_text() for text in right.get_yticklabels()]
    assert said == ["2 of 3, 70 steps", "1 of 3"]


def test_a_strip_is_grey_after_what_diverged_and_pale_where_nothing_is_left() -> None:
    after = strips_figure(*strips()).axes[1]
    mesh = after.collections[0]
    values = np.ma.masked_invalid(mesh.get_array())
    assert values.mask.tolist() == [[False] * 10, [False] * 10, [True] * 10]
    assert same_color(after.get_facecolor(), UNKNOWN)
    assert not any(same_color(UNKNOWN, colour) for colour in mesh.cmap.colors)
    assert same_color(mesh.to_rgba(values[0, 0]), max(mesh.cmap.colors, key=sum))  # exactly 0
    runs, _ = strips()
    strips_figure(runs, each(runs, {})).draw_without_rendering()  # of runs that were not measured
    untrained = strips_figure(runs.assign(steps=0), each(runs, {"before": [0.0, 1.0]}))
    assert [axes.get_title() for axes in untrained.axes[:1]] == ["before training"]


def test_the_dependence_on_the_weights_before_training_and_after() -> None:
    """An open dot before, a solid one after."""
    runs = runs_of(("here", "lstm"), ("here", "gru"), ("there", "lstm")).assign(
        reach_before=[10.0, 0.0, 10.0],
        reach_after=[90.0, 5.0, 90.0],
        log10_dp_dw_before=[1.0, -2.0, 1.0],
        log10_dp_dw_after=[2.0, np.nan, 2.0],
    )
    figure = dependence_figure(runs)
    here, there = figure.axes
    dots = {(d.get_xdata()[0], d.get_ydata()[0]): d.get_mfc() for d in here.get_lines()}
    assert set(dots) == {(10, 1), (90, 2), (0, -2)}
    assert same_color(dots[90, 2], EVERY["lstm"].colour)
    assert dots[10, 1] == dots[0, -2] == "white"
    assert len(there.get_lines()) == 2
    assert here.get_xlim() == there.get_xlim()
    assert here.get_xlim()[0] < 0 < 90 < here.get_xlim()[1]
    assert "reach to the power of 3/2" not in legend_of(figure)


def test_a_linear_units_dependence_is_on_the_line_of_its_reach() -> None:
    """Nothing was trained: dots are solid, and there is no before and after."""
    reach = np.array([10.0, 1000.0, 100.0])
    both = {f"reach_{when}": reach for when in ("before", "after")}
    both |= {f"log10_dp_dw_{when}": 1.5 * np.log10(reach) - 1 for when in ("before", "after")}
    runs = runs_of(*[("all", "rnn_cell")] * 3, steps=0, theory_before=-0.1, **both)
    figure = dependence_figure(runs.assign(contestant=["w=0.5", "w=0.99", "w=0.9"]))
    (axes,) = figure.axes
    *dots, line = axes.get_lines()
    assert all(dot.get_mfc() != "white" for dot in dots)
    np.testing.assert_allclose(line.get_ydata(), 1.5 * np.log10(line.get_xdata()) - 1)
    assert "reach to the power of 3/2" in legend_of(figure)
    assert "before training" not in legend_of(figure)


def test_a_dollar_sign_is_no_formula() -> None:
    name = r"path=$\nope$"
    runs = forecast().assign(contestant=name, market=name)
    for figure in (
        curves_figure(runs, each(runs, [(0, 1.0)])),
        profiles_figure(runs, each(runs, {})),
        forecast_figure(runs),
        strips_figure(runs.assign(status="completed", solved_below=0.1), each(runs, {})),
    ):
        figure.draw_without_rendering()  # which raises on a formula that is none
