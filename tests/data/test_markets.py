"""Laws that every market of configs/data obeys, and what each one promises."""

import csv
import shutil
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MARKETS, ROOT, built

from statland.data.base import Market, SyntheticMarket
from statland.data.stocks import Stocks, full_batches
from statland.settings import SettingError
from statland.training.evaluation import baselines
from statland.training.watch import span_of

# The farthest day is marked, and all others count as well: test_every_day.py.
EVERY_DAY_COUNTS = {"parity", "group"}


def market(name: str, *overrides: str) -> Market:
    return built(f"data={name}", *overrides)[0]


def aged(name: str, youngest: int, oldest: int) -> Market:
    """A market with companies of these ages, if it can have different ones."""
    has_youngest = "\nmin_days:" in (ROOT / f"configs/data/{name}.yaml").read_text()
    own = [f"data.min_days={youngest}"] if has_youngest else []
    return market(name, f"data.max_days={oldest}", *own)


def test_batches_are_a_pure_function_of_seed_and_step(market_name: str) -> None:
    one, other = market(market_name), market(market_name)
    steps = [0, 1, 700, 2]
    first = [one.train_batch(step) for step in steps]
    again = {step: other.train_batch(step) for step in sorted(steps, reverse=True)}
    for step, batch in zip(steps, first, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, again[step], strict=True))
    assert first[0].x.shape != first[1].x.shape or not torch.equal(first[0].x, first[1].x)
    reseeded = market(market_name, "seed=1").train_batch(0)
    assert reseeded.x.shape != first[0].x.shape or not torch.equal(reseeded.x, first[0].x)


def test_validation_ages_are_evenly_spread(market_name: str) -> None:
    """From the youngest to the oldest; to the nearest day, so that the mean is in the middle."""
    for bounds in ((15, 50), (17, 19)):
        one = aged(market_name, *bounds)
        if not isinstance(one, SyntheticMarket):
            pytest.skip("its ages are those of its files")
        youngest, oldest = one.min_days, one.max_days
        assert oldest - youngest == (0 if market_name == "long_lag" else bounds[1] - bounds[0])
        ages = torch.cat([batch.lengths for batch in one.validation()]).double()
        assert (ages.min(), ages.max()) == (youngest, oldest)
        assert ages.mean() == pytest.approx((youngest + oldest) / 2, abs=0.01)


def test_validation_is_always_the_same_and_again_of_other_companies(market_name: str) -> None:
    """Of as many and as old ones. Price files have no others."""
    one, other = market(market_name), market(market_name, "seed=1")
    first, again = one.validation(), one.validation_again()
    one.train_batch(3)
    for it in (one, other):
        for a, b in zip(first + again, it.validation() + it.validation_again(), strict=True):
            assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
    if not isinstance(one, SyntheticMarket):
        assert again == []
        return
    for a, b in zip(again, first, strict=True):
        assert torch.equal(a.lengths, b.lengths)
        assert not torch.equal(a.x, b.x)


def test_batches_keep_the_contract(market_name: str) -> None:
    it = aged(market_name, 12, 19)
    ages = set()
    for batch in [*(it.train_batch(step) for step in range(400)), *it.validation()]:
        x, lengths, y = batch
        companies, days, features = x.shape
        per_day = [days] if it.labels == "every" else []
        per_output = [it.output_size] if it.loss == "mse" else []
        assert features == it.input_size
        assert y.shape == (companies, *per_day, *per_output)
        assert x.dtype == torch.float32
        assert y.dtype == (torch.float32 if it.loss == "mse" else torch.int64)
        assert batch.asked[torch.arange(companies), lengths - 1].all()
        assert lengths.max() == days
        assert x.isfinite().all()
        assert batch.answers.isfinite().all()
        padding = torch.arange(days) >= lengths[:, None]
        assert not x[padding].any()
        assert not batch.asked[padding].any()
        if (answer := it.answer(batch)) is None:
            assert span_of(it.answer, [batch]) is None
        else:
            assert (answer.dtype, answer.shape) == (torch.bool, (companies, days))
            assert answer.any(1).all()
            assert not answer[padding].any()
        ages |= set(lengths.tolist())
    bounds = (it.min_days, it.max_days) if isinstance(it, SyntheticMarket) else (12, 19)
    assert ages == set(range(bounds[0], bounds[1] + 1))


def test_companies_of_like_age_share_a_batch(market_name: str) -> None:
    it = market(market_name, "data.max_days=200")
    padded = [
        1 - lengths.sum().item() / x[..., 0].numel()
        for x, lengths, _ in (it.train_batch(step) for step in range(400))
    ]
    assert max(padded) <= (0.1 if isinstance(it, Stocks) else 0.2)


def test_the_marked_days_decide_the_answer(market_name: str) -> None:
    """And not without the first of them, where the values are few."""
    if market_name in EVERY_DAY_COUNTS:
        pytest.skip("all days decide its answer")
    it = aged(market_name, 15, 50)
    answers: dict[tuple[float, ...], set[tuple[float, ...]]] = {}
    without_one: dict[tuple[float, ...], set[tuple[float, ...]]] = {}
    for batch in (it.train_batch(step).of_last_day() for step in range(50)):
        marks = it.answer(batch)
        if marks is None:
            pytest.skip("nobody knows the days that decide its answer")
        for x, mark, y in zip(batch.x, marks, batch.y, strict=True):
            values = x[mark].flatten().tolist()
            answers.setdefault(tuple(values), set()).add(tuple(y.flatten().tolist()))
            shorter = tuple(values[it.input_size :])
            without_one.setdefault(shorter, set()).add(tuple(y.flatten().tolist()))
    assert all(len(found) == 1 for found in answers.values())
    assert len(answers) > 100 or any(len(found) > 1 for found in without_one.values())


def test_ages_are_uniform() -> None:
    it = market("recall", "data.min_days=2", "data.max_days=21")
    ages = torch.cat([it.train_batch(step).lengths for step in range(4000)])
    counts = ages.bincount(minlength=22)[2:].double()
    # A batch shares a band of ages, so it is one draw for a band: 4000 draws over 20 ages.
    assert (counts / len(ages) - 1 / 20).abs().max() < 5 * (1 / 20 / 4000) ** 0.5


def test_companies_of_recall_are_equally_old_unless_min_days_is_set() -> None:
    """So that a sweep over data.max_days asks how far back a model remembers."""
    it = market("recall", "data.max_days=21")
    for batch in (it.train_batch(0), *it.validation()):
        assert set(batch.lengths.tolist()) == {21}
    mixed = market("recall", "data.max_days=21", "data.min_days=5").validation()
    assert {5, 21} <= set(torch.cat([batch.lengths for batch in mixed]).tolist())


def test_statland_without_shocks_follows_its_rule_on_every_day() -> None:
    calm = market("statland", "data.shock=0", "data.min_days=10").train_batch(0)
    shaken = market("statland", "data.shock=1", "data.min_days=10").train_batch(0)
    broken = []
    for x, lengths, _ in (calm, shaken):
        assert set(x.unique().tolist()) == {0, 0.5, 1}
        follows = (2 * x[:, 1:-1, 0] - x[:, :-2, 0]).clamp(0, 1)
        before_the_last_two = torch.arange(2, x.shape[1]) < lengths[:, None] - 2
        broken.append((follows != x[:, 2:, 0])[before_the_last_two].double().mean().item())
    assert broken[0] == 0
    assert broken[1] > 0.5


def test_statland_noise_is_on_the_inputs_alone() -> None:
    quiet, noisy = market("statland"), market("statland", "data.noise=0.1")
    a, b = quiet.validation()[0], noisy.validation()[0]
    assert torch.equal(a.y, b.y)
    there = torch.arange(a.x.shape[1]) < a.lengths[:, None]
    noise = (b.x - a.x)[there]
    assert abs(noise.std().item() - 0.1) < 0.1 * 5 / len(noise) ** 0.5


@pytest.mark.parametrize("filler", ["easy", "hard"])
def test_recall(filler: str) -> None:
    it = market("recall", f"data.filler={filler}", "data.min_days=3")
    between = set()
    for step in range(100):
        x, lengths, y = it.train_batch(step)
        assert torch.equal(x[:, 0], y)
        assert y.mean() == 0.5
        for history, age in zip(x[..., 0], lengths.tolist(), strict=True):
            last = history[age - 1].item()
            between |= set(history[1 : age - 1].tolist()) | ({last} if filler == "hard" else set())
            assert filler == "hard" or last == 1
    assert between == {"easy": {0.25, 0.5}, "hard": {0, 0.5, 1}}[filler]


def test_garch_clusters_and_is_white() -> None:
    it = market("garch", "data.min_days=50")
    x = torch.cat([it.train_batch(step).x for step in range(300)])
    r = x[..., 0].double()  # 9600 companies of 50 days
    assert abs(r.square().mean() - 1) < 0.05
    assert r.pow(4).mean() > 3.1  # heavier tails than a normal's 3
    products = r[:, 1:] * r[:, :-1]
    assert abs(products.mean()) < 5 * products.std() / products.numel() ** 0.5
    squares = r.square() - 1
    clustering = squares[:, 1:] * squares[:, :-1]
    assert clustering.mean() > 5 * clustering.std() / clustering.numel() ** 0.5


def test_on_garch_no_forecast_beats_zero() -> None:
    """Not even by luck: over a mirrored pair any forecast f errs by f^2 more."""
    it = market("garch")
    batches = it.validation()
    y = torch.cat([batch.y for batch in batches]).double()
    zero = baselines(it)["zero"]
    assert zero == pytest.approx(y.square().mean().item())
    for batch in batches:
        half = len(batch.y) // 2
        assert torch.equal(batch.x[:half], batch.x[half:])
        forecast = batch.x[:, 0, 0].double() * 0.01
        errors = (forecast - batch.y[:, 0].double()).square().mean()
        expected = batch.y.double().square().mean() + forecast.square().mean()
        assert errors.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("rho", [-0.5, 0.9])
def test_ar1_has_its_covariance_on_every_day_and_its_best_forecast(rho: float) -> None:
    it = market("ar1", f"data.rho={rho}", "data.min_days=20", "data.max_days=20")
    batches = [it.train_batch(step) for step in range(300)]
    x = torch.cat([batch.x[..., 0] for batch in batches]).double()  # 9600 companies
    y = torch.cat([batch.y for batch in batches]).double()
    days = torch.cat([x, y], dim=1)
    covariance = days.T @ days / len(days)
    apart = (torch.arange(21)[:, None] - torch.arange(21)).abs()
    # Of a product of two unit normals the variance is 1 + rho^2k.
    assert (covariance - rho**apart).abs().max() < 5 * (2 / len(days)) ** 0.5
    error = days[:, 20] - rho * days[:, 19]
    assert abs(error.square().mean() / (1 - rho**2) - 1) < 5 * (2 / len(days)) ** 0.5
    for day in range(20):  # what is left has nothing to do with any day
        assert abs((error * days[:, day]).mean()) < 5 * error.std() / len(days) ** 0.5


def test_baselines_as_stated() -> None:
    """AR(2) is exact on statland; the best constant scores 0.25 on recall."""
    assert baselines(market("statland"))["ar2"] < 1e-20
    recall = baselines(market("recall"))
    assert recall["constant"] == pytest.approx(0.25, abs=1e-12)
    assert min(recall.values()) > 0.2
    for name in MARKETS:
        it = market(name)
        expected = {"constant", *it.baselines()}
        if it.loss == "mse":
            expected |= {"ar2"}
        if it.loss == "mse" and it.input_size == it.output_size:
            expected |= {"persistence"}
        if it.forecasts_returns:
            expected |= {"zero"}
        assert set(baselines(it)) == expected


@pytest.mark.parametrize(
    ("name", "column", "layout", "rows"),
    [
        (
            "stocks",
            "Adj Close",
            "%Y-%m-%d",
            {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270},
        ),
        ("oil", "Close", "%m/%d/%Y", {"WTI": 8321}),  # FRED's layout, with "." on holidays
    ],
)
def test_samples_are_the_log_returns_of_the_files(
    name: str, column: str, layout: str, rows: dict[str, int]
) -> None:
    """Rebuilt from the CSV files by hand."""
    it, closes = market(name, "data.max_days=30"), {}
    for path in sorted((ROOT / "data" / name).glob("*.csv")):
        with path.open() as file:
            priced = [row for row in csv.DictReader(file) if row[column] != "."]
        closes[path.stem] = [
            (datetime.strptime(row["Date"], layout), float(row[column])) for row in priced
        ]
    assert {name: len(own) for name, own in closes.items()} == rows
    assert it.names == list(rows)
    assert it.notes == (["rows without a price, left out: 290 (WTI 290)"] if name == "oil" else [])
    dates = sorted({day for own in closes.values() for day, _ in own})
    cut = dates[int(0.8 * len(dates))]
    returns = [[np.log(b[1] / a[1]) for a, b in pairwise(own)] for own in closes.values()]
    past = [sum(day < cut for day, _ in own[1:]) for own in closes.values()]
    scale = np.concatenate([own[:end] for own, end in zip(returns, past, strict=True)]).std()
    for found, own in zip(it.returns, returns, strict=True):
        torch.testing.assert_close(found, torch.tensor(np.array(own) / scale).float())
    expected = {
        (*found[max(0, day - 30) : day].tolist(), found[day].item())
        for found, end in zip(it.returns, past, strict=True)
        for day in range(5, end)
    }
    seen = [
        (*x[i, : lengths[i], 0].tolist(), y[i, 0].item())
        for x, lengths, y in (it.train_batch(step) for step in range(len(it.stops)))
        for i in range(len(x))
    ]
    assert set(seen) == expected
    assert len(seen) == sum(max(0, end - 5) for end in past)


def test_packaged_prices_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oil").mkdir()
    assert market("stocks", "data.packaged=oil").names == ["WTI"]
    with pytest.raises(SettingError, match=r"gold: no folder of \.csv or \.csv\.gz files"):
        market("stocks", "data.packaged=gold")


def test_the_line_on_month_and_day_names_settings_that_work(tmp_path: Path) -> None:
    days = [f"0{month}/0{day}/2020" for month in range(1, 10) for day in range(1, 10)]
    rows = [f"{day},{1 + i % 7}" for i, day in enumerate(days)]
    (tmp_path / "a.csv").write_text("\n".join(["Date,Close", *rows]))
    folder = f"data.path={tmp_path}"
    with pytest.raises(SettingError) as refused:
        market("stocks", folder)
    month_first, day_first = str(refused.value).partition("allowed: ")[2].split(" or ")
    one, other = market("stocks", folder, month_first), market("stocks", folder, day_first)
    assert (str(one.cut)[5:], str(other.cut)[5:]) == ("08-02", "08-02")
    assert not torch.equal(one.returns[0], other.returns[0])


def test_no_later_price_changes_an_earlier_sample(tmp_path: Path) -> None:
    """Spoil every price after a date within validation: what lies before stays, bit for bit."""
    shutil.copytree(ROOT / "data/stocks", tmp_path, dirs_exist_ok=True)
    spoilt_from = "2012-01-03"
    for path in tmp_path.glob("*.csv"):
        header, *rows = path.read_text().splitlines()
        rows = [
            row if row < spoilt_from else ",".join([*row.split(",")[:-1], str(1 + i % 7)])
            for i, row in enumerate(rows)
        ]
        path.write_text("\n".join([header, *rows]) + "\n")
    many = "data.validation_samples=100000"
    clean, spoilt = market("stocks", many), market("stocks", many, f"data.path={tmp_path}")
    assert str(clean.cut) < spoilt_from
    assert clean.scale == spoilt.scale
    for step in range(0, len(clean.stops), 10):
        a, b = clean.train_batch(step), spoilt.train_batch(step)
        assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
    changed = 0
    for company, returns in enumerate(clean.returns):
        dates = np.array(
            [row.split(",")[0] for row in (tmp_path / f"{clean.names[company]}.csv").open()][2:]
        )
        before = torch.from_numpy(dates < spoilt_from)
        assert torch.equal(returns[before], spoilt.returns[company][before])
        changed += int((returns != spoilt.returns[company]).sum())
    assert changed > 1000


def test_full_batches_waste_little() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ages = np.sort(rng.integers(1, 200, rng.integers(1, 500)))
        stops = full_batches(ages, 16)
        batches = np.split(ages, stops[:-1])
        assert stops[-1] == len(ages)
        assert sum(len(batch) for batch in batches) == len(ages)
        for batch in batches:
            assert 1 <= len(batch) <= 16
            assert batch.sum() >= 0.9 * len(batch) * batch.max() - 1e-9


def test_stocks_split_by_date() -> None:
    it = market("stocks", "data.validation_samples=100000")
    assert isinstance(it, Stocks)
    assert len(it.train) + len(it.held_out) == sum(len(r) - 5 for r in it.returns)
    facebook = it.names.index("FB")  # listed after the cut: a company never seen in training
    assert facebook not in it.train[:, 0]
    assert facebook in it.held_out[:, 0]
    assert sum(len(batch.y) for batch in it.validation()) == len(it.held_out)
    assert sum(len(b.y) for b in market("stocks").validation()) == 2048


def test_stocks_come_in_another_order_each_epoch() -> None:
    it = market("stocks")
    epoch = len(it.stops)
    first, second = ([it.train_batch(e * epoch + i) for i in range(epoch)] for e in (0, 1))
    for batches in (first, second):
        ages = [batch.lengths.double().mean().item() for batch in batches]
        assert ages != sorted(ages)  # the batches are shuffled
    full = [batch.x for batch in first if batch.x.shape[:2] == (32, 50)]
    again = [batch.x for batch in second if batch.x.shape[:2] == (32, 50)]
    # Companies of one age are shuffled too: no batch comes twice.
    assert not any(torch.equal(a, b) for a in full for b in again[:5])
