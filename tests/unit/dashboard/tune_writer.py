"""Writes the folder of a tune as one would that runs, at times that the test chooses."""

import os

from trainprof.profiler.model.tune_progress import (
    Attempt,
    TuneBegun,
    TuneEnded,
    TuneNoise,
    TunePlanned,
    TuneRun,
)
from trainprof.profiler.model.tuning import Pair, RefusedFix
from trainprof.profiler.store.encoded import encode_json

KINDS = {
    TuneBegun: "begun",
    TunePlanned: "planned",
    TuneRun: "run",
    Attempt: "attempt",
    TuneNoise: "noise",
    TuneEnded: "ended",
}
NOISE = {"sd": 0.031, "pairs": 4, "detectable": {"6": 1.05, "10": 1.03, "16": 1.03}}
WORKERS = Attempt(1, ("loader-workers",), {"num_workers": 2}, "data-workers-under")
KEPT = Attempt(
    1,
    ("loader-workers",),
    {"num_workers": 2},
    "data-workers-under",
    "keep",
    2.214,
    (2.11, 2.32),
    6,
    (1.5, 2.5),
    "faster, and the loss is unharmed",
    {"passed": True, "text": "the first 20 losses are equal"},
    (
        *(Pair("old", 0.05, 0.05 / one, one) for one in (2.16, 2.24, 2.19, 2.27)),
        Pair("new", 0.09, 0.02, 4.5, "a trial waited for a CPU 30 % of its time"),
        Pair("old", 0.05, 0.02, 2.22),
        Pair("new", 0.05, 0.02, 2.2),
    ),
    (
        {"params": {"num_workers": 2}, "speedup": 2.19, "pairs": 2},
        {"params": {"num_workers": 4}, "speedup": 2.03, "pairs": 1},
        {"params": {"num_workers": 64}, "speedup": None, "pairs": 0},
    ),
)
FUSED = Attempt(2, ("optimizer-fused",), predicted=(1.1, 1.3))


class TuneWriter:
    """A tune that this process has, until it is killed."""

    def __init__(self, folder, started_unix_s, budget_s=600.0):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "progress.jsonl"
        self.path.write_text('{"format":1}\n')
        self.unix_s = started_unix_s
        self.begin(budget_s)

    def begin(self, budget_s=600.0, pid=None):
        host = os.uname().nodename
        pid = os.getpid() if pid is None else pid
        return self.add(TuneBegun(("train.py",), budget_s, host, pid, self.unix_s))

    def add(self, *told):
        for one in told:
            line = {"kind": KINDS[type(one)], "at_unix_s": self.unix_s, "data": one}
            with self.path.open("ab") as file:
                file.write(encode_json(line) + b"\n")
        return self

    def trial(self, number=1, changed=True, pair=3, folder="trials/013-loader-workers/run"):
        params = {"num_workers": 2} if changed else {}
        return self.add(TuneRun("pair", folder, 105, number, changed, params, pair, 16))

    def half_way(self):
        """One fix kept, one under way, one refused."""
        refused = RefusedFix("batch-larger", "gpu-idle", "it changes semantics; ask for it with")
        self.add(TunePlanned(105, (refused,)), WORKERS, FUSED, TuneNoise(NOISE), KEPT)
        self.unix_s += 190.0
        return self.trial(2, folder="trials/021-optimizer-fused/run")
