"""`trainprof doctor`: what it says of this machine, of poor machines, and how it looks."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from trainprof.cli.doctor import as_text, check_folder, check_target, doctor
from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import GpuSample, Hardware
from trainprof.profiler.samplers import checks
from trainprof.profiler.samplers.checks import Check

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has")

POOR = (
    Check("pressure", "missing", "No pressure statistics.", "Boot with `psi=1`."),
    Check("/dev/shm", "partial", "Only 0.06 GiB of shared memory. " * 4, "Use `--shm-size`. " * 6),
    Check("cores", "ok", "2 of 2 cores usable: Some [bold]CPU[/bold] \x1b[31m with odd bytes."),
)


@pytest.fixture(scope="module")
def python_without_torch(tmp_path_factory):
    """An interpreter that starts at once: this one, but nothing of its packages."""
    return script(tmp_path_factory.mktemp("python") / "python", f'exec {sys.executable} -S -E "$@"')


def script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def call(*arguments):
    doctor.main([*arguments], prog_name="doctor", standalone_mode=False)


def test_text_of_this_machine(capsys, python_without_torch):
    call("--python", python_without_torch)
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in output.out
    named = [line[9:22].strip() for line in lines if line[:1].strip()]
    for name in ("cores", "processes", "pressure", "cpu quota", "gpu", "stacks", "target"):
        assert name in named


def test_json_is_exactly_one_object(capsys, python_without_torch):
    call("--python", python_without_torch, "--format", "json")
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert output.err == ""
    assert report["schema"] == 1
    assert report["hardware"]["logical_cores"] == os.cpu_count()
    assert {check["status"] for check in report["checks"]} <= {"ok", "partial", "missing"}
    names = [check["name"] for check in report["checks"]]
    assert len(names) == len(set(names)) >= 12


def test_unknown_options_are_refused():
    with pytest.raises(click.UsageError):
        call("--format", "xml")


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("styled", [False, True])
def test_text_keeps_its_width_and_its_meaning_without_colour(width, styled):
    text = as_text(POOR, width, styled)
    plain = click.unstyle(text)
    assert max(len(line) for line in plain.splitlines()) <= width
    assert ("\x1b[" in text) == styled
    assert "MISSING" in plain
    assert "partial" in plain
    assert "[bold]CPU[/bold]" in plain
    assert "\\x1b" in plain  # a control code of somebody else's is shown, not obeyed
    assert "1 of 3 are as they should be; see pressure, /dev/shm." in " ".join(plain.split())


def test_a_machine_without_faults():
    assert as_text(POOR[2:], 80, False).endswith("Everything can be measured here.\n")


@linux_only
class TestPoorMachines:
    """Fake /proc trees; what a tree lacks is missing, with what is lost and the remedy."""

    def test_an_empty_proc(self, tmp_path):
        found = [
            checks.check_pressure(tmp_path),
            checks.check_quota(tmp_path),
            checks.check_run_queue(tmp_path),
            checks.check_proportional_memory(tmp_path),
        ]
        assert [check.status for check in found] == ["missing"] * 4
        assert all(check.remedy for check in found)

    def test_pressure(self, tmp_path):
        place(tmp_path / "pressure" / "cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n")
        assert checks.check_pressure(tmp_path).status == "ok"

    def test_run_queue(self, tmp_path):
        place(tmp_path / "self" / "schedstat", "461435 60139 1\n")
        assert checks.check_run_queue(tmp_path).status == "ok"

    @pytest.mark.parametrize(
        ("scope", "capabilities", "status"),
        [
            (None, "0000000000000000", "ok"),
            ("0\n", "0000000000000000", "ok"),
            ("1\n", "0000000000000000", "partial"),
            ("1\n", "0000000000080000", "ok"),
            ("2\n", "0000000000000000", "partial"),
            ("2\n", "000001ffffffffff", "ok"),
            ("3\n", "000001ffffffffff", "partial"),
            ("1\n", "no number", "partial"),
        ],
    )
    def test_stacks(self, tmp_path, scope, capabilities, status):
        place(tmp_path / "self" / "status", f"Name:\tx\nCapEff:\t{capabilities}\n")
        if scope is not None:
            place(tmp_path / "sys" / "kernel" / "yama" / "ptrace_scope", scope)
        check = checks.check_tracing(tmp_path, "/home/somebody/py-spy")
        assert check.status == status
        assert (check.remedy is None) == (status == "ok")

    @pytest.mark.parametrize(
        ("total_bytes", "status"),
        [(None, "missing"), (64 << 20, "partial"), ((1 << 30) - 1, "partial"), (1 << 30, "ok")],
    )
    def test_shared_memory(self, total_bytes, status):
        assert checks.check_shared_memory(total_bytes).status == status

    @pytest.mark.parametrize(
        ("hardware", "status", "words"),
        [
            (Hardware(cpu_model="X", logical_cores=8, affinity_cores=4), "ok", "4 of 8 cores"),
            (Hardware(logical_cores=8, cgroup_quota_cores=1.5), "ok", "1.5 of 8 cores"),
            (Hardware(logical_cores=8), "partial", "8 cores"),
            (Hardware(), "partial", "unknown number"),
        ],
    )
    def test_cores(self, hardware, status, words):
        check = checks.check_cores(hardware)
        assert check.status == status
        assert words in check.seen


class TestGpus:
    """What is made of the GPU sampler's words; NVML itself is tested with the samplers."""

    @pytest.mark.parametrize(
        ("names", "words"),
        [(["H100"], "1 GPU seen through NVML: H100."), (["A", None], "2 GPUs seen through NVML")],
    )
    def test_seen(self, monkeypatch, names, words):
        samples = tuple(GpuSample(index, name=name) for index, name in enumerate(names))
        plant_sampler(monkeypatch, samples, CollectorStatus("gpu", "ok"))
        check = checks.check_gpus()
        assert check.status == "ok"
        assert words in check.seen

    @pytest.mark.parametrize(("status", "shown"), [("partial", "partial"), ("failed", "missing")])
    def test_in_part_or_failed(self, monkeypatch, status, shown):
        plant_sampler(monkeypatch, (GpuSample(0),), CollectorStatus("gpu", status, "no energy"))
        check = checks.check_gpus()
        assert (check.status, check.seen) == (shown, "No energy.")
        assert check.remedy is not None

    def test_a_driver_that_hangs(self, monkeypatch):
        forever = threading.Event()
        monkeypatch.setattr(checks, "GpuSampler", forever.wait)
        check = checks.check_gpus(wait_s=0.05)
        monkeypatch.undo()
        assert check.status == "missing"
        assert "not answered within 0.05 s" in check.seen


class TestTarget:
    """What is said of the training's interpreter."""

    def test_with_torch(self, tmp_path):
        answer = '{"python": [3, 12, 1], "torch": "2.9.0+cu128", "cuda": "12.8", "gpus": 2}'
        check = check_target(script(tmp_path / "python", f"echo noise; echo '{answer}'"))
        assert check.status == "ok"
        assert "Python 3.12.1, torch 2.9.0+cu128 for CUDA 12.8, sees 2 GPUs" in check.seen

    def test_without_torch(self, python_without_torch):
        check = check_target(python_without_torch)
        assert check.status == "missing"
        assert "cannot import torch (No module named 'torch')" in check.seen
        assert "--python" in check.remedy

    def test_with_a_broken_torch(self, tmp_path):
        (tmp_path / "torch.py").write_text("raise OSError('libtorch.so is damaged')")
        line = f'PYTHONPATH={tmp_path} exec {sys.executable} -S "$@"'
        assert "libtorch.so is damaged" in check_target(script(tmp_path / "python", line)).seen

    def test_too_old(self, tmp_path):
        check = check_target(script(tmp_path / "python", "echo '{\"python\": [2, 7, 18]}'"))
        assert check.status == "missing"
        assert "3.10 or newer" in check.remedy

    def test_no_python_at_all(self, tmp_path):
        check = check_target(script(tmp_path / "python", "echo 'bad option' >&2; exit 2"))
        assert "is no working Python (bad option)" in check.seen

    def test_nothing_there(self, tmp_path):
        check = check_target(str(tmp_path / "nowhere"))
        assert check.status == "missing"
        assert "No such file" in check.seen

    def test_it_hangs(self, tmp_path):
        check = check_target(script(tmp_path / "python", "exec sleep 30"), wait_s=0.2)
        assert "did not answer within 0.2 s" in check.seen


class TestFolder:
    """Whether a run can be recorded."""

    def test_writable(self, tmp_path):
        assert check_folder(tmp_path).status == "ok"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_without_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        check = check_folder(tmp_path)
        tmp_path.chmod(0o700)
        assert check.status == "missing"

    def test_gone(self, tmp_path):
        check = check_folder(tmp_path / "gone")
        assert check.status == "missing"
        assert "--out" in check.remedy


def plant_sampler(monkeypatch, samples, status):
    sampler = SimpleNamespace(sample=lambda: samples, statuses=lambda: (status,))
    monkeypatch.setattr(checks, "GpuSampler", lambda: sampler)


def place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
