"""One file of events, as TensorBoard reads it, written with TensorBoard's own record writer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from trainprof.errors import MissingExtraError, UsageError

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar import metadata as layout_metadata
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.image import metadata as image_metadata
    from tensorboard.plugins.text import metadata as text_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] not in ("tensorboard", "google"):
        raise
    raise MissingExtraError(
        "TensorBoard is not installed: pip install 'trainprof[tensorboard]'"
    ) from None

SUFFIX = ".trainprof"
"""Of the files that are ours: a later export replaces them, and no others."""

Chart = tuple[str, tuple[str, ...]]
"""Title of a chart and patterns of the names of its curves."""

_numbers = itertools.count()


def remove_events(folder: Path) -> None:
    """Removes our files in and below a folder, and the folders that are empty then.

    Raises:
        UsageError: they cannot be removed.
    """
    try:
        for old in list(folder.rglob(f"*tfevents*{SUFFIX}")):
            old.unlink()
            inner = old.parent
            while inner != folder and not any(inner.iterdir()):
                inner.rmdir()
                inner = inner.parent
    except OSError as error:
        raise _unwritable(folder, error) from None


class EventFile:
    """One file in the folder of a run.

    Args:
        folder: Of the run, or of a part of it. unix_s: When the run began.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, unix_s: float) -> None:
        host = os.uname().nodename
        number = next(_numbers)
        name = f"events.out.tfevents.{int(unix_s):010d}.{host}.{os.getpid()}.{number}{SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("wb")
        except OSError as error:
            raise _unwritable(folder, error) from None
        self._writer = RecordWriter(self._file)
        self._write(Event(wall_time=unix_s, file_version="brain.Event:2"))
        # A server that has read an earlier export forgets it here.
        self._write(Event(wall_time=unix_s, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, unix_s: float, values: Mapping[str, float]) -> None:
        """One point of each curve that is named; NaN and infinity stay what they are."""
        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self._write(Event(wall_time=unix_s, step=step, summary=summary))

    def text(self, name: str, step: int, unix_s: float, markdown: str) -> None:
        """A text in Markdown."""
        metadata = text_metadata.create_summary_metadata(display_name=None, description=None)
        self._strings(name, step, unix_s, [markdown.encode("utf-8", "replace")], metadata, ())

    def image(self, name: str, step: int, unix_s: float, png: bytes, size: tuple[int, int]) -> None:
        """A picture; `size` is its width and height in pixels."""
        metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
        strings = [str(size[0]).encode(), str(size[1]).encode(), png]
        self._strings(name, step, unix_s, strings, metadata, (3,))

    def layout(self, unix_s: float, categories: Mapping[str, tuple[Chart, ...]]) -> None:
        """How the custom scalars are laid out."""
        layout = layout_pb2.Layout(
            category=[
                layout_pb2.Category(title=title, chart=[_chart(*chart) for chart in charts])
                for title, charts in categories.items()
            ]
        )
        metadata = layout_metadata.create_summary_metadata()
        name = layout_metadata.CONFIG_SUMMARY_TAG
        self._strings(name, 0, unix_s, [layout.SerializeToString()], metadata, ())

    def parameters(self, group: str, unix_s: float, values: Mapping[str, float | str]) -> None:
        """The parameters that this run was made with, for the HParams page."""
        summary = hparams_pb(dict(values), trial_id=group, start_time_secs=unix_s)
        self._write(Event(wall_time=unix_s, summary=summary))

    def flush(self) -> None:
        """Hands what was written to the system, where a server sees it."""
        self._writer.flush()

    def close(self) -> None:
        """Writes the rest and ends the file."""
        self._writer.close()

    def _strings(
        self,
        name: str,
        step: int,
        unix_s: float,
        strings: list[bytes],
        metadata: SummaryMetadata,
        shape: tuple[int, ...],
    ) -> None:
        dimensions = [TensorShapeProto.Dim(size=length) for length in shape]
        tensor = TensorProto(
            dtype=DT_STRING, string_val=strings, tensor_shape=TensorShapeProto(dim=dimensions)
        )
        value = Summary.Value(tag=name, tensor=tensor, metadata=metadata)
        self._write(Event(wall_time=unix_s, step=step, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"{folder} cannot be written ({error.strerror}); name another folder.")


def _chart(title: str, patterns: tuple[str, ...]) -> layout_pb2.Chart:
    lines = layout_pb2.MultilineChartContent(tag=list(patterns))
    return layout_pb2.Chart(title=title, multiline=lines)
