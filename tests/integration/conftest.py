"""Runs real scripts through the installed `trainprof` command; each once per test session."""

import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from trainprof.profiler.store.reader import read_run

TESTS = Path(__file__).resolve().parent.parent
LOOPS = TESTS / "loops"
TIMEOUT_S = 180
"""For one script; the slowest takes 15 s on a quiet machine."""


CLUSTER = """
import sys
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    stdout: str
    stderr: str
    status: int


@dataclass(frozen=True)
class Profiled(Finished):
    """A command that ran under trainprof."""

    folder: Path

    @cached_property
    def run(self):
        """The run folder, read."""
        return read_run(self.folder)

    @cached_property
    def diagnosis(self):
        """diagnosis.json as a dictionary."""
        return json.loads((self.folder / "diagnosis.json").read_text())

    @property
    def trainers(self):
        """Every process that trained."""
        return [trainer for session in self.run.sessions for trainer in session.trainers]


@dataclass(frozen=True)
class Loop:
    """One way to run one script of tests/loops."""

    script: str
    arguments: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    variant: bool = False
    """Close to another loop, or to a unit test of the same: only run by `pytest -m slow`."""

    @property
    def marks(self):
        """Marks of pytest."""
        return [pytest.mark.loops] * bool(self.needs) + [pytest.mark.slow] * self.variant

    @property
    def name(self):
        return " ".join([Path(self.script).stem, *self.arguments, *self.launcher[-1:]])

    @property
    def command(self):
        return [sys.executable, *self.launcher, str(LOOPS / self.script), *self.arguments]


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")

ALL_LOOPS = (
    Loop("plain.py"),
    Loop("accumulation.py"),
    Loop("accumulation.py", ("--rest", "carry"), variant=True),
    Loop("accumulation.py", ("--rest", "step"), variant=True),
    Loop("gan.py"),
    Loop("gan.py", ("--critic", "3"), variant=True),
    Loop("gradient_penalty.py", variant=True),
    Loop("validation.py"),
    Loop("validation.py", ("--mode", "inference_mode"), variant=True),
    Loop("validation.py", ("--mode", "eval")),
    Loop("sanity_validation.py", variant=True),
    Loop("training_accuracy.py", variant=True),
    Loop("one_loop_two_phases.py", variant=True),
    Loop("lbfgs.py"),
    Loop("lbfgs.py", ("--data", "loader"), variant=True),
    Loop("by_hand.py"),
    Loop("by_hand.py", ("--style", "data"), variant=True),
    Loop("by_hand.py", ("--style", "add_", "--data", "slices"), variant=True),
    Loop("slices.py"),
    Loop("slices.py", ("--mode", "eval"), variant=True),
    Loop("generator.py"),
    Loop("iterable.py", variant=True),
    Loop("iterable.py", ("--workers", "2")),
    Loop("nested_loaders.py"),
    Loop("zipped_loaders.py", variant=True),
    Loop("cycled_loader.py", variant=True),
    Loop("loader_inline.py", variant=True),
    Loop("compiled.py"),
    Loop("compiled.py", ("--style", "in_place"), variant=True),
    Loop("compiled.py", ("--style", "function", "--backend", "eager"), variant=True),
    Loop("mixed_precision.py"),
    Loop("skipped_steps.py", variant=True),
    Loop("ddp.py", launcher=TORCHRUN),
    Loop("ddp.py", ("--spawn", "2"), variant=True),
    Loop("ddp_no_sync.py", launcher=TORCHRUN, variant=True),
    Loop("fsdp2.py"),
    Loop("distillation.py", variant=True),
    Loop("target_network.py", variant=True),
    Loop("loss_outside_modules.py", variant=True),
    Loop("recomputation.py", variant=True),
    Loop("checkpoints.py"),
    Loop("checkpoints.py", ("--kind", "state_to_buffer"), variant=True),
    Loop("checkpoints.py", ("--kind", "safetensors"), needs=("safetensors",), variant=True),
    Loop("checkpoints.py", ("--kind", "save_pretrained"), needs=("transformers",), variant=True),
    Loop("log_channels.py"),
    Loop("log_channels.py", ("--channel", "logging"), variant=True),
    Loop("log_channels.py", ("--channel", "tqdm"), needs=("tqdm",), variant=True),
    Loop("log_channels.py", ("--channel", "tensorboard"), needs=("tensorboard",), variant=True),
    Loop("gc_pauses.py", variant=True),
    Loop("rollout.py", variant=True),
    Loop("functional.py", variant=True),
    Loop("functional.py", ("--style", "autograd"), variant=True),
    Loop("functional.py", ("--style", "leaves"), variant=True),
    Loop("train_step.py", variant=True),
    Loop("children.py"),
    Loop("children.py", ("--method", "spawn"), variant=True),
    Loop("two_optimizers.py", variant=True),
    Loop("optimizer_in_backward.py", variant=True),
    Loop("two_trainings.py", variant=True),
    Loop("sharpness_aware.py", variant=True),
    Loop("sharpness_aware.py", ("--data", "slices"), variant=True),
    Loop("weight_clipping.py", variant=True),
    Loop("prefetch_ahead.py", variant=True),
    Loop("loader_thread.py", variant=True),
    Loop("training_thread.py", variant=True),
    Loop("multitask.py", variant=True),
    Loop("batch_norm_update.py", variant=True),
    Loop("truncated_sequences.py", variant=True),
    Loop("inference_only.py"),
    Loop("hf_trainer.py", needs=("transformers", "accelerate")),
    Loop("lightning_fit.py", needs=("lightning",)),
    Loop("accelerate_loop.py", needs=("accelerate",)),
)


def pytest_generate_tests(metafunc):
    if "loop" in metafunc.fixturenames:
        metafunc.parametrize(
            "loop",
            [pytest.param(loop, id=loop.name, marks=loop.marks) for loop in ALL_LOOPS],
            scope="session",
        )


def environment():
    """One thread, no settings of trainprof and no probe, a free port for a group."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINPROF_")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "0", "TRAINPROF_PROBE": "0"}
    return {**kept, **quiet, "MASTER_PORT": str(port)}


def finish(command, folder):
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Finished(done.stdout, done.stderr, done.returncode)


@pytest.fixture(scope="session")
def loops_folder():
    """Where the scripts of the loop shapes are."""
    return LOOPS


@pytest.fixture(scope="session")
def stories_folder():
    """Where the sample runs are."""
    return TESTS.parent / "sample_runs"


@pytest.fixture(scope="session")
def run_plainly(tmp_path_factory):
    """Runs a command without trainprof."""

    def run(command):
        return finish([str(part) for part in command], tmp_path_factory.mktemp("plain"))

    return run


@pytest.fixture(scope="session")
def profile(tmp_path_factory):
    """Runs a command under `trainprof run`, in a folder of its own."""

    def run(command, *options):
        folder = tmp_path_factory.mktemp("profiled")
        out = folder / "run"
        trainprof = [sys.executable, "-m", "trainprof", "run", "--out", out, *options, "--"]
        done = finish([str(part) for part in (*trainprof, *command)], folder)
        return Profiled(done.stdout, done.stderr, done.status, out)

    return run


@pytest.fixture(scope="session")
def loop_pair(loop, profile, run_plainly):
    """The same loop with and without trainprof, side by side: no test of these reads a clock."""
    for name in loop.needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'trainprof[loops]'")
    with ThreadPoolExecutor(2) as pool:
        profiled = pool.submit(profile, loop.command)
        plain = pool.submit(run_plainly, loop.command)
        return plain.result(), profiled.result()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The address of a Ray cluster of this machine."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this cluster alone
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else whatever runs besides starves it
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(120)
