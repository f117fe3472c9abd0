"""Larger traces out of real ones: one after another in time, or for many ranks side by side.

python benchmarks/trace_tiles.py time TRACE TIMES OUT.json.gz
python benchmarks/trace_tiles.py ranks WORLD_SIZE FOLDER TRACE...
"""

from __future__ import annotations

import argparse
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

STEP = re.compile(r"(ProfilerStep\s*#\s*)(\d+)")
IDS = ("correlation", "External id", "external id")
QUICK = 1
"""Level of gzip; traces are packed at any."""


def load(path: Path) -> dict[str, Any]:
    """A trace as Python objects, whatever its form."""
    text = path.read_bytes()
    found = msgspec.json.decode(gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text)
    return found if isinstance(found, dict) else {"traceEvents": found}


def tile_in_time(source: Path, times: int, out: Path) -> int:
    """Writes a trace that repeats another, and gives how many events it holds.

    Each repetition starts where the last has ended, and has ids and step numbers of its own.
    """
    trace = load(source)
    events = trace.pop("traceEvents")
    lasting = [one for one in events if one.get("ph") == "X"]
    begin = min(one["ts"] for one in lasting)
    length = max(one["ts"] + one.get("dur", 0) for one in lasting) - begin
    first_id = 1 + max(_ids(events), default=0)
    steps = 1 + max((int(found[2]) for one in events if (found := _step(one))), default=0)
    with out.open("wb") as file:
        pack = zlib.compressobj(QUICK, zlib.DEFLATED, 31)
        file.write(pack.compress(msgspec.json.encode(trace)[:-1] + b',"traceEvents":[\n'))
        for tile in range(times):
            if tile:
                _move(events, length, first_id, steps)
            text = b",\n".join(map(msgspec.json.encode, events))
            file.write(pack.compress(text + (b"" if tile == times - 1 else b",\n")))
        file.write(pack.compress(b"\n]}"))
        file.write(pack.flush())
    return len(events) * times


def _step(event: dict[str, Any]) -> re.Match[str] | None:
    name = event.get("name")
    return STEP.match(name) if isinstance(name, str) else None


def _ids(events: Sequence[dict[str, Any]]) -> Iterator[int]:
    for one in events:
        given = one.get("args") or {}
        values = [given.get(key) for key in IDS if key in given]
        values += [one["id"]] if one.get("ph") in ("s", "t", "f") else []
        yield from (value for value in values if isinstance(value, int))


def _move(events: Sequence[dict[str, Any]], length: float, ids: int, steps: int) -> None:
    """Moves all by one length, in place; 0 and less stand for no id."""
    for one in events:
        if "ts" in one:
            one["ts"] += length
        given = one.get("args") or {}
        for key in IDS:
            if isinstance(given.get(key), int) and given[key] > 0:
                given[key] += ids
        if one.get("ph") in ("s", "t", "f") and isinstance(one.get("id"), int):
            one["id"] += ids
        found = _step(one)
        if found:
            one["name"] = f"{found[1]}{int(found[2]) + steps}"


def tile_ranks(sources: Sequence[Path], world_size: int, folder: Path) -> list[Path]:
    """Writes a trace of each rank, in turn from the sources, with another clock at each turn."""
    folder.mkdir(parents=True, exist_ok=True)
    traces = [load(source) for source in sources]
    paths = []
    for rank in range(world_size):
        turn, place = divmod(rank, len(traces))
        trace = traces[place]
        trace["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": world_size}
        for event in trace["traceEvents"] if turn else ():
            if "ts" in event:
                event["ts"] += 1_000_000
        paths.append(folder / f"rank{rank:04}.json.gz")
        paths[-1].write_bytes(gzip.compress(msgspec.json.encode(trace), QUICK))
    return paths


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    longer = kinds.add_parser("time")
    longer.add_argument("trace", type=Path)
    longer.add_argument("times", type=int)
    longer.add_argument("out", type=Path)
    wider = kinds.add_parser("ranks")
    wider.add_argument("world_size", type=int)
    wider.add_argument("folder", type=Path)
    wider.add_argument("traces", type=Path, nargs="+")
    given = parser.parse_args()
    if given.kind == "time":
        print(tile_in_time(given.trace, given.times, given.out), "events")
    else:
        print(len(tile_ranks(given.traces, given.world_size, given.folder)), "ranks")


if __name__ == "__main__":
    main()
