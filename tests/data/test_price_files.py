"""Price files as people have them, and every way in which one can be broken."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statland.data.price_files import PriceFileError, read_file, read_folder
from statland.data.stocks import Stocks
from statland.settings import SettingError

ROWS = [("2020-01-02", 10.0), ("2020-01-03", 11.0), ("2020-01-06", 10.5), ("2020-01-07", 12.0)]
PLAIN = "Date,Close\n" + "".join(f"{date},{close}\n" for date, close in ROWS)

GOOD = {
    "plain": PLAIN,
    "capitals": PLAIN.replace("Date,Close", "DATE,CLOSE"),
    "newest first": "Date,Close\n" + "".join(f"{d},{c}\n" for d, c in reversed(ROWS)),
    "Yahoo": "Date,Open,High,Low,Close,Adj Close,Volume\n"
    + "".join(f"{d},1,1,1,99,{c},1000\n" for d, c in ROWS),
    "Stooq": "Date,Open,High,Low,Close,Volume\n"
    + "".join(f"{d},1,1,1,{c},1000\n" for d, c in ROWS),
    "Stooq bulk": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    + "".join(f"one,D,{d.replace('-', '')},000000,1,1,1,{c},1000,0\n" for d, c in ROWS),
    "yfinance history": "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    + "".join(f"{d} 00:00:00-05:00,1,1,1,{c},1000,0.0,0.0\n" for d, c in ROWS),
    "time of day": "Date,Close\n" + "".join(f"{d}T16:00:00Z,{c}\n" for d, c in ROWS),
    "yfinance download": "Price,Close,High,Low,Open,Volume\nTicker,one,one,one,one,one\nDate,,,,,\n"
    + "".join(f"{d},{c},1,1,1,1000\n" for d, c in ROWS),
    "byte-order mark": "\ufeff" + PLAIN,
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "quoted": "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()
    ),
    "trailing blank lines": PLAIN + "\n\n,\n",
    "no last line end": PLAIN.rstrip("\n"),
    "spaces": PLAIN.replace(",", " , "),
}

BAD = {
    "not text": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a text file"),
    "NUL bytes": (b"Date,Close\n2020-01-02,\x0010\n", "not a text file"),
    "UTF-16": (PLAIN.encode("utf-16"), "not a text file"),
    "empty file": (b"", "row 1: the file is empty"),
    "commas alone": (b",,,\n,,,\n", "row 1: no header, all cells are empty"),
    "too many columns": (b"Date,Close" + b",x" * 10_001 + b"\n", "more than 10000 columns"),
    "header alone": (b"Date,Close\n", "row 2: no prices"),
    "no date column": (b"Day,Close\n2020-01-02,1\n", "row 1: no column Date; its columns are Day"),
    "no close column": (b"Date,Price\n2020-01-02,1\n", "row 1: no column Close or Adj Close"),
    "two close columns": (b"Date,Close,Close\n2020-01-02,1,1\n", "row 1: column Close comes twice"),
    "semicolons": (b"Date;Close\n2020-01-02;1\n", "no column Date; its columns are Date;Close"),
    "a long row": (b"Date,Close\n2020-01-02,1\n2020-01-03,1,2\n", "line 3"),
    "unreadable date": (
        b"Date,Close\n2020-01-02,1\nyesterday,1\n",
        "row 3, column Date: 'yester",
    ),
    "no such day": (b"Date,Close\n2020-02-30,1\n", "row 2, column Date: '2020-02-30'"),
    "words after the date": (b"Date,Close\n2020-01-02 noon,1\n", "row 2, column Date: '2020"),
    "an hour alone": (b"Date,Close\n2020-01-02 16,1\n", "row 2, column Date: '2020-01-02 16'"),
    "empty date": (b"Date,Close\n,1\n", "row 2, column Date: ''"),
    "duplicate date": (
        b"Date,Close\n2020-01-02,1\n2020-01-03,1\n\n2020-01-02,2\n",
        "row 5, column Date: '2020-01-02' comes twice",
    ),
    "empty price": (b"Date,Close\n2020-01-02,\n", "row 2, column Close: '' is empty"),
    "short row": (b"Date,Close\n2020-01-02,1\n2020-01-03\n", "row 3, column Close: '' is empty"),
    "non-numeric price": (b"Date,Close\n2020-01-02,null\n", "row 2, column Close: 'null'"),
    "NaN price": (
        b"Date,Close\n2020-01-02,nan\n",
        "row 2, column Close: 'nan' is no finite",
    ),
    "infinite price": (b"Date,Close\n2020-01-02,inf\n", "row 2, column Close: 'inf' is no finite"),
    "overflowing price": (b"Date,Close\n2020-01-02,1e999\n", "row 2, column Close: '1e999'"),
    "zero price": (b"Date,Close\n2020-01-02,1\n2020-01-03,0\n", "row 3, column Close: '0' is not"),
    "negative price": (b"Date,Adj Close\n2020-01-02,-3\n", "row 2, column Adj Close: '-3' is not"),
    "empty symbol": (b"Symbol,Date,Close\n,2020-01-02,1\n", "row 2, column Symbol: '' is empty"),
}


@pytest.mark.parametrize("name", list(GOOD))
def test_good_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_bytes(GOOD[name].encode())
    (company,) = read_file(path)
    assert company.name == "one"
    assert company.dates.astype(str).tolist() == [date for date, _ in ROWS]
    assert company.closes.tolist() == [close for _, close in ROWS]


@pytest.mark.parametrize("name", list(BAD))
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, words = BAD[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(PriceFileError) as refused:
        read_file(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert words in message
    assert "\n" not in message


def test_one_file_with_a_symbol_column(tmp_path: Path) -> None:
    rows = [
        f"{symbol},{date},{close * k}" for k, symbol in [(1, "B"), (2, "A")] for date, close in ROWS
    ]
    (tmp_path / "all.csv").write_text("Ticker,Date,Close\n" + "\n".join(rows))
    companies = read_folder(tmp_path)
    assert [company.name for company in companies] == ["A", "B"]
    assert companies[0].closes.tolist() == [2 * close for _, close in ROWS]


def test_yfinance_download_of_two_tickers(tmp_path: Path) -> None:
    header = "Price,Close,Close,Volume,Volume\nTicker,A,B,A,B\nDate,,,,\n"
    path = tmp_path / "both.csv"
    path.write_text(header + "".join(f"{d},{c},{3 * c},1,1\n" for d, c in ROWS))
    a, b = read_file(path)
    assert (a.name, b.name) == ("A", "B")
    np.testing.assert_allclose(b.closes, 3 * a.closes)
    later = path.read_text().replace(f"{ROWS[0][0]},10.0,30.0,1,1", f"{ROWS[0][0]},10.0,,1,")
    path.write_text(later)  # B was not listed yet on the first day
    a, b = read_file(path)
    assert (len(a.closes), len(b.closes)) == (4, 3)
    path.write_text(path.read_text().replace("12.0", "x"))
    with pytest.raises(PriceFileError, match=r"row 7, column Close: 'x'"):
        read_file(path)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(PriceFileError, match="no CSV file"):
        read_folder(tmp_path)
    (tmp_path / "a.csv").write_text("Symbol,Date,Close\nX,2020-01-02,1\n")
    (tmp_path / "X.CSV").write_text(PLAIN)
    with pytest.raises(PriceFileError, match="company X is in"):
        read_folder(tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PriceFileError, match=r"pipe\.csv: no file"):
        read_folder(tmp_path)


def test_too_few_days_for_one_sample(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PLAIN)
    keys = {"max_days": 9, "batch_size": 4, "validation_fraction": 0.25, "validation_samples": 9}
    with pytest.raises(PriceFileError, match=r"a\.csv: company a has 4 days, too few"):
        Stocks(str(tmp_path), min_days=3, seed=0, **keys)
    assert len(Stocks(str(tmp_path), min_days=1, seed=0, **keys).train) == 1


def test_many_rows_are_read_fast_enough_to_be_used(tmp_path: Path) -> None:
    days = np.datetime64("1900-01-01") + np.arange(40_000)
    lines = [f"{day},{1 + i % 9}.5" for i, day in enumerate(days.astype(str))]
    (tmp_path / "long.csv").write_text("Date,Close\n" + "\n".join(lines))
    (company,) = read_folder(tmp_path)
    assert len(company.closes) == 40_000
    assert company.closes[8] == 9.5


NAMES = ["Date", "Close", "Adj Close", "Symbol", "Price", "Ticker", "<DATE>"]
DATES = ["2020-01-02", "20200103", "2020-02-30"]
VALUES = ["1.5", "-1", "", "nan", "inf", "1e999", '"', "'", "é", "0x10", "1_0", " 7 "]
CELLS = st.sampled_from(NAMES + DATES + VALUES)
TABLES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | TABLES.map(str.encode))
def test_any_bytes_give_prices_or_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        path.write_bytes(content)
        try:
            companies = read_file(path)
        except PriceFileError as refused:
            message = str(refused)
            assert message.isprintable()
            assert str(path) in message
            return
    assert companies
    for company in companies:
        assert company.name
        assert len(company.dates) == len(company.closes) > 0
        assert (np.diff(company.dates) > np.timedelta64(0)).all()
        assert np.isfinite(company.closes).all()
        assert (company.closes > 0).all()


NORMAL = st.floats(2.3e-308, 1.7e308, allow_subnormal=False) | st.floats(0.99, 1.01)
CLOSES = st.lists(
    NORMAL.map(repr) | st.sampled_from(["1.0", "1.0000000000000002", "5e-324", "1e-310"]),
    max_size=30,
)


@pytest.fixture
def _subnormals_as_they_were() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.usefixtures("_subnormals_as_they_were")
@settings(max_examples=300, deadline=None)
@given(CLOSES, CLOSES, st.none() | st.tuples(st.integers(0, 500), st.binary(max_size=3)))
def test_any_prices_give_finite_batches_or_one_line(
    flush: bool, one: list[str], other: list[str], damage: tuple[int, bytes] | None
) -> None:
    """Two companies of any prices there are, with a few bytes of the file overwritten or not.

    In a run subnormal numbers count as 0, elsewhere they do not.
    """
    torch.set_flush_denormal(flush)
    days = (np.datetime64("2020-01-01") + np.arange(30)).astype(str)
    rows = [
        f"{n},{d},{c}"
        for n, some in (("a", one), ("b", other))
        for d, c in zip(days, some, strict=False)
    ]
    content = "\n".join(["Symbol,Date,Close", *rows]).encode()
    if damage is not None:
        place = damage[0] % len(content)
        content = content[:place] + damage[1] + content[place + len(damage[1]) :]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "any.csv").write_bytes(content)
        keys = {"min_days": 1, "max_days": 5, "batch_size": 4, "validation_samples": 9}
        try:
            market = Stocks(folder, validation_fraction=0.3, seed=0, **keys)
        except SettingError as refused:
            message = str(refused)
            assert message.isprintable()
            return
    for batch in [market.train_batch(step) for step in range(9)] + market.validation():
        assert batch.x.isfinite().all()
        assert batch.y.isfinite().all()
        assert (batch.lengths >= 1).all()
