import importlib
import importlib.util
import inspect
import sys
import textwrap
import traceback
import zipfile

import pytest

from trainprof.profiler.agent import guard, imports


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An importable folder; everything imported from it is forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    before, finders = set(sys.modules), list(sys.meta_path)
    guard.reset()
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("planted"):
            del sys.modules[name]
    assert sys.meta_path == finders


def _write(folder, name, source="VALUE = 1\n"):
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    importlib.invalidate_caches()


def test_action_runs_after_the_module_has_been_executed(folder):
    _write(folder, "planted_a")
    values = []
    watch = imports.watch("planted_a", lambda module: values.append(module.VALUE))
    assert values == []
    import planted_a

    watch.remove()
    assert values == [1]
    assert planted_a.__spec__.loader is planted_a.__loader__
    assert type(planted_a.__loader__).__name__ == "SourceFileLoader"
    assert "exec_module" not in vars(planted_a.__loader__)
    assert planted_a.__loader__.get_data(planted_a.__file__) == b"VALUE = 1\n"
    assert planted_a.__loader__.is_package("planted_a") is False
    assert "VALUE" in inspect.getsource(planted_a)


def test_action_runs_at_once_for_a_module_that_is_there():
    seen = []
    imports.watch("json", seen.append).remove()
    assert seen == [sys.modules["json"]]


def test_submodules_and_packages(folder):
    package = folder / "planted_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import name\n")
    (package / "inner.py").write_text("name = __name__\n")
    importlib.invalidate_caches()
    order = []
    watches = [
        imports.watch("planted_package", lambda module: order.append(module.name)),
        imports.watch("planted_package.inner", lambda module: order.append(module.__name__)),
    ]
    importlib.import_module("planted_package")
    for watch in watches:
        watch.remove()
    assert order == ["planted_package.inner", "planted_package.inner"]
    assert sys.modules["planted_package"].__path__


def test_removed_watch_does_nothing_and_leaves_no_finder(folder):
    _write(folder, "planted_b")
    seen = []
    watch = imports.watch("planted_b", seen.append)
    watch.remove()
    watch.remove()
    importlib.import_module("planted_b")
    assert seen == []


def test_looking_for_a_spec_is_not_an_import(folder):
    _write(folder, "planted_c")
    seen = []
    watch = imports.watch("planted_c", seen.append)
    assert importlib.util.find_spec("planted_c").origin == str(folder / "planted_c.py")
    assert importlib.util.find_spec("planted_absent") is None
    assert seen == []
    importlib.import_module("planted_c")
    watch.remove()
    assert len(seen) == 1


def test_reload_and_lazy_loading_call_again(folder):
    _write(folder, "planted_d")
    seen = []
    watch = imports.watch("planted_d", seen.append)
    spec = importlib.util.find_spec("planted_d")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted_d"] = module
    spec.loader.exec_module(module)
    assert seen == []
    assert module.VALUE == 1
    assert seen == [module]
    importlib.reload(module)
    watch.remove()
    assert seen == [module, module]


def test_error_of_the_module_is_its_own_and_the_watch_goes_on(folder):
    _write(folder, "planted_e", "raise ValueError('broken')\n")
    seen = []
    watch = imports.watch("planted_e", seen.append)
    with pytest.raises(ValueError, match="broken") as error:
        importlib.import_module("planted_e")
    _write(folder, "planted_e", "OK = 'a longer file, so that its cached code is out of date'\n")
    importlib.import_module("planted_e")
    watch.remove()
    assert len(seen) == 1
    assert imports.__file__ not in [frame.filename for frame in traceback.extract_tb(error.tb)]


def test_import_statement_shows_no_frame_of_ours(folder):
    _write(folder, "planted_f", "import planted_g\n")
    _write(folder, "planted_g", "1 / 0\n")
    watches = [imports.watch(name, lambda module: None) for name in ("planted_f", "planted_g")]
    with pytest.raises(ZeroDivisionError) as error:
        exec(compile("import planted_f", "script", "exec"), {})
    for watch in watches:
        watch.remove()
    files = [frame.filename for frame in traceback.extract_tb(error.tb)]
    assert files[1:] == ["script", str(folder / "planted_f.py"), str(folder / "planted_g.py")]


def test_missing_module_raises_as_ever(folder):
    watch = imports.watch("planted_missing", lambda module: None)
    with pytest.raises(ModuleNotFoundError, match="No module named 'planted_missing'"):
        importlib.import_module("planted_missing")
    watch.remove()


def test_error_in_the_action_stays_with_us(folder):
    _write(folder, "planted_h")
    watch = imports.watch("planted_h", lambda module: 1 / 0)
    assert importlib.import_module("planted_h").VALUE == 1
    watch.remove()
    assert [name for name, _, _ in guard.failures] == ["import of planted_h"]
    guard.reset()


def test_loader_shared_by_modules_calls_back_for_the_right_one(folder):
    archive = folder / "planted.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("planted_one.py", "VALUE = 1\n")
        packed.writestr("planted_two.py", "VALUE = 2\n")
    sys.path.insert(0, str(archive))
    seen = []
    watch = imports.watch("planted_one", lambda module: seen.append(module.VALUE))
    try:
        importlib.util.find_spec("planted_one")
        assert importlib.import_module("planted_two").VALUE == 2
        assert seen == []
        assert importlib.import_module("planted_one").VALUE == 1
    finally:
        watch.remove()
        sys.path.remove(str(archive))
    assert seen == [1]


def test_builtin_and_frozen_modules_import_untouched():
    watch = imports.watch("_trainprof_no_such_builtin", lambda module: None)
    other = imports.watch("zipimport", lambda module: None)
    assert importlib.util.find_spec("zipimport") is not None
    watch.remove()
    other.remove()


def test_finder_that_asks_for_the_same_module_ends(folder):
    _write(folder, "planted_i")

    asked = []

    class Once:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != "planted_i" or asked:
                return None
            asked.append(name)
            return importlib.util.find_spec(name)

    sys.meta_path.insert(0, Once)
    seen = []
    watch = imports.watch("planted_i", seen.append)
    try:
        importlib.import_module("planted_i")
    finally:
        watch.remove()
        sys.meta_path.remove(Once)
    assert len(seen) == 1


def test_import_of_another_module_costs_less_than_a_microsecond(nanoseconds_per_call):
    watch = imports.watch("planted_never", lambda module: None)
    finder = sys.meta_path[0]
    assert nanoseconds_per_call(lambda: finder.find_spec("unrelated")) < 1_000
    watch.remove()
