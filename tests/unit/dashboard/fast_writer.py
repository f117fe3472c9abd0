"""A process that writes steps of several ranks at a rate: FOLDER RANKS STEPS_PER_S SECONDS.

It prints, for each flush, how many steps each rank has by then, and when (perf_counter).
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from run_writer import RunWriter

FLUSH_EVERY_S = 0.05

folder, ranks, steps_per_s, seconds = Path(sys.argv[1]), *map(int, sys.argv[2:5])
run = RunWriter(folder, ranks, supervisor_pid=os.getpid(), started_unix_s=time.time())
begun_s = time.perf_counter()
written = 0
while time.perf_counter() - begun_s < seconds:
    time.sleep(FLUSH_EVERY_S)
    due = int((time.perf_counter() - begun_s) * steps_per_s)
    for rank in range(ranks):
        run.steps(due - written, wall_ns=10**9 // steps_per_s, rank=rank, loss=1.0)
    run.flush()
    written = due
    print(written, time.perf_counter(), flush=True)
