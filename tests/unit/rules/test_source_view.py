"""What the user's source calls, in which loop; files that are absent, changed or no Python."""

import ast
import os
import textwrap
import time

import pytest
from builders import build_run, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.records import Event
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.kept_graphs import lines_that_keep_graphs
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training
from trainprof.rules.source_calls import calls
from trainprof.rules.source_view import PARSED_BYTES_MAX, SourceFile, read_source

SCRIPT = """\
import copy
import torch.nn.functional as F
from torch.optim import Adam as A
from torch.utils.data import DataLoader

class Pictures:
    def __getitem__(self, index):
        return decode(index)

def update(model, batch):
    loss = F.one_hot(batch)
    loss.backward()
    clip(model)

def clip(model):
    for p in model.parameters():
        p.clamp_()

def main():
    optimizer = A(model.parameters(), lr=0.1)
    for epoch in range(3):
        loader = DataLoader(data, num_workers=2)
        for batch in loader:
            optimizer.zero_grad(set_to_none=False)
            update(model, batch)
            best = copy.deepcopy(model)
        save(best)
    for name in names:
        show(name)
"""


def parsed(text):
    return SourceFile("train.py", ast.parse(textwrap.dedent(text)))


@pytest.mark.parametrize(
    ("name", "line", "function", "often"),
    [
        ("copy.deepcopy", 26, "main", "step"),
        ("torch.optim.Adam", 20, "main", None),
        ("torch.utils.data.DataLoader", 22, "main", "epoch"),
        (".zero_grad", 24, "main", "step"),
        ("torch.nn.functional.one_hot", 11, "update", "step"),
        (".clamp_", 17, "clip", "step"),
        ("save", 27, "main", "epoch"),
        ("show", 29, "main", "other"),
        ("decode", 8, "__getitem__", "sample"),
        ("range", 21, "main", None),
    ],
)
def test_calls_are_found_where_they_are(name, line, function, often):
    (call,) = (one for one in parsed(SCRIPT).calls if one.name == name)
    assert (call.line, call.function, call.often) == (line, function, often)


def test_arguments_and_iteration():
    found = {call.name: call for call in parsed(SCRIPT).calls}
    assert found[".zero_grad"].keywords == {"set_to_none": "False"}
    loops = [call for call in parsed(SCRIPT).calls if call.name == ".parameters"]
    assert [call.iterates for call in loops] == [True, False]


def test_what_is_around_a_line():
    file = parsed(SCRIPT)
    around = file.enclosing(26)
    assert (around.function, around.loop_line, around.often) == ("main", 23, "step")
    assert file.enclosing(1).function == "<module>"
    assert file.enclosing(999).loop_line is None


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("total += loss", True),
        ("total = total + loss", True),
        ("total = 0.9 * total + 0.1 * loss", True),
        ("losses.append(loss)", True),
        ("history['loss'] = loss", True),
        ("outputs.append(out)", True),
        ("self.total += loss / 3", True),
        ("pairs.append((step, loss))", True),
        ("total += loss.item()", False),
        ("total += float(loss)", False),
        ("losses.append(loss.detach())", False),
        ("losses.append(loss.detach().cpu())", False),
        ("right += (out.argmax(1) == y).sum()", False),
        ("right += (out > 0).sum()", False),
        ("losses.append(loss.data)", False),
        ("count += len(out)", False),
        ("count += x.size(0)", False),
        ("seen.append(x)", False),
        ("loss = loss", False),
        ("print(loss)", False),
    ],
)
def test_a_line_that_keeps_the_graph(statement, kept):
    text = f"""\
    def train(self):
        for x, y in loader:
            out = model(x)
            loss = criterion(out, y)
            loss.backward()
            {statement}
        self.last.append(loss)
    """
    assert lines_that_keep_graphs(parsed(text), 5) == ([6] if kept else [])


def test_what_was_made_before_the_loop_is_no_tensor_of_the_graph():
    text = """\
    model = make()
    for x, y in loader:
        loss = model(x)
        loss.backward()
        average.update(model)
    """
    assert lines_that_keep_graphs(parsed(text), 4) == []


def test_backward_through_a_scaler():
    text = """\
    for x, y in loader:
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        total += loss
    """
    assert lines_that_keep_graphs(parsed(text), 3) == [4]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "train.py").write_text("import models\nfrom lib import data\nmodels.make()\n")
    (tmp_path / "models.py").write_text("def make(): pass\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "data.py").write_text("import models\nload()\n")
    return tmp_path


def read(folder, *paths, now=None):
    script = str(folder / "train.py")
    started = time.time() + 1 if now is None else now
    return read_source([script, *paths], str(folder), ("python", "train.py"), started)


def test_modules_beside_the_script_are_read_too(project):
    names = {os.path.relpath(path, project) for path in read(project).files}
    assert names == {"train.py", "models.py", os.path.join("lib", "data.py")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"print 'two'\n", "Missing parentheses"),
        (b"\0\0", "null bytes"),
        (b"x = '\xff'\n", "utf-8"),
        (b"(" * 5_000, "nested|paren|memory|stack"),
        (b"#" * (PARSED_BYTES_MAX + 1), "too large"),
    ],
)
def test_what_cannot_be_parsed_is_left_out(project, content, words):
    (project / "train.py").write_bytes(content)
    view = read(project)
    assert view.files == {}
    (reason,) = view.left_out.values()
    assert any(word in reason for word in words.split("|")), reason


def test_other_encodings_are_read(project):
    (project / "train.py").write_bytes("# coding: latin-1\ngrüße()\n".encode("latin-1"))
    assert [call.name for call in read(project).calls()] == ["grüße"]


def test_a_file_that_was_changed_since_is_not_what_ran(project):
    view = read(project, now=time.time() - 60)
    assert set(view.left_out.values()) == {"it was changed after the run began"}


def test_nothing_outside_of_the_project_is_opened(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.py"
    elsewhere.write_text("secret()\n")
    view = read(project, str(elsewhere), str(project / "absent.py"), "/etc/passwd")
    assert str(elsewhere) in view.left_out
    assert not any("elsewhere" in path for path in view.files)


@given(st.text(max_size=200))
def test_any_text_is_read_or_left_out(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    (folder / "train.py").write_text(text, encoding="utf-8", errors="replace")
    view = read(folder)
    assert len(view.files) + len(view.left_out) == 1
    for file in view.files.values():
        assert file.calls is not None


def measured(folder, events=()):
    trainer = build_trainer(build_steps(30, {"forward": 10.0}), events=events)
    started = time.time() + 1
    run = build_run(trainer, cwd=str(folder), started_unix_s=started, argv=("python", "train.py"))
    return measure(Training(run, run.sessions[0]))


def test_rules_ask_by_name(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    signals = measured(tmp_path)
    (copied,) = calls(signals, "copy.deepcopy", often="step")
    assert (copied.where.file, copied.where.line) == ("train.py", 26)
    assert calls(signals, "copy.deepcopy", often="epoch") == ()
    assert len(calls(signals, "torch.optim.")) == 1
    assert calls(signals, ".zero_grad", keywords={"set_to_none": "False"})
    assert calls(signals, ".zero_grad", keywords={"set_to_none": "True"}) == ()
    assert calls(Signals(), "copy.deepcopy") == ()
    assert calls(Signals({"source.calls": Signal({})}), "copy.deepcopy") == ()


def test_without_source_the_signals_say_so(tmp_path):
    signal = measured(tmp_path).get("source.calls")
    assert signal.value is None
    assert "No such file" in signal.reason


def test_the_only_line_that_keeps_graphs_is_a_signal(tmp_path):
    text = "for x in xs:\n    loss = model(x)\n    loss.backward()\n    total += loss\n"
    (tmp_path / "train.py").write_text(text)
    where = {"file": "train.py", "line": 3, "function": "<module>"}
    event = Event("graph_alive", 0, 0, {"where": where})
    assert measured(tmp_path, [event]).get("source.graph_kept_where").value.line == 4
    (tmp_path / "train.py").write_text(text + "    other.append(loss)\n")
    signal = measured(tmp_path, [event]).get("source.graph_kept_where")
    assert (signal.value, signal.reason) == (None, "2 lines around the backward may keep its graph")
