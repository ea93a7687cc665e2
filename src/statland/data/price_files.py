"""Reads daily closes from CSV files as finance sites and packages write them.

What cannot be used ends in one line that names the file, the row and the column. Row numbers are
lines of the file, the header row 1.
"""

import gzip
import hashlib
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from statland.data.dates import AmbiguousDates, parse_dates
from statland.data.price_table import PriceFileError, read_table

# The first one present, in any case.
DATE = ("date", "datetime", "timestamp")
CLOSE = (
    *("adj close", "adjclose", "adj_close", "adjusted close"),
    *("close", "close/last", "close price", "price"),
)
SYMBOL = ("symbol", "ticker")

NO_PRICE = ("", "null", "N/A", "n/a", "-", ".")  # Yahoo, FRED and others on days without trade

# 1.5, $863.74 or 1,234.5, and no 0x10, 1_0 or infinity, which pandas would take too.
NUMBER = r"[+-]?\$?(?:(?:\d+|\d{1,3}(?:,\d{3})+)\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"

NO_DATE = "is no date like 2013-03-01; name its layout with data.date_format="

MOST_BYTES = 2**30  # of a file, unpacked


class Closes(NamedTuple):
    """One company's daily closes, oldest first."""

    name: str
    dates: np.ndarray  # (days,) datetime64[D], strictly increasing
    closes: np.ndarray  # (days,) float64, finite and above 0
    source: str  # the file
    missing: int  # rows without a price, which are left out


def read_folder(folder: Path, date_format: str | None = None) -> list[Closes]:
    """Read every CSV file of a folder; companies in order of name.

    `date_format` is a strptime format for all files, None for any layout that is known. Raises
    PriceFileError where a file cannot be read or two companies share a name.
    """
    companies: dict[str, Closes] = {}
    for path in price_files(folder):
        for company in read_file(path, date_format):
            if company.name in companies:
                other = companies[company.name].source
                raise PriceFileError(f"{path}: company {company.name} is in {other} already")
            companies[company.name] = company
    return [companies[name] for name in sorted(companies)]


def price_files(folder: Path) -> list[Path]:
    """The .csv and .csv.gz files of a folder in order of name, hidden ones apart.

    Raises PriceFileError where the folder cannot be read or has none.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError as error:
        raise PriceFileError(f"{folder}: no such folder of price files") from error
    except NotADirectoryError as error:
        raise PriceFileError(f"{folder}: not a folder") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PriceFileError(f"{str(folder)[:200]}: cannot be read: {reason}") from error
    visible = [path for path in paths if not path.name.startswith(".")]
    files = [path for path in visible if path.name.lower().endswith((".csv", ".csv.gz"))]
    if not files:
        raise PriceFileError(f"{folder}: no CSV file in this folder")
    return files


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of the bytes of each price file, by file name: equal for equal contents."""
    files = price_files(folder)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_file(path: Path, date_format: str | None = None) -> list[Closes]:
    """Read one CSV file: one company, or several with a symbol column.

    A company none of whose rows has a price has no days. Raises PriceFileError.
    """
    table = read_table(path, _text(path))
    date, close = _column(path, table, DATE), _column(path, table, CLOSE)
    symbol = next((name for name in table.columns if name.lower() in SYMBOL), None)
    if table.empty:
        raise PriceFileError(f"{path}, row 2: no prices below the header")
    name = re.sub(r"\.csv(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    names = pd.Series(name, table.index) if symbol is None else table[symbol].str.strip()
    _refuse(path, symbol, table.index, names == "", names, "is empty")
    prices = table[close].str.strip()
    has_price = ~prices.isin(NO_PRICE)
    # Rows without a price still help to tell month from day.
    dates = _dates(path, table[date], date_format)[has_price]
    missing = names[~has_price].value_counts()
    table, priced = table[has_price], names[has_price]
    what = NO_DATE if date_format is None else f"does not match data.date_format {date_format}"
    _refuse(path, date, table.index, dates.isna(), table[date], what)
    closes = _closes(path, prices[has_price])
    rows = pd.DataFrame({"name": priced, "date": dates, "close": closes})
    _refuse(path, date, table.index, rows.duplicated(["name", "date"]), table[date], "comes twice")
    by_name = {str(name): some.sort_values("date") for name, some in rows.groupby("name")}
    companies = []
    for company in sorted(set(names)):
        some = by_name.get(company, rows.iloc[:0])
        days = some["date"].to_numpy().astype("datetime64[D]")
        of_days = some["close"].to_numpy(float)
        companies.append(Closes(company, days, of_days, str(path), int(missing.get(company, 0))))
    return companies


def _text(path: Path) -> str:
    """The file's text, unpacked where its name ends in .gz."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise PriceFileError(f"{path}: no file")
        is_packed = path.name.lower().endswith(".gz")
        with gzip.open(path) if is_packed else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise PriceFileError(f"{path}: larger than {MOST_BYTES >> 30} GiB")
        text = content.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PriceFileError(f"{path}: not a gzip file, or a damaged one: {error}") from error
    except OSError as error:
        raise PriceFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PriceFileError(f"{path}: not a text file (UTF-8)") from error
    if "\0" in text:
        raise PriceFileError(f"{path}: not a text file (it has NUL bytes)")
    return text


def _column(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> str:
    """The name, as the file spells it, of the first of `names` that the table has."""
    spelled = {column.lower(): column for column in reversed(table.columns)}
    for name in names:
        if name in spelled:
            if list(table.columns).count(spelled[name]) > 1:
                raise PriceFileError(f"{path}, row 1: column {spelled[name]} comes twice")
            return str(spelled[name])
    wanted = "Date" if names is DATE else "Close, Adj Close, Close/Last or Price"
    has = ", ".join(column for column in table.columns if column) or "none"
    raise PriceFileError(f"{path}, row 1: no column {wanted}; its columns are {has}"[:300])


def _dates(path: Path, texts: pd.Series, date_format: str | None) -> pd.Series:
    """Days, NaT where a text is no date."""
    try:
        return parse_dates(texts, date_format)
    except AmbiguousDates as error:
        text = texts.iloc[error.place].strip()
        between = re.sub(r"^\d+(\D+)\d.*$", r"\1", text)
        orders = (("%m", "%d", "%Y"), ("%d", "%m", "%Y"))
        formats = [f"data.date_format={between.join(order)}" for order in orders]
        raise PriceFileError(
            f"{path}, row {texts.index[error.place]}, column {texts.name}: {text!r} may have the "
            f"month first or the day; allowed: {' or '.join(formats)}"
        ) from error
    except ValueError as error:  # days of different time zones, where date_format has %z
        raise PriceFileError(f"{path}, column {texts.name}: {error}") from error


def _closes(path: Path, texts: pd.Series) -> pd.Series:
    """Prices, finite and above 0, from numbers such as 1.5, $863.74 and 1,234.5."""
    column, index = str(texts.name), texts.index
    numbers = texts.where(texts.str.fullmatch(NUMBER))
    closes = pd.to_numeric(numbers, errors="coerce").astype(float)
    if closes.isna().any():
        plain = numbers.str.replace(r"[$,]", "", regex=True)
        closes = pd.to_numeric(plain, errors="coerce").astype(float)
    _refuse(path, column, index, ~np.isfinite(closes), texts, "is no finite number")
    _refuse(path, column, index, closes <= 0, texts, "is not above 0")
    return closes


def _refuse(
    path: Path,
    column: str | None,
    index: pd.Index,
    wrong: np.ndarray | pd.Series,
    texts: pd.Series,
    what: str,
) -> None:
    """Raise PriceFileError for the first row that is wrong, if one is."""
    is_wrong = np.asarray(wrong)
    if is_wrong.any():
        place = int(is_wrong.argmax())
        value = str(texts.iloc[place])[:40]
        raise PriceFileError(f"{path}, row {index[place]}, column {column}: {value!r} {what}")
