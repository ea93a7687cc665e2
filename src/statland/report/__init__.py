"""Runs side by side: statistics, figures, one page."""

from statland.records.results import load

__all__ = ["load"]
