"""`trainprof run`: the script under the agent, then the diagnosis."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainprof import __version__
from trainprof.profiler.launch import Child, Ending, child_environment, resolve_command

if TYPE_CHECKING:
    from trainprof.cli.dashboard_run import DashboardRun
    from trainprof.cli.viewers import Viewer
    from trainprof.profiler.model.collector_status import CollectorStatus
    from trainprof.profiler.model.records import RunInfo


PRELOAD_AFTER_S = 1.0
"""Into the run, what the diagnosis needs is imported, so that it follows the last line at once."""


class TraceSteps(click.ParamType):  # type: ignore[type-arg]
    """`auto`, `off`, a step, or a range of steps."""

    name = "STEPS|auto|off"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself, where it can be understood."""
        from trainprof.profiler.store.trace_files import MOST_STEPS, step_range

        if value not in ("auto", "off") and step_range(value) is None:
            self.fail(
                f"{value!r} is neither auto nor off, nor a step such as 120, nor a range such as "
                f"120-124 of at most {MOST_STEPS} steps",
                param,
                ctx,
            )
        return value


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--out", type=click.Path(path_type=Path), help="Exact folder for this run's records.")
@click.option("--name", help="Name of the run; the script's name by default.")
@click.option("--steps", type=click.IntRange(min=1), help="Stop after this many training steps.")
@click.option(
    "--stacks/--no-stacks",
    default=True,
    help="Sample Python stacks, to name the functions behind a phase (default: yes).",
)
@click.option(
    "--probe/--no-probe",
    default=None,
    envvar="TRAINPROF_PROBE",
    help="Look at the data set after the training, in a process of its own (default: where the "
    "training waits for its data, its batches may be padded, or it took a minute).",
)
@click.option(
    "--probe-budget",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for that, the import of torch not counted.",
)
@click.option(
    "--trace",
    type=TraceSteps(),
    default="auto",
    show_default=True,
    envvar="TRAINPROF_TRACE",
    help="Steps to trace with torch's profiler (`120` or `120-124`, 20 at most). auto: one steady "
    "step is looked at, and on an accelerator three are traced; off: never, nor on request.",
)
@click.option(
    "--nvtx",
    is_flag=True,
    help="Name steps and phases for Nsight Systems: `nsys profile trainprof run --nvtx ...`.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Apply the fixes of a plan while the script runs, and say whether they are in force.",
)
@click.option(
    "--force-plan",
    is_flag=True,
    help="Apply all of a plan also where script, torch or machine are not those of its proof.",
)
@click.option(
    "--fix",
    "fixes",
    multiple=True,
    metavar="ID[:k=v,…]",
    help="Apply this fix while the script runs; may be given again. `at=train.py:61` says where "
    "the loader or optimizer is made, if there are several.",
)
@click.option(
    "--calibration/--no-calibration",
    default=True,
    help="Hold predictions against what earlier tunes have measured here (default: yes).",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Show the run in TensorBoard while it goes on: a folder of its own in DIR.",
)
@click.option(
    "--wandb",
    is_flag=True,
    help="Show the run at Weights & Biases while it goes on; where the script has a W&B run of its "
    "own, in that one.",
)
@click.option("--quiet", is_flag=True, help="Print nothing; read the run with `diagnose`.")
@click.option(
    "--tui/--no-tui",
    default=False,
    help="Show a dashboard meanwhile, with the script's output in it (default: no).",
)
@click.option("--yes", is_flag=True, help="Answer yes to questions (run asks none).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    out: Path | None,
    name: str | None,
    steps: int | None,
    probe: bool | None,
    probe_budget: float,
    trace: str,
    nvtx: bool,
    stacks: bool,
    plan: Path | None,
    force_plan: bool,
    fixes: tuple[str, ...],
    calibration: bool,
    tensorboard: Path | None,
    wandb: bool,
    quiet: bool,
    tui: bool,
    yes: bool,
    command: tuple[str, ...],
) -> int:
    """Run a training command unmodified, and say where its time goes.

    COMMAND is what you type without trainprof: `train.py --lr 0.1`, `python -m pkg.train`,
    `torchrun --nproc_per_node=2 train.py`, `bash train.sh`. Exit status, stdout and stderr are the
    script's own; the diagnosis follows on stderr.
    """
    started = resolve_command(command)
    if os.environ.get("TRAINPROF_DISABLE") == "1":
        return Child(started, os.environ).wait().exit_status
    if tui:
        from trainprof.cli.top import check_screen

        check_screen("trainprof run --tui", "leave --tui out where there is none")
    from trainprof.profiler.store.folder import create_run_folder

    if tensorboard is not None or wandb:
        from trainprof.cli.viewers import check_viewers

        check_viewers(tensorboard, wandb)
    folder = create_run_folder(out, name, _script_of(command))
    watched = _Watched(
        steps,
        probe,
        probe_budget,
        trace,
        stacks,
        _plan(plan, fixes, folder, force_plan),
        nvtx,
        tui,
    )
    session = _Session(folder, name or folder.name, command, watched, quiet)
    if tensorboard is not None or wandb:
        session.show_in(tensorboard, wandb)
    status = session.run(started)
    session.leave_dashboard()
    if not quiet or tensorboard is not None or wandb:
        session.conclude(calibration=calibration)
    return status


def _plan(plan: Path | None, fixes: tuple[str, ...], folder: Path, force: bool) -> Path | None:
    """The plan of this run, copied into its folder; None where nothing is to be applied."""
    if plan is None and not fixes:
        return None
    from trainprof.cli.planning import write_plan

    return write_plan(plan, fixes, folder, force=force)


def _third_party(plan: Path | None) -> dict[str, tuple[str, str]]:
    """Where the fixes of the plan lie that other packages bring."""
    if plan is None:
        return {}
    from trainprof.cli.planning import read_plan
    from trainprof.rules.fixes.third_party import files_of

    return files_of(one.fix for one in read_plan(plan).applications)


def _script_of(command: tuple[str, ...]) -> str:
    """The words that name the run: the first Python file or module, else the program."""
    for index, word in enumerate(command):
        if word.endswith(".py"):
            return word
        if word == "-m" and index + 1 < len(command):
            return command[index + 1]
    return command[0]


@dataclasses.dataclass(frozen=True, slots=True)
class _Watched:
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
    """

    steps: int | None
    probe: bool | None
    probe_budget_s: float
    trace: str
    stacks: bool
    plan: Path | None = None
    nvtx: bool = False
    tui: bool = False


class _Session:
    """One supervised run: its folder, its child, its samples."""

    def __init__(
        self,
        folder: Path,
        name: str,
        command: tuple[str, ...],
        watched: _Watched,
        quiet: bool,
    ) -> None:
        self._folder = folder
        self._quiet = quiet
        self._watched = watched
        self._info = self._first_info(name, command)
        self._dashboard: DashboardRun | None = None
        self._viewers: list[Viewer] = []

    def show_in(self, tensorboard: Path | None, wandb: bool) -> None:
        """Lets other programs show the run while it goes on."""
        from trainprof.cli.viewers import viewers

        self._viewers = viewers(self._folder, self._info, tensorboard, wandb)

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
        """Runs the command to its end and completes run.json; gives the exit status."""
        from trainprof.cli.planning import environment_of
        from trainprof.profiler.samplers.commit import read_commit
        from trainprof.profiler.samplers.hardware import read_hardware, read_mounts
        from trainprof.profiler.samplers.recorder import SampleRecorder
        from trainprof.profiler.samplers.stacks import StackSampler, plan_stacks

        self._write()
        watched = self._watched
        probe = watched.probe is not False
        environment = child_environment(
            os.environ,
            self._folder,
            watched.steps,
            probe,
            watched.plan,
            _third_party(watched.plan),
        )
        for name, value in environment_of(watched.plan).items():
            environment.pop(name, None)
            environment |= {name: value} if value is not None else {}
        plan = plan_stacks(watched.stacks)
        told = {"TRAINPROF_TRACE": watched.trace, "TRAINPROF_STACKS": plan.for_agent()}
        told["TRAINPROF_NVTX"] = "1" if watched.nvtx else "0"
        dashboard = self._dashboard = _dashboard(self._folder) if watched.tui else None
        terminal = None if dashboard is None else dashboard.terminal
        child = Child(command, {**environment, **told}, terminal)
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
        statuses = (*recorder.statuses(), *stacks.statuses())
        return self._complete(ending, ended_ns, statuses)

    def _complete(
        self, ending: Ending, ended_ns: int, statuses: tuple[CollectorStatus, ...]
    ) -> int:
        from trainprof.cli.stopping import was_stopped
        from trainprof.profiler.store.traces import pack_traces

        pack_traces(self._folder)
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
        from trainprof.cli.looking import look_at_data_set

        return look_at_data_set(
            self._folder,
            self._watched.probe,
            self._watched.probe_budget_s,
            (ended_ns - self._info.started_ns) / 1e9,
            interrupted=ending.interrupted,
        )

    def leave_dashboard(self) -> None:
        """Waits until the user leaves the dashboard, where there is one."""
        if self._dashboard is not None:
            self._dashboard.wait()

    def conclude(self, *, calibration: bool) -> None:
        """Reads the run back and diagnoses it, for the terminal and for whoever shows it."""
        from trainprof.cli.conclude import conclude, judged

        sys.stderr.flush()
        told = judged if self._quiet else conclude
        diagnosis = told(self._folder, calibration=calibration)
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


def _dashboard(folder: Path) -> DashboardRun:
    from trainprof.cli.dashboard_run import DashboardRun

    return DashboardRun(folder)


def _status(exit_status: int) -> str:
    return "complete" if exit_status == 0 else "crashed"
