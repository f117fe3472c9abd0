"""What the threads tell the screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.store.tail import Look
from trainprof.profiler.store.tune_progress import TuneProgress


@dataclass
class Looked(Message):
    """The run folder was looked at."""

    look: Look
    status: str


@dataclass
class Tuned(Message):
    """A tune got further; looks that follow are of its `run_folder`."""

    tune: TuneProgress


@dataclass
class Diagnosed(Message):
    """There is a new diagnosis."""

    diagnosis: Diagnosis


@dataclass
class Answered(Message):
    """What was asked for is there: a sentence, or a page to read."""

    title: str
    text: str
    is_page: bool = False


@dataclass
class Failed(Message):
    """The run folder cannot be read any more."""

    sentence: str
