"""How a rule asks what the user's source calls, to point at a line or to keep silent.

```
for call in calls(signals, "copy.deepcopy", often="step"):
    where = call.where
if not calls(signals, ".zero_grad", keywords={"set_to_none": "False"}):
    return
```

An empty answer proves nothing: the file may not have been read (`source.left_out`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signals


@dataclass(frozen=True, slots=True)
class Call:
    """A call in the user's source.

    Attributes:
        often: "step" (in each training step), "epoch" (in a loop around that), "sample" (for each
            sample of the data set), "other" (another loop), or None.
        keywords: Source text of each keyword argument.
        iterates: It is what a `for` goes over.
    """

    where: Location
    often: str | None = None
    keywords: Mapping[str, str] = field(default_factory=dict)
    iterates: bool = False


def calls(
    signals: Signals,
    name: str,
    *,
    often: str | None = None,
    keywords: Mapping[str, str] | None = None,
) -> tuple[Call, ...]:
    """The calls of a function, in no particular order.

    Args:
        signals: With `source.calls` or without.
        name: Through imports, as "copy.deepcopy"; ".append" for a method of any object;
            "torch.optim." for everything below.
        often: Only those that run so often.
        keywords: Only those with these keyword arguments, by their source text.
    """
    found = signals.get("source.calls").value
    if not isinstance(found, Mapping):
        return ()
    records = [
        record
        for called, of_name in found.items()
        if called == name or (name.endswith(".") and called.startswith(name))
        for record in of_name
    ]
    wanted = (_call(record) for record in records)
    return tuple(
        call
        for call in wanted
        if (often is None or call.often == often)
        and all(call.keywords.get(key) == text for key, text in (keywords or {}).items())
    )


def _call(record: Mapping[str, object]) -> Call:
    line, function, often = record.get("line"), record.get("function"), record.get("often")
    keywords = record.get("keywords")
    return Call(
        Location(
            str(record.get("file")),
            line if isinstance(line, int) else 0,
            function if isinstance(function, str) else None,
        ),
        often if isinstance(often, str) else None,
        keywords if isinstance(keywords, Mapping) else {},
        record.get("iterates") is True,
    )
