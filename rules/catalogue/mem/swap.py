"""mem-swap."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import number, observed, percent, size
from trainprof.rules.rule import Candidate, Case, Rule


class Swap(Rule):
    """Memory is short: pages are read back from a disk while the training waits.

    ## What it finds
    A machine or container that has run out of memory and does not say so: it swaps, or drops pages
    of programs and files and reads them again.

    ## Why it costs time
    A page fault that needs a disk takes 0.1 to 10 ms instead of a microsecond, on the thread that
    touched the page. The training becomes many times slower, unevenly, and is one step away from
    being killed.

    ## Evidence needed
    - Tasks waited for memory in at least 5 % of the time (pressure stall information), and
    - at least 100 major faults a second in the run's processes, or at least 1 MiB a second read
      back from swap.
    - Where the kernel keeps no pressure statistics, at least 10 MiB a second from swap.

    No gain is predicted: how fast the training would be with enough memory cannot be read off. Seen
    on a real run: a table of 700 MB in a group of 700 MB swapped 22 MiB a second and took 3.7 times
    as long a step as in one of 3 GB, where nothing was said.

    ## Fix
    Less memory: fewer loader workers, a lower `prefetch_factor`, arrays that are mapped
    (`numpy.memmap`) instead of loaded, a smaller batch, no cache of decoded samples; or a machine
    with more.

    ## Fix safety
    Safe, but for a smaller batch, which is semantics.

    ## When it is wrong
    A data set in memory-mapped files faults by design, at the pace of a disk: then there is no
    memory pressure and the rule is silent. Swap and pressure are those of the whole machine or
    container, so a neighbour can cause them; the fix is the same, elsewhere.

    ## References
    - Pressure stall information: https://docs.kernel.org/accounting/psi.html
    - proc(5), majflt: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """

    id = "mem-swap"
    title = "Memory is short and pages come from a disk"
    needs = ("host.major_faults_per_s",)
    suppresses = ("loop-contention",)
    fires_on = (
        Case(
            "a container at its limit",
            {
                "host.major_faults_per_s": 900.0,
                "host.psi_memory_share": 0.3,
                "host.swap_read_bytes_per_s": 0.0,
                "host.memory_available_bytes": 40e6,
            },
            severity="critical",
        ),
        Case(
            "swapping, with no pressure statistics",
            {"host.major_faults_per_s": 20.0, "host.swap_read_bytes_per_s": 60e6},
            severity="critical",
        ),
    )
    silent_on = (
        Case(
            "a memory-mapped data set on a fast disk",
            {"host.major_faults_per_s": 4_000.0, "host.psi_memory_share": 0.0},
        ),
        Case(
            "old pages that come back now and then",
            {
                "host.major_faults_per_s": 2.0,
                "host.psi_memory_share": 0.001,
                "host.swap_read_bytes_per_s": 20e3,
            },
        ),
        Case("faults, but nothing tells of pressure", {"host.major_faults_per_s": 400.0}),
    )

    min_faults_per_s = 100.0
    """Major faults; at 1 ms each they take a tenth of a core's time (a starting value)."""
    min_pressure_share = 0.05
    """Share of the time in which some task waited for memory (a starting value)."""
    min_swap_bytes_per_s, min_swap_alone_bytes_per_s = 2.0**20, 10.0 * 2**20
    """Read back from swap, with pressure and where pressure cannot be read (starting values)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Wants both a shortage and pages that come back."""
        faults = number(signals, "host.major_faults_per_s") or 0.0
        swapped = number(signals, "host.swap_read_bytes_per_s") or 0.0
        pressure = number(signals, "host.psi_memory_share")
        if pressure is None:
            if swapped < self.min_swap_alone_bytes_per_s:
                return
        elif pressure < self.min_pressure_share or (
            faults < self.min_faults_per_s and swapped < self.min_swap_bytes_per_s
        ):
            return
        waits = (
            "" if pressure is None else f"; tasks wait for memory {percent(pressure)} of the time"
        )
        swap = f", {size(swapped)} a second of it from swap" if swapped else ""
        yield Candidate(
            summary=f"{faults:,.0f} pages a second are read back from a disk{swap}{waits}.",
            evidence=(
                *observed(signals, "host.major_faults_per_s", self.min_faults_per_s),
                *observed(signals, "host.swap_read_bytes_per_s", self.min_swap_bytes_per_s),
                *observed(signals, "host.psi_memory_share", self.min_pressure_share),
                *observed(signals, "host.memory_available_bytes"),
                *observed(signals, "host.own_rss_bytes"),
            ),
            fixes=(self._advice(signals),),
            severity="critical",
            timeless=True,
        )

    @staticmethod
    def _advice(signals: Signals) -> FixAdvice:
        workers = number(signals, "loader.num_workers") or 0
        fewer = f"fewer than {workers:.0f} loader workers, " if workers > 1 else ""
        return FixAdvice(
            fix="memory-less",
            params={},
            safety="safe",
            text=f"Use less memory: {fewer}a lower prefetch_factor, memory-mapped arrays, no cache "
            "of decoded samples; or a machine with more.",
        )
