"""The look at the machine before a tune: how long it waits, and what it says."""

import pytest

from trainprof.rules.experiments.preflight import look_at_machine


def look(pressures, budget_s=600.0, needed=None, free=8_000_000_000):
    now, told, left = [0.0], [], list(pressures)

    def pressure():
        now[0] += 2.0
        return left.pop(0) if len(left) > 1 else left[0]

    found = look_at_machine(
        budget_s, needed, told.append, pressure=pressure, free_bytes=lambda: free,
        clock=lambda: now[0],
    )  # fmt: skip
    return found, told


def test_a_quiet_machine_costs_one_look():
    found, told = look([0.05])
    assert (found.cpu_pressure, found.waited_s, found.remarks, told) == (0.05, 2.0, (), [])


def test_it_waits_until_the_machine_is_quiet():
    found, told = look([0.6, 0.5, 0.1])
    assert (found.waited_s, found.remarks) == (6.0, ())
    assert told == ["others use the CPUs (60% of the time something waits); waiting for quiet"]


@pytest.mark.parametrize(("budget_s", "waited_s"), [(6_000.0, 60.0), (200.0, 20.0)])
def test_it_goes_on_with_a_remark_after_a_minute_or_a_tenth_of_the_budget(budget_s, waited_s):
    found, told = look([0.6], budget_s)
    assert found.waited_s == waited_s
    assert found.remarks[0].startswith("others use the CPUs: 60% of the time")
    assert len(told) == 1


def test_a_system_that_does_not_tell_is_not_waited_for():
    assert look([None])[0].remarks == ()


def test_memory_that_is_short_is_said():
    found, _ = look([0.0], needed=7_900_000_000)
    assert found.remarks == (
        "the script holds 7.9 GB, and 8.0 GB are free: trials may swap, or fail.",
    )
    assert look([0.0], needed=1_000_000_000)[0].remarks == ()


def test_the_real_machine_can_be_looked_at():
    found = look_at_machine(10.0, None, lambda _: None)
    assert found.cpu_pressure is None or 0.0 <= found.cpu_pressure <= 1.0
