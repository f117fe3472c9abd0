"""Who may look at whose stacks: Yama's ptrace_scope and CAP_SYS_PTRACE."""

import pytest

from trainprof.profiler.samplers.ptrace import read_permission

NONE, ALL = "0000000000000000", "000001ffffffffff"


@pytest.fixture
def proc(tmp_path):
    def make(scope, capabilities):
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
        yama = tmp_path / "sys" / "kernel" / "yama"
        yama.mkdir(parents=True)
        if scope is not None:
            (yama / "ptrace_scope").write_text(f"{scope}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("scope", "capabilities", "own_children", "any_process", "must_ask"),
    [
        (None, NONE, True, True, False),
        (0, NONE, True, True, False),
        (1, NONE, True, False, True),
        (1, ALL, True, True, False),
        (1, "no number", True, False, True),
        (2, NONE, False, False, False),
        (2, ALL, True, True, False),
        (3, ALL, False, False, False),
    ],
)
def test_what_is_permitted(proc, scope, capabilities, own_children, any_process, must_ask):
    found = read_permission(proc(scope, capabilities), "linux")
    assert (found.own_children, found.any_process) == (own_children, any_process)
    assert found.must_ask == must_ask
    assert (found.reason is None) == own_children
    assert (found.remedy is None) == any_process


def test_elsewhere_only_root_may(tmp_path):
    assert not read_permission(tmp_path, "darwin").own_children
