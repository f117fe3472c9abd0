"""Takes the pictures of docs/report.md: records a sample run, and opens its page in Chromium.

    .venv/bin/python docs/make_report_pictures.py

Fails if any number that the page shows is not the one in diagnosis.json (`shown_page.py`).
"""

from __future__ import annotations

import base64
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from shown_page import run_differs

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs" / "pictures"
BROWSER = REPOSITORY / "tests" / "integration" / "html" / "conftest.py"
SCRIPT = REPOSITORY / "sample_runs" / "slow_storage" / "train.py"
FIRST_SCREEN, PHONE = (1100, 1500), (400, 1500)
PARTS = ("timeline", "stacks")
"""Sections that have a picture of their own."""


def record(folder: Path) -> Path:
    """Records the sample run; gives its folder."""
    shutil.copy(SCRIPT, folder / "train.py")
    trainprof = str(Path(sys.executable).parent / "trainprof")
    command = [trainprof, "run", "--out", "run", "--no-calibration", "train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "run"


def take(browser: Any, name: str, area: dict[str, float]) -> None:
    """Keeps a picture of a part of the page."""
    taken = browser.call(
        "Page.captureScreenshot", clip={**area, "scale": 1}, captureBeyondViewport=True
    )
    (PICTURES / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


def first_screen(browser: Any, page: Path, name: str, size: tuple[int, int], scheme: str) -> None:
    """A picture of the top of the page."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    browser.open(page, *size)
    take(browser, name, {"x": 0, "y": 0, "width": size[0], "height": size[1]})


def main() -> None:
    """Records, looks, and takes the pictures."""
    program = shutil.which("chromium") or sys.exit("there is no chromium here; install it first")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = record(Path(folder))
        page = run / "report.html"
        browser = runpy.run_path(str(BROWSER))["Browser"](program, Path(folder) / "profile")
        try:
            first_screen(browser, page, "report-dark", FIRST_SCREEN, "dark")
            first_screen(browser, page, "report-phone", PHONE, "light")
            first_screen(browser, page, "report-light", FIRST_SCREEN, "light")
            wrong = run_differs(browser, run)
            assert not wrong, f"not the numbers of diagnosis.json: {wrong}"
            browser.open(page, *FIRST_SCREEN)  # as it was before all was folded out
            browser.run("new Promise((told) => setTimeout(told, 500))")  # charts take their places
            for part in PARTS:
                place = f"document.getElementById('{part}').getBoundingClientRect()"
                area = browser.run(f"(({{x, y, width, height}}) => ({{x, y: y + scrollY, width,"
                                   f" height}}))({place})")  # fmt: skip
                take(browser, f"report-{part}", area)
            assert browser.problems == []
        finally:
            browser.close()


if __name__ == "__main__":
    main()
