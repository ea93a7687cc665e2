"""Runs side by side: colours belong to models, curves show, no corner sets the limits."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import MODELS, ROOT
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from statland.drawing import COLOURS, colour_of, plain, side_by_side, styles
from statland.report.figures import (
    curves_figure,
    dependence_figure,
    forecast_figure,
    grid_figure,
    profiles_figure,
)

EVERY = {name: name for name in MODELS}


def curve(axes: Axes, name: str) -> Line2D:
    return next(line for line in axes.get_lines() if line.get_label() == name)


def legend_of(figure: Figure) -> dict[str, Line2D]:
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    return dict(zip(names, legend.legend_handles, strict=True))


def panels(days: list[int], names: list[str] = MODELS) -> dict[str, dict[str, list]]:
    """Profiles that fall by a tenth of a decade a day before training, half that after it."""
    return {
        f"days={d}": {
            name: [{"before": list(-0.1 * np.arange(d)), "after": list(-0.05 * np.arange(d))}]
            for name in names
        }
        for d in days
    }


def test_a_colour_belongs_to_a_model() -> None:
    assert all(colour_of(name.partition("_")[0]) in COLOURS for name in MODELS)
    preset = yaml.safe_load((ROOT / "configs/experiment/families.yaml").read_text())
    compared = preset["hydra"]["sweeper"]["params"]["model"].split(",")
    assert len({colour_of(name) for name in compared}) == len(compared)
    for some in (MODELS, MODELS[::-1], MODELS[:1], [*MODELS[2:], "another", "a third"]):
        for name, style in styles({name: name for name in some}).items():
            assert style.colour == colour_of(name)
    looks = [(style.colour, style.marker) for style in styles(EVERY).values()]
    assert len(set(looks)) == len(MODELS)


def test_contestants_of_one_model_share_its_colour_and_differ() -> None:
    for model in MODELS:
        others = {name: name for name in MODELS if name != model}
        mine = [f"{model} size={size}" for size in range(6)]
        found = styles(others | dict.fromkeys(mine, model))
        assert found[mine[0]].colour == colour_of(model)
        # Each is a blend of the model's colour and white, or black.
        rgb, end = np.array(to_rgb(colour_of(model))), np.array(to_rgb(found[mine[-1]].colour))
        target = 1.0 if (end >= rgb).all() else 0.0
        for name in mine[1:]:
            shares = (np.array(to_rgb(found[name].colour)) - rgb) / (target - rgb + 1e-9)
            assert shares[np.abs(target - rgb) > 0.1].std() < 0.02
        assert len({found[name].colour for name in mine}) == 6
        assert len({found[name].marker for name in mine}) == 6


def test_many_names_keep_apart_as_long_as_there_are_markers() -> None:
    found = styles({f"m{number}": f"m{number}" for number in range(20)})
    assert len({(style.colour, style.marker) for style in found.values()}) == 20
    styles({f"m{number}": "one" for number in range(100)})


def test_one_legend_is_right_for_all_panels() -> None:
    """Two markets, each with models that the other has not, in another order."""
    curves = {
        "one": {"b": [[(0, 0.5), (10, 0.4)]], "a": [[(0, 0.5), (10, 0.1)]]},
        "two": {"c": [[(0, 0.5), (10, 0.2)]], "b": [[(0, 0.5), (10, 0.3)]]},
    }
    models = {"a": MODELS[0], "b": MODELS[1], "c": MODELS[2]}
    figure = curves_figure(curves, {"one": 0.25, "two": 0.0}, models)
    legend = legend_of(figure)
    assert list(legend) == ["a", "b", "c", "best baseline"]
    for axes in figure.axes:
        for name in curves[axes.get_title()]:
            assert curve(axes, name).get_color() == colour_of(models[name])
            assert legend[name].get_color() == colour_of(models[name])
            assert legend[name].get_marker() == styles(models)[name].marker
    profiles = profiles_figure(panels([10, 30], ["a", "c"]), {}, models)
    assert curve(profiles.axes[1], "c").get_color() == colour_of(models["c"])


def test_curves_are_the_mean_over_seeds_of_what_is_finite() -> None:
    seeds = [[(0, 1.0), (10, 0.5)], [(0, 3.0), (10, np.nan)], [(0, 5.0), (10, 0.1)]]
    axes = curves_figure({"m": {"a": seeds}}, {"m": 0.25}, {"a": "a"}).axes[0]
    np.testing.assert_allclose(curve(axes, "a").get_ydata(), [3.0, 0.3])
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} >= {(0, 1), (0, 5), (10, 0.1), (10, 0.5)}
    assert axes.get_yscale() == "log"
    assert any(set(line.get_ydata()) == {0.25} for line in axes.get_lines())
    empty = curves_figure({"m": {"a": []}}, {}, {"a": "a"}).axes[0]
    assert len(curve(empty, "a").get_ydata()) == 0


def test_coincident_curves_all_show() -> None:
    """The next one is thinner and lies above, or thicker and below; no markers coincide."""
    figure = profiles_figure(panels([200]), {"days=200": 199.0}, EVERY)
    lines = [curve(figure.axes[0], name) for name in MODELS]
    for one, next_one in pairwise(lines):
        thick, thin = sorted((one, next_one), key=lambda line: -line.get_linewidth())
        assert thick.get_linewidth() >= thin.get_linewidth() + 0.8
        assert thick.get_zorder() < thin.get_zorder()
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() != "None"]
    assert min(dot.get_zorder() for dot in dots) > max(line.get_zorder() for line in lines)
    after = [dot for dot in dots if same_color(dot.get_markerfacecolor(), dot.get_color())]
    starts = [dot.get_markevery()[0] for dot in after]
    assert len(set(starts)) == len(MODELS)
    assert max(starts) < after[0].get_markevery()[1]


def test_profiles_have_one_scale() -> None:
    figure = profiles_figure(panels([10, 100, 1000]), {"days=100": 99.0, "days=10": np.nan}, EVERY)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_ylim()[0] < -99.9
    for axes, days in zip(figure.axes, (10, 100, 1000), strict=True):
        before, after = (-slope * np.arange(days) for slope in (0.1, 0.05))
        for name in MODELS:
            np.testing.assert_allclose(curve(axes, name).get_ydata(), after)
            assert curve(axes, name).get_linestyle() == "-"
        dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
        assert len(dashed) == len(MODELS)
        assert all(np.allclose(line.get_ydata(), before) for line in dashed)
    answers = [
        [li for li in axes.get_lines() if li.get_linestyle() == "-."] for axes in figure.axes
    ]
    assert [len(lines) for lines in answers] == [0, 1, 0]
    assert set(answers[1][0].get_xdata()) == {99}
    assert list(legend_of(figure)) == [*MODELS, "before training", "after training", "the answer"]


def test_a_profile_is_the_median_seeds() -> None:
    seeds = [{"before": [0.0], "after": [0.0, level, -np.inf]} for level in (-3.0, -1.0, np.nan)]
    axes = profiles_figure({"m": {"a": seeds}}, {}, {"a": "a"}).axes[0]
    np.testing.assert_allclose(curve(axes, "a").get_ydata(), [0, -1, np.nan])
    assert "|dp/dx|" in axes.figure.get_supylabel()


def test_theory_is_drawn_where_it_is_known_and_nothing_that_was_not_trained() -> None:
    flat = list(-0.3 * np.arange(50) + 1)
    same = {"w=0.5": [{"before": flat, "after": flat}], "w=x": [{"before": flat, "after": flat}]}
    theory = {"w=0.5": -0.3, "w=x": np.nan}
    figure = profiles_figure({"m": same}, {"m": np.nan}, {"w=0.5": "a", "w=x": "b"}, theory)
    assert list(legend_of(figure)) == ["w=0.5", "w=x", "theory"]
    ends = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    assert len(ends) == 1
    np.testing.assert_allclose(ends[0].get_xydata(), [[0, 1], [49, 1 - 0.3 * 49]])


@pytest.mark.parametrize("count", [1, 2, 12, 13, 40])
def test_many_panels_stay_legible(count: int) -> None:
    figure = profiles_figure(panels(list(range(5, 5 + count)), MODELS[:2]), {}, EVERY)
    figure.draw_without_rendering()
    assert len(figure.axes) == count
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert min(box.width / figure.dpi / 1.3, box.height / figure.dpi) > 1.4  # inches
        assert not box.overlaps(legend)
    for one, other in combinations(figure.axes, 2):
        assert not one.title.get_window_extent().overlaps(other.get_window_extent())


def table(values: np.ndarray, rows: list[int], columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(values, index=rows, columns=columns)


ROWS, COLUMNS = [10, 25, 50, 100, 200], [0.5, 0.9, 1.0, 2.0]


def test_no_corner_sets_the_grids_limits() -> None:
    gradient = table(np.linspace(-9, 4, 20).reshape(5, 4), ROWS, COLUMNS)
    loss = table(10 ** np.linspace(-3, -1, 20).reshape(5, 4), ROWS, COLUMNS)
    before = grid_figure("gain", "days", gradient, loss, gradient)
    limits = [axes.collections[0].get_clim() for axes in before.axes[:2]]
    np.testing.assert_allclose(limits, [(-12, 12), (-3, -1)])
    gradient.iloc[4, 3], loss.iloc[4, 3] = 300.0, 1e30
    after = grid_figure("gain", "days", gradient, loss, gradient)
    bars = [axes.collections[0].colorbar for axes in after.axes[:2]]
    assert [bar.extend for bar in bars] == ["both", "max"]
    # The next largest, not the corner, ends the scale.
    np.testing.assert_allclose(bars[1].vmax, np.log10(loss.iloc[4, 2]))
    np.testing.assert_allclose(bars[1].vmin, -3)
    loss.iloc[2, 2] = np.nan
    assert "no finite value" in legend_of(grid_figure("gain", "days", gradient, loss, gradient))


def test_the_lyapunov_line_is_right_where_rows_are_missing() -> None:
    """The exponent is 0 midway between the second and third column, whatever rows are there."""
    exponents = table(np.tile([-1.5, -0.5, 0.5, 1.5], (5, 1)), ROWS, COLUMNS)
    loss = table(np.full((5, 4), 0.1), ROWS, COLUMNS)
    for rows in (ROWS, ROWS[1:], [10, 200], [25, 200, 100]):
        for known in (exponents.loc[rows], exponents.loc[rows].reindex(ROWS)):
            figure = grid_figure("gain", "days", loss, loss, known)
            for axes in figure.axes[:2]:
                points = np.concatenate([path.vertices for path in axes.collections[1].get_paths()])
                np.testing.assert_allclose(points[:, 0], 2.0)  # cells are centred on 0.5, 1.5, ...
                places = [ROWS.index(row) + 0.5 for row in rows]
                assert (points[:, 1].min(), points[:, 1].max()) == (min(places), max(places))
            assert list(legend_of(figure)) == ["Lyapunov exponent 0"]
    for none in (exponents.abs(), exponents * np.nan, exponents.iloc[:1]):
        assert not grid_figure("gain", "days", loss, loss, none).legends


def some_runs() -> pd.DataFrame:
    rows = [
        {
            "contestant": name,
            "span": span,
            "reach_before": min(span, reach),
            "solved": reach % 2 == 0,
        }
        for span in (9.0, 24.0, 199.0)
        for reach, name in enumerate(MODELS, start=6)
        for _ in range(3)
    ]
    return pd.DataFrame(rows)


def test_hits_do_not_pile_up_and_spans_are_the_ticks() -> None:
    runs = some_runs()
    figure = forecast_figure(runs, EVERY)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["9", "24", "199"]
    dots = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert len(dots) == len(runs)
    found = set()
    for dot in dots:
        (x,), (y,) = dot.get_xdata(), dot.get_ydata()
        filled = same_color(dot.get_markerfacecolor(), dot.get_color())
        assert abs(x - round(x)) <= 0.45
        found.add(((9.0, 24.0, 199.0)[round(x)], y, dot.get_color(), filled))
    style = styles(EVERY)
    assert found == {
        (run.span, run.reach_before, style[run.contestant].colour, run.solved)
        for run in runs.itertuples()
    }
    figure.draw_without_rendering()
    spots = axes.transData.transform([(*d.get_xdata(), *d.get_ydata()) for d in dots])
    gaps = [np.linalg.norm(a - b) for a, b in combinations(spots, 2)]
    assert min(gaps) > 0.06 * figure.dpi  # a marker is 0.09 inches wide
    # A line at the span in each column: what is on it or above reaches the answer.
    marks = [line.get_ydata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert marks == [9.0, 24.0, 199.0]
    assert set(legend_of(figure)) == {*MODELS, "solved", "not solved", "reaches the answer"}


def test_a_reach_of_0_has_a_place() -> None:
    runs = some_runs().assign(reach_before=0.0)
    axes = forecast_figure(runs, EVERY).axes[0]
    assert axes.get_ylim()[0] < 0
    assert axes.get_yticks()[0] == 0


def test_the_dependence_on_the_weights_has_an_open_dot_before_training_and_a_solid_one_after() -> (
    None
):
    runs = pd.DataFrame(
        {
            "contestant": ["lstm", "gru", "mingru"],
            "steps": 5,
            "reach_before": [10.0, 0.0, np.nan],
            "reach_after": [90.0, 5.0, np.nan],
            "log10_dp_dw_before": [1.0, -2.0, np.nan],
            "log10_dp_dw_after": [2.0, np.nan, np.nan],
        }
    )
    figure = dependence_figure({"here": runs, "there": runs[:1]}, EVERY)
    here, there = figure.axes
    dots = {(d.get_xdata()[0], d.get_ydata()[0]): d.get_mfc() for d in here.get_lines()}
    assert set(dots) == {(10, 1), (90, 2), (0, -2)}
    assert same_color(dots[90, 2], colour_of("lstm"))
    assert dots[10, 1] == dots[0, -2] == "white"
    assert len(there.get_lines()) == 2
    assert here.get_xlim() == there.get_xlim()
    assert here.get_xlim()[0] < 0 < 90 < here.get_xlim()[1]
    assert "reach to the power of 3/2" not in legend_of(figure)


def test_a_linear_units_dependence_is_on_the_line_of_its_reach() -> None:
    """Nothing was trained: dots are solid, and there is no before and after."""
    reach = np.array([10.0, 1000.0, 100.0])
    grown = 1.5 * np.log10(reach) - 1
    names = ["weight=0.5", "weight=0.99", "weight=0.9"]
    both = {f"reach_{w}": reach for w in ("before", "after")}
    both |= {f"log10_dp_dw_{w}": grown for w in ("before", "after")}
    runs = pd.DataFrame({"contestant": names, "steps": 0, **both})
    figure = dependence_figure({"all": runs}, dict.fromkeys(names, "rnn_cell"), is_linear=True)
    (axes,) = figure.axes
    *dots, line = axes.get_lines()
    assert all(dot.get_mfc() != "white" for dot in dots)
    np.testing.assert_allclose(line.get_ydata(), 1.5 * np.log10(line.get_xdata()) - 1)
    assert "reach to the power of 3/2" in legend_of(figure)
    assert "before training" not in legend_of(figure)


def test_values_alike_stand_side_by_side_in_their_order() -> None:
    offsets = side_by_side(np.array([7.0, 100.0, 7.0, 7.5, 0.0]), 0.1)
    np.testing.assert_allclose(offsets, [-0.1, 0, 0, 0.1, 0], atol=1e-12)
    many = side_by_side(np.full(50, 3.0), 0.1)
    assert (np.diff(many) > 0).all()
    assert np.abs(many).max() < 0.45


def test_a_dollar_sign_is_no_formula() -> None:
    name = r"path=$\nope$"
    assert plain("a $ b") == r"a \$ b"
    figures = [
        curves_figure({name: {name: [[(0, 1.0)]]}}, {}, {name: name}),
        profiles_figure(panels([5], [name]) | {name: {}}, {}, {name: name}),
        grid_figure(name, name, *[table(np.eye(2), [1, 2], [1, 2])] * 3),
        forecast_figure(some_runs().assign(contestant=name), {name: name}),
    ]
    for figure in figures:
        figure.draw_without_rendering()  # which raises on a formula that is none
