"""The cells of a price file as text, with the line of the file on which each row begins."""

import io
import re
from pathlib import Path

import pandas as pd

from statland.settings import SettingError

MOST_COLUMNS = 10_000


class PriceFileError(SettingError):
    """A price file that cannot be used; the message names the file, the row and the column."""


def read_table(path: Path, text: str) -> pd.DataFrame:
    """The cells of a CSV file as text, its header as columns, indexed by line (the header is 1).

    Rows without a value are left out. `path` is for messages only. Raises PriceFileError where the
    text is no table with a header.
    """
    if not text.strip():
        raise PriceFileError(f"{path}, row 1: the file is empty")
    if text.split("\n", 1)[0].count(",") > MOST_COLUMNS:
        raise PriceFileError(f"{path}, row 1: more than {MOST_COLUMNS} columns")
    try:
        table = _parse(text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise PriceFileError(_parser_message(path, text, str(error))) from error
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise PriceFileError(f"{path}, row 1: no header, all cells are empty")
    header, table = [str(cell).strip().strip("<>") for cell in table.iloc[0]], table.iloc[1:]
    table.columns = pd.Index(header)
    return _one_header(table)


def _parse(text: str, rows: int | None = None) -> pd.DataFrame:
    """All cells of the first `rows` rows, header and blank lines included, indexed by line."""
    table = pd.read_csv(
        io.StringIO(text, newline=""),
        header=None,
        dtype=str,
        na_filter=False,
        skip_blank_lines=False,
        nrows=rows,
    ).fillna("")
    table.index += 1
    if '"' in text:  # a quoted cell may hold line breaks, which move the rows below it
        table.index += _line_breaks(table).cumsum().shift(fill_value=0).to_numpy()
    return table


def _parser_message(path: Path, text: str, reason: str) -> str:
    """What pandas says of a table it cannot parse, with the line instead of its count of rows."""
    reason = " ".join(reason.split()).removeprefix("Error tokenizing data. C error: ")
    long_row = re.fullmatch(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
    open_quote = re.fullmatch(r"EOF inside string starting at row (\d+)", reason)
    if long_row:
        header, row, cells = (int(number) for number in long_row.groups())
        line, reason = _line(text, row), f"{cells} cells, more than the {header} of the first row"
    elif open_quote:
        line, reason = _line(text, int(open_quote[1]) + 1), "a quote is not closed"
    else:
        return f"{path}: not a CSV table: {reason}"
    return f"{path}, row {line}: not a CSV table: {reason}"


def _line(text: str, row: int) -> int:
    """The line on which a row begins, both counted from 1; the rows before it can be parsed."""
    if row == 1:
        return 1
    before = _parse(text, row - 1)
    return int(before.index[-1]) + int(_line_breaks(before).iloc[-1]) + 1


def _line_breaks(table: pd.DataFrame) -> "pd.Series[int]":
    """How many line breaks the cells of each row hold."""
    breaks: pd.Series[int] = table.apply(lambda cells: cells.str.count(r"\r\n|\r|\n")).sum(axis=1)
    return breaks


def _one_header(table: pd.DataFrame) -> pd.DataFrame:
    """Fold the three header rows of yfinance.download(...).to_csv() into one.

    They read "Price, Close, ...", then "Ticker, AAPL, ...", then "Date". Several tickers side by
    side become one below the other.
    """
    if len(table) < 2 or table.columns[0] != "Price" or table.iloc[0, 0] != "Ticker":
        return table
    prices, tickers, rows = table.columns[1:], table.iloc[0, 1:], table.iloc[1:]
    rows = rows[~rows.iloc[:, 0].isin(["Date", "Datetime"])]
    companies = []
    for ticker in dict.fromkeys(tickers):
        places = [place for place, name in enumerate(tickers, 1) if name == ticker]
        company = rows.iloc[:, places]
        traded = (company != "").any(axis=1)  # others trade on days when this one does not
        company = company[traded]
        company.columns = pd.Index([prices[place - 1] for place in places])
        company.insert(0, "Date", rows.iloc[:, 0][traded])
        company.insert(1, "Ticker", ticker)
        companies.append(company)
    return pd.concat(companies)
