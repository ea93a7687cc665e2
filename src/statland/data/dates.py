"""Reads a column of dates in the layouts that price files use; a column has one layout."""

import re

import pandas as pd

# As they read once the separators "-", "/", "." and ", " have become spaces.
LAYOUTS = (
    "%Y %m %d",  # 2011-01-03, 20110103
    "%m %d %Y",  # 01/03/2011
    "%d %m %Y",  # 03/01/2011
    "%b %d %Y",  # Jan 03, 2011
    "%d %b %Y",  # 03-Jan-2011
    "%B %d %Y",  # January 3, 2011
    "%d %B %Y",  # 3 January 2011
    "%d %b %y",  # 3-Jan-11
)
TIME_OF_DAY = r",?[ T]{1,4}[0-9]{1,2}:[0-9]{2}.*$"
DIGITS = r"^([0-9]{4})([0-9]{2})([0-9]{2})$"
SEPARATOR = r"(?<=\w)(?:[,.]? +|[,./-])(?=\w)"


def parse_dates(texts: pd.Series, date_format: str | None = None) -> pd.Series:
    """Parse dates (rows,); return datetime64 at midnight, NaT where a text is no date.

    `date_format` is a strptime format; None stands for the layout of the first row. Unix seconds,
    of nine or ten digits, count by their day in UTC, any other time by the day that is written.
    Raises ValueError where month and day can be read either way, or `date_format` is not valid.
    """
    cells = texts.where(~texts.isin(["now", "today"]))  # pandas reads these whatever the format
    if date_format is not None:
        if not re.search("%[HI]", date_format):
            cells = cells.str.replace(TIME_OF_DAY, "", regex=True)
        return _parse(cells, date_format).dt.tz_localize(None).dt.normalize()
    dates = _parse(cells, "%Y-%m-%d")
    if dates.notna().all():
        return dates
    if cells.str.fullmatch("[0-9]{9,10}", na=False).all():
        return pd.to_datetime(pd.to_numeric(cells), unit="s").dt.normalize()
    for pattern, new in ((TIME_OF_DAY, ""), (DIGITS, r"\1 \2 \3"), (SEPARATOR, " ")):
        cells = cells.str.replace(pattern, new, regex=True)
    layouts = [layout for layout in LAYOUTS if _parse(cells[:1], layout).notna().all()]
    readings = [_parse(cells, layout) for layout in layouts] or [dates]
    best = max(readings, key=pd.Series.count)
    for other in readings:
        if other.count() == best.count():
            _refuse_ambiguous(texts, (best < other) | (best > other))
    return best


def _refuse_ambiguous(texts: pd.Series, differ: pd.Series) -> None:
    """Raise ValueError for the first text that two layouts read as different days, if one is."""
    if differ.any():
        row, text = differ.idxmax(), texts[differ].iloc[0]
        mark = re.findall(r"\D+", text)[0]
        raise ValueError(
            f"row {row}, {text!r}, may have the month first or the day; allowed: "
            f"data.date_format=%m{mark}%d{mark}%Y or data.date_format=%d{mark}%m{mark}%Y"
        )


def _parse(texts: pd.Series, layout: str) -> pd.Series:
    return pd.to_datetime(texts, format=layout, errors="coerce")
