"""Writes a run folder during training; the only file that knows TensorBoard."""

import csv
import io
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from statland.gradients.share import Profile
from statland.records.files import EVENTS, FLOW, FLOW_COLUMNS, METRICS, cut_back, order_events
from statland.settings import printable

if TYPE_CHECKING:  # importing it takes a second, which no run should wait for before it trains
    from matplotlib.figure import Figure

# Largest float32: TensorBoard's scalars are no wider. metrics.csv has the plain value.
FLOAT32_MAX = 3.4028234663852886e38

# Shares and profiles are shown within so many decades, so that one explosion flattens no chart.
SHOWN_DECADES = 40


class Recorder(AbstractContextManager["Recorder"]):
    """Writes one run folder: TensorBoard events, CSV files and figures.

    metrics.csv has the columns step, tag, value, one row for every scalar that TensorBoard has;
    gradient_flow.csv has step, quantity, lag, log10_median, log10_p10, log10_p90, companies and
    exact_zeros. Rows come in the order of their steps.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        """Start recording into `folder`, or continue a run that has made `step` updates.

        What was recorded at `step` and later is dropped.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file, self._rows = _csv(folder / METRICS, ["step", "tag", "value"])
        header = ["step", "quantity", "lag", *FLOW_COLUMNS]
        self._flow_file, self._flow_rows = _csv(folder / FLOW, header)
        if step > 0:
            cut_back(folder, step)
            order_events(folder)
        self._events = SummaryWriter(str(folder), purge_step=step or None)
        assert self._events.file_writer is not None
        self._write: Callable[[Summary, int], None] = self._events.file_writer.add_summary

    def flush(self) -> None:
        """Bring all that was recorded to the disk."""
        self._events.flush()
        for path in [self.folder / METRICS, self.folder / FLOW, *self.folder.glob(EVENTS)]:
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def hyperparameters(self, settings: Mapping[str, Any], text: str) -> None:
        """Write the settings into this very run, not a sub-run of it, and the config as text."""
        known = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings.items()
        }
        # A trial is a folder, and bears its name: runs of equal settings stay apart.
        name = printable("/".join(self.folder.resolve().parts[-2:]))
        start = hparams_pb(known, trial_id=name)
        self._write(start, 0)
        self.text("settings", f"```yaml\n{text}```")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write scalars of one step, as one TensorBoard event; None is left out."""
        present = {tag: float(value) for tag, value in values.items() if value is not None}
        shown = [Summary.Value(tag=t, simple_value=showable(t, v)) for t, v in present.items()]
        self._write(Summary(value=shown), step)
        self._rows.writerows((step, tag, repr(value)) for tag, value in present.items())
        self._file.flush()

    def flow(self, step: int, profiles: Mapping[str, Profile]) -> None:
        """Write profiles of the gradient flow, by quantity, to gradient_flow.csv."""
        for quantity, profile in profiles.items():
            lags = zip(*(column.tolist() for column in profile), strict=True)
            self._flow_rows.writerows((step, quantity, lag, *row) for lag, row in enumerate(lags))
        self._flow_file.flush()

    def profile(self, tag: str, log10: Tensor, first: int = 0) -> None:
        """Write a profile (lags,) to TensorBoard, each lag as a step, from lag `first` on.

        An exact zero has no place on such an axis and is left out; values are shown within 40
        decades. gradient_flow.csv has profiles with their bands; metrics.csv has none.
        """
        for lag, value in enumerate(log10.tolist()):
            if lag >= first and math.isfinite(value):
                shown = max(-SHOWN_DECADES, min(SHOWN_DECADES, value))
                self._write(Summary(value=[Summary.Value(tag=tag, simple_value=shown)]), lag)

    def figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Write a figure to TensorBoard, and as a PNG with the last part of its tag as name."""
        png = io.BytesIO()
        figure.savefig(png, format="png")
        width, height = figure.canvas.get_width_height()
        image = Summary.Image(
            encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4
        )
        self._write(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
        (self.folder / f"{tag.rpartition('/')[2]}.png").write_bytes(png.getvalue())

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text, in Markdown, to TensorBoard."""
        self._events.add_text(tag, markdown, step)

    def close(self) -> None:
        """Flush and close all files."""
        self._file.close()
        self._flow_file.close()
        self._events.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _csv(path: Path, header: list[str]) -> tuple[Any, Any]:
    """Open a CSV file to append rows to; a new one gets its header."""
    file = path.open("a", newline="", encoding="utf-8")
    rows = csv.writer(file, lineterminator="\n")
    if file.tell() == 0:
        rows.writerow(header)
        file.flush()
    return file, rows


def showable(tag: str, value: float) -> float:
    """Return a scalar as TensorBoard shows it: in float32's range, a share within 40 decades."""
    if tag == "gradient/answer_share" and not math.isnan(value):
        return max(-SHOWN_DECADES, min(SHOWN_DECADES, value))
    return math.copysign(math.inf, value) if abs(value) > FLOAT32_MAX else value
