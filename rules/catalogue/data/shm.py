"""data-shm."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import has_workers, needed, number, observed, place, plural, size
from trainprof.rules.rule import Candidate, Case, Rule


class Shm(Rule):
    """The batches that workers may make ahead do not fit into the shared memory of this machine.

    ## What it finds
    A DataLoader whose workers may hold more bytes of ready batches than `/dev/shm` had free when
    the training began, as in containers, whose share is 64 MiB unless somebody asks for more.

    ## Why it costs time
    Workers hand their batches over in shared memory. When it is full, a worker is killed by "Bus
    error" in the middle of an epoch, as a rule when the training is late and all batches wait, and
    the run is lost; the time up to the last checkpoint is paid again.

    ## Evidence needed
    - Workers are in use, and the size of a batch was measured.
    - `num_workers * prefetch_factor` batches, and one more for each worker, take more than the
      free shared memory at the first look. It is a note: the run may never have them all at once.

    No gain is predicted: steps do not become faster, runs survive. Seen on a real run: four workers
    with 12 batches of 2 MB ahead were noted beside a `/dev/shm` of 20 MiB, and not beside one of
    200 MiB; with 6 MiB torch itself stopped before the first step ("unable to allocate shared
    memory"), and nothing is known of such a run's batches.

    ## Fix
    More shared memory (`docker run --shm-size=8g`; in Kubernetes an `emptyDir` with
    `medium: Memory` at `/dev/shm`), or fewer batches ahead (`prefetch_factor`, `num_workers`).

    ## Fix safety
    Safe: the same batches in the same order. Fewer workers are numerics, where a data set draws
    random numbers.

    ## When it is wrong
    - Batches of plain Python objects or arrays do not go through shared memory; only tensors were
      counted.
    - The strategy `file_system` of torch.multiprocessing uses the same memory: it is no remedy.
    - Batches differ in size: the first one stands for all.

    ## References
    - torch.multiprocessing, sharing strategies:
      https://docs.pytorch.org/docs/stable/multiprocessing.html
    - Bus error and shared memory in containers:
      https://github.com/pytorch/pytorch#using-pre-built-images
    - docker run, --shm-size: https://docs.docker.com/reference/cli/docker/container/run/
    """

    id = "data-shm"
    title = "Shared memory too small for the batches ahead"
    needs = ("loader.num_workers", "batch.bytes", "host.shm_free_first_bytes")
    can_warn = False
    fires_on = (
        Case(
            "the 64 MiB of a container, 8 workers, batches of 19 MB",
            {
                "loader.num_workers": 8,
                "loader.prefetch_factor": 2,
                "batch.bytes": 19_000_000,
                "host.shm_free_first_bytes": 64 * 2**20,
                "loader.where": {"file": "train.py", "line": 30},
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "no workers",
            {
                "loader.num_workers": 0,
                "batch.bytes": 190_000_000,
                "host.shm_free_first_bytes": 64 * 2**20,
            },
        ),
        Case(
            "batches that just fit",
            {
                "loader.num_workers": 2,
                "loader.prefetch_factor": 2,
                "batch.bytes": 10_000_000,
                "host.shm_free_first_bytes": 64 * 2**20,
            },
        ),
        Case(
            "a machine with half of its memory to share",
            {
                "loader.num_workers": 8,
                "loader.prefetch_factor": 2,
                "batch.bytes": 19_000_000,
                "host.shm_free_first_bytes": 12 * 2**30,
            },
        ),
    )

    prefetch_factor = 2
    """torch's default, where the loader does not say."""

    def applies(self, signals: Signals) -> bool:
        """There are workers."""
        return has_workers(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Multiplies and compares."""
        workers = int(needed(signals, "loader.num_workers"))
        ahead = int(number(signals, "loader.prefetch_factor") or self.prefetch_factor)
        batch = needed(signals, "batch.bytes")
        free = needed(signals, "host.shm_free_first_bytes")
        most = workers * (ahead + 1) * batch
        if workers == 0 or most <= free:
            return
        yield Candidate(
            summary=(
                f"{plural(workers, 'worker').capitalize()} may hold {size(most)} of batches in "
                f"shared memory, and {size(free)} were free when the training began: a worker may "
                "be killed by a bus error."
            ),
            evidence=(
                *observed(signals, "host.shm_free_first_bytes", most),
                *observed(signals, "batch.bytes"),
                *observed(signals, "loader.num_workers"),
                *observed(signals, "loader.prefetch_factor"),
            ),
            where=place(signals, "loader.where"),
            fixes=(
                FixAdvice(
                    fix="shared-memory",
                    params={"bytes": int(2 * most)},
                    safety="safe",
                    text=f"Give the container {size(2 * most)} of shared memory (--shm-size), or "
                    "let workers make fewer batches ahead.",
                ),
            ),
            confidence="medium",
            severity="info",
            timeless=True,
        )
