"""Who holds the interpreter lock: when py-spy is asked, and how its answer is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.stacks import Frame, StackSample
from trainprof.profiler.samplers.interpreter_lock import contended_process, read_holders

LIBRARY = "/usr/lib/python3.11"
BOOT = Frame("Thread._bootstrap", f"{LIBRARY}/threading.py", 1002)
MAIN = Frame("<module>", "/home/somebody/train.py", 40)
AUGMENT = Frame("augment", "/home/somebody/data.py", 12)
PUT = Frame("Queue.put", f"{LIBRARY}/queue.py", 140)
WAIT = Frame("Condition.wait", f"{LIBRARY}/threading.py", 327)
AGENT = Frame("Agent._work", "/env/trainprof/profiler/agent/agent.py", 160)

RAW = """\
thread (7): MainThread;<module> (/home/somebody/train.py:40);main (/home/somebody/train.py:30) 12
thread (9): pre; fetch (1);Thread._bootstrap (/usr/lib/python3.11/threading.py:1002);\
augment (/home/somebody/my data (old).py:12) 30
thread (0x10);Thread._bootstrap (/usr/lib/python3.11/threading.py:1002);<listcomp> (a.py:3) 2
no thread;main (a.py:1) 3
thread (7): MainThread 5
thread (7): MainThread;main (a.py:1)
"""


def sample(*stack, looks=10, pid=7):
    return StackSample(0, looks * 50_000_000, pid, 1, stack)


def test_the_answer_is_read():
    main, other, third = read_holders(RAW, 7)

    assert (main.main, main.looks, len(main.stack)) == (True, 12, 2)
    assert (other.main, other.looks) == (False, 30)
    assert other.stack[0] == ("Thread._bootstrap", f"{LIBRARY}/threading.py", 1002)
    assert (third.main, third.looks, third.stack[-1]) == (False, 2, ("<listcomp>", "a.py", 3))


@given(st.text())
def test_no_answer_is_too_odd(text):
    read_holders(text, 7)
    read_holders(f"thread (7): {text} 3", 7)


def test_a_second_thread_that_computes_is_worth_asking():
    assert contended_process([sample(MAIN, looks=50), sample(BOOT, AUGMENT, looks=20)]) == 7


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [sample(MAIN)],
        [sample(MAIN), sample(BOOT, AUGMENT, PUT, WAIT)],  # its queue is full
        [sample(MAIN), sample(BOOT, AGENT)],
        [sample(MAIN, looks=90), sample(BOOT, AUGMENT, looks=4)],
        [sample(MAIN), sample(BOOT, AUGMENT, pid=8)],  # a process of which no main thread was seen
        [sample(MAIN), sample()],
    ],
    ids=str,
)
def test_threads_that_wait_are_not(samples):
    assert contended_process(samples) is None
