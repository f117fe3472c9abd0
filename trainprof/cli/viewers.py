"""Programs that show a run while it goes on, fed by threads of trainprof's own process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo

if TYPE_CHECKING:
    from trainprof.cli.metrics_server import MetricsServer


class Viewer(Protocol):
    """What a run does with each of them."""

    def start(self) -> None:
        """The training has started."""

    def stop(self) -> None:
        """The training has ended."""

    def finish(self, diagnosis: Diagnosis) -> None:
        """The run is complete."""


def check_viewers(tensorboard: Path | None, wandb: bool) -> None:
    """Finds out before a training starts whether it can be shown as asked.

    Raises:
        MissingExtraError: what is to show it is not installed.
        UsageError: TensorBoard's folder cannot be written.
    """
    if tensorboard is not None:
        from trainprof.cli.live_tensorboard import check_folder

        check_folder(tensorboard)
    if wandb:
        from trainprof.reports.wandb_run import check_wandb

        check_wandb()


def viewers(
    folder: Path,
    info: RunInfo,
    tensorboard: Path | None,
    wandb: bool,
    metrics: MetricsServer | None,
    *,
    calibration: bool,
) -> list[Viewer]:
    """Those that are asked for, none of them started.

    Raises:
        UsageError: TensorBoard's folder cannot be written.
    """
    found: list[Viewer] = []
    if tensorboard is not None:
        from trainprof.cli.live_tensorboard import LiveTensorBoard

        found.append(LiveTensorBoard(folder, tensorboard, info))
    if wandb:
        from trainprof.cli.live_wandb import LiveWandb

        found.append(LiveWandb(folder, info))
    if metrics is not None:
        from trainprof.cli.dashboard_services import diagnosed
        from trainprof.cli.live_metrics import LiveMetrics

        diagnose = partial(diagnosed, calibration=calibration)
        found.append(LiveMetrics(folder, info, metrics, diagnose))
    return found
