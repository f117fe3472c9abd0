"""Channels that are never active behind a ReLU, and channels without weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from trainprof.profiler.agent import dead_units, guard  # noqa: E402
from trainprof.profiler.agent.backward_watch import BackwardWatch  # noqa: E402
from trainprof.profiler.agent.dead_units import DeadUnits, _slices  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402


class Pictures(nn.Module):
    """A convolution, a normalised one and a linear layer, with activations written in two ways."""

    def __init__(self, *, inplace=False, dead=(0, 2)):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU(inplace)
        self.second = nn.Conv2d(8, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.third = nn.Linear(16 * 4, 32)
        self.head = nn.Linear(32, 2)
        with torch.no_grad():
            self.third.bias.add_(5.0)
            for channel in dead:
                self.first.weight[channel] = 0.0
                self.first.bias[channel] = -1.0
                self.norm.weight[channel] = 0.0
                self.norm.bias[channel] = -1.0
                self.third.weight[channel] = 0.0
                self.third.bias[channel] = -1.0

    def forward(self, x):
        x = self.act(self.first(x))
        x = functional.max_pool2d(functional.relu(self.norm(self.second(x))), 2)
        return self.head(functional.relu(self.third(x.flatten(1))))


class Watched:
    def __init__(self, model, shape=(4, 3, 8, 8)):
        torch.manual_seed(0)
        self.model, self.shape = model, shape
        self.recorder = Recorder()
        self.recorder.follow_thread()
        self.recorder.updates = dead_units.FIRST_UPDATE
        self.backwards = BackwardWatch(torch, self.recorder)
        self.units = DeadUnits(torch, self.recorder, self.backwards)

    def train(self, steps):
        """Each step is sampled but the first: a sample ends where the next backward begins."""
        for _ in range(steps):
            self.units._next_ns = 0  # a machine on which looking costs nothing
            self.units.tick()
            self.model(torch.randn(self.shape)).square().sum().backward()
            self.recorder.updates += 1

    def fact(self, steps=80):
        self.units.look([self.model])
        self.train(steps)
        fact = self.units.look([self.model])
        self.backwards.stop()
        self.units.stop()
        return fact

    def layers(self, steps=80):
        return {layer["name"]: layer for layer in self.fact(steps)["layers"]}


def global_hooks():
    module = torch.nn.modules.module
    return len(module._global_forward_hooks) + len(module._global_forward_pre_hooks)


@pytest.fixture(autouse=True)
def nothing_is_left():
    from torch._dynamo.utils import counters

    counters.clear()
    guard.reset()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engine = torch.autograd._engine_run_backward
    yield
    torch.set_num_threads(threads)
    assert torch.autograd._engine_run_backward is engine
    assert global_hooks() == 0
    assert guard.failures == []


@pytest.mark.parametrize("inplace", [False, True])
def test_channels_that_are_never_active(inplace):
    layers = Watched(Pictures(inplace=inplace)).layers()

    assert layers["first"]["never_active"] == 2  # behind a module
    assert layers["second"]["never_active"] == 2  # behind a norm, a function and a pooling
    assert layers["third"]["never_active"] == 2  # behind a function
    assert "never_active" not in layers["head"]  # no ReLU is behind it
    assert layers["first"]["rows"] > 1_000
    assert layers["first"]["active_decile"] > 20


def test_channels_without_weights_and_the_work_of_layers():
    layers = Watched(Pictures(dead=(1,))).layers()

    assert [layers[name]["zero_rows"] for name in ("first", "second", "third")] == [1, 0, 1]
    assert layers["first"]["zero_share"] == pytest.approx(1 / 8, abs=1e-4)
    assert layers["first"]["flops"] == 2 * 4 * 8 * 6 * 6 * 27
    assert layers["third"]["flops"] == 2 * 4 * 32 * 64
    assert layers["second"]["channels"] == 16


def test_a_channel_that_wakes_up_is_alive_again():
    model = Pictures()
    watched = Watched(model)
    watched.units.look([model])
    watched.train(60)
    with torch.no_grad():
        model.first.bias[0] = 1.0
    watched.train(120)
    fact = watched.units.look([model])
    watched.backwards.stop()
    watched.units.stop()

    first = {layer["name"]: layer for layer in fact["layers"]}["first"]
    assert first["never_active"] == 1
    assert first["first_update"] > dead_units.FIRST_UPDATE + 60


def test_small_batches_are_counted_over_more_steps():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    few = Watched(model, (4, 8)).layers(5 * dead_units.BLOCK)["0"]
    enough = Watched(model, (64, 8)).layers(5 * dead_units.BLOCK)["0"]
    assert few["rows"] == 4 * 4 * dead_units.BLOCK
    assert enough["rows"] == 2 * 64 * dead_units.BLOCK


def test_the_first_updates_are_left_alone():
    watched = Watched(Pictures())
    watched.recorder.updates = 0
    watched.units.look([watched.model])
    watched.train(dead_units.FIRST_UPDATE - 1)
    assert watched.units._steps == 0
    layers = watched.layers(3 * dead_units.BLOCK)
    assert layers["first"]["first_update"] >= dead_units.FIRST_UPDATE


def test_scattered_zeros_are_no_channels():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    with torch.no_grad():
        model[0].weight[torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) < 0.9] = 0
    layer = Watched(model, (8, 64)).layers()["0"]

    assert layer["zero_share"] > 0.85
    assert layer["zero_rows"] == 0


def test_a_large_layer_is_read_in_part_and_its_rows_to_their_end():
    wide = nn.Linear(2_000, 100)
    with torch.no_grad():
        wide.weight[:40] = 0.0
        wide.weight[:40, 1] = 1.0  # between the elements that are read at first
        wide.weight[50] = 0.0
    layer = Watched(nn.Sequential(wide, nn.Linear(100, 2)), (2, 2_000)).layers(40)["0"]

    assert layer["zero_rows"] < 10


def test_pruned_and_parametrized_networks_are_sparse_by_design():
    from torch.nn.utils import parametrizations, prune

    pruned, normed = Pictures(), Pictures()
    prune.ln_structured(pruned.second, "weight", amount=0.5, n=2, dim=0)
    parametrizations.weight_norm(normed.second)

    assert Watched(pruned).fact()["sparse"] is True
    assert Watched(normed).fact()["sparse"] is True


def test_frozen_layers_and_evaluations_do_not_count():
    model = Pictures()
    model.first.requires_grad_(False)
    watched = Watched(model)
    watched.units.look([model])
    with torch.no_grad():
        model(torch.zeros(4, 3, 8, 8))
    assert "first" not in watched.layers()


def test_a_fact_is_told_when_there_is_something_new():
    model = Pictures()
    watched = Watched(model)
    assert watched.units.look([model]) is None
    watched.train(dead_units.BLOCK + 1)
    assert "never_active" not in watched.units.look([model])["layers"][0]
    watched.train(2 * dead_units.BLOCK)
    first = watched.units.look([model])
    assert (first["sampled_steps"], len(first["layers"])) == (3 * dead_units.BLOCK, 4)
    assert watched.units.look([model]) is None
    watched.recorder.close()
    assert watched.units.look([model]) is not None
    watched.backwards.stop()
    watched.units.stop()


def test_it_waits_while_somebody_else_times_the_step():
    class Timing:
        collector = "timing"
        seen = 0

        def before(self):
            self.seen += 1

        def after(self, start_ns, end_ns):
            return self.seen < 10

    watched = Watched(Pictures())
    watched.units.look([watched.model])
    watched.backwards.ask(Timing())
    watched.train(6)
    assert watched.units._steps == 0
    assert global_hooks() == 0
    watched.train(12)
    assert watched.units._steps > 0
    watched.backwards.stop()
    watched.units.stop()


def test_results_are_the_same_to_the_last_bit():
    def losses(watch):
        torch.manual_seed(3)
        watched = Watched(Pictures(inplace=True))
        optimizer = torch.optim.SGD(watched.model.parameters(), lr=0.01, momentum=0.9)
        values = []
        watched.units.look([watched.model])
        for _ in range(20):
            if watch:
                watched.units._next_ns = 0
                watched.units.tick()
            loss = watched.model(torch.randn(watched.shape)).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        watched.backwards.stop()
        watched.units.stop()
        return values

    assert losses(watch=True) == losses(watch=False)


@pytest.mark.parametrize(
    ("shape", "others"), [((64, 256, 56, 56), (0, 2, 3)), ((4096, 4096), (0,)), ((2, 3), (0,))]
)
def test_the_part_that_is_read_is_small_and_covers_everything_in_turn(shape, others):
    tensor = torch.empty(shape, device="meta")
    part = tensor[_slices(shape, others, 5)]

    assert part.numel() <= 4 * dead_units.MOST_ELEMENTS
    assert part.numel() > 0
    assert part.shape[1] == shape[1]
