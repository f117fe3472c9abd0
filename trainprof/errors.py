"""Errors a user can cause.

TrainprofError
├── UsageError        a command line that cannot be carried out
├── RunFolderError    a run folder that cannot be read or written
└── MissingExtraError an optional dependency that is not installed

Each message is one sentence: what happened, and what to do. Only the command line prints them.
"""

from __future__ import annotations


class TrainprofError(Exception):
    """Base of every error that is shown to the user as one sentence; exit status 2."""


class UsageError(TrainprofError):
    """Raised when a command line asks for something that cannot be done."""


class RunFolderError(TrainprofError):
    """Raised when a run folder is absent, unreadable, unwritable or of a newer format."""


class MissingExtraError(TrainprofError):
    """Raised when an optional dependency is absent; the message holds the pip line."""
