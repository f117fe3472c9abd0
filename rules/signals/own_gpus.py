"""Which of the sampled GPUs a training uses: all that is said of GPUs is said of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.model.run import ProcessRecord
from trainprof.rules.signals.models import trained_models
from trainprof.rules.signals.training import Training


@dataclass(frozen=True, slots=True)
class OwnGpus:
    """The GPUs of a training.

    Attributes:
        indices: NVML's numbers; empty where it has none, or they are not known.
        known_by: How they were told, or why there are none.
        pids: Of this run's processes that were seen on a GPU: without any, nothing can be said of
            others, as in a container whose GPUs carry the host's numbers.
    """

    indices: frozenset[int]
    known_by: str
    pids: frozenset[int] = frozenset()


def own_gpus(training: Training) -> OwnGpus:
    """By UUID where torch tells it, else by process, CUDA_VISIBLE_DEVICES, number of the device."""
    cards = _cards(training)
    if not cards:
        return OwnGpus(frozenset(), "no GPU was sampled")
    ordinals = frozenset().union(*map(_ordinals, training.session.trainers))
    if not ordinals:
        return OwnGpus(frozenset(), "this training uses no NVIDIA GPU, as far as was seen")
    seen = {
        index: pids
        for index, card in cards.items()
        if (pids := frozenset(card.pids) & _tree(training))
    }
    pids = frozenset().union(*seen.values())
    for known_by, found in (
        ("UUID of torch's device", _by_uuid(training, cards)),
        ("processes on it", frozenset(seen)),
        ("CUDA_VISIBLE_DEVICES", _by_environment(training, cards, ordinals)),
        ("the only GPU here", frozenset(cards) if len(cards) == 1 else frozenset[int]()),
        ("number of torch's device", _by_number(training, cards, ordinals)),
    ):
        if found:
            return OwnGpus(found, known_by, pids)
    return OwnGpus(frozenset(), "which GPUs this training uses could not be told")


@dataclass(slots=True)
class _Card:
    """What all looks at a card say together."""

    latest: GpuSample
    pids: set[int]

    @property
    def uuids(self) -> tuple[str, ...]:
        """Its own and those of its instances."""
        return (*((self.latest.uuid,) if self.latest.uuid else ()), *self.latest.mig_uuids)


def _cards(training: Training) -> dict[int, _Card]:
    cards: dict[int, _Card] = {}
    for sample in training.run.samples:
        for gpu in sample.gpus:
            card = cards.setdefault(gpu.index, _Card(gpu, set()))
            card.latest = gpu
            card.pids.update(gpu.process_pids)
    return cards


def _ordinals(trainer: ProcessRecord) -> frozenset[int]:
    """Numbers of torch's CUDA devices that hold parameters of what a rank trains."""
    facts = [fact.data for fact in trainer.latest_facts("model").values()]
    trained = [fact for fact in facts if fact.get("trained", True)]
    devices = {str(name) for fact in trained or facts for name in fact.get("devices") or ()}
    cuda = {device for device in devices if device.startswith("cuda")}
    return frozenset(int(device.partition(":")[2] or 0) for device in cuda)


def _tree(training: Training) -> frozenset[int]:
    """Process ids of the run, and of its trainers."""
    sampled = {one.pid for sample in training.run.samples for one in sample.processes}
    return frozenset(sampled | {trainer.info.pid for trainer in training.session.trainers})


def _by_uuid(training: Training, cards: dict[int, _Card]) -> frozenset[int]:
    found = set()
    for trainer in training.session.trainers:
        ordinals = _ordinals(trainer)
        for fact in trainer.latest_facts("flags").values():
            uuids = list(fact.data.get("accelerator_uuids") or ())
            wanted = {uuids[ordinal] for ordinal in ordinals if ordinal < len(uuids)}
            found |= {index for index, card in cards.items() if _any_of(wanted, card.uuids)}
    return frozenset(found)


def _any_of(wanted: set[str], uuids: Sequence[str]) -> bool:
    """NVML says "GPU-" or "MIG-" before what torch gives, and users may give the beginning."""
    bare = {uuid.partition("-")[2] for uuid in uuids}
    return any(uuid.startswith(one) for one in wanted if one for uuid in (*uuids, *bare))


def _by_environment(
    training: Training, cards: dict[int, _Card], ordinals: frozenset[int]
) -> frozenset[int]:
    text = training.run.info.environment.get("CUDA_VISIBLE_DEVICES")
    visible = [entry.strip() for entry in (text or "").split(",") if entry.strip()]
    found = set()
    for ordinal in ordinals:
        if ordinal >= len(visible):
            return frozenset()
        entry = visible[ordinal]
        if not entry.isdecimal():
            found |= {index for index, card in cards.items() if _any_of({entry}, card.uuids)}
        elif int(entry) in cards and _in_the_same_order(training, cards):
            found.add(int(entry))
    return frozenset(found)


def _by_number(
    training: Training, cards: dict[int, _Card], ordinals: frozenset[int]
) -> frozenset[int]:
    hidden = training.run.info.environment.get("CUDA_VISIBLE_DEVICES") is not None
    if hidden or not _in_the_same_order(training, cards) or not ordinals <= set(cards):
        return frozenset()
    return ordinals


def _in_the_same_order(training: Training, cards: dict[int, _Card]) -> bool:
    """CUDA numbers the fastest card first, unless told otherwise; NVML goes by PCI address."""
    by_address = training.run.info.environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return by_address or len({card.latest.name for card in cards.values()}) == 1


def trains_on_host(training: Training) -> bool:
    """Whether all parameters of what is trained are known to lie in host memory."""
    models = trained_models(training)
    devices = [str(device) for model in models for device in (model.get("devices") or {})]
    return bool(devices) and all(device.startswith("cpu") for device in devices)
