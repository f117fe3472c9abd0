"""What the traces of several ranks tell together: who comes late to their collectives."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("arrivals.ranks", "count", "Ranks whose traces were compared."),
    Description("arrivals.collectives", "count", "Collectives that all of them have in common."),
    Description("arrivals.late_rank", "count", "The rank that let others wait longest."),
    Description("arrivals.late_count", "count", "Collectives to which it came last."),
    Description("arrivals.caused_s", "s", "What the first of each waited for it, in all."),
    Description(
        "arrivals.saved_share",
        "share",
        "Part of the window that goes if it came with the last but one.",
    ),
    Description(
        "arrivals.caused_share", "share", "Part of the window that others waited, on the average."
    ),
    Description("arrivals.longest_rank", "count", "The rank with the longest window."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of a comparison."""
    found, windows_ns = traced.together, traced.windows_ns
    sheet = Sheet(DESCRIPTIONS)
    straggler = found.straggler if found is not None else None
    if found is not None and straggler is not None:
        row = found.ranks.index(straggler)
        late = found.last == row
        others = np.delete(found.waited_ns, row, axis=0)[:, late]
        window_ns = max(float(np.mean(list(windows_ns.values()))), 1.0)
        sheet.put("arrivals.ranks", len(found.ranks))
        sheet.put("arrivals.collectives", len(found.names))
        sheet.put("arrivals.late_rank", straggler)
        sheet.put("arrivals.late_count", int(late.sum()))
        sheet.put("arrivals.caused_s", found.caused_ns[straggler] / 1e9)
        sheet.put("arrivals.saved_share", float(others.min(axis=0).sum()) / window_ns)
        sheet.put("arrivals.caused_share", float(others.mean(axis=0).sum()) / window_ns)
        sheet.put("arrivals.longest_rank", max(windows_ns, key=lambda rank: windows_ns[rank]))
    return sheet.finish("the ranks have no collectives in common, or nobody waits")
