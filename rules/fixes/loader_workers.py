"""loader-workers."""

from __future__ import annotations

from collections.abc import Mapping

from .loader_arguments import LoaderArguments


class LoaderWorkers(LoaderArguments):
    """How many processes prepare batches, whether they live on, and how far they work ahead.

    Batches and their order stay the same; random numbers drawn inside the data set come from the
    workers' generators.

    It is refused for an iterable data set that does not ask which worker it is in (each worker
    would deliver all of it), for a data set with a random generator of its own, for what cannot be
    pickled where workers are spawned, where a forked process cannot read a sample (it uses a GPU,
    say), and where the batches of all workers do not fit into shared memory. Workers that live on
    are renewed when the script has changed the data set between epochs, and the fix then counts as
    not in force.
    """

    id = "loader-workers"
    title = "Loader workers"
    safety = "numerics"
    rounding = False
    safe_without_draws = True
    parameters: Mapping[str, type] = {
        "num_workers": int,
        "persistent_workers": bool,
        "prefetch_factor": int,
    }
    searched = ("num_workers",)
