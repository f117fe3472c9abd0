"""`trainprof run --metrics-port PORT`: the run as metrics that Prometheus reads while it goes on.

Threads of trainprof's own process look at the run folder and answer; nothing of it runs inside the
training.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainprof.cli.dashboard_services import diagnosed
from trainprof.cli.looking_thread import LookingThread
from trainprof.cli.metrics_server import ADDRESS, MetricsServer
from trainprof.errors import MissingExtraError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.tail import RunTail
from trainprof.reports.live_diagnosis import FIRST_DIAGNOSIS_STEPS, cpu_of_children_s
from trainprof.reports.openmetrics.run_so_far import RunSoFar

FINDINGS_EVERY_S = 15.0
"""Between two diagnoses, each by a process of its own; what costs much is asked for more seldom."""
INTERVAL_S = 1.0
"""Between two looks at the run folder; Prometheus asks every 15 s or so."""


def open_server(port: int) -> MetricsServer:
    """Takes the port before a training starts; what asks there waits until it is answered.

    Raises:
        MissingExtraError: there is no prometheus_client.
        UsageError: the port cannot be had.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "Metrics need prometheus-client, which is not installed: "
            "pip install 'trainprof[prometheus]'"
        ) from None
    try:
        return MetricsServer(port)
    except OSError as error:
        raise UsageError(
            f"Port {port} of {ADDRESS} cannot be had ({error.strerror}); name another with "
            "--metrics-port PORT, or 0 for any that is free."
        ) from None


class LiveMetrics:
    """Answers with what the run has recorded so far until it is finished.

    Args:
        run_folder: Where the records are written. info: Of the run, as it begins.
        server: Has the port. diagnose: Gives what is found by now; tests replace it.
    """

    def __init__(
        self,
        run_folder: Path,
        info: RunInfo,
        server: MetricsServer,
        diagnose: Callable[[Path], Diagnosis | None] = diagnosed,
    ) -> None:
        self._folder = run_folder
        self._diagnose = diagnose
        self._steps = 0
        self._tail = RunTail(run_folder)
        self._run = RunSoFar(info)
        self._server = server
        self._lock = threading.Lock()
        self._texts: dict[bool, bytes] = {}
        self._thread = LookingThread("trainprof-metrics", self._look, INTERVAL_S)
        self._findings = LookingThread(
            "trainprof-findings", self._look_for_findings, FINDINGS_EVERY_S, cpu_of_children_s
        )

    def start(self) -> None:
        """Starts the threads."""
        self._thread.start()
        self._findings.start()
        self._server.start(self.page)

    def stop(self) -> None:
        """The training has ended; its last records are served while it is diagnosed for good."""
        self._findings.stop()

    def look(self) -> float:
        """Reads what is new; gives the seconds to wait until the next look."""
        return self._thread.look()

    def look_for_findings(self) -> float:
        """Has the run diagnosed; gives the seconds to wait until the next time."""
        return self._findings.look()

    def finish(self, diagnosis: Diagnosis) -> None:
        """Ends the server; says so if it could not tell the run to its end."""
        self._thread.stop()
        self._server.close()
        if self._thread.failure is not None:
            reason = getattr(self._thread.failure, "strerror", None) or str(self._thread.failure)
            print(f"trainprof: the metrics ended before the run ({reason}).", file=sys.stderr)

    def page(self, accepted: str) -> tuple[str, bytes]:
        """What a client gets that accepts this: content type and text.

        It is written once for all that ask between two looks.

        Raises:
            OSError, TrainprofError: the run cannot be read any more.
        """
        from trainprof.reports.openmetrics.families import OPENMETRICS, TEXT, render

        if self._thread.failure is not None:
            raise self._thread.failure.with_traceback(None)  # or it grows with each client
        as_openmetrics = "application/openmetrics-text" in accepted
        with self._lock:
            if as_openmetrics not in self._texts:
                self._texts[as_openmetrics] = render(self._run, as_openmetrics)
            return (OPENMETRICS if as_openmetrics else TEXT), self._texts[as_openmetrics]

    def _look(self) -> bool:
        look = self._tail.look()
        with self._lock:
            self._run.take(look)
            self._texts.clear()
        return look.behind

    def _look_for_findings(self) -> bool:
        with self._lock:
            steps = self._run.steps
        if steps >= FIRST_DIAGNOSIS_STEPS and steps != self._steps:
            found = self._diagnose(self._folder)
            self._steps = steps
            if found is not None:
                with self._lock:
                    self._run.diagnosis = found, time.time()
                    self._texts.clear()
        return False
