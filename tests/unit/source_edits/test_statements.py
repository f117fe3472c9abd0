"""Switches that go, and lines around a training loop."""

import pytest


def test_the_statement_goes(edited):
    text = "import torch\n\ntorch.autograd.set_detect_anomaly(True)  # to find the NaN\nx = 1\n"
    new = edited(text, "anomaly-off", anomaly=False)
    assert new == "import torch\n\nx = 1\n"
    assert edited(new, "anomaly-off", anomaly=False) == new


def test_no_hole_is_left(edited):
    text = "import torch\n\ntorch.autograd.set_detect_anomaly(True)\n\n\ndef f():\n    pass\n"
    assert edited(text, "anomaly-off") == "import torch\n\n\ndef f():\n    pass\n"


def test_what_switches_it_off_stays(edited):
    text = "torch.autograd.set_detect_anomaly(False)\nx = 1\n"
    assert edited(text, "anomaly-off") == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    a = 1; set_detect_anomaly(True); b = 2  # c\n", "    a = 1; b = 2  # c\n"),
        ("    set_detect_anomaly(True) ; b = 2\n", "    b = 2\n"),
        ("    a = 1; set_detect_anomaly(True)\n", "    a = 1\n"),
        ("    a = f(\n  1); set_detect_anomaly(True)\n", "    a = f(\n  1)\n"),
    ],
)
def test_a_statement_among_others_of_its_line(edited, before, after):
    head, frame = "from torch.autograd import set_detect_anomaly\n", "def f():\n{}    return a\n"
    assert edited(head + frame.format(before), "anomaly-off") == frame.format(after)


def test_of_a_with_the_body_stays(edited):
    text = (
        "for batch in loader:\n"
        "    # one step\n"
        "    with torch.autograd.detect_anomaly():  # slow\n"
        "        loss = model(\n"
        "            batch,\n"
        "        )\n"
        "\n"
        "        # the text keeps its margin\n"
        "        text = '''a\n"
        "        b'''\n"
        "        loss.backward()\n"
        "        # done\n"
        "    optimizer.step()\n"
    )
    new = edited(text, "anomaly-off", 3)
    assert new == (
        "for batch in loader:\n"
        "    # one step\n"
        "    loss = model(\n"
        "        batch,\n"
        "    )\n"
        "\n"
        "    # the text keeps its margin\n"
        "    text = '''a\n"
        "        b'''\n"
        "    loss.backward()\n"
        "    # done\n"
        "    optimizer.step()\n"
    )


def test_a_with_at_the_top_of_a_file_with_tabs(edited):
    text = "with torch.autograd.set_detect_anomaly(True):\n\tx = 1\n\tif x:\n\t\ty = 2\nz = 3"
    assert edited(text, "anomaly-off") == "x = 1\nif x:\n\ty = 2\nz = 3"


def test_a_with_in_one_line(edited):
    frame = "def f():\n  {}loss.backward(); n += 1  # c\n  return n\n"
    text = frame.format("with torch.autograd.detect_anomaly(): ")
    assert edited(text, "anomaly-off") == frame.format("")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("with a(), detect_anomaly(), b() as c:\n    x = 1\n", "with a(), b() as c:\n    x = 1\n"),
        ("with detect_anomaly(), b():\n    x = 1\n", "with b():\n    x = 1\n"),
        ("with a(), detect_anomaly():\n    x = 1\n", "with a():\n    x = 1\n"),
        (
            "with (\n    a(),\n    detect_anomaly(),\n):\n    x = 1\n",
            "with (\n    a(),\n):\n    x = 1\n",
        ),
    ],
)
def test_other_managers_of_a_with_stay(edited, before, after):
    head = "from torch.autograd import detect_anomaly\n"
    assert edited(head + before, "anomaly-off") == after


def test_a_condition_is_left_to_a_person(by_hand):
    text = "if args.debug:\n    torch.autograd.set_detect_anomaly(True)\n    x = 1\n"
    note = by_hand(text, "anomaly-off")
    assert (note.line, note.reason) == (1, "it is on if args.debug")
    assert note.code == "set_detect_anomaly(False)"


def test_the_main_guard_is_no_condition(edited):
    text = "if __name__ == '__main__':\n    torch.autograd.set_detect_anomaly(True)\n    main()\n"
    assert edited(text, "anomaly-off") == "if __name__ == '__main__':\n    main()\n"


def test_a_computed_switch_is_left_to_a_person(by_hand):
    note = by_hand("torch.autograd.set_detect_anomaly(args.debug)\nx = 1\n", "anomaly-off")
    assert note.reason == "whether it is on is args.debug"


def test_a_block_is_not_emptied(by_hand):
    text = "def debug():\n    torch.autograd.set_detect_anomaly(True)\n"
    assert by_hand(text, "anomaly-off").reason == "it is all that its block does"
    text = "def debug(): torch.autograd.set_detect_anomaly(True); print()\n"
    assert by_hand(text, "anomaly-off").reason == "its block stands in one line"


def test_lightnings_argument(edited):
    text = (
        "trainer = L.Trainer(\n"
        "    max_epochs=3,\n"
        "    detect_anomaly=True,\n"
        "    logger=False,\n"
        ")\n"
        "trainer.fit(model)\n"
    )
    assert edited(text, "anomaly-off", 6) == text.replace("    detect_anomaly=True,\n", "")


LOOP = (
    "import argparse\n"
    "import sys\n"
    "\n"
    "import torch\n"
    "\n"
    "\n"
    "def main():\n"
    "    model = make()\n"
    "\n"
    "    # Train.\n"
    "    for epoch in range(3):\n"
    "        for step, batch in enumerate(loader):\n"
    "            # Forward.\n"
    "            loss = model(batch)\n"
    "            loss.backward()\n"
)


def test_freezing_before_the_loop(edited):
    new = edited(LOOP, "gc-freeze", freeze=True)
    assert new == LOOP.replace("import argparse\n", "import argparse\nimport gc\n").replace(
        "    # Train.\n", "    gc.collect()\n    gc.freeze()\n    # Train.\n"
    )
    assert edited(new, "gc-freeze", freeze=True) == new


def test_collecting_at_the_pace_of_the_loops_counter(edited):
    new = edited(LOOP, "gc-paced", collect_every_steps=500, generation=1)
    margin = 12 * " "
    collect = f"{margin}if step % 500 == 0:\n{margin}    gc.collect(1)\n"
    wanted = LOOP.replace("import argparse\n", "import argparse\nimport gc\n")
    wanted = wanted.replace("    # Train.\n", "    gc.disable()\n    # Train.\n")
    assert new == wanted.replace(f"{margin}# Forward.", f"{collect}{margin}# Forward.")
    assert edited(new, "gc-paced", collect_every_steps=500, generation=1) == new


def test_tabs_are_kept_in_what_is_added(edited):
    text = "import gc\nfor i in range(9):\n\tloss.backward()\n"
    assert edited(text, "gc-paced", collect_every_steps=100) == (
        "import gc\ngc.disable()\nfor i in range(9):\n"
        "\tif i % 100 == 0:\n\t\tgc.collect(1)\n\tloss.backward()\n"
    )


def test_an_import_before_torch(edited):
    text = "import torch\nfor batch in loader:\n    loss.backward()\n"
    assert edited(text, "gc-freeze") == (
        "import gc\n\nimport torch\ngc.collect()\ngc.freeze()\n"
        "for batch in loader:\n    loss.backward()\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("for batch in loader:", "for step, batch in enumerate(loader):"),
        ("for x, y in loader:  # all", "for step, (x, y) in enumerate(loader):  # all"),
        ("for (x, y) in tqdm(loader):", "for step, (x, y) in enumerate(tqdm(loader)):"),
    ],
)
def test_a_loop_without_counter_gets_one(edited, before, after):
    frame = "import gc\n{}{}\n{}    loss.backward()\n"
    new = edited(frame.format("", before, ""), "gc-paced", collect_every_steps=100)
    collect = "    if step % 100 == 0:\n        gc.collect(1)\n"
    assert new == frame.format("gc.disable()\n", after, collect)
    assert edited(new, "gc-paced", collect_every_steps=100) == new


@pytest.mark.parametrize(
    "text",
    [
        "import gc\nwhile True:\n    loss.backward()\n",
        "import gc\nfor batch in loader:\n    step = 3\n    loss.backward()\n",
        "import gc\ndef f(step):\n    for batch in loader:\n        loss.backward()\n",
    ],
)
def test_a_loop_that_cannot_count_is_left_to_a_person(by_hand, text):
    note = by_hand(text, "gc-paced", collect_every_steps=100)
    assert note.reason == "the loop does not count its steps"
    assert note.code == (
        "gc.disable() before the loop, and in each step: if step % 100 == 0: gc.collect(1)"
    )


def test_no_loop_and_two_loops(by_hand):
    assert "no loop" in by_hand("trainer.fit(model)\n", "gc-freeze").reason
    text = "for a in b:\n    a.backward()\nfor c in d:\n    c.backward()\n"
    assert by_hand(text, "gc-freeze").reason == "the loops at lines 1 and 3 train"


PROFILED = """\
import torch
from torch.profiler import ProfilerActivity, profile, record_function

with profile(activities=[ProfilerActivity.CPU], with_stack=True):
    with record_function("all"):
        train()
"""


def test_of_a_profiler_the_body_stays_and_what_was_imported_for_it_goes(edited):
    new = edited(PROFILED, "profiler-off")
    assert new == (
        "import torch\nfrom torch.profiler import record_function\n\n"
        'with record_function("all"):\n    train()\n'
    )
    assert edited(new, "profiler-off") == new


@pytest.mark.parametrize(
    ("head", "path", "rest"),
    [
        ("import torch\n", "torch.profiler.", "import torch\n"),
        ("from torch import profiler\n", "profiler.", ""),
    ],
)
def test_a_profiler_by_its_path(edited, head, path, rest):
    text = f"{head}with {path}profile():\n    train()\n"
    assert edited(text, "profiler-off") == f"{rest}train()\n"


def test_what_is_called_alike_elsewhere_stays(edited):
    text = "import line\n\nwith line.profile():\n    train()\n"
    assert edited(text, "profiler-off") == text


def test_a_profiler_that_is_asked_later_is_left_to_a_person(by_hand):
    note = by_hand(PROFILED.replace("True):", "True) as p:"), "profiler-off")
    assert note.reason == "what its `with` gives has a name"
    assert note.code.startswith("without profile")
