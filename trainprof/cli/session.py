"""One supervised run: its folder, its child, its samples, and what is made of them."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from trainprof import __version__
from trainprof.profiler.launch import Child, Ending, child_environment

if TYPE_CHECKING:
    from trainprof.cli.dashboard_run import DashboardRun
    from trainprof.cli.metrics_server import MetricsServer
    from trainprof.cli.viewers import Viewer
    from trainprof.profiler.model.collector_status import CollectorStatus
    from trainprof.profiler.model.records import RunInfo

PRELOAD_AFTER_S = 1.0
"""Into the run, what the diagnosis needs is imported, so that it follows the last line at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """What a run is asked to record.

    Attributes:
        steps: The training is stopped after so many.
        probe: Whether the data set is looked at afterwards; None: where it is worth its time.
        probe_budget_s: For that look.
        trace: "auto", "off", or the steps to trace.
        stacks: Whether Python stacks are sampled.
        plan: File of the fixes to apply.
        nvtx: Whether NVTX ranges are emitted.
        tui: Whether a dashboard is shown meanwhile.
        calibration: Whether predictions are held against what earlier tunes have measured.
    """

    steps: int | None
    probe: bool | None
    probe_budget_s: float
    trace: str
    stacks: bool
    plan: Path | None = None
    nvtx: bool = False
    tui: bool = False
    calibration: bool = True


class Session:
    """One supervised run: its folder, its child, its samples."""

    def __init__(
        self,
        folder: Path,
        name: str,
        command: tuple[str, ...],
        watched: Watched,
        quiet: bool,
    ) -> None:
        self._folder = folder
        self._quiet = quiet
        self._watched = watched
        self._info = self._first_info(name, command)
        self._dashboard: DashboardRun | None = None
        self._viewers: list[Viewer] = []

    def show_in(self, tensorboard: Path | None, wandb: bool, metrics: MetricsServer | None) -> None:
        """Lets other programs show the run while it goes on."""
        from trainprof.cli.viewers import viewers

        calibration = self._watched.calibration
        self._viewers = viewers(
            self._folder, self._info, tensorboard, wandb, metrics, calibration=calibration
        )

    def _first_info(self, name: str, command: tuple[str, ...]) -> RunInfo:
        from trainprof.profiler.model.records import RunInfo
        from trainprof.profiler.store.layout import FORMAT
        from trainprof.profiler.store.secrets import allowed_environment, mask_secrets

        return RunInfo(
            format=FORMAT,
            name=name,
            argv=tuple(mask_secrets(command)),
            cwd=os.getcwd(),
            started_unix_s=time.time(),
            started_ns=time.perf_counter_ns(),
            trainprof=__version__,
            host=os.uname().nodename,
            supervisor_pid=os.getpid(),
            steps_limit=self._watched.steps,
            environment=allowed_environment(os.environ),
        )

    def run(self, command: list[str]) -> int:
        """Runs the command to its end and completes run.json; gives the exit status.

        Signals stay with the command: after its end they change nothing any more, unless they come
        inside `interruptible`.
        """
        from trainprof.profiler.samplers.commit import read_commit
        from trainprof.profiler.samplers.hardware import read_hardware, read_mounts
        from trainprof.profiler.samplers.recorder import SampleRecorder
        from trainprof.profiler.samplers.stacks import StackSampler, plan_stacks
        from trainprof.profiler.store.traces import pack_traces

        self._write()
        watched = self._watched
        plan = plan_stacks(watched.stacks)
        dashboard = self._dashboard = _dashboard(self._folder, watched) if watched.tui else None
        terminal = None if dashboard is None else dashboard.terminal
        child = self._child = Child(command, self._environment(plan.for_agent()), terminal)
        self._update(child_pid=child.pid)
        if dashboard is not None:
            dashboard.show()
        recorder = SampleRecorder(self._folder, child.pid)
        recorder.start()
        stacks = StackSampler(self._folder, child.pid, plan)
        stacks.start()
        for viewer in self._viewers:
            viewer.start()
        self._update(hardware=read_hardware(), mounts=read_mounts([self._info.cwd]))
        self._update(commit=read_commit(self._info.cwd))
        if not self._quiet and not child.wait_at_most(PRELOAD_AFTER_S):
            import trainprof.cli.conclude  # noqa: F401  ready when the script ends
        if watched.steps is not None:
            from trainprof.cli.stopping import stand_by

            stand_by(child, self._folder)
        ending = child.wait()
        ended_ns = time.perf_counter_ns()
        if dashboard is not None:
            dashboard.drain()
        recorder.stop()
        stacks.stop()
        for viewer in self._viewers:
            viewer.stop()
        pack_traces(self._folder)
        statuses = (*recorder.statuses(), *stacks.statuses())
        return self._complete(ending, ended_ns, statuses)

    def _environment(self, stacks: str) -> dict[str, str]:
        """Of the child: what the agent is told, and what a plan changes."""
        from trainprof.cli.planning import environment_of

        watched = self._watched
        environment = child_environment(
            os.environ,
            self._folder,
            watched.steps,
            watched.probe is not False,
            watched.plan,
            _third_party(watched.plan),
        )
        for name, value in environment_of(watched.plan).items():
            environment.pop(name, None)
            environment |= {name: value} if value is not None else {}
        told = {"TRAINPROF_TRACE": watched.trace, "TRAINPROF_STACKS": stacks}
        return {**environment, **told, "TRAINPROF_NVTX": "1" if watched.nvtx else "0"}

    def _complete(
        self, ending: Ending, ended_ns: int, statuses: tuple[CollectorStatus, ...]
    ) -> int:
        from trainprof.cli.stopping import was_stopped

        stopped = self._watched.steps is not None and was_stopped(self._folder)
        status = 0 if stopped else ending.exit_status
        if self._watched.probe is not False:
            statuses = (*statuses, self._look_at_data_set(ending, ended_ns))
        self._update(
            status="stopped" if stopped or ending.interrupted else _status(status),
            stopped_by="steps" if stopped else ending.signal,
            exit_status=status,
            ended_unix_s=time.time(),
            ended_ns=ended_ns,
            collectors=statuses,
        )
        return status

    def _look_at_data_set(self, ending: Ending, ended_ns: int) -> CollectorStatus:
        from trainprof.cli.looking import INTERRUPTED, look_at_data_set

        try:
            with self.interruptible():
                return look_at_data_set(
                    self._folder,
                    self._watched.probe,
                    self._watched.probe_budget_s,
                    (ended_ns - self._info.started_ns) / 1e9,
                    interrupted=ending.interrupted,
                )
        except KeyboardInterrupt:
            return INTERRUPTED

    def interruptible(self) -> AbstractContextManager[None]:
        """Inside, once the command has ended, the first interrupt raises KeyboardInterrupt."""
        return self._child.interruptible()

    def leave_dashboard(self) -> None:
        """Waits until the user leaves the dashboard, where there is one."""
        if self._dashboard is not None:
            self._dashboard.wait()

    def conclude(self) -> None:
        """Reads the run back and diagnoses it, for the terminal and for whoever shows it."""
        from trainprof.cli.conclude import conclude, judged

        sys.stderr.flush()
        told = judged if self._quiet else conclude
        diagnosis = told(self._folder, calibration=self._watched.calibration)
        for viewer in self._viewers:
            viewer.finish(diagnosis)

    def _update(self, **changes: object) -> None:
        self._info = dataclasses.replace(self._info, **changes)  # type: ignore[arg-type]
        self._write()

    def _write(self) -> None:
        from trainprof.errors import RunFolderError
        from trainprof.profiler.store.folder import write_run_info

        try:
            write_run_info(self._folder, self._info)
        except RunFolderError as error:  # the script has run all the same
            print(f"trainprof: {error}", file=sys.stderr)


def _dashboard(folder: Path, watched: Watched) -> DashboardRun:
    from trainprof.cli.dashboard_run import DashboardRun

    return DashboardRun(folder, calibration=watched.calibration)


def _status(exit_status: int) -> str:
    return "complete" if exit_status == 0 else "crashed"


def _third_party(plan: Path | None) -> dict[str, tuple[str, str]]:
    """Where the fixes of the plan lie that other packages bring."""
    if plan is None:
        return {}
    from trainprof.cli.planning import read_plan
    from trainprof.rules.fixes.third_party import files_of

    return files_of(one.fix for one in read_plan(plan).applications)
