"""hw-ecc."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, number, observed, plural, text, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_SOUND = {
    "gpu.devices": "0",
    "gpu.errors_uncorrected": 0,
    "gpu.errors_corrected": 0,
    "gpu.rows_remapped": 0,
    "gpu.rows_remap_pending": False,
    "gpu.rows_remap_failed": False,
}


class Ecc(Rule):
    """The GPU's memory fails.

    ## What it finds
    Errors in the memory of a GPU of this training that were not corrected, rows of it that were
    replaced during the run, or that could not be.

    ## Why it costs time
    A driver ends the programs whose memory it can no longer trust: the run is lost since its last
    checkpoint. A card that has no spare rows left does it again and again. What was computed with a
    wrong value before the end is not known.

    ## Evidence needed
    - The count of uncorrected errors rose during the run, or a row could not be replaced: critical.
    - Rows were replaced during the run, or wait for a reset to be: a warning.

    Counters that stand where they stood before the run say nothing of it. Corrected errors cost
    nothing and are only shown. No gain is predicted: it is not about speed.
    confirmed on: a fake NVML library only.

    ## Fix
    Reset the GPU or restart the machine, so that pending rows are replaced; have a card replaced
    whose errors go on. Keep checkpoints meanwhile.

    ## Fix safety
    Safe: nothing is changed in the training.

    ## When it is wrong
    Another program on the same GPU may have met the error.

    ## References
    - NVIDIA GPU memory error management:
      https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html
    - NVML, ECC and remapped rows: https://docs.nvidia.com/deploy/nvml-api/
    """

    id = "hw-ecc"
    title = "The GPU's memory fails"
    needs = ("gpu.devices",)
    fires_on = (
        Case(
            "two errors that were not corrected",
            {**_SOUND, "gpu.errors_uncorrected": 2},
            severity="critical",
        ),
        Case(
            "no spare row was left",
            {**_SOUND, "gpu.rows_remap_failed": True, "gpu.rows_remapped": 1},
            severity="critical",
        ),
        Case("a row was replaced", {**_SOUND, "gpu.rows_remapped": 1}, severity="warn"),
        Case("a row waits for a reset", {**_SOUND, "gpu.rows_remap_pending": True}, "warn"),
    )
    silent_on = (
        Case("sound memory", _SOUND),
        Case("errors that were corrected", {**_SOUND, "gpu.errors_corrected": 12}),
        Case("a card without ECC", {"gpu.devices": "0"}),
    )

    min_errors, min_rows = 1, 1
    """During the run: one suffices."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Any of them."""
        errors = int(number(signals, "gpu.errors_uncorrected") or 0)
        rows = int(number(signals, "gpu.rows_remapped") or 0)
        failed = is_on(signals, "gpu.rows_remap_failed")
        pending = is_on(signals, "gpu.rows_remap_pending")
        said = []
        if errors >= self.min_errors:
            said.append(f"{plural(errors, 'memory error')} that could not be corrected")
        if failed:
            said.append("a memory row that could not be replaced")
        if rows >= self.min_rows:
            said.append(f"{plural(rows, 'memory row')} replaced")
        if pending:
            said.append("memory rows that wait for a reset to be replaced")
        if not said:
            return
        yield Candidate(
            summary=f"On GPU {text(signals, 'gpu.devices')}: {'; '.join(said)}.",
            evidence=(
                *observed(signals, "gpu.devices"),
                *observed(signals, "gpu.errors_uncorrected", self.min_errors, "NVML"),
                *observed(signals, "gpu.errors_corrected"),
                *observed(signals, "gpu.rows_remapped", self.min_rows, "NVML"),
                *observed(signals, "gpu.rows_remap_pending"),
                *observed(signals, "gpu.rows_remap_failed"),
            ),
            fixes=(
                FixAdvice(
                    fix="gpu-reset",
                    params={},
                    safety="safe",
                    text="Save a checkpoint, then reset the GPU; have it replaced if it goes on.",
                    code="nvidia-smi -q -d ECC,ROW_REMAPPER",
                ),
            ),
            confidence="high",
            severity="critical" if errors or failed else "warn",
            timeless=True,
        )
