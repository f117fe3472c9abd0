"""What logs in each step of the loop."""

import pytest

LOOP = """\
for epoch in range(3):
    for index, x in enumerate(loader):
        loss = model(x)
        loss.backward()
        {}
        optimizer.step()
"""


def test_a_line_in_the_loop(edited):
    new = edited(LOOP.format("print(loss.item())  # told"), "logging-interval", 5, every_steps=50)
    assert new == LOOP.format("if index % 50 == 0:\n            print(loss.item())  # told")
    assert edited(new, "logging-interval", 6, every_steps=50) == new


def test_a_loop_that_logs(edited):
    body = "for name, p in model.named_parameters():\n            writer.add_histogram(name, p)"
    new = edited(LOOP.format(body), "logging-interval", 6, every_steps=50)
    inside = body.replace("\n", "\n    ")
    assert new == LOOP.format(f"if index % 50 == 0:\n            {inside}")


def test_a_loop_without_a_counter(edited):
    text = "for x in loader:\n    model(x).backward()\n    print(x)\n"
    assert edited(text, "logging-interval", 3, every_steps=20) == (
        "for step, x in enumerate(loader):\n"
        "    model(x).backward()\n"
        "    if step % 20 == 0:\n"
        "        print(x)\n"
    )


def test_an_interval_that_is_too_short(edited):
    line = "if index % {} == 0:\n            print(loss)"
    text = LOOP.format(line.format(2))
    assert edited(text, "logging-interval", 6, every_steps=50) == LOOP.format(line.format(50))
    named = "EVERY = 1\n" + LOOP.format(line.format("EVERY"))
    new = edited(named, "logging-interval", 7, every_steps=50)
    assert new == named.replace("EVERY = 1", "EVERY = 50")


@pytest.mark.parametrize(
    ("line", "number", "reason"),
    [
        ("if verbose:\n            print(loss)", 6, "it depends on verbose"),
        ("losses = f(loss)", 5, "the line that logs is no statement of the training loop"),
        (
            "try:\n            print(loss)\n        finally:\n            pass",
            6,
            "it does not stand in the training loop itself",
        ),
    ],
)
def test_what_is_left_to_a_person(by_hand, line, number, reason):
    note = by_hand(LOOP.format(line), "logging-interval", number, every_steps=50)
    assert note.reason == reason
    assert note.code == "if step % 50 == 0: before what logs"
