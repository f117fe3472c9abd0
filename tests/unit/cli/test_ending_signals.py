"""The first signal ends, later ones do not disturb."""

import os
import signal

import pytest

from trainprof.cli.ending_signals import ENDING, ending_signals


@pytest.mark.parametrize("number", ENDING)
def test_the_first_is_an_interrupt_and_later_ones_are_nothing(number):
    before = [signal.getsignal(one) for one in ENDING]
    tidied = []
    with ending_signals():
        try:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        finally:
            for one in ENDING:
                os.kill(os.getpid(), one)
            tidied.append(True)
    assert tidied == [True]
    assert [signal.getsignal(one) for one in ENDING] == before


def test_what_was_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
