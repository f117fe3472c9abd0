"""Runs one script through the installed trainprof, once: what is recorded is kept by its hash.

A recording depends on the script and on what measures (profiler/, trainprof/); its diagnosis on the
rules too. So after a change to a rule the recordings are diagnosed again, and nothing is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from zoo.cases import REPOSITORY, Script
from zoo.neighbour import OtherPrograms, busy_neighbour

RECORDINGS = REPOSITORY / "build" / "zoo"
TRAINPROF = Path(sys.executable).with_name("trainprof")
TIMEOUT_S = 300
"""For one script, which takes at most 10 s on a quiet machine."""
_STAMP = re.compile(r"^planted share ([\d.]+)$", re.MULTILINE)


def digest_of(paths: Iterable[Path], *more: str) -> str:
    """A hash of names and contents, short enough for a file name."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]


def source_hash(script: Script) -> str:
    """Of the script alone: it shows that a case is as it was when it was written."""
    return digest_of([script.path])


@cache
def measuring_hashes() -> tuple[str, ...]:
    """Of all that may change a recording; ZOO_RECORDINGS names those of earlier versions."""
    if earlier := os.environ.get("ZOO_RECORDINGS"):
        return tuple(earlier.split(","))
    return (digest_of([*_sources("profiler"), *(REPOSITORY / "trainprof").glob("*.py")]),)


@cache
def diagnosing_hash() -> str:
    """Of all that may change a diagnosis."""
    return digest_of(_sources("profiler", "rules", "reports"))


def script_hash(script: Script) -> str:
    """Of the script, its arguments, and whether it has a neighbour."""
    condition = "busy" if script.case.is_busy else "quiet"
    return digest_of([script.path], *script.arguments, *script.case.launcher, condition)


def folder_of(script: Script) -> Path:
    """Where its recording lies, or would."""
    name = script.name.replace("/", "-").replace(" ", "").replace(".py", "")
    folders = [
        RECORDINGS / f"{name}-{script_hash(script)}-{version}" for version in measuring_hashes()
    ]
    return next((one for one in folders if (one / "recording.json").exists()), folders[0])


def recorded(script: Script) -> dict[str, Any] | None:
    """What is known of its run: status, wall_s, other_cores, planted_share; None if not run yet."""
    path = folder_of(script) / "recording.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def record(script: Script) -> dict[str, Any]:
    """Runs it under `trainprof run`, beside a neighbour if the case has one."""
    folder = folder_of(script)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    own = [sys.executable, "-W", "ignore", *script.case.launcher, str(script.path)]
    asked = ["--quiet", "--probe", "--out", folder / "run"]
    command = [TRAINPROF, "run", *asked, "--", *own, *script.arguments]
    started = time.monotonic()
    with busy_neighbour(script.case.is_busy):
        others = OtherPrograms()
        status, stdout, stderr = _finish([str(part) for part in command], folder / "work")
        other_cores = others.cores_used()
    stamp = _STAMP.findall(stdout)
    facts = {
        "script": script.name,
        "status": status,
        "wall_s": round(time.monotonic() - started, 2),
        "other_cores": round(other_cores, 2),
        "planted_share": float(stamp[-1]) if stamp else script.case.planted_share,
        "error": stderr[-2000:] if status else "",
        "unix_s": round(time.time()),
    }
    shutil.rmtree(folder / "work")
    (folder / "recording.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return facts


def diagnosis_of(script: Script) -> dict[str, Any]:
    """What `trainprof diagnose --format json` says of its recording, asked once per rules."""
    folder = folder_of(script)
    path = folder / f"diagnosis-{diagnosing_hash()}.json"
    if not path.exists():
        for old in folder.glob("diagnosis-*.json"):
            old.unlink()
        command = [TRAINPROF, "diagnose", "--format", "json", folder / "run"]
        done = subprocess.run(command, env=_environment(), capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{script.name}: {done.stderr.decode(errors='replace')[-500:]}")
        path.write_bytes(done.stdout)
    return json.loads(path.read_text(encoding="utf-8"))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINPROF_")}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    return {**kept, "OMP_NUM_THREADS": "1", **offline}


def _finish(command: list[str], folder: Path) -> tuple[int, str, str]:
    """Runs to the end, or to the timeout: then the whole group is killed."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return 124, stdout, f"{stderr}\nlonger than {TIMEOUT_S} s"
    return process.returncode, stdout, stderr
