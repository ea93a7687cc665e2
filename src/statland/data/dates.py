"""Reads a column of dates in the layouts that price files use.

One layout a row; where numbers alone leave open which is the month and which the day, the whole
column decides.
"""

import pandas as pd

# Read after the separators "-", "/", "." and ", " have become spaces.
LAYOUTS = (
    "%Y %m %d",  # ISO 8601
    "%b %d %Y",  # Jan 03, 2011
    "%d %b %Y",  # 03-Jan-2011
    "%B %d %Y",  # January 3, 2011
    "%d %B %Y",  # 3 January 2011
    "%d %b %y",  # 3-Jan-11
)
TIME_OF_DAY = r",?[ T]+[0-9]{1,2}:[0-9]{2}.*$"
SEPARATOR = r"(?<=\w)(?:[,.]? +|[,./-])(?=\w)"


class AmbiguousDates(ValueError):
    """Numbers in which no value above 12 tells month from day; `place` is a row of that kind."""

    def __init__(self, place: int) -> None:
        self.place = place


def parse_dates(texts: pd.Series, date_format: str | None = None) -> pd.Series:
    """Dates (rows,) of datetime64, NaT where a text is none; the time of day is left out.

    `date_format` is a strptime format, None for any of the layouts in data/README.md. Unix seconds,
    of nine or ten digits, count by their day in UTC, any other time by the day that is written.
    Raises AmbiguousDates where either order of month and day fits, ValueError where pandas cannot
    use `date_format`.
    """
    texts = texts.str.strip()
    texts = texts.where(~texts.isin(["now", "today"]))  # dates to pandas, whatever the format
    if date_format is not None:
        if "%H" not in date_format and "%I" not in date_format:
            texts = texts.str.replace(TIME_OF_DAY, "", regex=True)
        return _midnight(_parse(texts, date_format).dt.tz_localize(None))
    # Only a whole column: one number of nine digits is a mistyped 20110103, not a day of 1976.
    if (_matches(texts, r"[0-9]{9,10}") | (texts == "")).all():
        return _midnight(pd.to_datetime(pd.to_numeric(texts), unit="s", errors="coerce"))
    dates = _parse(texts, "%Y-%m-%d")
    if dates.isna().any():
        days = texts.where(dates.isna()).str.replace(TIME_OF_DAY, "", regex=True)
        parts = days.str.replace(SEPARATOR, " ", regex=True)
        for parse in (*LAYOUTS, _compact, _month_or_day_first):
            others = parts.where(dates.isna())
            found = _parse(others, parse) if isinstance(parse, str) else parse(others)
            dates = dates.where(dates.notna(), found)
    return dates


def _midnight(times: pd.Series) -> pd.Series:
    days: pd.Series = times.dt.normalize()
    return days


def _parse(texts: pd.Series, layout: str) -> pd.Series:
    return pd.to_datetime(texts, format=layout, errors="coerce")


def _compact(texts: pd.Series) -> pd.Series:
    """20110103; pandas alone would take 201101 for a date too."""
    return _parse(texts.where(_matches(texts, r"[0-9]{8}")), "%Y%m%d")


def _month_or_day_first(texts: pd.Series) -> pd.Series:
    """03/01/2011: in the order that fits more rows of the column."""
    month_first, day_first = _parse(texts, "%m %d %Y"), _parse(texts, "%d %m %Y")
    counts = int(month_first.notna().sum()), int(day_first.notna().sum())
    if counts[0] != counts[1]:
        return month_first if counts[0] > counts[1] else day_first
    differ = month_first.notna() & day_first.notna() & (month_first != day_first)
    if month_first.isna().equals(day_first.isna()) and differ.any():
        raise AmbiguousDates(int(differ.to_numpy().argmax()))
    return month_first


def _matches(texts: pd.Series, pattern: str) -> pd.Series:
    matches: pd.Series = texts.str.fullmatch(pattern, na=False)
    return matches
