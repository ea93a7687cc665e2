"""Price files as people have them, and the ways in which one can be broken."""

import calendar
import gzip
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statland.data.dates import parse_dates
from statland.data.price_files import PriceFileError, read_file, read_folder
from statland.data.stocks import Stocks
from statland.settings import SettingError

ROWS = [("2020-01-02", 10.0), ("2020-01-03", 11.0), ("2020-01-06", 10.5), ("2020-01-13", 1200.5)]
NEWEST = ROWS[::-1]


def written(day: str, layout: str) -> str:
    return date.fromisoformat(day).strftime(layout)


def unix_seconds(day: str) -> int:
    return calendar.timegm(date.fromisoformat(day).timetuple())


PLAIN = "Date,Close\n" + "".join(f"{date},{close}\n" for date, close in ROWS)

GOOD = {
    "plain": PLAIN,
    "Yahoo": "Date,Open,High,Low,Close,Adj Close,Volume\n"
    + "".join(f"{d},1,1,1,99,{c},1000\n" for d, c in ROWS),
    "Stooq bulk": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    + "".join(f"one,D,{d.replace('-', '')},000000,1,1,1,{c},1000,0\n" for d, c in ROWS),
    "yfinance history": "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    + "".join(f"{d} 00:00:00-05:00,1,1,1,{c},1000,0.0,0.0\n" for d, c in ROWS),
    "yfinance download": "Price,Close,High,Low,Open,Volume\nTicker,one,one,one,one,one\nDate,,,,,\n"
    + "".join(f"{d},{c},1,1,1,1000\n" for d, c in ROWS),
    "time of day": "Date,Close\n" + "".join(f"{d}T16:00:00Z,{c}\n" for d, c in ROWS),
    "byte-order mark": "\ufeff" + PLAIN,
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "quoted": "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()
    ),
    "Nasdaq.com": "Date,Close/Last,Volume,Open,High,Low\n"
    + "".join(f'{written(d, "%m/%d/%Y")},"${c:,}",1000,$1.00,$1.00,$1.00\n' for d, c in NEWEST),
    "Investing.com": '"Date","Price","Open","High","Low","Vol.","Change %"\n'
    + "".join(
        f'"{written(d, "%b %d, %Y")}","{c:,}","1","1","1","1.2M","-0.1%"\n' for d, c in NEWEST
    ),
    "Google Finance": "Date,Open,High,Low,Close,Volume\n"
    + "".join(f"{written(d, '%d-%b-%y').lstrip('0')},1,1,1,{c},1000\n" for d, c in NEWEST),
    "NSE": "Symbol,Series,Date,Prev Close,Open Price,Close Price\n"
    + "".join(f'one,EQ,{written(d, "%d-%b-%Y").upper()},1,1,"{c:,}"\n' for d, c in NEWEST),
    "full month names": "Date,Close\n"
    + "".join(f'"{written(d, "%B %d, %Y")}",{c}\n' for d, c in ROWS),
    "day first": "Date,Close\n" + "".join(f"{written(d, '%d/%m/%Y')},{c}\n" for d, c in ROWS),
    "year first with slashes": PLAIN.replace("-", "/"),
    "Unix seconds": "timestamp,close\n"
    + "".join(f"{unix_seconds(d) + 52200},{c}\n" for d, c in ROWS),
    "blank first column": "".join(f",{line}\n" for line in PLAIN.splitlines()),
    "trailing blank lines": PLAIN + "\n\n,\n",
    "spaces": PLAIN.replace(",", " , "),
}

START = "Date,Close\n2020-01-02,1\n"

# A file, and the place that the message names; "" where it names the file alone.
BAD = {
    "not text": (b"\x89PNG\r\n\x1a\n\xff\xfe", ": cannot be read"),
    "UTF-16": (PLAIN.encode("utf-16"), ": cannot be read"),
    "empty": ("", "row 1: no column date"),
    "header alone": ("Date,Close\n", "no prices below the header"),
    "no close column": ("Date,Value\n2020-01-02,1\n", "row 1: no column adj close"),
    "now": ("Date,Close\nnow,1\n", "row 2, column Date: 'now'"),
    "a month in digits": ("Date,Close\n20200102,1\n202001,1\n", "row 3, column Date: '202001'"),
    "no date column": ("Day,Close\n2020-01-02,1\n", "row 1: no column date"),
    "two close columns": ("Date,Close,Close\n2020-01-02,1,1\n", "row 1: column close comes twice"),
    "semicolons": ("Date;Close\n2020-01-02;1\n", "its columns are Date;Close"),
    "an unquoted thousand": (START + "2020-01-03,1,200\n", "row 3: not a CSV table: 3 cells"),
    "an open quote": (START + '\n2020-01-03,"1\n2020-01-06,1\n', "row 4: not a CSV table"),
    "a price below line breaks": (
        'Name,Date,Close\n"A\nB",2020-01-02,1\n"A\r\nB",2020-01-03,1\n\nA,2020-01-06,x\n',
        "row 7, column Close: 'x'",
    ),
    "a date in words": (START + "yesterday,1\n", "row 3, column Date: 'yesterday'"),
    "no such day": ("Date,Close\n2020-02-30,1\n", "row 2, column Date: '2020-02-30'"),
    "words after the date": ("Date,Close\n2020-01-02 noon,1\n", "row 2, column Date: '2020"),
    "empty date": ("Date,Close\n,1\n", "row 2, column Date: ''"),
    "duplicate date": (START + "\n2020-01-02,2\n", "row 4, column Date: '2020-01-02' comes twice"),
    "either order of month and day": (
        "Date,Close\n01/01/2020,1\n02/01/2020,1\n12/11/2020,1\n",
        "row 3, '02/01/2020', may have the month first or the day; allowed: "
        "data.date_format=%m/%d/%Y or data.date_format=%d/%m/%Y",
    ),
    "both orders": ("Date,Close\n13/01/2020,1\n01/14/2020,1\n", "row 3, column Date: '01/14"),
    "a digit too many": ("Date,Close\n20200102,1\n202001033,1\n", "row 3, column Date: '2020"),
    "two layouts": ("Date,Close\n20200102,1\nJan 3 2020,1\n", "row 3, column Date: 'Jan 3 2020'"),
    "zero": (START + "2020-01-03,0\n", "row 3, column Close: '0' is not above 0"),
    "empty symbol": ("Symbol,Date,Close\n,2020-01-02,1\n", "row 2, column Symbol: '' is empty"),
}
for price in ('"1,5"', "$$1", "nan", "1e999", "0x10", "1_0", "1" * 40_000):
    cell = price.strip('"')[:30]
    BAD[f"a price of {cell}"] = (
        f"Date,Close\n2020-01-02,{price}\n",
        f"row 2, column Close: '{cell}",
    )


@pytest.mark.parametrize("name", list(GOOD))
def test_good_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_bytes(GOOD[name].encode())
    (company,) = read_file(path)
    assert company.name == "one"
    assert company.dates.astype(str).tolist() == [day for day, _ in ROWS]
    assert company.closes.tolist() == [close for _, close in ROWS]


@pytest.mark.parametrize("name", list(BAD))
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, words = BAD[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(PriceFileError) as refused:
        read_file(path)
    assert time.process_time() - started < 1
    message = str(refused.value)
    assert message.startswith(str(path))
    assert words in message
    assert "\n" not in message


def test_one_file_with_a_symbol_column(tmp_path: Path) -> None:
    rows = [
        f"{symbol},{day},{close * k}" for k, symbol in [(1, "B"), (2, "A")] for day, close in ROWS
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
    path.write_text(path.read_text().replace("1200.5", "x"))
    with pytest.raises(PriceFileError, match=r"row 7, column Close: 'x'"):
        read_file(path)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("", "nowhere", "loop", "x" * 300, "a\0b"):
        with pytest.raises(PriceFileError, match=r"no folder of \.csv or \.csv\.gz files"):
            read_folder(tmp_path / name)
    (tmp_path / "a.csv").write_text("Symbol,Date,Close\nX,2020-01-02,1\n")
    (tmp_path / "._A.csv").write_bytes(b"\x00\x05\x16\x07")  # in archives made on a Mac
    assert [company.name for company in read_folder(tmp_path)] == ["X"]
    (tmp_path / "X.CSV").write_text(PLAIN)
    with pytest.raises(PriceFileError, match="has company X already"):
        read_folder(tmp_path)
    (tmp_path / "X.CSV").rename(tmp_path / "X\u00a0Y\u200d.csv")  # not printable, but a name
    assert len(read_folder(tmp_path)) == 2
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text(PLAIN)  # run.json holds names, in UTF-8
    with pytest.raises(PriceFileError, match="cannot be printed"):
        read_folder(tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PriceFileError, match=r"pipe\.csv: no file"):
        read_folder(tmp_path)


def test_gzip(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(PLAIN)
    packed = gzip.compress(PLAIN.encode())
    (tmp_path / "B.B.CSV.GZ").write_bytes(packed)
    a, b = read_folder(tmp_path)
    assert (a.name, b.name) == ("A", "B.B")
    assert (a.dates == b.dates).all()
    assert (a.closes == b.closes).all()
    for broken in (packed[:-12], b"\0" + packed, PLAIN.encode(), packed[:20] + packed[25:]):
        (tmp_path / "B.B.CSV.GZ").write_bytes(broken)
        with pytest.raises(PriceFileError, match=r"B\.B\.CSV\.GZ: cannot be read"):
            read_folder(tmp_path)


@pytest.mark.parametrize("missing", ["null", "", "n/a", "."])
def test_rows_without_a_price_are_left_out_and_counted(missing: str, tmp_path: Path) -> None:
    """Even where the same day comes again with its price."""
    path = tmp_path / "one.csv"
    path.write_text(PLAIN + f"2020-01-08,{missing}\n2020-01-03\n")
    (company,) = read_file(path)
    assert company.closes.tolist() == [close for _, close in ROWS]
    assert company.missing == 2
    path.write_text(f"Date,Close\n2020-01-08,{missing}\n")
    (company,) = read_file(path)
    assert (len(company.closes), company.missing) == (0, 1)


def test_date_format(tmp_path: Path) -> None:
    """It replaces the known layouts; a time of day may stand behind it, or in it."""
    path = tmp_path / "one.csv"
    path.write_text("Date,Close\n01/02/2020,1\n02/03/2020 16:00,2\n")
    assert read_file(path, "%d/%m/%Y")[0].dates.astype(str).tolist() == ["2020-02-01", "2020-03-02"]
    with pytest.raises(PriceFileError, match=r"row 2, .* is no date; data\.date_format is %Y-%m"):
        read_file(path, "%Y-%m-%d")
    path.write_text("Date,Close\n3 of 1 in 20 at 16:00,1\n")
    (company,) = read_file(path, "%d of %m in %y at %H:%M")
    assert company.dates.astype(str).tolist() == ["2020-01-03"]


@pytest.mark.parametrize("wrong", ["%Q", "%", "DD/MM/YYYY"])
def test_date_formats_that_are_none(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PLAIN)
    with pytest.raises(PriceFileError, match=f"a.csv, .*column Date: .*{wrong}"):
        stocks(tmp_path, date_format=wrong)


KEYS = {"min_days": 1, "max_days": 9, "batch_size": 4, "validation_samples": 9, "seed": 0}


def stocks(folder: Path, **keys: object) -> Stocks:
    return Stocks(str(folder), **{**KEYS, "validation_fraction": 0.25, **keys})


def test_companies_too_short_are_left_out_and_named(tmp_path: Path) -> None:
    """What is left is the market that there would be without their files."""
    (tmp_path / "a.csv").write_text(PLAIN)
    alone = stocks(tmp_path)
    assert (alone.notes, len(alone.train)) == ([], 1)
    with pytest.raises(PriceFileError, match=r"no company has the 5 days that data\.min_days 3"):
        stocks(tmp_path, min_days=3)
    (tmp_path / "b.csv").write_text("Date,Close\n2020-01-14,1\n2020-01-15,null\n")
    (tmp_path / "c.csv").write_text("Date,Close\n2020-01-14,null\n")
    market = stocks(tmp_path)
    assert market.notes == [
        "rows without a price, left out: 2 (b 1, c 1)",
        "companies with fewer than the 3 days of one sample, left out: 2 (b 1, c 0)",
    ]
    assert (market.names, market.cut, market.scale) == (alone.names, alone.cut, alone.scale)
    assert all(torch.equal(a, b) for a, b in zip(market.returns, alone.returns, strict=True))


def test_fingerprint_is_of_names_and_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        (folder / "b.csv").write_text(PLAIN.replace("Date", "Symbol,Date").replace("\n2", "\nb,2"))
        (folder / "a.csv").write_text(PLAIN)
        (folder / "notes.txt").write_text(str(folder))
    one, other = (stocks(folder).fingerprint for folder in folders)
    assert list(one) == ["a.csv", "b.csv"]
    assert one == other
    assert one["a.csv"] == hashlib.sha256(PLAIN.encode()).hexdigest()
    (folders[0] / "a.csv").write_text(PLAIN + "\n")
    changed = stocks(folders[0]).fingerprint
    assert changed["a.csv"] != one["a.csv"]
    assert changed["b.csv"] == one["b.csv"]


DAYS = st.dates(
    date(1973, 3, 4), date(2068, 12, 31)
)  # 9 or 10 digits of seconds; %y means 19 or 20


@settings(max_examples=50, deadline=None)
@given(
    st.lists(DAYS, min_size=1, max_size=8),
    st.sampled_from(
        ["%Y-%m-%d", "%Y%m%d", "%b %d, %Y", "%d-%b-%Y", "%B %d %Y", "%d %b %y", "unix"]
    ),
)
def test_dates_are_read_as_they_were_written(days: list[date], layout: str) -> None:
    texts = [
        str(unix_seconds(str(day)) + 86_399) if layout == "unix" else day.strftime(layout)
        for day in days
    ]
    assert parse_dates(pd.Series(texts)).dt.date.tolist() == days


@settings(max_examples=50, deadline=None)
@given(
    st.lists(DAYS | DAYS.map(lambda day: day.replace(day=day.month)), min_size=1, max_size=4),
    st.sampled_from(["%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m.%d.%Y"]),
)
def test_numbers_are_read_in_their_order_or_not_at_all(days: list[date], layout: str) -> None:
    texts = pd.Series([day.strftime(layout) for day in days])
    settled = any(day.day > 12 for day in days) or all(day.day == day.month for day in days)
    if settled:
        assert parse_dates(texts).dt.date.tolist() == days
    else:
        with pytest.raises(ValueError, match="may have the month first or the day") as refused:
            parse_dates(texts)
        day = days[int(str(refused.value).split()[1].strip(","))]
        assert day.day != day.month
    assert parse_dates(texts, layout).dt.date.tolist() == days


NAMES = ["Date", "Close", "Adj Close", "Symbol", "Price", "Ticker", "<DATE>", "timestamp"]
DATES = [
    "2020-01-02",
    "20200103",
    "2020-02-30",
    "01/02/2020",
    "13/1/2020",
    "3-Jan-20",
    "1577923200",
]
VALUES = ["1.5", "-1", "", "nan", "inf", "1e999", '"', "'", "é", "0x10", "1_0", " 7 ", "null", "$1"]
CELLS = st.sampled_from(NAMES + DATES + VALUES)
TABLES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6).map("\n".join)


@settings(max_examples=100, deadline=None)
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
        assert len(company.dates) == len(company.closes)
        assert len(company.closes) + company.missing > 0
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
@settings(max_examples=50, deadline=None)
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
