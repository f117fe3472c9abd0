"""The data set itself, as the probe found it in a process of its own after the training."""

from __future__ import annotations

import math
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
    Description("dataset.batch_size", "count", "Items in a batch, as the probe made one."),
    Description("dataset.collate_s", "s", "Time to make a batch of items that are there already."),
    Description("dataset.stack_s", "s", "Time merely to stack the rows of that batch's tensors."),
    Description("dataset.collate_hottest", "text", "Function with the most own time in that."),
    Description(
        "dataset.collate_number_lists", "count", "Lists of Python numbers in an item, by leaf."
    ),
    Description(
        "dataset.collate_array_lists", "bool", "torch warned of a tensor made of a list of arrays."
    ),
    Description("dataset.item_file_s", "s", "Part of an item spent in calls that open files."),
    Description("dataset.item_token_s", "s", "Part of an item spent making numbers of text."),
    Description("dataset.collate_token_s", "s", "The same of collating a batch."),
    Description("dataset.token_function", "text", "The function that does most of it."),
    Description("dataset.decoded_pixels", "count", "Pixels that are decoded for an item."),
    Description("dataset.delivered_pixels", "count", "Pixels of it that the model gets."),
    Description("dataset.decode_s", "s", "Part of an item spent decoding images."),
    Description("dataset.resize_s", "s", "Part of an item spent resizing and converting them."),
    Description("dataset.image_crops", "count", "Crops of an image, per item."),
    Description("dataset.image_format", "text", "Format of the images."),
    Description("dataset.hashed_items", "count", "Items whose contents were compared."),
    Description("dataset.hashed_all", "bool", "These are all of them."),
)
"""Signals that are keys of the fact "dataset"."""

PADDING = (
    Description("dataset.padding_batches", "count", "Batches whose padding was looked at."),
    Description("dataset.padding_share", "share", "Places of a batch that hold padding."),
    Description(
        "dataset.padding_share_to_longest",
        "share",
        "The same, were each batch padded to its longest row only.",
    ),
    Description(
        "dataset.padding_share_grouped",
        "share",
        "The same, were it also made of rows of similar length.",
    ),
    Description("dataset.length_median", "count", "Median length of a row."),
    Description("dataset.length_max", "count", "The longest row."),
    Description("dataset.padded_length", "count", "Length to which rows are padded, at most."),
    Description("dataset.padded_length_varies", "bool", "It differs from batch to batch."),
)
"""Signals that are keys of the fact "padding" as well, which the training's own batches give."""

DESCRIPTIONS = (
    *FROM_FACT,
    *PADDING,
    Description("dataset.batch_s", "s", "Time to fetch a batch's items and to collate them."),
    Description("dataset.bytes", "bytes", "Size of all items, as they come out."),
    Description("dataset.file_bytes", "bytes", "Mean bytes read of a file."),
    Description("dataset.collate_where", "place", "Where the collate function is defined."),
    Description("dataset.file_where", "place", "Where most time goes into opening files."),
    Description("dataset.token_where", "place", "Where numbers are made of text."),
    Description(
        "dataset.part", "text", "The call that takes most of an item, reading files left out."
    ),
    Description("dataset.part_s", "s", "Its time per item."),
    Description("dataset.part_where", "place", "Where it is called."),
    Description(
        "dataset.duplicate_share", "share", "Items that equal another, each group but one."
    ),
    Description(
        "dataset.near_duplicate_share",
        "share",
        "Items that are nearly another text or image, each group but one; equal ones left out.",
    ),
    Description("dataset.validation_hashed", "count", "Items of the validation that were hashed."),
    Description(
        "dataset.validation_known_share",
        "share",
        "Items of the validation's data set that equal one of the training's.",
    ),
)

MOST_PAIRS_PER_COPY = 2.0
"""Equal pairs over copies: half the size of a group. Above four to a group the items are rather
drawn from few possibilities (synthetic data, small discrete features) than listed again."""

NOT_FOUND = "the probe found nothing of the kind, or did not come that far"
NOT_PROBED = "the data set was not looked at"


def measure(training: Training) -> dict[str, Signal]:
    """Signals dataset.*."""
    sheet = Sheet(DESCRIPTIONS)
    facts = training.trainer.latest_facts("dataset")
    fact = facts.get(training.loader.key or "")
    _put_padding(sheet, training, fact.data if fact is not None else {})
    if fact is None:
        return sheet.finish(_why_not(training))
    data = fact.data
    for description in FROM_FACT:
        key = description.name.partition(".")[2]
        sheet.put(description.name, data.get(key), reason=NOT_FOUND)
    samples = data.get("items")
    sheet.put("dataset.batch_s", _batch_s(data), samples=samples, reason="no batch was made")
    sheet.put("dataset.bytes", _bytes(data), samples=samples, reason="it has no items or no length")
    for key in ("collate_where", "token_where", "file_where"):
        sheet.put(
            f"dataset.{key}", location(data.get(key)), reason="it is not in the user's own source"
        )
    _put_largest_part(sheet, data)
    if data.get("item_files"):
        sheet.put("dataset.file_bytes", data["item_read_bytes"] / data["item_files"])
    else:
        sheet.miss("dataset.file_bytes", "no opening of a file was seen")
    _put_duplicates(sheet, data)
    _put_near_duplicates(sheet, data)
    _put_validation(sheet, training, data)
    return sheet.finish(NOT_FOUND)


def _put_padding(sheet: Sheet, training: Training, probed: Mapping[str, Any]) -> None:
    """Of batches that the training was given where a mask tells; else of the probe's, if any.

    The probe knows the samples before they were padded; a batch without a mask shows its padding
    only by equal values at the ends of rows.
    """
    fact = training.trainer.latest_facts("padding").get(training.loader.key or "")
    live = fact.data if fact is not None else {}
    seen = live if live.get("padding_by_mask") or "padding_share" not in probed else probed
    if "padding_share" not in seen:
        return
    method = "batches of the run" if seen is live else "batches that the probe made"
    for description in PADDING:
        value = seen.get(description.name.partition(".")[2])
        sheet.put(description.name, value, method=method, samples=seen.get("padding_batches"))


def _put_largest_part(sheet: Sheet, data: Mapping[str, Any]) -> None:
    parts = [part for part in data.get("parts") or () if not part.get("reads")]
    if parts:
        sheet.put("dataset.part", parts[0].get("name"))
        sheet.put("dataset.part_s", parts[0].get("s"))
        sheet.put(
            "dataset.part_where",
            location(parts[0].get("where")),
            reason="it is not called from the user's own source",
        )


def _put_duplicates(sheet: Sheet, data: Mapping[str, Any]) -> None:
    """Counted where all items were hashed; else estimated from the equal pairs of a sample.

    Of N items that hold d N copies in pairs, a sample of m holds d N (m / N)^2 equal pairs on
    average, and their number is Poisson: the bounds are those of its 90 % interval, by the
    Wilson-Hilferty approximation of the chi-square distribution.
    """
    name, hashed = "dataset.duplicate_share", data.get("hashed_items")
    if hashed is None:
        return
    copies = hashed - data["distinct_items"]
    if copies and data["equal_pairs"] / copies > MOST_PAIRS_PER_COPY:
        sheet.miss(name, "copies come in such large groups that few contents seem to be possible")
    elif data.get("hashed_all"):
        share = copies / hashed
        sheet.put(name, share, method="all items hashed", samples=hashed, low=share, high=share)
    elif data.get("hashed_at_random") is False:
        sheet.miss(name, "the items of an iterable data set cannot be drawn at random")
    else:
        _put_estimate(sheet, name, data["equal_pairs"], hashed, data["length"], "equal")


def _put_near_duplicates(sheet: Sheet, data: Mapping[str, Any]) -> None:
    """The same of items that are alike and not equal, among the first of those hashed."""
    name, items = "dataset.near_duplicate_share", data.get("near_items")
    if items is None:
        sheet.miss(name, data.get("near_reason") or NOT_FOUND)
        return
    method = "MinHash of words" if data.get("near") == "text" else "difference hash of images"
    copies = data["near_contents"] - data["near_groups"]
    if copies and data["near_pairs"] / copies > MOST_PAIRS_PER_COPY:
        sheet.miss(name, "items are alike in such large groups that few kinds seem to be possible")
    elif items == data.get("hashed_items") and data.get("hashed_all"):
        share = copies / items
        sheet.put(name, share, method=method, samples=items, low=share, high=share)
    elif data.get("hashed_at_random") is False:
        sheet.miss(name, "the items of an iterable data set cannot be drawn at random")
    else:
        _put_estimate(sheet, name, data["near_pairs"], items, data["length"], f"{method}: like")


def _put_estimate(sheet: Sheet, name: str, pairs: int, sample: int, length: int, kind: str) -> None:
    """A share of copies by the pairs in a random sample."""
    per_pair = length / sample**2
    low, high = _poisson_bounds(pairs)
    sheet.put(
        name,
        min(pairs * per_pair, 1.0),
        method=f"{kind} pairs in a random sample",
        samples=sample,
        low=min(low * per_pair, 1.0),
        high=min(high * per_pair, 1.0),
    )


def _put_validation(sheet: Sheet, training: Training, data: Mapping[str, Any]) -> None:
    """How many items of the validation's data set equal one of the training's.

    Of K held-out items that hold s K of the training's N, a sample of k compared with m of the
    training's finds s k m / N of them; their number is taken to be Poisson.
    """
    name, compared = "dataset.validation_known_share", data.get("validation_hashed")
    if compared is None:
        sheet.miss(name, "no other data set was validated on, or none could be compared")
        return
    loader = training.trainer.latest_facts("loader").get(str(data.get("validation")))
    if loader is None or loader.data.get("role") != "validation":
        sheet.miss(name, "the other data set was trained on, too")
        return
    known, everything = data["validation_known"], data["hashed_all"]
    if not everything and data.get("hashed_at_random") is False:
        sheet.miss(name, "the items of an iterable data set cannot be drawn at random")
        return
    if not known and data.get("draws_random_numbers"):
        sheet.miss(name, "items that random numbers change do not look equal")
        return
    unseen = 1.0 if everything else data["length"] / data["hashed_items"]
    low, high = _poisson_bounds(known)
    exact = everything and data.get("validation_all")
    sheet.put(
        name,
        min(known * unseen / compared, 1.0),
        method="by hash",
        samples=compared,
        low=known / compared if exact else min(low * unseen / compared, 1.0),
        high=known / compared if exact else min(high * unseen / compared, 1.0),
    )
    sheet.put("dataset.validation_hashed", compared)


def _poisson_bounds(count: int) -> tuple[float, float]:
    """The 90 % interval of a Poisson mean of which `count` was seen."""

    def bound(number: int, z: float) -> float:
        return number * (1.0 - 1.0 / (9.0 * number) + z / (3.0 * math.sqrt(number))) ** 3

    z = 1.6449
    return (bound(count, -z) if count else 0.0), bound(count + 1, z)


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
