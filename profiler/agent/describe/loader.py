"""How a DataLoader was set up. Measured: 16 us, and one file read for its data set's place."""

from __future__ import annotations

from typing import Any

from ...model.facts import LoaderFact
from .. import guard
from ..location import class_location
from .naming import type_name
from .storage import describe_storage

# What a data set of a stranger may raise when it is asked for its length.
_NO_LENGTH = (TypeError, AttributeError, ValueError, RuntimeError, LookupError, OSError)

_SHARDING = ("Distributed", "Shard", "Dispatch")
_KNOWN = ("torch", "accelerate", "transformers", "builtins", "typing", "abc", "collections")

_SHUFFLING = {"RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"}


def describe_loader(torch: Any, loader: Any) -> LoaderFact:
    """The payload of Fact "loader", less what only the agent knows (role, where, counts).

    `shuffle` is None where a sampler of the user's decides. An iterable data set is never asked
    for a length: torch would compare it with what is delivered, and warn.
    """
    data = torch.utils.data
    dataset = loader.dataset
    iterable = isinstance(dataset, data.IterableDataset)
    batch_sampler = getattr(loader, "batch_sampler", None)
    sampler = _innermost_sampler(loader, batch_sampler)
    fact: LoaderFact = {
        "num_workers": loader.num_workers,
        "batch_size": batch_size(loader, batch_sampler),
        "shuffle": None if iterable else _shuffles(sampler),
        "pin_memory": bool(loader.pin_memory),
        "drop_last": bool(loader.drop_last),
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": bool(loader.persistent_workers),
        "timeout_s": float(loader.timeout),
        "multiprocessing_context": _start_method(loader.multiprocessing_context),
        "sampler": type_name(type(sampler)),
        "sharded": _sharded(loader, iterable),
        "collate": _function_name(loader.collate_fn),
        "dataset_type": type_name(type(dataset)),
        "dataset_length": None if iterable else _length(dataset),
        "iterable": iterable,
        "batches": None if iterable else _length(loader),
    }
    if hasattr(loader, "in_order"):  # since torch 2.6
        fact["in_order"] = bool(loader.in_order)
    inner = _innermost_dataset(dataset)
    where = class_location(type(inner))
    if where is not None:
        fact["dataset_where"] = where
    held = guard.attempt("data set facts", describe_storage, inner)
    if held is not None:
        fact.update(held)
    return fact


def sampler_epoch(loader: Any) -> int | None:
    """What `set_epoch` said last to a DistributedSampler; None for other samplers."""
    sampler = _innermost_sampler(loader, getattr(loader, "batch_sampler", None))
    epoch = getattr(sampler, "__dict__", {}).get("epoch")
    distributed = any(base.__name__ == "DistributedSampler" for base in type(sampler).__mro__)
    return epoch if distributed and type(epoch) is int else None


def _sharded(loader: Any, iterable: bool) -> bool | None:
    """Whether each rank gets a part: by the names of torch's and the libraries' classes."""
    things = [loader, loader.sampler, getattr(loader, "batch_sampler", None)]
    for thing in list(things):
        attributes = getattr(thing, "__dict__", {})
        things += [attributes.get("sampler"), attributes.get("batch_sampler")]
    classes = [base for thing in things if thing is not None for base in type(thing).__mro__]
    if any(mark in base.__name__ for base in classes for mark in _SHARDING):
        return True
    known = all(base.__module__.partition(".")[0] in _KNOWN for base in classes)
    return False if known and not iterable else None


def _innermost_sampler(loader: Any, batch_sampler: Any) -> Any:
    """The sampler that decides the order, inside torch's and Accelerate's batch samplers."""
    sampler = batch_sampler if batch_sampler is not None else loader.sampler
    for _ in range(4):
        attributes = getattr(sampler, "__dict__", {})
        inner = attributes.get("sampler", attributes.get("batch_sampler"))
        if inner is None:
            break
        sampler = inner
    return sampler


def _innermost_dataset(dataset: Any) -> Any:
    """The data set that makes the items, inside torch's own Subset and ConcatDataset."""
    for _ in range(8):
        if not type(dataset).__module__.startswith("torch.utils.data"):
            break
        attributes = getattr(dataset, "__dict__", {})
        inner = attributes.get("dataset")
        several = attributes.get("datasets")
        if inner is None and type(several) in (list, tuple) and several:
            inner = several[0]
        if inner is None:
            break
        dataset = inner
    return dataset


def _shuffles(sampler: Any) -> bool | None:
    if type(sampler).__module__.partition(".")[0] not in ("torch", "accelerate", "transformers"):
        return None
    names = {base.__name__ for base in type(sampler).__mro__}
    if names & _SHUFFLING:
        return True
    if "SequentialSampler" in names:
        return False
    shuffle = getattr(sampler, "__dict__", {}).get("shuffle")  # DistributedSampler
    return shuffle if isinstance(shuffle, bool) else None


def batch_size(loader: Any, batch_sampler: Any) -> int | None:
    """Samples in a batch, also of a batch sampler that says so."""
    size = loader.batch_size
    if size is None and batch_sampler is not None:
        size = getattr(batch_sampler, "__dict__", {}).get("batch_size")
    return size if isinstance(size, int) else None


def _start_method(context: Any) -> str | None:
    return context if context is None or isinstance(context, str) else context.get_start_method()


def _length(sized: Any) -> int | None:
    if not hasattr(type(sized), "__len__"):
        return None
    try:
        return len(sized)
    except _NO_LENGTH:
        return None


def _function_name(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        return type_name(type(function))
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name
