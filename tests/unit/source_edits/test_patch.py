"""Several fixes on several files: bytes outside of the edits stay, and the rest is said."""

import ast
from pathlib import Path

import pytest

from trainprof.errors import UsageError
from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.source_edits.diff import unified_diff
from trainprof.rules.source_edits.patch import make_patch
from trainprof.rules.source_edits.source import CannotEdit, Source, Span

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(
    path
    for folder in ("sample_runs", "tests/zoo/cases")
    for path in (REPOSITORY / folder).rglob("*.py")
)
PLAIN = (b"data)", b"data, num_workers=2)")
FORMS = {
    "windows": (
        b"import torch\r\nloader = DataLoader(\r\n\tdata,  # all\r\n)\r\n\r\n",
        (b"# all\r\n", b"# all\r\n\tnum_workers=2,\r\n"),
    ),
    "byte order mark": (b"\xef\xbb\xbfimport torch\nloader = DataLoader(data)\n", PLAIN),
    "latin-1": (b"# coding: latin-1\nname = '\xe9\xff'; loader = DataLoader(data)\n", PLAIN),
    "wide letters": ("größe = 'ÄÖ'; loader = DataLoader(data)  # ✓\n".encode(), PLAIN),
    "form feed": (b"\x0cimport torch\n\x0c\nloader = DataLoader(data)\n", PLAIN),
    "no last line end": (b"loader = DataLoader(data)", PLAIN),
    "mixed line ends": (b"x = 1\r\nx = 1\nloader = DataLoader(data)\r\ny = 2\n", PLAIN),
    "odd blanks": (b"loader = DataLoader(data)\n   \n\t# c \n\n  ", PLAIN),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_outside_of_the_edit_stays(edited, form):
    data, (old, new) = FORMS[form]
    line = data[: data.index(b"DataLoader(")].count(b"\n") + 1
    assert edited(data, "loader-workers", line, num_workers=2) == data.replace(old, new)


def test_a_letter_that_the_file_cannot_hold_is_refused():
    source = Source(b"# coding: ascii\nx = 1\n")
    with pytest.raises(CannotEdit, match="cannot be written in ascii"):
        source.replaced([Span(20, 21, "'é'")])


@pytest.mark.parametrize(
    "data", [b"def (:\n", b"x = '\xff'\n", b"# coding: nonsense\n", b"x = 1\x00\n"]
)
def test_what_python_cannot_read_is_left_alone(by_hand, data):
    assert by_hand(data, "anomaly-off").reason == "this Python cannot read the file"


def test_files_that_are_not_the_users_own(tmp_path):
    library = tmp_path / "site-packages" / "data.py"
    targets = [
        (str(library), "it is made inside of an installed package"),
        ("<ipython-input-1>", "it is made by what is no Python file"),
        (str(tmp_path / "gone.py"), "the file cannot be read (No such file or directory)"),
    ]
    for path, reason in targets:
        one = Application("loader-workers", {"num_workers": 2}, Target(path, 1))
        (note,) = make_patch([one], script=None).by_hand
        assert note.reason == reason


def test_without_a_script_nothing_is_guessed():
    (note,) = make_patch([Application("gc-freeze")], script=None).by_hand
    assert note.reason == "the script is not known; give it"


def test_a_parameter_that_is_missing_or_wrong(tmp_path):
    for one in (
        Application("intra-op-threads"),
        Application("loader-workers"),
        Application("loader-workers", {"workers": 2}),
        Application("loader-workers", {"num_workers": "two"}),
        Application("make-it-fast"),
    ):
        with pytest.raises(UsageError):
            make_patch([one], script=str(tmp_path / "train.py"))


SCRIPT = """\
import torch
from torch.utils.data import DataLoader

torch.autograd.set_detect_anomaly(True)
loader = DataLoader(
    data,
    batch_size=8,
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step, batch in enumerate(loader):
    model(batch).backward()
"""
PATCHED = """\
import gc

import torch
from torch.utils.data import DataLoader

torch.set_num_threads(1)

loader = DataLoader(
    data,
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
gc.collect()
gc.freeze()
for step, batch in enumerate(loader):
    model(batch).backward()
"""


def test_all_together_in_any_order(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    fixes = [
        Application("gc-freeze", {"freeze": True}),
        Application(
            "loader-workers",
            {"num_workers": 2, "persistent_workers": True},
            Target(str(path), 5),
        ),
        Application("anomaly-off", {"anomaly": False}, Target(str(path), 4)),
        Application("optimizer-fused", {"fused": True}, Target(str(path), 9)),
        Application("intra-op-threads", {"num_threads": 1}),
    ]
    for order in (fixes, fixes[::-1], fixes[2:] + fixes[:2]):
        patch = make_patch(order, script=str(path))
        (file,) = patch.files
        assert file.new.decode() == PATCHED
        assert (patch.by_hand, patch.present) == ((), ())
        assert sorted(patch.made) == sorted(fix.fix for fix in fixes)
    path.write_text(PATCHED)
    again = [Application(fix.fix, fix.params) for fix in fixes]
    assert make_patch(again, script=str(path)).files == ()


def test_one_that_cannot_be_made_leaves_the_others(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    fixes = [
        Application("loader-workers", {"num_workers": 2}, Target(str(path), 3)),
        Application("optimizer-fused", {"fused": True}, Target(str(path), 9)),
    ]
    patch = make_patch(fixes, script=str(path))
    assert patch.made == ("optimizer-fused",)
    assert patch.by_hand[0].sentence(tmp_path) == (
        "loader-workers at train.py:3: no call of DataLoader stands in this line. "
        "Write: num_workers=2"
    )


def test_the_diff_is_relative_and_tells_where_the_last_line_ends_not(tmp_path):
    path = tmp_path / "project" / "train.py"
    path.parent.mkdir()
    path.write_bytes(b"x = 1\nloader = DataLoader(data)")
    one = Application("loader-workers", {"num_workers": 2}, Target(str(path), 2))
    files = make_patch([one], script=None).files
    assert unified_diff(files, tmp_path) == (
        b"--- a/project/train.py\n"
        b"+++ b/project/train.py\n"
        b"@@ -1,2 +1,2 @@\n"
        b" x = 1\n"
        b"-loader = DataLoader(data)\n"
        b"\\ No newline at end of file\n"
        b"+loader = DataLoader(data, num_workers=2)\n"
        b"\\ No newline at end of file\n"
    )
    assert f"--- {path}\n".encode() in unified_diff(files, tmp_path / "elsewhere")


CALLEES = {
    "DataLoader": ("loader-workers", {"num_workers": 7}, "num_workers"),
    "Adam": ("optimizer-fused", {"fused": True}, "fused"),
    "AdamW": ("optimizer-fused", {"fused": True}, "fused"),
    "SGD": ("optimizer-fused", {"fused": True}, "fused"),
}


def made_in(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in CALLEES:
                yield node, name


def dump_without(tree, line, keyword):
    for node, name in made_in(tree):
        if node.lineno == line and CALLEES[name][2] == keyword:
            node.keywords = [one for one in node.keywords if one.arg not in (keyword, "foreach")]
    return ast.dump(tree)


def test_in_every_script_of_the_repository_only_the_argument_differs():
    count = 0
    for path in SCRIPTS:
        text = path.read_text()
        for call, name in made_in(ast.parse(text)):
            fix, params, keyword = CALLEES[name]
            one = Application(fix, params, Target(str(path), call.lineno))
            patch = make_patch([one], script=None)
            if not patch.files:
                assert patch.present or patch.by_hand[0].reason
                continue
            (file,) = patch.files
            new = file.new.decode()
            changed = [line for line in new.splitlines() if line not in set(text.splitlines())]
            spread = changed[0].endswith(("DataLoader(", ","))  # a line would have grown too long
            assert 1 <= len(changed) <= (9 if spread else 2), (path, changed)
            old_tree, new_tree = ast.parse(text), ast.parse(new)
            if f"{keyword}=" in "".join(changed):
                assert dump_without(new_tree, call.lineno, keyword) == dump_without(
                    old_tree, call.lineno, keyword
                )
            count += 1
    assert count > 50


PARAMETERS = {
    "autocast-bf16": {"device": "cpu", "dtype": "bfloat16"},
    "bucket-size": {"bucket_cap_mb": 50},
    "flush-denormal": {"flush_denormal": True},
    "freeze-untrained": {"modules": ["encoder"]},
    "gc-paced": {"collect_every_steps": 50, "generation": 1},
    "intra-op-threads": {"num_threads": 2},
    "loader-order": {"in_order": False},
    "loader-prefetch": {"prefetch_factor": 4},
    "loader-workers": {"num_workers": 2, "persistent_workers": True},
    "model-float32": {"batch": ["float64", "float64"]},
    "optimizer-fused": {"fused": True},
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fix", sorted(PARAMETERS))
def test_every_fix_on_every_script_gives_python_and_nothing_the_second_time(fix, tmp_path):
    one = Application(fix, PARAMETERS[fix])
    again = tmp_path / "train.py"
    for path in SCRIPTS:
        for file in make_patch([one], script=str(path)).files:
            compile(file.new, path, "exec")
            again.write_bytes(file.new)
            assert make_patch([one], script=str(again)).files == (), path
