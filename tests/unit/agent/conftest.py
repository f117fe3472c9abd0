"""A recorder and patches as the agent has them, and the check that all is taken back."""

import builtins
import copy
import gc
import logging
import sys
import time

import pytest
import torch

from trainprof.profiler.agent import guard, imports
from trainprof.profiler.agent.patching import (
    Patches,
    hide_from_compiler,
    hide_methods_from_compiler,
)
from trainprof.profiler.agent.recorder import Recorder


class Hooks:
    """Installs hook modules, and takes them back at the end of the test."""

    def __init__(self):
        self.recorder = Recorder()
        self.recorder.follow_thread()
        self.recorder.compiling = torch.compiler.is_dynamo_compiling
        hide_methods_from_compiler(Recorder)  # as the hooks on the training do
        hide_from_compiler(guard.attempt, with_callees=True)
        self.patches = Patches()
        self.collectors = []

    def install(self, module):
        collector = module.install(torch, self.recorder, self.patches)
        self.collectors.append(collector)
        return collector

    def uninstall(self):
        for collector in self.collectors:
            collector.uninstall()
        self.patches.undo()

    def kinds(self):
        return [mark[0] for mark in self.recorder.marks]


def _patched():
    return {
        "print": builtins.print,
        "deepcopy": copy.deepcopy,
        "handle": logging.Logger.handle,
        "collect": gc.collect,
        "callbacks": list(gc.callbacks),
        "finder": imports._finder in sys.meta_path,
        "torch.save": torch.save,
        "torch.serialization.save": torch.serialization.save,
        "set_anomaly_enabled": torch.set_anomaly_enabled,
    }


@pytest.fixture
def hooks():
    before = _patched()
    guard.reset()
    installed = Hooks()
    yield installed
    installed.uninstall()
    assert _patched() == before
    assert guard.failures == []


@pytest.fixture
def nanoseconds_per_call():
    """The best of several short runs, in CPU time, which other load hardly lengthens."""

    def measure(call, calls=300, runs=30):
        best = float("inf")
        for _ in range(runs):
            start_ns = time.thread_time_ns()
            for _ in range(calls):
                call()
            best = min(best, (time.thread_time_ns() - start_ns) / calls)
        return best

    return measure
