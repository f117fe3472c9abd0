"""A driver that hangs: looks go on without GPUs, and the status says for how long."""

import re
import threading
import time

import pytest

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.samplers.gpu_thread import GpuThread

PATIENCE_S = 50.0


class Driver:
    """A sampler that answers when it is let."""

    def __init__(self):
        self.lets = threading.Event()
        self.asked = 0
        self.error = None

    def sample(self, slow_figures):
        self.asked += 1
        self.lets.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return (GpuSample(0, temperature_c=self.asked),)

    def statuses(self):
        return (CollectorStatus("gpu", "ok"),)


@pytest.fixture
def driver():
    driver = Driver()
    yield driver
    driver.lets.set()


def wait_until(satisfied):
    deadline = time.monotonic() + PATIENCE_S
    while not satisfied():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.001)


def test_an_answer_in_time(driver):
    driver.lets.set()
    gpus = GpuThread(lambda: driver)
    assert gpus.sample() == (GpuSample(0, temperature_c=1),)
    assert gpus.sample(slow_figures=False) == (GpuSample(0, temperature_c=2),)
    assert gpus.statuses() == (CollectorStatus("gpu", "ok"),)


def test_a_driver_that_hangs_is_waited_for_once_and_named(driver):
    gpus = GpuThread(lambda: driver, answer_s=0.2)
    assert gpus.sample() == ()
    started_s = time.monotonic()
    assert [gpus.sample() for _ in range(50)] == [()] * 50
    assert time.monotonic() - started_s < 8.0  # none of them waits: 50 waits take 10 s
    (status,) = gpus.statuses()
    assert (status.name, status.status) == ("gpu", "failed")
    assert re.search(r"has not answered for \d+ s$", status.reason)
    assert driver.asked == 1


def test_a_late_answer_is_dropped_and_the_next_one_taken(driver):
    gpus = GpuThread(lambda: driver, answer_s=0.01)
    assert gpus.sample() == ()
    driver.lets.set()
    wait_until(lambda: not gpus._answers.empty())
    gpus._answer_s = PATIENCE_S
    assert gpus.sample() == (GpuSample(0, temperature_c=2),)
    assert gpus.statuses() == (CollectorStatus("gpu", "ok"),)


def test_a_driver_that_hangs_at_the_start(driver):
    gpus = GpuThread(lambda: driver.lets.wait(PATIENCE_S) and driver, answer_s=0.01)
    assert gpus.sample() == ()
    (status,) = gpus.statuses()
    assert status.status == "failed"


def test_an_unforeseen_error_reaches_the_look(driver):
    driver.error = RuntimeError("torn")
    driver.lets.set()
    gpus = GpuThread(lambda: driver)
    with pytest.raises(RuntimeError, match="torn"):
        gpus.sample()


def test_before_the_first_look(driver):
    gpus = GpuThread(lambda: driver.lets.wait(PATIENCE_S) and driver)
    (status,) = gpus.statuses()
    assert (status.status, status.reason) == ("missing", "the run ended before the first look")
