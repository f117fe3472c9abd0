"""What the dataset probe found out, beside the facts that the training wrote itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trainprof.profiler.model.records import Fact
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.layout import FORMAT, PROBE_FILE


def write_probe(folder: Path, facts: Iterable[Fact]) -> None:
    """Adds facts to a process's `probe.jsonl`; written after the process has ended.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / PROBE_FILE
    with path.open("ab") as file:
        if file.tell() == 0:
            file.write(encode_json({"format": FORMAT, "base_ns": 0}) + b"\n")
        file.writelines(encode_json(fact) + b"\n" for fact in facts)
