"""Reads daily closes from CSV files as Yahoo, Stooq and yfinance write them.

What cannot be used is told in one line. Row numbers are lines of the file, the header row 1.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from statland.settings import SettingError

DATE = ("date",)
CLOSE = ("adj close", "adjclose", "adj_close", "adjusted close", "close")  # the first one present
SYMBOL = ("symbol", "ticker")


MOST_COLUMNS = 10_000


class PriceFileError(SettingError):
    """A price file that cannot be used; the message names the file, the row and the column."""


class Closes(NamedTuple):
    """One company's daily closes, oldest first."""

    name: str
    dates: np.ndarray  # (days,) datetime64[D], strictly increasing
    closes: np.ndarray  # (days,) float64, finite and above 0
    source: str  # the file


def read_folder(folder: Path) -> list[Closes]:
    """Read every CSV file of a folder; companies in order of name.

    Raises PriceFileError where a file cannot be read or two companies share a name.
    """
    if not folder.is_dir():
        raise PriceFileError(f"{folder}: no such folder of price files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if not files:
        raise PriceFileError(f"{folder}: no CSV file in this folder")
    companies: dict[str, Closes] = {}
    for path in files:
        for company in read_file(path):
            if company.name in companies:
                other = companies[company.name].source
                raise PriceFileError(f"{path}: company {company.name} is in {other} already")
            companies[company.name] = company
    return [companies[name] for name in sorted(companies)]


def read_file(path: Path) -> list[Closes]:
    """Read one CSV file: one company, or several told apart by a symbol column."""
    table = _one_header(_table(path))
    date, close = _column(path, table, DATE), _column(path, table, CLOSE)
    symbol = next((name for name in table.columns if name.lower() in SYMBOL), None)
    if table.empty:
        raise PriceFileError(f"{path}, row 2: no prices below the header")
    dates, closes = _dates(path, table[date]), _closes(path, table[close])
    names = pd.Series(path.stem, table.index) if symbol is None else table[symbol].str.strip()
    _refuse(path, symbol, table.index, names == "", names, "is empty")
    repeated = pd.DataFrame({"name": names, "date": dates}).duplicated()
    _refuse(path, date, table.index, repeated, table[date], "comes twice")
    companies = []
    for name, rows in pd.DataFrame({"name": names, "date": dates, "close": closes}).groupby("name"):
        rows = rows.sort_values("date")
        days = rows["date"].to_numpy().astype("datetime64[D]")
        companies.append(Closes(str(name), days, rows["close"].to_numpy(float), str(path)))
    return companies


def _table(path: Path) -> pd.DataFrame:
    """The file as text by line, blank lines left out; its header gives the column names."""
    if not path.is_file():  # reading a pipe would wait for ever
        raise PriceFileError(f"{path}: no file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PriceFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PriceFileError(f"{path}: not a text file (UTF-8)") from error
    if "\0" in text:
        raise PriceFileError(f"{path}: not a text file (it has NUL bytes)")
    if not text.strip():
        raise PriceFileError(f"{path}, row 1: the file is empty")
    if text.split("\n", 1)[0].count(",") > MOST_COLUMNS:
        raise PriceFileError(f"{path}, row 1: more than {MOST_COLUMNS} columns")
    try:
        table = pd.read_csv(
            io.StringIO(text), header=None, dtype=str, na_filter=False, skip_blank_lines=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        reason = str(error).strip().replace("\n", " ").removeprefix("Error tokenizing data. ")
        raise PriceFileError(f"{path}: not a CSV table: {reason}") from error
    table = table.fillna("")
    table.index += 1
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise PriceFileError(f"{path}, row 1: no header, all cells are empty")
    header, table = [str(cell).strip().strip("<>") for cell in table.iloc[0]], table.iloc[1:]
    table.columns = header
    return table


def _one_header(table: pd.DataFrame) -> pd.DataFrame:
    """Fold the three header rows of yfinance.download(...).to_csv() into one.

    They read "Price, Close, ...", then "Ticker, AAPL, ...", then "Date". Several tickers side by
    side become one below the other.
    """
    if len(table) < 2 or table.columns[0] != "Price" or table.iloc[0, 0] != "Ticker":
        return table
    prices, tickers, rows = table.columns[1:], table.iloc[0, 1:], table.iloc[1:]
    rows = rows[rows.iloc[:, 0] != "Date"]
    companies = []
    for ticker in dict.fromkeys(tickers):
        mine = [place for place, name in enumerate(tickers, 1) if name == ticker]
        company = rows.iloc[:, mine]
        is_there = (company != "").any(axis=1)  # others trade on days when this one does not
        company = company[is_there]
        company.columns = [prices[place - 1] for place in mine]
        company.insert(0, "Date", rows.iloc[:, 0][is_there])
        company.insert(1, "Ticker", ticker)
        companies.append(company)
    return pd.concat(companies)


def _column(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> str:
    """The name, as the file spells it, of the first of `names` that the table has."""
    spelled = {column.lower(): column for column in reversed(table.columns)}
    for name in names:
        if name in spelled:
            if list(table.columns).count(spelled[name]) > 1:
                raise PriceFileError(f"{path}, row 1: column {spelled[name]} comes twice")
            return spelled[name]
    wanted = "Date" if names is DATE else "Close or Adj Close"
    has = ", ".join(column for column in table.columns if column) or "none"
    raise PriceFileError(f"{path}, row 1: no column {wanted}; its columns are {has}"[:300])


def _dates(path: Path, texts: pd.Series) -> pd.Series:
    """Days, from ISO 8601 (2013-03-01, 20130301, 2013-03-01 00:00:00-05:00)."""
    days = texts.str.strip().str.replace(r"[ T][0-9]{2}:[0-9]{2}.*$", "", regex=True)
    iso = days.str.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")
    dates = pd.to_datetime(days.where(iso).str.replace("-", ""), format="%Y%m%d", errors="coerce")
    _refuse(path, texts.name, texts.index, dates.isna(), texts, "is no date like 2013-03-01")
    return dates


def _closes(path: Path, texts: pd.Series) -> pd.Series:
    """Prices, finite and above 0."""
    column, index = texts.name, texts.index
    texts = texts.str.strip()
    _refuse(path, column, index, texts == "", texts, "is empty")
    plain = texts.str.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    closes = pd.to_numeric(texts.where(plain), errors="coerce").astype(float)
    _refuse(path, column, index, ~np.isfinite(closes), texts, "is no finite number")
    _refuse(path, column, index, closes <= 0, texts, "is not above 0")
    return closes


def _refuse(
    path: Path,
    column: str | None,
    index: pd.Index,
    wrong: pd.Series,
    texts: pd.Series,
    what: str,
) -> None:
    """Raise PriceFileError for the first row that is wrong, if one is."""
    wrong = np.asarray(wrong)
    if wrong.any():
        place = int(wrong.argmax())
        value = str(texts.iloc[place])[:40]
        raise PriceFileError(f"{path}, row {index[place]}, column {column}: {value!r} {what}")
