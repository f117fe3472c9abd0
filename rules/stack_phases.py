"""What a sampled stack tells by its frames: the phase of the step, the user's line, the library.

Steps are recorded as sums, so a sample cannot be joined with a phase by its time (the raw marks
reach over the first 200 steps only). The frames say it instead: what lies inside the DataLoader's
`__next__` is data wait, what lies inside `backward` is backward. Only validation is told by its
time, since its frames are those of a training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from trainprof.profiler.model.stacks import Frame

REST = "residual"
"""For stacks that no frame assigns to a phase: the loop's own code, the loss, copies."""

_SITE = re.compile(r"[/\\](?:site|dist)-packages[/\\](.+)")
_STANDARD = re.compile(r"[/\\]lib[/\\]python3\.\d+t?[/\\](.+)")
_OWN = re.compile(r"[/\\]trainprof[/\\](?:profiler|rules|reports)[/\\]")
_LIBRARY_FOLDERS = (_SITE, _STANDARD)


class _Mark(NamedTuple):
    """A frame that opens a phase: in a file whose name ends so, in a function of that name.

    Attributes:
        functions: Last parts of qualified names; empty for any.
    """

    phase: str
    file: str
    functions: tuple[str, ...] = ()


_MARKS = (
    _Mark("data_wait", "torch/utils/data/dataloader.py"),
    _Mark("backward", "torch/_tensor.py", ("backward",)),
    _Mark("backward", "torch/autograd/__init__.py", ("backward", "grad")),
    _Mark("checkpoint", "torch/serialization.py", ("save",)),
    _Mark("checkpoint", "torch/distributed/checkpoint/state_dict_saver.py"),
    _Mark("checkpoint", "safetensors/torch.py", ("save_file", "save_model")),
    _Mark("logging", "/logging/__init__.py"),
    _Mark("logging", "tqdm/std.py"),
    _Mark("logging", "torch/utils/tensorboard/writer.py"),
    _Mark("optimizer", "torch/nn/utils/clip_grad.py"),
    _Mark("optimizer", "torch/amp/grad_scaler.py", ("step", "unscale_", "update")),
    _Mark("loss", "torch/nn/modules/loss.py"),
    _Mark("forward", "torch/nn/modules/module.py", ("_call_impl", "_wrapped_call_impl")),
)
_OPTIMIZERS = "torch/optim/"
_NO_OPTIMIZER = ("lr_scheduler.py", "swa_utils.py")
_FETCH = _Mark("data_wait", "torch/utils/data/_utils/fetch.py", ("fetch",))
_LOOSE = ("optimizer", "forward")
"""Phases that yield to one further in: a closure in `Optimizer.step`, a loss among modules."""


def phase_of(stack: Sequence[Frame]) -> tuple[str, int]:
    """The phase of the training thread's stack, and how many frames lead up to it.

    `residual` and 0 where no frame says.
    """
    found, depth = REST, 0
    for place, frame in enumerate(stack):
        phase = _phase_of_frame(frame)
        if phase is None or phase == found:
            continue
        if found == REST or (found == "optimizer") or (found == "forward" and phase == "loss"):
            found, depth = phase, place + 1
        if found not in _LOOSE:
            break
    return found, depth


def fetch_depth(stack: Sequence[Frame]) -> int | None:
    """How many frames of a DataLoader worker lead up to the making of a batch; None if it waits."""
    for place, frame in enumerate(stack):
        if _is(frame, _FETCH):
            return place + 1
    return None


def is_users(frame: Frame) -> bool:
    """Whether a frame is in the user's own source, not in a library's or in generated code."""
    file = frame.file
    if not file or file.startswith("<") or _OWN.search(file):
        return False
    return not any(folder.search(file) for folder in _LIBRARY_FOLDERS)


def is_trainprofs(frame: Frame) -> bool:
    """Whether a frame is of trainprof itself, as the agent's thread is."""
    return _OWN.search(frame.file) is not None


def library_call(frame: Frame) -> str | None:
    """The library and function of a frame, as "numpy's sort"; None in the user's own source."""
    for folder in _LIBRARY_FOLDERS:
        match = folder.search(frame.file)
        if match is not None and not _OWN.search(frame.file):
            library = re.split(r"[/\\]", match.group(1))[0].removesuffix(".py")
            return f"{library}'s {last_name(frame)}"
    return None


def last_name(frame: Frame) -> str:
    """The function's name without its class."""
    return frame.function.rpartition(".")[2]


def short_name(frame: Frame) -> str:
    """The function with its class, without the functions around it."""
    return frame.function.rpartition("<locals>.")[2]


def _phase_of_frame(frame: Frame) -> str | None:
    if "torch" not in frame.file:
        candidates = [mark for mark in _MARKS if "torch" not in mark.file]
    elif _OPTIMIZERS in frame.file and not frame.file.endswith(_NO_OPTIMIZER):
        return "optimizer"
    else:
        candidates = list(_MARKS)
    return next((mark.phase for mark in candidates if _is(frame, mark)), None)


def _is(frame: Frame, mark: _Mark) -> bool:
    if not frame.file.endswith(mark.file):
        return False
    return not mark.functions or last_name(frame) in mark.functions
