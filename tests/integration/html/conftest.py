"""A real Chromium without a window, spoken to over the pipe of its debugging protocol."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

PATIENCE_S = 60.0
SWITCHES = (
    "--headless",
    "--no-sandbox",  # which root may not use
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab. `problems` gathers what the console says and `requests` what the page asks for."""

    def __init__(self, program, profile):
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        self._calls = 0
        self._rest = b""
        self.problems, self.requests = [], []

        def place():
            # Either may lie on 3 or 4 already, where the browser expects them: copies come first.
            copies = os.dup(to_read), os.dup(to_write)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        switches = [*SWITCHES, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [program, *switches, "about:blank"],
            preexec_fn=place,
            close_fds=False,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method, **params):
        """One command of the protocol, and its answer."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._calls:
                assert "error" not in told, told["error"]
                return told["result"]
            self._note(told)

    def _next(self):
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            read = os.read(self._in, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def _note(self, told):
        method, params = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"].get("exception", params))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"])

    def open(self, path, width=1200, height=900):
        """Opens a file and waits until it has drawn itself."""
        self.problems, self.requests = [], []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.documentElement.dataset.drawn === 'yes'")

    def run(self, expression):
        """The value of an expression of JavaScript."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition):
        """Until a condition holds, looked at after each frame that the page draws."""
        end = time.monotonic() + PATIENCE_S
        frame = f"new Promise((told) => setTimeout(() => told(Boolean({condition})), 20))"
        while not self.run(frame):
            assert time.monotonic() < end, condition

    def text(self):
        """All that is shown, also what is scrolled out of sight."""
        return self.run("document.body.innerText")

    def close(self):
        """Ends the browser and all that it has started."""
        for end in (self._in, self._out):
            os.close(end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium is installed here, in which the page could be opened")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        tab = Browser(program, profile)
        yield tab
        tab.close()
