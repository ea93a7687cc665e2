"""Reads daily closes from CSV files as finance sites and packages write them.

What cannot be used ends in one line that names the file, the row and the column. Rows are counted
as lines of the file; the header is row 1.
"""

import csv
import gzip
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from statland.data.dates import parse_dates
from statland.settings import SettingError

# The first one present, in any case.
DATE = ("date", "datetime", "timestamp")
CLOSE = (
    *("adj close", "adjclose", "adj_close", "adjusted close"),
    *("close", "close/last", "close price", "price"),
)
SYMBOL = ("symbol", "ticker")

# How the three header rows of yfinance.download(...).to_csv() begin.
DOWNLOADS = (["Price", "Ticker", "Date"], ["Price", "Ticker", "Datetime"])

NO_PRICE = ("", "null", "N/A", "n/a", "-", ".")  # Yahoo, FRED and others on days without trade

# 1.5, $863.74 or 1,234.5. The `thousands` of pandas would read 1,5, a decimal comma, as 15.
NUMBER = re.compile(r"[+-]?\$?(?:(\d+|\d{1,3}(,\d{3})+)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class PriceFileError(SettingError):
    """A price file that cannot be used; the message names the file, the row and the column."""


class Closes(NamedTuple):
    """One company's daily closes, oldest first."""

    name: str
    dates: np.ndarray  # (days,) datetime64[D], strictly increasing
    closes: np.ndarray  # (days,) float64, finite and above 0
    source: str  # the file
    missing: int  # rows without a price, which are left out


def read_folder(folder: Path, date_format: str | None = None) -> list[Closes]:
    """Read every CSV file of a folder; return companies in order of name.

    `date_format` is a strptime format, None for any layout of data/README.md. Raises
    PriceFileError where a file cannot be read or two companies share a name.
    """
    companies: dict[str, Closes] = {}
    for path in price_files(folder):
        for company in read_file(path, date_format):
            other = companies.setdefault(company.name, company)
            if other is not company:
                raise PriceFileError(f"{path}: {other.source} has company {company.name} already")
    return [companies[name] for name in sorted(companies)]


def price_files(folder: Path) -> list[Path]:
    """Return the .csv and .csv.gz files of a folder in order of name, without hidden ones."""
    paths = folder.glob("[!.]*") if os.path.isdir(folder) else []
    files = sorted(path for path in paths if path.name.lower().endswith((".csv", ".csv.gz")))
    if not files:
        raise PriceFileError(f"{str(folder)[:200]}: no folder of .csv or .csv.gz files")
    if wrong := [p for p in files if p.name.encode(errors="replace").decode() != p.name]:
        raise PriceFileError(f"{wrong[0]}: a name that is no UTF-8 cannot be printed")
    return files


def read_file(path: Path, date_format: str | None = None) -> list[Closes]:
    """Read one CSV file: one company, or several with a symbol column.

    A company none of whose rows has a price has no days. Raises PriceFileError.
    """
    names, dates, prices = _columns(path, _rows(path))
    if names.empty:
        raise PriceFileError(f"{path}: no prices below the header")
    _refuse(path, names, names == "", "is empty")
    has_price = ~prices.isin(NO_PRICE)
    counts = names.value_counts()
    names, dates, prices = names[has_price], dates[has_price], prices[has_price]
    days, closes = _days(path, dates, date_format), _closes(path, prices)
    rows = pd.DataFrame({"name": names, "date": days, "close": closes})
    _refuse(path, dates, rows.duplicated(["name", "date"]), "comes twice")
    by_name = dict(iter(rows.sort_values("date").groupby("name")))
    companies = []
    for name in sorted(counts.index):
        own = by_name.get(name, rows[:0])
        arrays = own["date"].to_numpy("datetime64[D]"), own["close"].to_numpy()
        companies.append(Closes(name, *arrays, str(path), int(counts[name]) - len(own)))
    return companies


def _rows(path: Path) -> dict[int, list[str]]:
    """Return the cells of the rows that hold any, by the line of the file on which they begin."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    rows: dict[int, list[str]] = {}
    line, width = 1, 0
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise PriceFileError(f"{path}: no file")
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                width = width or len(cells)
                if len(cells) > width:  # such as an unquoted 1,234.5
                    raise csv.Error(f"{len(cells)} cells, more than the {width} of the first row")
                if any(cells):
                    rows[line] = cells + [""] * (width - len(cells))
                line = reader.line_num + 1
    except csv.Error as error:
        raise PriceFileError(f"{path}, row {line}: not a CSV table: {error}") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise PriceFileError(f"{path}: cannot be read: {error}") from error
    return rows or {1: [""]}


def _columns(path: Path, rows: dict[int, list[str]]) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the companies' names, the dates and the prices (rows,) as text, indexed by line.

    yfinance.download(...).to_csv() has three header rows, and its tickers side by side; they are
    put one below the other.
    """
    first, *below = rows.values()
    header, lines = [cell.strip().strip("<>") for cell in first], list(rows)[1:]

    def column(place: int) -> pd.Series:
        cells = [rows[line][place].strip() for line in lines]
        return pd.Series(cells, lines, object, header[place])

    if len(header) > 1 and [header[0], *(cells[0] for cells in below[:2])] in DOWNLOADS:
        header, tickers, lines, prices = ["Date", *header[1:]], below[0], lines[2:], {}
        for ticker in dict.fromkeys(tickers[1:]):
            own = [name if t == ticker else "" for name, t in zip(header, tickers, strict=True)]
            prices[ticker] = column(_place(path, own, CLOSE))
        names = pd.concat([pd.Series(ticker.strip(), lines, object, "Ticker") for ticker in prices])
        return names, pd.concat([column(0)] * len(prices)), pd.concat(list(prices.values()))
    symbol = next((place for place, name in enumerate(header) if name.lower() in SYMBOL), None)
    company = re.sub(r"\.csv(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    names = pd.Series(company, lines, object) if symbol is None else column(symbol)
    return names, column(_place(path, header, DATE)), column(_place(path, header, CLOSE))


def _place(path: Path, header: list[str], wanted: tuple[str, ...]) -> int:
    """Return the place in a header of the first of the wanted names that it has."""
    lowered = [name.lower() for name in header]
    for name in wanted:
        if lowered.count(name) > 1:
            raise PriceFileError(f"{path}, row 1: column {name} comes twice")
        if name in lowered:
            return lowered.index(name)
    known, has = ", ".join(wanted), ", ".join(filter(None, header)) or "none"
    raise PriceFileError(f"{path}, row 1: no column {known}; its columns are {has}"[:300])


def _days(path: Path, texts: pd.Series, date_format: str | None) -> pd.Series:
    """Parse dates; raise PriceFileError where one cannot be read."""
    key = f"data.date_format is {date_format or 'null'}"
    try:
        days = parse_dates(texts, date_format)
    except ValueError as error:
        raise PriceFileError(f"{path}, column {texts.name}: {key}: {error}") from error
    _refuse(path, texts, days.isna(), f"is no date; {key}; allowed: null, or such as %d/%m/%Y")
    return days


def _closes(path: Path, texts: pd.Series) -> pd.Series:
    """Parse prices such as 1.5, $863.74 and 1,234.5, finite and above 0."""
    numbers = [re.sub("[$,]", "", text) if NUMBER.fullmatch(text) else "" for text in texts]
    closes = pd.Series(pd.to_numeric(numbers, errors="coerce"), texts.index, float)
    _refuse(path, texts, ~(closes < np.inf), "is no finite number")
    _refuse(path, texts, closes <= 0, "is not above 0")
    return closes


def _refuse(path: Path, texts: pd.Series, wrong: "pd.Series[bool]", what: str) -> None:
    """Raise PriceFileError for the first row that is wrong, if one is."""
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        row, value = texts.index[place], str(texts.iloc[place])[:40]
        raise PriceFileError(f"{path}, row {row}, column {texts.name}: {value!r} {what}")
