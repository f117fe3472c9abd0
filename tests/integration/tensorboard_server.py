"""A real TensorBoard on a port of its own, asked through its HTTP interface."""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlencode
from urllib.request import Request, urlopen

STARTS_WITHIN_S = 150


class Server:
    """What a browser would ask."""

    def __init__(self, address):
        self._address = address

    def bytes(self, path, **parameters):
        query = f"?{urlencode(parameters)}" if parameters else ""
        with urlopen(f"{self._address}{path}{query}", timeout=120) as answer:
            return answer.read()

    def get(self, path, **parameters):
        return json.loads(self.bytes(path, **parameters))

    def post(self, path, body):
        request = Request(
            f"{self._address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def scalars(self, run, tag):
        """Pairs of a step and a value."""
        points = self.get("/data/plugin/scalars/scalars", run=run, tag=tag)
        return [(step, value) for _, step, value in points]

    def wait_for(self, runs):
        """Until these runs are loaded."""
        until_s = time.monotonic() + STARTS_WITHIN_S
        while not runs <= set(self.get("/data/runs")):
            assert time.monotonic() < until_s, self.get("/data/runs")
            time.sleep(0.1)


@contextmanager
def tensorboard_server(folder, *options):
    """Serves a folder; a port that is free is chosen by the system."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    command += ["--host", "127.0.0.1", "--reload_interval", "1", *options]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        timer = threading.Timer(STARTS_WITHIN_S, process.kill)
        timer.start()
        said = []
        for line in process.stderr:
            said.append(line)
            found = re.search(r"at (http://127\.0\.0\.1:\d+)", line)
            if found:
                break
        else:
            raise AssertionError("".join(said))
        timer.cancel()
        rest = threading.Thread(target=process.stderr.read, daemon=True)
        rest.start()
        try:
            yield Server(found[1])
        finally:
            process.terminate()
            process.wait(30)
            rest.join(10)
