"""What is dear happens seldom."""

from trainprof.profiler.agent.pace import PART_OF_TIME, Pace


class Clock:
    now_ns = 1_000

    def __call__(self):
        return self.now_ns


def test_the_next_time_is_far_away_from_what_took_long():
    clock = Clock()
    pace = Pace(clock)
    assert pace.due()
    with pace:
        clock.now_ns += 7
    clock.now_ns += PART_OF_TIME * 7 - 1
    assert not pace.due()
    clock.now_ns += 1
    assert pace.due()


def test_what_takes_no_time_is_always_due():
    pace = Pace(Clock())
    with pace:
        pass
    assert pace.due()
