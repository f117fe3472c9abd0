"""Traces of many ranks read on a Ray cluster that is there already: `diagnose --engine ray`.

The nodes need trainprof, and the files under the same paths. Each task reads one file, so the files
are spread over all cores of the cluster; what comes back is a few kilobytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainprof.errors import TrainprofError
from trainprof.rules.rank_brief import RankBrief, ToRead, Unread, brief

STOPPING_S = 5.0
"""What tasks have to end in after they were cancelled."""


def cluster_briefs(ray: Any) -> Callable[..., list[RankBrief | Unread]]:
    """Reads files on the nodes of a cluster.

    Args:
        ray: The module, connected; it is left afterwards. Tests put another in its place.
    """

    def briefs(tasks: Sequence[ToRead], told: Callable[[int], None]) -> list[RankBrief | Unread]:
        remote = ray.remote(brief).options(num_cpus=1, max_retries=1)
        places = {remote.remote(task): place for place, task in enumerate(tasks)}
        found: dict[int, RankBrief | Unread] = {}
        waiting = list(places)
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                for one in done:
                    found[places[one]] = _result(ray, one, tasks[places[one]])
                told(len(found))
        except BaseException:
            for one in waiting:
                ray.cancel(one, force=True)
            ray.wait(waiting, num_returns=len(waiting), timeout=STOPPING_S)
            raise
        finally:
            ray.shutdown()
        return [found[place] for place in range(len(tasks))]

    return briefs


def _result(ray: Any, one: Any, task: ToRead) -> RankBrief | Unread:
    """Of a task that has ended.

    Raises:
        TrainprofError: the nodes cannot run any.
    """
    try:
        found: RankBrief | Unread = ray.get(one)
    except ray.exceptions.RayTaskError as error:
        cause = f"{type(error.cause).__name__}: {error.cause}"
        raise TrainprofError(
            f"a node of the Ray cluster cannot read traces ({cause}); its nodes need the same "
            "trainprof as here."
        ) from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason is given"
        return Unread(task.path, f"{task.path}: the task that read it was lost ({reason}).")
    return found
