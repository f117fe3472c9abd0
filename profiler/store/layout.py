"""The layout of a run folder, format 1: file names, columns, units. Standard library only.

The writer (in the user's process) and the reader (in trainprof's) share nothing but this file; see
docs/run-folder.md for the same in words.
"""

from __future__ import annotations

from ..model.phases import PHASES

FORMAT = 1
"""Version of the layout. A reader of format n reads every format up to n."""

UNIT_NS = 100
"""Times in columns are integer ticks of this many nanoseconds."""

MISSING = -1
"""What a column holds where the value was not measured."""

COARSE = 64
"""Bit of a step line's flags: its durations (not its start) count `COARSE_TICKS` ticks each."""

COARSE_TICKS = 1000

STEP_BYTES_MAX = 160
"""Longest line of steps.jsonl; a longer one is written with coarse durations instead."""

RUNS_FOLDER = "trainprof-runs"
RUN_FILE = "run.json"
PROCESS_FILE = "proc.json"
PROCESSES_FOLDER = "procs"
PROBE_FILE = "probe.jsonl"
HOST_FILE = "host.jsonl"
STACKS_FILE = "stacks.jsonl"
STACKS_INSIDE_FILE = "stacks-inside"
"""The supervisor makes it when it cannot sample stacks: agents then sample their own process."""

OUTPUT_FILE = "output.log"
"""What the script printed, as it came, of a run that was shown on a dashboard (`run --tui`)."""

TRACES_FOLDER = "traces"
"""Traces that the run took of a few steps, and what became of each window (trace_files.py)."""
TRACE_REQUEST_FILE = "trace-request"
"""Whoever makes it asks for such a trace."""

DIAGNOSIS_FILE = "diagnosis.json"
"""What the run was diagnosed as when it ended."""

TUNE_FILE = "tune.json"
TUNE_PROGRESS_FILE = "progress.jsonl"
"""In the folder of a tune: its course, for whoever watches it (tune_progress.py)."""
BASELINE_FOLDER = "baseline/run"
"""In the folder of a tune: the run of the unchanged script."""

STORED_PHASES = PHASES[:-1]
"""All but the residual, which is derived, so that the phases always sum to the step."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "steps": (
        "index",
        "start",
        "wall",
        *STORED_PHASES,
        "cpu",
        "run_queue",
        "micro_batches",
        "samples",
        "flags",
        "inferred",
    ),
    "micro": ("step", "start", "wall", "data_wait", "forward", "backward"),
    "states": (
        "step",
        *(f"{phase}_cpu" for phase in PHASES),
        *(f"{phase}_run_queue" for phase in PHASES),
    ),
    "losses": ("step", "value"),
    "queue": ("step", "loader", "wait", "ready"),
    "memory": ("step", "at", "rss_bytes"),
    "fetch": ("worker", "start", "wall", "cpu", "samples"),
    "marks": ("kind", "at", "object", "extra"),
    "facts": (),
    "events": (),
}
"""File (without .jsonl) -> columns; none for files of objects."""
