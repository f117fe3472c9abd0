import sys
import textwrap

import pytest
import torch

from trainprof.profiler.agent import location
from trainprof.profiler.agent.location import caller_location, class_location, is_user_file


def _run(file, source, module="__main__", **names):
    """Executes source as if it stood in `file`, in a module of that name."""
    scope = {"__name__": module, **names}
    exec(compile(textwrap.dedent(source), str(file), "exec"), scope)
    return scope


@pytest.fixture(autouse=True)
def _forget_files(monkeypatch):
    monkeypatch.setattr(location, "_kinds", {})


def test_this_file_is_the_users():
    line = sys._getframe().f_lineno + 1
    where = caller_location()
    assert where == {
        "file": __file__,
        "line": line,
        "function": "test_this_file_is_the_users",
    }


def test_libraries_in_between_are_passed_over(tmp_path):
    library = tmp_path / "lib" / "python3" / "site-packages" / "somelib" / "loop.py"
    called = _run(library, "def call(action):\n    return action()\n", "somelib.loop")["call"]
    line = sys._getframe().f_lineno + 1
    where = called(caller_location)
    assert (where["file"], where["line"]) == (__file__, line)


@pytest.mark.parametrize("module", ["torch.optim.adam", "lightning.pytorch.loops", "transformers"])
def test_known_libraries_installed_in_place_are_passed_over(tmp_path, module):
    called = _run(tmp_path / "code.py", "def call(action):\n    return action()\n", module)["call"]
    assert called(caller_location)["file"] == __file__


def test_real_torch_and_standard_library_are_not_the_users():
    import json.decoder

    assert not is_user_file(torch.optim.Adam.step.__code__.co_filename)
    assert not is_user_file(json.decoder.__file__)
    assert not is_user_file(location.__file__)
    assert not is_user_file("<frozen importlib._bootstrap>")
    assert is_user_file(__file__)
    assert is_user_file("<ipython-input-3-abc>")


def test_called_from_within_torch_and_its_hooks():
    seen = []
    model = torch.nn.Linear(2, 2)
    model.register_forward_pre_hook(lambda *_: seen.append(caller_location()))
    model(torch.zeros(1, 2))
    assert seen[0]["file"] == __file__


def test_first_frame_outside_torch_stands_in_when_all_are_libraries(monkeypatch, tmp_path):
    monkeypatch.setattr(location, "_classify", _only_libraries(location._classify))
    inside = _run(tmp_path / "t.py", "def call(action):\n    return action()\n", "torch.x")["call"]
    where = inside(caller_location)
    assert where["file"] == __file__


def _only_libraries(classify):
    def classified(file, module):
        return min(classify(file, module), location._LIBRARY)

    return classified


def test_relative_names_hold_after_the_script_changes_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(location, "_start", "/where/it/started")
    monkeypatch.chdir(tmp_path)
    called = _run("./train.py", "def call(action):\n    return action()\n")["call"]
    assert called(caller_location)["file"] == "/where/it/started/train.py"


def test_remembered_files_are_bounded(monkeypatch):
    monkeypatch.setattr(location, "_MOST_FILES", 10)
    for number in range(100):
        is_user_file(f"/cell{number}.py")
    assert len(location._kinds) <= 10


class Base:
    pass


class Planted(Base):
    """The class statement stands four lines above the first method."""

    value = 1

    def __getitem__(self, index):
        return index


def _line_of(text):
    with open(__file__, encoding="utf-8") as source:
        return next(n for n, line in enumerate(source, 1) if line.startswith(text))


def test_class_location_is_its_class_statement():
    assert class_location(Planted) == {
        "file": __file__,
        "line": _line_of("class Planted"),
        "function": "Planted",
    }


def test_class_location_of_an_inherited_class_is_the_users():
    derived = type("Derived", (Planted,), {})
    assert class_location(derived)["line"] == _line_of("class Planted")


def test_class_location_skips_libraries():
    assert class_location(torch.utils.data.TensorDataset) is None
    assert class_location(int) is None


def test_class_location_without_source_is_the_first_method(tmp_path):
    source = "class Gone:\n    def first(self): pass\n    def second(self): pass\n"
    cls = _run(tmp_path / "gone.py", source)["Gone"]
    assert class_location(cls) == {
        "file": str(tmp_path / "gone.py"),
        "line": 2,
        "function": "Gone",
    }


def test_class_location_in_other_encodings(tmp_path):
    source = "# coding: latin-1\nclass Läden:\n    size = 4\n\n    def first(self): pass\n"
    path = tmp_path / "shops.py"
    path.write_bytes(source.encode("latin-1"))
    space = {"__name__": "shops"}
    exec(compile(path.read_bytes(), str(path), "exec"), space)
    assert class_location(space["Läden"])["line"] == 2


def test_what_is_no_source_any_more_is_located_by_its_first_method(tmp_path):
    cls = _run(tmp_path / "wide.py", "class Wide:\n    def first(self): pass\n")["Wide"]
    (tmp_path / "wide.py").write_text("class Wide:\n", encoding="utf-16")
    assert class_location(cls)["line"] == 2


def test_a_class_is_looked_up_once(tmp_path, monkeypatch):
    cls = _run(tmp_path / "once.py", "class Once:\n    a = 1\n    def first(self): pass\n")["Once"]
    (tmp_path / "once.py").write_text("class Once:\n    a = 1\n")
    assert class_location(cls)["line"] == 1
    (tmp_path / "once.py").unlink()
    assert class_location(cls)["line"] == 1


def test_shallow_stack_costs_less_than_twenty_microseconds(nanoseconds_per_call):
    assert nanoseconds_per_call(caller_location) < 20_000
