"""What a run leaves behind: the only file that knows TensorBoard, CSV and JSON."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch.utils.tensorboard import SummaryWriter

from statland.gradients.flow import Profile
from statland.settings import SettingError

if TYPE_CHECKING:  # importing it takes a second that no run should wait for before it trains
    from matplotlib.figure import Figure

# Largest float32: TensorBoard's scalars are no wider. The plain value is in metrics.csv.
FLOAT32_MAX = 3.4028234663852886e38

METRICS, FLOW, EVENTS = "metrics.csv", "gradient_flow.csv", "events.out.tfevents.*"

# One for each field of a Profile.
FLOW_COLUMNS = ("log10_median", "log10_p10", "log10_p90", "companies", "exact_zeros")


class Recorder:
    """Writes one run folder: TensorBoard events, CSV files, figures and summary.json.

    metrics.csv has the columns step, tag, value, a row for every scalar that TensorBoard has;
    gradient_flow.csv has step, quantity, lag, log10_median, log10_p10, log10_p90, companies and
    exact_zeros.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int] | None = None) -> None:
        """Start recording into `folder`, or take it up where its files had these `sizes`.

        Raises SettingError where a new run would meet an earlier one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if sizes is None and (folder / METRICS).exists():
            raise SettingError(f"{folder} holds a run already; allowed: a new folder")
        if sizes is not None:
            _cut_back(folder, sizes)
        self._file, self._rows = _csv(folder / METRICS, ["step", "tag", "value"])
        header = ["step", "quantity", "lag", *FLOW_COLUMNS]
        self._flow_file, self._flow_rows = _csv(folder / FLOW, header)
        self._events = SummaryWriter(str(folder))

    def sizes(self) -> dict[str, int]:
        """Bring all that was recorded to the disk; the size of each file, in bytes."""
        self._events.flush()
        for file in (self._file, self._flow_file):
            file.flush()
        found = {}
        for path in [self.folder / METRICS, self.folder / FLOW, *self.folder.glob(EVENTS)]:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                found[path.name] = path.stat().st_size
        return found

    def hyperparameters(self, settings: Mapping[str, Any], text: str) -> None:
        """Write the settings into this very run, not a sub-run of it, and the config as text."""
        known = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings.items()
        }
        # Runs with equal settings stay apart: a trial is a folder, and bears its name.
        start = hparams_pb(known, trial_id="/".join(self.folder.resolve().parts[-2:]))
        self._events.file_writer.add_summary(start, 0)
        self.text("config", f"```yaml\n{text}```")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write scalars of one step, as one TensorBoard event; None is left out."""
        present = {tag: float(value) for tag, value in values.items() if value is not None}
        event = Summary(
            value=[Summary.Value(tag=t, simple_value=_float32(v)) for t, v in present.items()]
        )
        self._events.file_writer.add_summary(event, step)
        self._rows.writerows((step, tag, repr(value)) for tag, value in present.items())
        self._file.flush()

    def flow(self, step: int, profiles: Mapping[str, Profile]) -> None:
        """Write profiles of the gradient flow, by quantity, to gradient_flow.csv: a row a lag."""
        for quantity, profile in profiles.items():
            columns = (column.tolist() for column in profile)
            self._flow_rows.writerows(
                (step, quantity, lag, *row) for lag, row in enumerate(zip(*columns, strict=True))
            )
        self._flow_file.flush()

    def figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Write a figure to TensorBoard, and as a PNG named like its tag."""
        png = io.BytesIO()
        figure.savefig(png, format="png")
        width, height = figure.canvas.get_width_height()
        image = Summary.Image(
            encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4
        )
        event = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._events.file_writer.add_summary(event, step)
        (self.folder / f"{tag.replace('/', '_')}.png").write_bytes(png.getvalue())

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text, in Markdown, to TensorBoard."""
        self._events.add_text(tag, markdown, step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write summary.json."""
        write_summary(self.folder, values)

    def close(self) -> None:
        """Flush and close all files."""
        self._file.close()
        self._flow_file.close()
        self._events.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_summary(folder: Path, values: Mapping[str, Any]) -> None:
    """Write summary.json, strict JSON: a number that is not finite is null."""
    path = folder / "summary.json"
    beside = path.with_suffix(".json.part")
    text = json.dumps(strict(values), indent=2, allow_nan=False, ensure_ascii=False)
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)  # never a half-written summary


def read_summary(folder: Path) -> dict[str, Any] | None:
    """What summary.json of a run folder holds; None where there is none that can be read."""
    try:
        read = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) and "status" in read else None


def read_flow(folder: Path) -> dict[int, dict[str, Profile]]:
    """What gradient_flow.csv holds: profiles by step and quantity.

    Raises SettingError where it is damaged.
    """
    found: dict[int, dict[str, list[list[float]]]] = {}
    with (folder / FLOW).open(newline="", encoding="utf-8") as file:
        try:
            for step, quantity, _, *row in list(csv.reader(file))[1:]:
                lags = found.setdefault(int(step), {}).setdefault(quantity, [])
                lags.append([float(value) for value in row])
        except ValueError as error:
            raise SettingError(f"{folder / FLOW} is damaged: {error}") from error
    return {
        step: {
            quantity: Profile(*torch.tensor(lags, dtype=torch.float64).T)
            for quantity, lags in by_quantity.items()
        }
        for step, by_quantity in found.items()
    }


def _csv(path: Path, header: list[str]) -> tuple[Any, Any]:
    """A CSV file to append rows to, its header written where it is new."""
    file = path.open("a", newline="", encoding="utf-8")
    rows = csv.writer(file, lineterminator="\n")
    if file.tell() == 0:
        rows.writerow(header)
        file.flush()
    return file, rows


def check_records(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise SettingError where a run's files are not those that had these sizes once."""
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size < size:
            state = "shorter than" if path.is_file() else "gone since"
            raise SettingError(
                f"{path} is {state} the checkpoint says; allowed: a run folder as it was left"
            )


def _cut_back(folder: Path, sizes: Mapping[str, int]) -> None:
    """Undo what was recorded after the files had these sizes, the summary too."""
    for path in [folder / METRICS, folder / FLOW, *folder.glob(EVENTS)]:
        if path.name in sizes:
            os.truncate(path, sizes[path.name])
        else:
            path.unlink(missing_ok=True)
    (folder / "summary.json").unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove what an earlier try has recorded in a run folder, its log apart."""
    for pattern in (METRICS, FLOW, EVENTS, "grad_flow_*.png", "summary.json*", "checkpoint*"):
        for path in folder.glob(pattern):
            path.unlink()


def _float32(value: float) -> float:
    """The value in float32's range: what is beyond is inf."""
    return math.copysign(math.inf, value) if abs(value) > FLOAT32_MAX else value


def strict(value: Any) -> Any:
    """What strict JSON can hold: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)
