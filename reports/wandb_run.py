"""Writes to a run of Weights & Biases: one of its own, or the one that the script has started.

wandb is imported here and nowhere else, in trainprof's own process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

from trainprof.errors import MissingExtraError, TrainprofError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.run import Run
from trainprof.reports.text import printable
from trainprof.reports.wandb_rows import (
    AXES,
    FINDING_COLUMNS,
    Row,
    ScriptRun,
    config_of,
    finding_rows,
    rows_of,
    script_run,
    summary_of,
)

FILES = ("report.html", "diagnosis.json", "tune.json", "plan.json")
"""Of a run folder, those that go along; and its traces."""
PROJECT = "trainprof"
"""Unless the script's run or WANDB_PROJECT names another."""
NAME_CHARACTERS = 128
"""W&B takes no longer ones."""

_INSTALL = "W&B needs wandb, which is not installed: pip install 'trainprof[wandb]'"
_NO_KEY = (
    "W&B knows no API key here; run `wandb login` first, or set WANDB_MODE=offline to write files "
    "that `wandb sync` sends later."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which run is written to.

    Attributes:
        name: Of a new run. group, job_type: Of a new run that belongs to others.
        joined: The script's run, to which everything goes instead.
        folder: In which wandb makes its folder `wandb`; the working directory by default.
        patience_s: For what is still to be sent at the end; None: as long as it takes.
    """

    name: str
    group: str | None = None
    job_type: str | None = None
    joined: ScriptRun | None = None
    folder: Path | None = None
    patience_s: float | None = None


def check_wandb() -> None:
    """Raises MissingExtraError, with the line that installs it, where wandb is absent.

    It is not imported yet: that takes a second, and a training is waiting.
    """
    found = find_spec("wandb")
    if found is None or found.origin is None:  # the folder `wandb` that it leaves is no package
        raise MissingExtraError(_INSTALL)


def _wandb() -> Any:
    check_wandb()
    try:
        import wandb
    except ImportError:
        raise MissingExtraError(_INSTALL) from None
    return wandb


@contextmanager
def open_run(place: Place, config: Mapping[str, Any]) -> Iterator[WandbRun]:
    """Opens the run and closes it at the end, whatever happens.

    Nothing is ever asked, and nothing is printed. With WANDB_MODE=offline nothing is sent.

    Raises:
        MissingExtraError: there is no wandb.
        TrainprofError: the run cannot be opened or written; one sentence.
    """
    wandb = _wandb()
    if os.environ.get("WANDB_MODE") == "disabled":
        raise TrainprofError(
            "WANDB_MODE=disabled switches W&B off; set it to online or offline to write to it."
        )
    with _in_one_sentence(wandb):
        with _no_questions():
            run = wandb.init(**_arguments(wandb, place))
        try:
            for axis, names in AXES.items():
                run.define_metric(axis, hidden=True)
                for name in names:
                    run.define_metric(name, step_metric=axis)
            written = WandbRun(wandb, run)
            written.configure(config)
            yield written
        finally:
            run.finish()


def _arguments(wandb: Any, place: Place) -> dict[str, Any]:
    """What `wandb.init` is given: of a joined run nothing that is the script's is written over."""
    quiet: dict[str, Any] = {
        "silent": True,
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
    }
    if place.patience_s is not None and "finish_timeout" in wandb.Settings.model_fields:
        quiet |= {"finish_timeout": place.patience_s, "finish_timeout_raises": True}
    joined = place.joined
    beside = Path(joined.folder).parent.parent if joined and joined.folder else None
    where = place.folder or (beside if beside is not None and beside.is_dir() else None)
    folder = {"dir": str(where)} if where is not None else {}
    if joined is None:
        project = os.environ.get("WANDB_PROJECT") or PROJECT
        told = {
            "name": printable(place.name, NAME_CHARACTERS),
            "group": place.group,
            "job_type": place.job_type,
        }
        told["id"] = token_hex(4)  # WANDB_RUN_ID names one run, and these may be many
        settings = wandb.Settings(**quiet)
        return {"project": project, "reinit": "create_new", "settings": settings, **told, **folder}
    told = {"id": joined.run_id, "project": joined.project, "entity": joined.entity}
    quiet["x_primary"] = False  # its files and metadata are the script's
    how: dict[str, Any] = {"mode": "offline"}
    if joined.mode == "shared":
        quiet["x_update_finish_state"] = False
        how = {"mode": "shared"}
    elif joined.mode != "offline" and os.environ.get("WANDB_MODE", "online") != "offline":
        how = {"resume": "allow"}
    settings = wandb.Settings(**quiet)
    return {"reinit": "create_new", "settings": settings, **told, **how, **folder}


@contextmanager
def _no_questions() -> Iterator[None]:
    """It asks for a key only where somebody could type it."""
    terminal = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = terminal


@contextmanager
def _in_one_sentence(wandb: Any) -> Iterator[None]:
    errors = wandb.errors
    try:
        yield
    except (errors.UsageError, errors.AuthenticationError) as error:
        if "api" in str(error).lower() and "key" in str(error).lower():
            raise TrainprofError(_NO_KEY) from None
        raise TrainprofError(f"W&B refused: {_first_line(error)}") from None
    except errors.Error as error:
        raise TrainprofError(f"W&B could not be written: {_first_line(error)}") from None
    except TimeoutError:
        raise TrainprofError(
            "W&B did not take everything in time; `wandb sync` sends the rest."
        ) from None
    except ConnectionError:  # it writes through a process of its own
        raise TrainprofError("W&B could not be written: its own process has ended.") from None
    except OSError as error:
        raise TrainprofError(f"W&B's files cannot be written ({error.strerror}).") from None
    except ValueError as error:
        raise TrainprofError(f"W&B does not take a setting: {_setting(error)}") from None


def _setting(error: ValueError) -> str:
    """The first setting that is wrong, in a line: wandb's pydantic lists all over several."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return _first_line(error)
    first = errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."


class WandbRun:
    """An open run.

    Attributes:
        folder: Where its files lie.
        run_id: Its id.
        url: Where it is shown; None offline.
    """

    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb = wandb
        self._run = run
        self.folder = Path(run.settings.sync_dir)
        self.run_id: str = run.id
        self.url: str | None = None if run.offline else run.url

    def configure(self, config: Mapping[str, Any]) -> None:
        """What was run, beside whatever the script has put into the config."""
        with _in_one_sentence(self._wandb):
            self._run.config.update({"trainprof": dict(config)}, allow_val_change=True)

    def log(self, rows: Iterable[Row]) -> None:
        """Adds rows to the history."""
        with _in_one_sentence(self._wandb):
            for row in rows:
                self._run.log(row)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds a table."""
        with _in_one_sentence(self._wandb):
            self._run.log({name: self._wandb.Table(columns=list(columns), data=list(rows))})

    def conclude(self, diagnosis: Diagnosis, files: Iterable[Path]) -> None:
        """The summary, the table of findings, and files as an artifact."""
        self.table("trainprof_findings", FINDING_COLUMNS, finding_rows(diagnosis))
        with _in_one_sentence(self._wandb):
            self._run.summary.update(summary_of(diagnosis))
            artifact = self._wandb.Artifact(f"trainprof-{self.run_id}", "trainprof")
            for path in files:
                artifact.add_file(str(path), name=path.name)
            if artifact.manifest.entries:
                self._run.log_artifact(artifact)


def export_run(run: Run, diagnosis: Diagnosis, place: Place) -> WandbRun:
    """Writes a whole run; see `open_run` for what is raised."""
    with open_run(place, config_of(run, diagnosis)) as written:
        written.log(rows_of(run))
        written.conclude(diagnosis, files_of(Path(run.path)))
    return written


def joined_run(run: Run) -> ScriptRun | None:
    """The W&B run of the script: that which its processes logged to, or of WANDB_RUN_ID."""
    found = script_run([one for session in run.sessions for one in session.trainers])
    return found or named_run(os.environ)


def named_run(environment: Mapping[str, str]) -> ScriptRun | None:
    """The run that the environment names for whatever logs, wandb in the script too."""
    if not environment.get("WANDB_RUN_ID"):
        return None
    return ScriptRun(
        environment["WANDB_RUN_ID"],
        environment.get("WANDB_PROJECT"),
        environment.get("WANDB_ENTITY"),
        environment.get("WANDB_MODE", "online"),
    )


def files_of(folder: Path) -> list[Path]:
    """The files of a run folder that go along."""
    named = [folder / name for name in FILES]
    traces = sorted((folder / "traces").glob("*.json.gz"))
    return [path for path in (*named, *traces) if path.is_file()]
