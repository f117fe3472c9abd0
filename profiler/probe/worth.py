"""Whether a look at the data set can tell anything that matters, from what the run has recorded.

The look takes seconds after the script's last line (torch is imported once more), so a training
that hardly waits for its data, and has shown no sign of padding, does without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEAST_DATA_WAIT_SHARE = 0.05
"""Of the last steps; from here on XProf calls a step input-bound."""
LONG_RUN_S = 60.0
"""After so long a run a few seconds more are no matter."""
TAIL_BYTES = 256 << 10
"""Of a file of steps: some thousands of the last ones."""


def why_not(run_folder: Path, wall_s: float) -> str | None:
    """Why a look at the data set is not worth its time; None where it is.

    Args:
        run_folder: The finished run.
        wall_s: How long it took.
    """
    if wall_s >= LONG_RUN_S or _may_be_padded(run_folder):
        return None
    waited = walls = 0
    for file in run_folder.glob("procs/*/steps.jsonl"):
        for wait, wall in _last_steps(file):
            waited += wait
            walls += wall
    if walls and waited >= LEAST_DATA_WAIT_SHARE * walls:
        return None
    return "the training hardly waits for it; --probe looks anyway"


def _last_steps(file: Path) -> Iterator[tuple[int, int]]:
    """Data wait and wall time of the last steps in a file, in its own unit."""
    with file.open("rb") as lines:
        header = _decoded(lines.readline())
        columns = header.get("columns") if isinstance(header, dict) else None
        if not columns or "data_wait" not in columns or "wall" not in columns:
            return
        wait, wall = columns.index("data_wait"), columns.index("wall")
        end = lines.seek(0, 2)
        if end > TAIL_BYTES:
            lines.seek(end - TAIL_BYTES)
            lines.readline()  # the rest of a line
        else:
            lines.seek(0)
            lines.readline()
        for line in lines:
            row = _decoded(line)
            if isinstance(row, list) and len(row) == len(columns):
                yield row[wait], row[wall]


def _may_be_padded(run_folder: Path) -> bool:
    """Whether a batch holds rows of integers: token ids, which are padded to one length.

    Not where batches bring masks: the agent has read their padding already.
    """
    tokens = False
    for file in run_folder.glob("procs/*/facts.jsonl"):
        with file.open("rb") as lines:
            for line in lines:
                if b'"kind":"padding"' in line and b'"padding_by_mask":true' in line:
                    return False
                if not tokens and b'"kind":"batch"' in line:
                    tokens = _is_of_tokens(_decoded(line))
    return tokens


def _is_of_tokens(fact: Any) -> bool:
    data = fact.get("data") if isinstance(fact, dict) else None
    tensors = data.get("tensors") if isinstance(data, dict) else None
    return any(
        str(tensor.get("dtype")).startswith("int") and len(tensor.get("shape") or ()) == 2
        for tensor in tensors or ()
        if isinstance(tensor, dict)
    )


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # torn
        return None
