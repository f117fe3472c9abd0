"""Trials on a cluster: what goes to the node, what comes back, and what goes wrong there."""

import os
import pickle
import sys
from types import SimpleNamespace

import pytest

from trainprof.errors import MissingExtraError, TrainprofError, UsageError
from trainprof.profiler.sandbox.workplace import PREFIX
from trainprof.rules.experiments.ray_engine import Job, RayWorkplace, ray_workplace, run_job


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__("Traceback (most recent call last):\n ...")
        self.cause = cause


class FakeRay:
    """A cluster in this process: what is handed over is pickled, as it would be."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(
            NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft)
        )
    )

    def __init__(self, is_free=True, interrupted=False, lost=False):
        self.is_free, self.interrupted, self.lost = is_free, interrupted, lost
        self.cancelled, self.options_given, self.is_up = [], {}, True

    def nodes(self):
        return [
            {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 64.0}},
            {"NodeID": "small", "Alive": True, "Resources": {"CPU": 4.0, "memory": 1e9}},
            {"NodeID": "gpus", "Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0, "memory": 5e9}},
        ]

    def remote(self, function):
        def options(**given):
            self.options_given = given
            return SimpleNamespace(
                remote=lambda *args: [function, *pickle.loads(pickle.dumps(args))]
            )

        return SimpleNamespace(options=options)

    def wait(self, tasks, timeout):
        if self.interrupted and not self.cancelled:
            raise KeyboardInterrupt
        return (tasks, []) if self.is_free else ([], tasks)

    def get(self, task):
        function, job = task
        if self.lost:
            raise RayError("The node died.\nIt was preempted")
        here, environment = os.getcwd(), dict(os.environ)
        try:
            return function(job)
        except TrainprofError as error:
            raise RayTaskError(error) from None
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(environment)

    def cancel(self, task):
        self.cancelled.append(task)

    def shutdown(self):
        self.is_up = False


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Makes a workplace over a fake cluster."""
    project, records = tmp_path / "project", tmp_path / "records"
    project.mkdir()
    records.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def make(ray=None, folders=None):
        folders = [str(project)] if folders is None else folders
        return RayWorkplace(ray or FakeRay(), records, folders, unguarded=True)

    return make


def script(tmp_path, text):
    (tmp_path / "project" / "script.py").write_text(text)
    return [sys.executable, "script.py"]


def test_a_command_runs_in_the_project_and_leaves_nothing(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = (
        "import os\nopen('written', 'w').write('x')\n"
        "print(os.environ['MINE'], os.environ['MORE'], os.environ['OMP_NUM_THREADS'])"
    )
    output = tmp_path / "records" / "output.txt"

    status = place().run(script(tmp_path, text), "001", output, 60.0, {"MORE": "too"})

    assert status == 0
    assert output.read_text() == "kept too 3\n"
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == ["script.py"]
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def test_a_status_comes_back_and_so_does_a_trial_that_hangs(place, tmp_path):
    output = tmp_path / "records" / "output.txt"
    assert place().run(script(tmp_path, "raise SystemExit(7)"), "001", output, 60.0) == 7
    hangs = script(tmp_path, "import time\ntime.sleep(60)")
    assert place().run(hangs, "002", output, 0.5) is None


def test_it_takes_the_whole_of_the_largest_node(place):
    ray = FakeRay()
    made = place(ray)
    assert ray.options_given["scheduling_strategy"] == ("gpus", False)
    assert (ray.options_given["num_cpus"], ray.options_given["num_gpus"]) == (2.0, 1.0)
    assert (made.cpus, made.memory_bytes) == (2, 5_000_000_000)
    made.close()
    assert not ray.is_up


def test_a_node_that_does_not_see_the_project_is_one_sentence(place, tmp_path):
    elsewhere, records = str(tmp_path / "elsewhere"), str(tmp_path / "records")
    job = Job(("true",), "001", "x", 60.0, {}, {}, elsewhere, records, records, (), True)
    with pytest.raises(UsageError, match="elsewhere; the project has to lie where all nodes see"):
        run_job(job)


@pytest.mark.parametrize(
    ("ray", "said"),
    [
        (FakeRay(lost=True), r"failed \(RayError: It was preempted\); its nodes need trainprof"),
        (FakeRay(is_free=False), "did not become free"),
    ],
)
def test_what_goes_wrong_is_one_sentence(place, tmp_path, ray, said):
    with pytest.raises(TrainprofError, match=said):
        place(ray).run(["true"], "001", tmp_path / "records" / "output.txt", 60.0)


def test_an_interrupt_ends_the_trial_on_the_node(place, tmp_path):
    ray = FakeRay(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        place(ray).run(["true"], "001", tmp_path / "records" / "output.txt", 60.0)
    assert len(ray.cancelled) == 1


def test_without_ray_there_is_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'trainprof\[ray\]'"):
        ray_workplace(tmp_path, [], unguarded=False)
