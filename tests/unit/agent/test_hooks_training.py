"""The hooks on real torch: what they mark, what they leave alone, and that they can be undone."""

from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from trainprof.profiler.agent import guard, hooks_training  # noqa: E402
from trainprof.profiler.agent import marks as m  # noqa: E402
from trainprof.profiler.agent import recorder as recorder_module  # noqa: E402
from trainprof.profiler.agent.hooks_training import TrainingHooks  # noqa: E402
from trainprof.profiler.agent.patching import Patches  # noqa: E402
from trainprof.profiler.agent.recorder import READ_EVERY_NS, Recorder  # noqa: E402
from trainprof.profiler.agent.registry import Registry  # noqa: E402
from trainprof.profiler.agent.segment import segment  # noqa: E402


class Hooked:
    """The hooks, installed; `steps()` segments what they have marked."""

    def __init__(self, limit=None, quick=True):
        self.recorder = Recorder()
        self.recorder.follow_thread()
        self.started = []
        self.hooks = TrainingHooks(torch, self.recorder, self.start, limit)
        self.quick = quick
        self.patches = Patches()
        self.hooks.install(self.patches)

    def start(self):
        self.started.append(1)
        self.recorder.started = self.quick  # as the agent does, which opens the quick way

    def remove(self):
        self.hooks.uninstall()
        self.patches.undo()
        self.recorder.close_files()

    def steps(self):
        return segment(list(self.recorder.marks))

    def kinds(self):
        return [mark[0] for mark in self.recorder.marks]


@pytest.fixture(params=["quick", "thorough"])
def hooked(request):
    from torch._dynamo.utils import counters

    counters.clear()  # where something was compiled, module hooks stay as they are
    guard.reset()
    hooked = Hooked(quick=request.param == "quick")
    yield hooked
    hooked.remove()
    assert guard.failures == []


def patched_names():
    """Everything the hooks replace, as it is now."""
    optimizer_module = torch.optim.Optimizer.__module__
    import sys

    return {
        "call": torch.nn.Module.__dict__["__call__"],
        "loader": DataLoader.__init__,
        "iter": DataLoader.__iter__,
        "next": torch.utils.data.dataloader._BaseDataLoaderIter.__next__,
        "engine": torch.autograd._engine_run_backward,
        "zero": torch.optim.Optimizer.zero_grad,
        "scaler": torch.amp.GradScaler.step,
        "all_reduce": torch.distributed.all_reduce,
        "pre": dict(sys.modules[optimizer_module]._global_optimizer_pre_hooks),
        "post": dict(sys.modules[optimizer_module]._global_optimizer_post_hooks),
    }


def small_training(steps=4, model=None, loader=None):
    torch.manual_seed(0)
    model = model or torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = loader or DataLoader(TensorDataset(torch.randn(steps * 2, 4)), batch_size=2)
    losses = []
    for (x,) in loader:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_uninstall_leaves_torch_as_it_was():
    before = patched_names()
    hooked = Hooked()
    assert patched_names() != before
    small_training(40, torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(40)]))
    hooked.remove()
    assert patched_names() == before
    assert "__call__" not in vars(torch.nn.Sequential)


def test_losses_are_bit_identical_with_the_hooks():
    without = small_training()
    hooked = Hooked()
    try:
        assert small_training() == without
    finally:
        hooked.remove()


def test_a_plain_loop_gives_its_marks_and_steps(hooked):
    losses = small_training(5)
    steps = hooked.steps()
    assert len(steps) == 5
    assert [step.samples for step in steps] == [2] * 5
    values = [mark[3] for mark in hooked.recorder.marks if mark[0] == m.BACKWARD]
    assert values == losses
    assert hooked.started == [1]


def test_the_quick_way_leaves_the_marks_of_the_thorough_one():
    kinds = {}
    for quick in (True, False):
        hooked = Hooked(quick=quick)
        try:
            small_training(40)
            kinds[quick] = [mark[:1] + mark[2:4] for mark in hooked.recorder.marks]
            assert (hooked.recorder.quick != 0) is quick
        finally:
            hooked.remove()
    assert kinds[True] == kinds[False]


def test_the_quick_way_is_closed_for_what_takes_longer(hooked):
    small_training(3)
    recorder = hooked.recorder
    opened = recorder.quick
    hooked.hooks.ask_for_flags()
    recorder.due_ns = 0
    small_training(3)
    assert hooked.hooks.flags, "they were read in a forward"
    assert recorder.quick == opened
    loader = DataLoader(TensorDataset(torch.randn(6, 4)), batch_size=2)
    iterator = iter(loader)
    assert recorder.quick == 0, "its first batch is to be described"
    next(iterator)
    number = iterator._trainprof_loader
    assert hooked.hooks.first_batches[number]["samples"] == 2


def test_a_loader_that_is_never_asked_does_not_keep_the_quick_way_closed():
    hooked = Hooked()
    try:
        small_training(3)
        iter(DataLoader(TensorDataset(torch.randn(6, 4)), batch_size=2))
        small_training(100)
        assert not hooked.recorder.batch_due
        assert hooked.recorder.quick
    finally:
        hooked.remove()


def read_losses(hooked, steps, pause_ns):
    """Losses of a training with one loader, whose steps take `pause_ns` by the recorder's clock."""
    loader = DataLoader(TensorDataset(torch.randn(steps * 2, 4)), batch_size=2)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (x,) in loader:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if pause_ns >= READ_EVERY_NS:
            hooked.recorder.due_ns = hooked.recorder._next_reading = 0
    marks = [mark[3] for mark in hooked.recorder.marks if mark[0] == m.BACKWARD]
    return [value is not None for value in marks]


def test_losses_of_short_steps_are_read_at_every_step_for_a_while_and_then_seldom(monkeypatch):
    monkeypatch.setattr(hooks_training, "EVERY_LOSS_UNTIL", 20)
    monkeypatch.setattr(recorder_module, "READ_EVERY_NS", 10**12)
    monkeypatch.setattr(recorder_module, "DETAIL_EVERY_NS", 10**12)
    hooked = Hooked()
    try:
        read = read_losses(hooked, 60, 0)
    finally:
        hooked.remove()
    assert all(read[:20])
    assert not any(read[21:])


def test_losses_of_long_steps_are_all_read(monkeypatch):
    monkeypatch.setattr(hooks_training, "EVERY_LOSS_UNTIL", 20)
    hooked = Hooked()
    try:
        read = read_losses(hooked, 60, READ_EVERY_NS)
        assert hooked.recorder.quick, "on the quick way, too"
    finally:
        hooked.remove()
    assert all(read)


def test_updates_by_hand_are_looked_for_again_when_the_optimizer_rests(hooked):
    small_training(4)
    weight = torch.nn.Linear(4, 1)
    hooked.hooks._updates._parameter = None  # the model above is gone
    hooked.hooks._updates.follow(weight)
    steps = 200
    for (x,) in DataLoader(TensorDataset(torch.randn(2 * steps, 4)), batch_size=2):
        weight(x).sum().backward()
        hooked.recorder.due_ns = 0
        with torch.no_grad():
            for parameter in weight.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    assert hooked.kinds().count(m.UPDATE) > steps / 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_made_inline_lives_as_long_as_its_iterator(hooked, workers):
    data = TensorDataset(torch.randn(6, 4))
    iterator = iter(DataLoader(data, batch_size=2, num_workers=workers))
    entry = hooked.hooks.loaders.entries[0]
    assert entry.loader().dataset is data
    list(iterator)
    del iterator
    assert entry.loader() is None, "and no longer: no cycle keeps it"


def test_a_number_is_not_inherited_by_an_object_at_the_same_address():
    registry = Registry()
    seen = set()
    for _ in range(10):
        model = torch.nn.Linear(2, 2)
        number = registry.number(model)
        assert number not in seen
        assert registry.thing(number) is model
        seen.add(number)
        del model
    assert registry.numbers == {}


def test_a_deep_model_settles_and_its_steps_go_on(hooked):
    original = hooked.patches
    model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(40)])
    before = torch.nn.Module.__dict__["__call__"]
    small_training(60, model)
    assert torch.nn.Module.__dict__["__call__"] is not before, "settled: the base class is free"
    assert "__call__" in vars(torch.nn.Sequential)
    steps = hooked.steps()
    assert len(steps) == 60
    forward = m.FORWARD
    assert hooked.kinds().count(forward) == 60
    assert original is hooked.patches


def test_a_new_model_is_found_after_the_roots_have_settled(hooked):
    small_training(60, torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(40)]))
    hooked.recorder.marks.clear()

    class Late(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 1)

        def forward(self, x):
            return self.inner(x)

    small_training(5, Late())
    assert hooked.kinds().count(m.FORWARD) == 5
    assert len(hooked.steps()) == 5


def test_only_the_training_thread_leaves_marks(hooked):
    model = torch.nn.Linear(2, 2)
    small_training(2)
    before = len(hooked.recorder.marks)
    thread = threading.Thread(target=lambda: model(torch.ones(1, 2)))
    thread.start()
    thread.join()
    assert len(hooked.recorder.marks) == before


def test_training_in_another_thread_is_followed(hooked):
    thread = threading.Thread(target=small_training, args=(4,))
    thread.start()
    thread.join()
    assert hooked.hooks._started
    assert len(hooked.steps()) >= 3


def test_parameterless_modules_are_no_roots(hooked):
    torch.nn.CrossEntropyLoss()(torch.randn(2, 3), torch.tensor([0, 1]))
    assert hooked.kinds() == []


def test_updates_by_hand_are_seen(hooked):
    weight = torch.nn.Linear(4, 1)
    for (x,) in DataLoader(TensorDataset(torch.randn(10, 4)), batch_size=2):
        weight(x).sum().backward()
        with torch.no_grad():
            for parameter in weight.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    assert hooked.kinds().count(m.UPDATE) == 5
    assert len(hooked.steps()) == 5


def test_two_loaders_over_one_data_set_have_two_numbers(hooked):
    data = TensorDataset(torch.randn(8, 4))
    for _ in range(2):
        training = DataLoader(data, batch_size=2, sampler=range(4))
        validation = DataLoader(data, batch_size=2, sampler=range(4, 8))
        list(training)
        list(validation)
    assert len(hooked.hooks.loaders.entries) == 2
    assert [entry.made for entry in hooked.hooks.loaders.entries] == [2, 2]


def test_an_exception_in_the_data_set_passes_and_closes_its_mark(hooked):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        next(iter(DataLoader(Broken())))
    assert hooked.kinds()[-1] == m.END


def test_stopping_raises_at_the_next_ask():
    class Enough(SystemExit):
        pass

    def limit():
        if len(segment(list(hooked.recorder.marks))) >= 3:
            raise Enough(0)

    hooked = Hooked(limit)
    try:
        with pytest.raises(Enough):
            small_training(10)
        assert len(hooked.steps()) == 3
    finally:
        hooked.remove()


def test_a_step_that_the_scaler_skips_joins_the_next(hooked):
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for index, (x,) in enumerate(DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=2)):
        loss = model(x).sum() * (float("inf") if index == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert [step.micro_batches for step in hooked.steps()] == [1, 2, 1]


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_modules_compile_as_without_us(in_place):
    """No graph break and no recompilation of ours: dynamo's counters are the same."""
    from torch._dynamo.utils import counters

    def train():
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        if in_place:
            model.compile(backend="aot_eager")
            compiled = model
        else:
            compiled = torch.compile(model, backend="aot_eager")
        losses = small_training(30, compiled)
        return losses, {name: dict(counters[name]) for name in ("stats", "graph_break", "frames")}

    without = train()
    guard.reset()
    hooked = Hooked()
    try:
        with_hooks = train()
        steps = hooked.steps()
    finally:
        hooked.remove()
    assert with_hooks == without
    assert len(steps) == 30


def test_a_wrapped_wrapper_keeps_working_after_uninstall():
    hooked = Hooked()
    ours = torch.nn.Module.__call__

    def theirs(self, *args, **kwargs):
        return ours(self, *args, **kwargs)

    original = ours.__wrapped__
    torch.nn.Module.__call__ = theirs
    try:
        hooked.recorder.close()
        hooked.remove()
        assert torch.nn.Module.__call__ is theirs, "somebody else's patch stays"
        assert torch.nn.Linear(2, 1)(torch.ones(1, 2)).shape == (1, 1)
    finally:
        torch.nn.Module.__call__ = original


def test_hooks_in_the_broken_parts_of_a_compiled_function_are_not_compiled():
    """After a graph break our frames run under dynamo's eye: it must pass them over."""
    from torch._dynamo.utils import counters

    def train():
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))

        @torch._dynamo.disable
        def outside(x):
            return x

        @torch.compile(backend="aot_eager")
        def step(x):
            hidden = outside(x * 2)
            return model(hidden).sum()

        for _ in range(5):
            step(torch.ones(2, 4)).backward()
        breaks = sum(counters["graph_break"].values())  # the texts hold addresses
        return dict(counters["stats"]), breaks, dict(counters["frames"])

    without = train()
    hooked = Hooked()
    try:
        assert train() == without
    finally:
        hooked.remove()
