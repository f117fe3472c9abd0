"""Which processes train together."""

import pytest

from trainprof.profiler.model.run import ProcessRecord
from trainprof.profiler.store.sessions import build_sessions


@pytest.fixture
def grouped(process):
    """Builds sessions of ProcessInfos; answers in process ids."""

    def group(*infos):
        sessions, others = build_sessions([ProcessRecord(info, "") for info in infos])
        ids = [
            ([t.info.pid for t in s.trainers], [w.info.pid for w in s.workers]) for s in sessions
        ]
        return ids, [other.info.pid for other in others]

    return group


def rank(number, world=2, **fields):
    return {"rank": number, "local_rank": number, "world_size": world, **fields}


def test_a_lone_trainer_is_a_session(grouped, process):
    assert grouped(process(1), process(2, "python")) == ([([1], [])], [2])


def test_nothing_trained(grouped, process):
    assert grouped(process(1, "other")) == ([], [1])


def test_ranks_of_one_launch(grouped, process):
    launch = {"launch_key": "job", "end_s": 9.0}
    infos = [process(2, **rank(1, **launch)), process(1, **rank(0, **launch), start_s=0.1)]
    assert grouped(*infos) == ([([1, 2], [])], [])


def test_children_of_one_parent_without_a_launch_key(grouped, process):
    infos = [process(pid, parent=9, end_s=5.0, **rank(pid)) for pid in range(2)]
    assert grouped(*infos) == ([([0, 1], [])], [])
    elsewhere = process(3, parent=8, end_s=5.0, **rank(1))
    assert grouped(infos[0], elsewhere) == ([([0], []), ([3], [])], [])


def test_children_without_ranks_train_each_by_itself(grouped, process):
    infos = [process(pid, parent=9, end_s=5.0) for pid in (1, 2)]
    assert grouped(*infos) == ([([1], []), ([2], [])], [])


def test_trainings_one_after_the_other_in_a_shell_script(grouped, process):
    first = process(5, parent=9, start_s=0, end_s=4)
    second = process(6, parent=9, start_s=5, end_s=9)
    assert grouped(second, first) == ([([5], []), ([6], [])], [])


def test_an_elastic_restart_is_a_session_of_its_own(grouped, process):
    launch = {"launch_key": "job"}
    infos = [
        process(1, start_s=0, end_s=5, **rank(0, **launch)),
        process(2, start_s=0, end_s=5, **rank(1, **launch)),
        process(3, start_s=6, end_s=9, **rank(0, restart_count=1, **launch)),
        process(4, start_s=6, end_s=9, **rank(1, restart_count=1, **launch)),
    ]
    assert grouped(*infos) == ([([1, 2], []), ([3, 4], [])], [])


def test_a_restart_without_a_count_is_told_by_its_time(grouped, process):
    launch = {"launch_key": "job"}
    infos = [
        process(pid, start_s=start, end_s=start + 4, **rank(number, **launch))
        for pid, start, number in ((1, 0, 0), (2, 0, 1), (3, 5, 0), (4, 5, 1))
    ]
    assert grouped(*infos) == ([([1, 2], []), ([3, 4], [])], [])


def test_two_launches_at_once_with_the_same_key_are_told_by_their_launcher(grouped, process):
    infos = [
        process(1, parent=90, start_s=0.0, end_s=9, **rank(0, launch_key="none")),
        process(2, parent=91, start_s=0.1, end_s=9, **rank(0, launch_key="none")),
        process(3, parent=91, start_s=0.2, end_s=9, **rank(1, launch_key="none")),
        process(4, parent=90, start_s=0.3, end_s=9, **rank(1, launch_key="none")),
    ]
    assert grouped(*infos) == ([([1, 4], []), ([2, 3], [])], [])


def test_a_world_of_one_is_alone_whatever_its_key(grouped, process):
    infos = [
        process(1, end_s=5, launch_key="job", rank=0, world_size=1),
        process(2, end_s=5, launch_key="job", rank=1, world_size=1),
    ]
    assert grouped(*infos) == ([([1], []), ([2], [])], [])


def test_ranks_on_two_machines_are_compared_by_the_wall_clock(grouped, process):
    launch = {"launch_key": "job", "end_s": 5.0}
    here = process(1, **rank(0, **launch), clock={"unix_s": 1000.0, "perf_ns": 5e9})
    far = process(1, host="b", start_s=9e6, **rank(1, launch_key="job", end_s=9e6 + 5))
    assert len(grouped(here, far)[0]) == 2
    far = process(
        1,
        host="b",
        start_s=9e6,
        **rank(1, launch_key="job", end_s=9e6 + 5),
        clock={"unix_s": 1001.0, "perf_ns": 5e9 + 9e15},
    )
    assert grouped(here, far) == ([([1, 1], [])], [])


def test_workers_belong_to_the_trainer_that_started_them(grouped, process):
    infos = [
        process(1, end_s=9),
        process(2, end_s=9),
        process(3, "worker", parent=1, start_s=1),
        process(4, "worker", parent=2, start_s=1),
        process(5, "other", parent=2, start_s=1),
        process(6, "worker", parent=5, start_s=2),  # through a fork server
        process(7, "worker", parent=77, start_s=2),
    ]
    assert grouped(*infos) == ([([1], [3]), ([2], [4, 6])], [5, 7])


def test_a_process_id_used_twice(grouped, process):
    infos = [
        process(1, start_s=0, end_s=4),
        process(3, "worker", parent=1, start_s=1),
        process(1, start_s=5, end_s=9),
        process(4, "worker", parent=1, start_s=6),
    ]
    assert grouped(*infos) == ([([1], [3]), ([1], [4])], [])


def test_a_circle_of_parents_ends(grouped, process):
    infos = [process(1, "worker", parent=2), process(2, "worker", parent=1)]
    assert grouped(*infos) == ([], [1, 2])
