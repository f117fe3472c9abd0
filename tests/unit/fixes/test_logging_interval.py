"""What logs in each step logs in each 50th: which calls are made, and which are left alone."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

log = logging.getLogger("a training")
log.setLevel(logging.INFO)


def train(steps, in_step=lambda step: None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        in_step(step)
    return losses


def test_a_line_that_prints_in_each_step(apply, capsys):
    plain = train(120)
    applied = apply("logging-interval", {"every_steps": 50})
    print("before the training")
    assert train(120, lambda step: print(f"step {step}")) == plain
    assert capsys.readouterr().out.split("\n") == [
        "before the training",
        "step 0",
        "step 50",
        "step 100",
        "",
    ]
    assert applied.read() == (True, {"left_out": 117, "made": 3}, None)


def test_all_of_a_step_or_nothing(apply, caplog):
    def talk(step):
        for name in ("weight", "bias"):
            log.info("%s in step %d", name, step)
        log.warning("careful")

    applied = apply("logging-interval", {"every_steps": 20})
    train(50, talk)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert told == [f"{name} in step {s}" for s in (0, 20, 40) for name in ("weight", "bias")]
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 50
    assert applied.read()[1] == {"left_out": 94, "made": 6}


def test_what_is_rare_or_goes_elsewhere_is_left_alone(apply, capsys, tmp_path):
    applied = apply("logging-interval")
    with open(tmp_path / "losses.csv", "w") as file:

        def talk(step):
            print(step, file=file)
            if step % 12 == 0:
                print(f"step {step}")

        train(60, talk)
    assert len((tmp_path / "losses.csv").read_text().split()) == 60
    assert capsys.readouterr().out.count("step") == 5
    assert applied.read() == (
        False,
        {"left_out": 0, "made": 5},
        "no line of the script's own logs in each step",
    )


def test_writers_that_are_imported_later(apply, tmp_path):
    pytest.importorskip("tensorboard")
    applied = apply("logging-interval", {"every_steps": 10})
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        train(40, lambda step: writer.add_scalar("loss", 0.5, step))
    assert applied.read() == (True, {"left_out": 36, "made": 4}, None)


def test_one_line_of_two(apply, capsys):
    from trainprof.profiler.model.plan import Target

    def talk(step):
        print("one")
        print("other")

    line = talk.__code__.co_firstlineno + 1
    applied = apply("logging-interval", target=Target(__file__, line))
    train(30, talk)
    out = capsys.readouterr().out
    assert (out.count("one"), out.count("other")) == (1, 30)
    assert applied.read()[1] == {"left_out": 29, "made": 1}


def test_libraries_keep_their_interval(apply, capsys):
    applied = apply("logging-interval")
    library = compile("def tell(step):\n    print('step', step)\n", "<library>", "exec")
    names = {"__name__": "library"}
    exec(library, names)
    train(30, names["tell"])
    assert capsys.readouterr().out.count("step") == 30
    assert applied.read()[0] is False
