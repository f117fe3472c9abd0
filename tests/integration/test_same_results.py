"""A training under trainprof computes what it computes without: bit for bit, graph for graph."""


def test_stdout_is_the_same(loop_pair):
    """Every loss, every validation and, where something is compiled, dynamo's counters."""
    plain, profiled = loop_pair
    assert plain.status == 0, plain.stderr
    assert len(plain.stdout.splitlines()) > 10
    assert profiled.stdout == plain.stdout


def test_exit_status_is_the_same(loop_pair):
    plain, profiled = loop_pair
    assert profiled.status == plain.status == 0, profiled.stderr


def test_nothing_of_ours_failed(loop_pair):
    _, profiled = loop_pair
    assert "Traceback" not in profiled.stderr, profiled.stderr
    failures = [
        event.data
        for process in (*profiled.trainers, *profiled.run.others)
        for event in process.events
        if event.kind == "collector_failed"
    ]
    assert failures == []
