"""Applies fixes in the test's process, as the agent does, and takes them back."""

from __future__ import annotations

import runpy
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for distribution_of_a_fix.py

torch = pytest.importorskip("torch")

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.patching import Patches  # noqa: E402
from trainprof.profiler.agent.plan_fixes import PlanFixes  # noqa: E402
from trainprof.profiler.model.plan import Application, Plan, plan_to_json  # noqa: E402


class Applied:
    """One fix that is in the process."""

    def __init__(self, path, name, params, target):
        path.write_text(plan_to_json(Plan((Application(name, params, target),))))
        self.patches, self.fixes = Patches(), PlanFixes(torch, str(path))
        self.fixes.install(self.patches)

    @property
    def fix(self):
        return self.fixes._fixes[0][1]

    def read(self):
        """What the agent would write down: active, seen, reason."""
        self.fixes.after_fork()
        (fact,) = self.fixes.facts()
        return fact.data["active"], fact.data["seen"], fact.data["reason"]

    def undo(self):
        self.fixes.end()
        self.fixes.uninstall()
        self.patches.undo()


def _patched():
    """What fixes replace."""
    import builtins
    import gc
    import logging
    import os

    import torch.utils.checkpoint

    module = torch.nn.Module
    parallel = torch.nn.parallel.DistributedDataParallel
    return [
        builtins.print,
        logging.Logger.handle,
        parallel.__init__,
        parallel.forward,
        parallel.no_sync,
        torch.nn.utils.clip_grad_norm_,
        torch.amp.GradScaler.unscale_,
        module.__call__,
        module.double,
        module.to,
        module.type,
        torch.optim.Optimizer.__init__,
        torch.optim.Optimizer.add_param_group,
        torch.autograd._engine_run_backward,
        torch.autocast.__enter__,
        torch.save,
        torch.set_float32_matmul_precision,
        torch.nn.Embedding.__init__,
        torch.nn.Embedding.forward,
        torch.nn.EmbeddingBag.forward,
        torch.nn.MultiheadAttention.forward,
        torch.load,
        torch.serialization.save,
        torch.set_flush_denormal,
        torch.utils.checkpoint.checkpoint,
        torch.utils.data.DataLoader.__init__,
        torch.utils.data.DataLoader.__iter__,
        torch.utils.data.dataloader._BaseDataLoaderIter.__next__,
        torch.utils.data.dataloader._BaseDataLoaderIter.__init__,
        torch.utils.data._utils.fetch._BaseDatasetFetcher.__init__,
        torch.Tensor.to,
        torch.Tensor.cuda,
        torch.utils.data._utils.pin_memory.pin_memory,
        torch.profiler.profile.start,
        torch.profiler.profile.key_averages,
        gc.collect,
        os.stat,
    ]


@pytest.fixture
def apply(tmp_path):
    """`apply(name, params, target)` gives an Applied; torch is as before at the end."""
    before = _patched()
    guard.reset()
    applied = []

    def apply_one(name, params=None, target=None):
        path = tmp_path / f"plan{len(applied)}.json"
        applied.append(Applied(path, name, params or {}, target))
        return applied[-1]

    yield apply_one
    failures = list(guard.failures)
    for one in reversed(applied):
        one.undo()
    guard.reset()
    assert failures == []
    assert _patched() == before


HEAD = """\
import contextlib
import multiprocessing
import os
import random
import torch
from torch import nn
from torch.utils.data import *
"""


@pytest.fixture
def run_script(tmp_path, capsys):
    """`run_script(body)` runs a real script in this process and gives the words that it prints."""

    def run(body):
        path = tmp_path / "train.py"
        path.write_text(HEAD + textwrap.dedent(body))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out.split()

    run.head = HEAD
    return run
