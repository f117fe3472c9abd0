"""`trainprof run`: the script under the agent, then the diagnosis."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainprof.cli.session import Session, Watched
from trainprof.profiler.launch import Child, resolve_command

if TYPE_CHECKING:
    from trainprof.cli.metrics_server import MetricsServer


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
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve the run to Prometheus at http://127.0.0.1:PORT/metrics while it goes on; 0 takes "
    "any port that is free.",
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
    metrics_port: int | None,
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
    metrics = None if metrics_port is None else _metrics(metrics_port, quiet)
    folder = create_run_folder(out, name, _script_of(command))
    watched = Watched(
        steps,
        probe,
        probe_budget,
        trace,
        stacks,
        _plan(plan, fixes, folder, force_plan),
        nvtx,
        tui,
        calibration,
    )
    session = Session(folder, name or folder.name, command, watched, quiet)
    if tensorboard is not None or wandb or metrics is not None:
        session.show_in(tensorboard, wandb, metrics)
    status = session.run(started)
    try:
        with session.interruptible():
            session.leave_dashboard()
        with session.interruptible():
            if not quiet or tensorboard is not None or wandb:
                session.conclude()
    except KeyboardInterrupt:  # the run is over: its exit status is the script's
        print("trainprof: stopped; `trainprof diagnose` tells of this run.", file=sys.stderr)
    return status


def _metrics(port: int, quiet: bool) -> MetricsServer:
    """The server of the metrics, which has its port; where nobody knows that yet it is said."""
    from trainprof.cli.live_metrics import open_server

    server = open_server(port)
    if port == 0 or not quiet:
        print(f"trainprof: the metrics of this run are at {server.url}", file=sys.stderr)
    return server


def _plan(plan: Path | None, fixes: tuple[str, ...], folder: Path, force: bool) -> Path | None:
    """The plan of this run, copied into its folder; None where nothing is to be applied."""
    if plan is None and not fixes:
        return None
    from trainprof.cli.planning import write_plan

    return write_plan(plan, fixes, folder, force=force)


def _script_of(command: tuple[str, ...]) -> str:
    """The words that name the run: the first Python file or module, else the program."""
    for index, word in enumerate(command):
        if word.endswith(".py"):
            return word
        if word == "-m" and index + 1 < len(command):
            return command[index + 1]
    return command[0]
