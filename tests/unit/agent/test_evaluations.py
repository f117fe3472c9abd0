"""How a validation ran, from the marks at its end."""

from trainprof.profiler.agent import marks as m
from trainprof.profiler.agent.evaluations import RecentMarks, count_forwards

WITH_GRAD, WITHOUT, TRAINING = m.FORWARD_GRAD, 0, m.FORWARD_GRAD | m.FORWARD_TRAINING


def forwards(*bits, start=0):
    return [(m.FORWARD, start + place, 0, one) for place, one in enumerate(bits)]


def test_forwards_in_evaluation_mode_are_counted():
    marks = [*forwards(WITH_GRAD, WITHOUT, TRAINING, None), (m.BACKWARD, 2, 0, 0.5)]

    assert count_forwards(marks, 0, 10) == {"forwards": 3, "with_grad": 1}


def test_only_those_inside_the_validation():
    assert count_forwards(forwards(*[WITH_GRAD] * 10), 3, 6) == {"forwards": 4, "with_grad": 4}


def test_two_deliveries_are_remembered():
    recent = RecentMarks()
    for start in (0, 100, 200):
        recent.keep(forwards(WITH_GRAD, start=start))

    assert recent.evaluation(0, 50) == {"forwards": 0, "with_grad": 0}
    assert recent.evaluation(0, 300) == {"forwards": 2, "with_grad": 2}
