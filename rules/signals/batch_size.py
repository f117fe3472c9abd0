"""How the time of a step depends on its batch, where batches of several sizes were seen."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.records import COMPILED, PARTIAL
from trainprof.profiler.model.signals import Signal
from trainprof.rules.logged_metrics import MEDIAN_OF_NORMAL
from trainprof.rules.reading import COMPUTE_PHASES
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Z95, Floats

LEAST_STEPS = 5
"""Steps of each of the two sizes that are compared."""
LEAST_RATIO = 1.5
"""Between the larger and the smaller size; closer ones leave the slope to the noise."""

DESCRIPTIONS = (
    Description("batch_size.usual", "count", "Samples of most steps."),
    Description("batch_size.other", "count", "Samples of the other steps that are compared."),
    Description("batch_size.fixed_s", "s", "Computing time of a step of no samples: a of a + bB."),
    Description("batch_size.per_sample_s", "s", "Computing time that each sample adds: b."),
    Description(
        "batch_size.fixed_share", "share", "Part of the usual step's computing that is fixed."
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals batch_size.*; only from sizes that the training itself used."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    samples = training.steady("samples")
    plain = (samples > 0) & (training.steady("flags") & (COMPILED | PARTIAL) == 0)
    sizes, counts = np.unique(samples[plain], return_counts=True)
    known = sizes[counts >= LEAST_STEPS]
    if len(known) < 2:
        return sheet.finish("all batches had the same size, or too few had another")
    usual = int(sizes[np.argmax(counts)])
    other = int(max(known, key=lambda size: abs(np.log(size / usual))))
    sheet.put("batch_size.usual", usual)
    sheet.put("batch_size.other", other)
    if max(usual, other) < LEAST_RATIO * min(usual, other):
        return sheet.finish("the batches were of too similar sizes")
    phases = [training.steady(f"{phase}_ns") for phase in COMPUTE_PHASES]
    computing: Floats = np.sum(phases, axis=0) / 1e9
    _fit(sheet, usual, computing[plain & (samples == usual)], other, computing[samples == other])
    return sheet.finish("the times do not grow with the batch")


def _fit(sheet: Sheet, usual: int, usual_s: Floats, other: int, other_s: Floats) -> None:
    """The line through the medians of both sizes, with the interval of its beginning.

    The median stands for each size, as the end of an epoch, where the last batch is smaller, also
    holds what happens once per epoch. Its standard error is 1.2533 times that of the mean, from
    the median absolute deviation.
    """
    time, other_time = float(np.median(usual_s)), float(np.median(other_s))
    slope = (time - other_time) / (usual - other)
    errors = np.array([_median_error(usual_s), _median_error(other_s)])
    noise = Z95 * float(np.hypot(*errors)) / abs(usual - other)
    if time <= 0.0 or slope < -noise:
        return
    slope = max(slope, 0.0)
    fixed = max(time - slope * usual, 0.0)
    # fixed = (other_time * usual - time * other) / (usual - other)
    weights = np.array([other, usual]) / abs(usual - other)
    error = Z95 * float(np.sqrt(np.sum((weights * errors) ** 2)))
    steps = len(usual_s) + len(other_s)
    sheet.put("batch_size.per_sample_s", slope, method="line through two medians", samples=steps)
    low, high = max(fixed - error, 0.0), min(fixed + error, time)
    sheet.put("batch_size.fixed_s", fixed, samples=steps, low=low, high=high)
    sheet.put(
        "batch_size.fixed_share",
        fixed / time,
        samples=steps,
        low=min(low / time, 1.0),
        high=min(high / time, 1.0),
    )


def _median_error(values: Floats) -> float:
    deviation = float(np.median(np.abs(values - np.median(values)))) / MEDIAN_OF_NORMAL
    return 1.2533 * deviation / float(np.sqrt(len(values)))
