"""The data set itself, as the probe found it in a process of its own after the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location

FROM_FACT = (
    Description("dataset.items", "count", "Items that the probe fetched three times each."),
    Description("dataset.item_s", "s", "Mean time to fetch an item again, queueing left out."),
    Description("dataset.item_cpu_s", "s", "CPU time of the same."),
    Description("dataset.item_blocked_s", "s", "Part of it that waits: for a disk, a server."),
    Description("dataset.item_first_s", "s", "Mean time to fetch an item for the first time."),
    Description("dataset.item_bytes", "bytes", "Mean size of an item."),
    Description("dataset.item_read_bytes", "bytes", "Bytes that read calls return for an item."),
    Description("dataset.item_disk_bytes", "bytes", "Bytes of it that a disk had to deliver."),
    Description("dataset.item_files", "count", "Files that Python code opens for an item."),
    Description("dataset.repeatable", "bool", "The same item comes out the same each time."),
    Description(
        "dataset.draws_random_numbers", "bool", "Making an item draws from a global generator."
    ),
    Description("dataset.collate_s", "s", "Time to make a batch of items that are there already."),
    Description("dataset.stack_s", "s", "Time merely to stack the rows of that batch's tensors."),
    Description("dataset.collate_hottest", "text", "Function with the most own time in that."),
    Description(
        "dataset.collate_number_lists", "count", "Lists of Python numbers in an item, by leaf."
    ),
    Description(
        "dataset.collate_array_lists", "bool", "torch warned of a tensor made of a list of arrays."
    ),
)
"""Signals that are keys of the fact "dataset"."""

DESCRIPTIONS = (
    *FROM_FACT,
    Description("dataset.batch_s", "s", "Time to fetch a batch's items and to collate them."),
    Description("dataset.bytes", "bytes", "Size of all items, as they come out."),
    Description("dataset.collate_where", "place", "Where the collate function is defined."),
)

NOT_PROBED = "the data set was not looked at"


def measure(training: Training) -> dict[str, Signal]:
    """Signals dataset.*."""
    sheet = Sheet(DESCRIPTIONS)
    facts = training.trainer.latest_facts("dataset")
    fact = facts.get(training.loader.key or "")
    if fact is None:
        return sheet.finish(_why_not(training))
    data = fact.data
    for description in FROM_FACT:
        key = description.name.partition(".")[2]
        sheet.put(description.name, data.get(key), reason="the probe did not come that far")
    samples = data.get("items")
    sheet.put("dataset.batch_s", _batch_s(data), samples=samples, reason="no batch was made")
    sheet.put("dataset.bytes", _bytes(data), samples=samples, reason="no item was made")
    for key in ("collate_where",):
        sheet.put(
            f"dataset.{key}", location(data.get(key)), reason="it is not in the user's own source"
        )
    return sheet.finish("the probe did not come that far")


def _why_not(training: Training) -> str:
    for status in training.run.info.collectors:
        if status.name == "probe" and status.reason:
            return f"{NOT_PROBED} ({status.reason})"
    return NOT_PROBED


def _batch_s(data: Mapping[str, Any]) -> float | None:
    item_s, collate_s, size = (data.get(key) for key in ("item_s", "collate_s", "batch_size"))
    if item_s is None or collate_s is None or size is None:
        return None
    return float(size * item_s + collate_s)


def _bytes(data: Mapping[str, Any]) -> float | None:
    size, length = data.get("item_bytes"), data.get("length")
    return None if size is None or length is None else float(size * length)
