"""`trainprof demo`: the two-minute tour, on a small training that waits for its data."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import click

from trainprof.errors import UsageError
from trainprof.profiler.launch import target_python

USUAL_WORKERS = 4
_HAS_TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the script and its run.")
@click.option("--quiet", is_flag=True, help="Only the script's output and the diagnosis.")
@click.option("--yes", is_flag=True, help="Answer yes to questions (demo asks none).")
@click.option("--no-tui", is_flag=True, help="No dashboard (demo shows none anyway).")
def demo(out: Path | None, quiet: bool, yes: bool, no_tui: bool) -> int:
    """Profile a small training with a planted bottleneck, and say what to do about it."""
    from trainprof.cli.main import main

    python = target_python()
    _check_torch(python)
    folder = _folder(out)
    script = folder / "train.py"
    script.write_bytes(files("trainprof.cli").joinpath("demo_training.py").read_bytes())
    command = ["run", "--out", str(folder / "run"), "--", python, str(script)]
    if not quiet:
        click.echo("A small image classifier, unmodified, takes about ten seconds:\n")
        click.echo(f"$ trainprof {shlex.join(command)}\n")
        sys.stdout.flush()
    status = main(command)
    if status == 0 and not quiet:
        click.echo(f"\n{_tour(folder, python)}")
    return status


def _check_torch(python: str) -> None:
    # -I: the working directory may hold a folder called torch.
    if subprocess.run([python, "-I", "-c", _HAS_TORCH], check=False).returncode != 0:
        raise UsageError(
            f"{python} has no torch, which the demo trains with; install it with "
            f"`{shlex.quote(python)} -m pip install torch`, or activate an environment that has it."
        )


def _folder(out: Path | None) -> Path:
    if out is None:
        return Path(tempfile.mkdtemp(prefix="trainprof-demo-"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError(f"{out} is not empty; name a new folder with --out.")
    except OSError as error:
        raise UsageError(f"{out} cannot be used ({error.strerror}); name another folder.") from None
    return out


def _tour(folder: Path, python: str) -> str:
    script = shlex.join([python, str(folder / "train.py")])
    repaired = shlex.quote(str(folder / "repaired"))
    recorded = shlex.quote(str(folder / "run"))
    workers = _advised_workers(folder / "run" / "diagnosis.json")
    return "\n".join(
        (
            "Try next:",
            "  The repair, and the diagnosis of the repaired training:",
            f"    trainprof run --out {repaired} -- {script} --workers {workers}",
            "  The first run again, for a program to read:",
            f"    trainprof diagnose {recorded} --format json",
            "  Your own training, unmodified:",
            "    trainprof run YOUR-TRAINING.py",
        )
    )


def _advised_workers(path: Path) -> int:
    """The number of workers that the diagnosis advises, or one that helps on any machine."""
    try:
        findings = json.loads(path.read_text(encoding="utf-8"))["findings"]
    except (OSError, ValueError, KeyError):
        findings = []
    advised = [fix["params"].get("num_workers") for found in findings for fix in found["fixes"]]
    return next((workers for workers in advised if isinstance(workers, int)), USUAL_WORKERS)
