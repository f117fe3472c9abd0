"""Deep copies of models are counted with their place; other copies pass straight through."""

import copy
import sys
import types

import pytest
import torch
from torch import nn

from trainprof.profiler.agent import hooks_deepcopy


def only(hooks):
    (event,) = hooks.collectors[-1].take_events()
    assert event.kind == "deepcopy"
    return event.data


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: nn.Linear(2, 2), "Linear"),
        (lambda: nn.Linear(2, 2).state_dict(), "OrderedDict"),
        (lambda: torch.optim.SGD(nn.Linear(2, 2).parameters()).state_dict(), "dict"),
    ],
)
def test_copies_of_models_are_counted(hooks, make, what):
    hooks.install(hooks_deepcopy)
    thing = make()
    line = sys._getframe().f_lineno + 1
    copied = [copy.deepcopy(thing), copy.deepcopy(thing, {})]

    data = only(hooks)

    assert all(type(one) is type(thing) and one is not thing for one in copied)
    assert data["count"] == 2
    assert data["what"] == what
    assert data["total_ns"] > 0
    assert data["where"]["line"] == line
    assert hooks.collectors[-1].take_events() == []


@pytest.mark.parametrize("thing", [{}, [1, 2], {"a": 1}, "text", None, torch.ones(2)])
def test_other_copies_pass(hooks, thing):
    hooks.install(hooks_deepcopy)
    copy.deepcopy(thing)

    assert hooks.collectors[-1].take_events() == []


def test_a_name_taken_before_is_replaced_in_the_users_modules_only(hooks, monkeypatch, tmp_path):
    original = copy.deepcopy
    users, library = types.ModuleType("users_module"), types.ModuleType("library_module")
    users.__file__ = str(tmp_path / "users_module.py")
    library.__file__ = copy.__file__
    for module in (users, library):
        module.deepcopy = original
        monkeypatch.setitem(sys.modules, module.__name__, module)
    hooks.install(hooks_deepcopy)

    users.deepcopy(nn.Linear(1, 1))

    assert only(hooks)["count"] == 1
    assert library.deepcopy is original
    hooks.uninstall()
    assert users.deepcopy is original
    assert copy.deepcopy is original


def test_errors_are_the_scripts_own(hooks):
    hooks.install(hooks_deepcopy)

    class Stubborn(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("not me")

    with pytest.raises(RuntimeError, match="not me"):
        copy.deepcopy(Stubborn())
    with pytest.raises(TypeError):
        copy.deepcopy()
