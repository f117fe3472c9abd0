"""What a DataLoader with W workers would give: torch's own order of events, replayed.

Workers take turns; at most W * prefetch_factor batches are under way; batches are delivered in
order. With the times of single batches, bursts and stragglers show that a closed form of means
(`trainprof.rules.loader_model`) cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence


def simulate_loader(
    produce_s: Sequence[float],
    consume_s: Sequence[float],
    workers: int,
    prefetch_factor: int = 2,
    handover_s: float = 0.0,
) -> float:
    """Mean seconds per batch, after the first batches (2 * W * prefetch_factor, at most half).

    Args:
        produce_s: Time that each batch takes in a worker (or in the loop, without workers).
        consume_s: Time of the loop for each batch, without the wait.
        workers: `num_workers`.
        prefetch_factor: Batches that each worker prepares ahead.
        handover_s: Time to hand one batch from a worker to the loop.

    Raises:
        ValueError: the two series are empty, or of different lengths.
    """
    count = len(produce_s)
    if count == 0 or count != len(consume_s):
        raise ValueError("simulate_loader needs a producer time and a consumer time of each batch")
    if workers == 0:
        return (sum(produce_s) + sum(consume_s)) / count
    ahead = workers * prefetch_factor
    free = [0.0] * workers  # when each worker is done with what it was given
    taken: list[float] = []
    done: list[float] = []
    delivered = finished = 0.0
    for number in range(count):
        given = 0.0 if number < ahead else taken[number - ahead]
        ready = max(given, free[number % workers]) + produce_s[number]
        free[number % workers] = ready
        delivered = max(delivered, ready)
        taken.append(max(finished, delivered) + handover_s)
        finished = taken[number] + consume_s[number]
        done.append(finished)
    skipped = min(2 * ahead, count // 2)
    begin = done[skipped - 1] if skipped else 0.0
    return (done[-1] - begin) / (count - skipped)
