"""`run --tui`: the script has a terminal of its own, the dashboard has the real one.

The dashboard is a process of its own: it reads the run folder as `trainprof top` does, and what
the script prints from a file there. So the run goes on whatever becomes of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

from trainprof.profiler.store.layout import OUTPUT_FILE

BLOCK_BYTES = 65_536
OUTPUT_BYTES_MAX = 16_000_000
"""Of the file: then it is begun anew."""
REPEATED_BYTES = 20_000
"""Of what was printed before the dashboard was left, for those who then look for it."""
POLL_S = 0.25


class DashboardRun:
    """The terminal of the script, and the dashboard.

    Args:
        folder: Of the run.
        calibration: Of the diagnoses that the dashboard asks for.

    Attributes:
        terminal: What the script writes to; closed by `show`.
    """

    def __init__(self, folder: Path, *, calibration: bool = True) -> None:
        self._folder = folder
        self._calibration = calibration
        self._master, self.terminal = pty.openpty()
        self._size = b""
        self._copy_size()
        self._file = (folder / OUTPUT_FILE).open("wb", buffering=0)
        self._written = 0
        self._tail = b""
        self._ended = threading.Event()
        self._dashboard: subprocess.Popen[bytes] | None = None
        self._pump = threading.Thread(target=self._copy, name="output", daemon=True)

    def show(self) -> None:
        """Once the script has started: opens the dashboard, and takes what the script prints."""
        os.close(self.terminal)
        command = [sys.executable, "-m", "trainprof", "top", str(self._folder)]
        command += ["--supervisor", str(os.getpid())]
        if not self._calibration:
            command.append("--no-calibration")
        self._dashboard = subprocess.Popen(command)
        self._pump.start()

    def drain(self) -> None:
        """Once the script has ended: takes the rest of what it printed."""
        self._ended.set()
        self._pump.join()
        os.close(self._master)
        self._file.close()

    def wait(self) -> None:
        """Waits until the user leaves the dashboard, and shows the end of the output."""
        while not self._left():
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(POLL_S)
        self._to_terminal(self._tail)
        self._tail = b""

    def _left(self) -> bool:
        return self._dashboard is None or self._dashboard.poll() is not None

    def _copy(self) -> None:
        while True:
            ready, _, _ = select.select([self._master], [], [], POLL_S)
            if ready:
                try:
                    block = os.read(self._master, BLOCK_BYTES)
                except OSError:  # the last writer has gone
                    return
                self._take(block)
            elif self._ended.is_set():
                return
            self._copy_size()

    def _take(self, block: bytes) -> None:
        self._keep(block)
        if not self._left():
            self._tail = (self._tail + block)[-REPEATED_BYTES:]
            return
        self._to_terminal(self._tail + block)
        self._tail = b""

    def _keep(self, block: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk: the pane misses it
            if self._written > OUTPUT_BYTES_MAX:
                self._file.seek(0)
                self._file.truncate()
                self._written = 0
            self._written += self._file.write(block) or 0

    @staticmethod
    def _to_terminal(block: bytes) -> None:
        with contextlib.suppress(OSError):
            while block:
                block = block[os.write(1, block) :]

    def _copy_size(self) -> None:
        """Tells the script's terminal how large the real one is; that signals the change to it."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8)
            if size != self._size:
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
                self._size = size
