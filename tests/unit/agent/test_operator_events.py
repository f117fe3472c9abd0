"""One step's events as the profiler gives them, reduced to a table."""

from types import SimpleNamespace

from trainprof.profiler.agent.operator_events import MOST_CALLS, reduce_tree

BACKWARD = "autograd::engine::evaluate_function: "


def tensor(shape, strides=None, dtype="torch.float32", address=1):
    if strides is None:
        strides, size = [], 1
        for length in reversed(shape):
            strides.insert(0, size)
            size *= length
    return SimpleNamespace(sizes=shape, strides=strides, dtype=dtype, storage_data_ptr=address)


class Step:
    """Events one after the other, 1 us apart."""

    def __init__(self):
        self.roots = []
        self._now = 10_000

    def add(self, name, wall_us=10, sequence=-1, inputs=(), children=(), thread=1):
        node = event(name, wall_us, sequence, inputs, children, thread)
        node.start_time_ns = self._now
        self._now += wall_us * 1000 + 1000
        self.roots.append(node)
        return self


def event(name, wall_us=1, sequence=-1, inputs=(), children=(), thread=1):
    return SimpleNamespace(
        name=name,
        duration_time_ns=wall_us * 1000,
        start_time_ns=0,
        start_tid=thread,
        children=list(children),
        extra_fields=SimpleNamespace(sequence_number=sequence, inputs=list(inputs)),
    )


def rows(fact):
    calls = fact["calls"]
    return [
        (fact["operators"][operator][0], fact["zones"][zone], wall // 10, backward // 10)
        for operator, zone, wall, backward in zip(
            calls["operator"], calls["zone"], calls["wall"], calls["backward"], strict=True
        )
    ]


def test_zones_of_a_step_that_begins_after_an_update():
    step = (
        Step()
        .add("aten::mul_")  # an average of the weights
        .add("Optimizer.zero_grad#SGD.zero_grad")
        .add("aten::linear", sequence=7)
        .add("aten::arange")
        .add("aten::relu", sequence=9)
        .add(f"{BACKWARD}ReluBackward0", sequence=9)
        .add(f"{BACKWARD}AddmmBackward0", sequence=7)
        .add("aten::linalg_vector_norm")  # clipping
        .add("Optimizer.step#SGD.step")
    )
    assert [zone for _, zone, _, _ in rows(reduce_tree(step.roots))] == [
        "between",
        "zero_grad",
        "forward",
        "forward",
        "forward",
        "backward",
        "backward",
        "before_update",
        "optimizer",
    ]


def test_an_operator_owns_the_backward_of_what_it_called():
    step = (
        Step()
        .add("aten::view", sequence=4)  # makes no node: 4 is the number of the next one that does
        .add("aten::matmul", sequence=4, children=[event("aten::bmm", sequence=5)])
        .add(f"{BACKWARD}BmmBackward0", 30, sequence=5)
        .add(f"{BACKWARD}ExpandBackward0", 3, sequence=4)
    )
    assert rows(reduce_tree(step.roots))[:2] == [
        ("aten::view", "between", 10, 0),
        ("aten::matmul", "forward", 10, 33),
    ]


def test_two_backwards_before_an_update():
    step = Step()
    for number in (1, 2):
        step.add("aten::linear", sequence=number).add("aten::eye")
        step.add(f"{BACKWARD}AddmmBackward0", sequence=number)
    step.add("Optimizer.step#SGD.step")
    zones = [zone for _, zone, _, _ in rows(reduce_tree(step.roots))]
    assert zones == ["forward", "forward", "backward"] * 2 + ["optimizer"]


def test_copies_that_rearrange_memory():
    transposed, plain = tensor([3, 4], [1, 3]), tensor([3, 4])
    spread = tensor([3, 4], [0, 1])
    double = tensor([3, 4], [1, 3], dtype="torch.float64")

    def clone(source):
        return [event("aten::copy_", 6, inputs=[plain, source])]

    step = Step()
    for source in (transposed, plain, spread, double):
        step.add("aten::clone", children=clone(source))
    assert [ns // 10 for ns in reduce_tree(step.roots)["calls"]["rearranged"]] == [6, 0, 0, 0]


def test_tensors_are_named_by_storage_and_the_parameters_told():
    weight, data = tensor([2, 2], address=70), tensor([5, 2], address=90)
    gradient = tensor([2, 2], address=71)
    step = (
        Step()
        .add("aten::linear", inputs=[data, weight, None])
        .add("aten::cat", inputs=[[data, data], 0])
        .add("aten::mul_", inputs=[gradient, 0.5])
    )
    fact = reduce_tree(step.roots, parameters=[70, 999], gradients=[71])
    assert fact["calls"]["reads"] == [[0, 1], [0, 0], [2]]
    assert (fact["parameters"], fact["gradients"]) == ([1], [2])
    assert fact["operators"][0] == ["aten::linear", [[5, 2], [2, 2]], ["float32", "float32"]]


def test_kernels_count_inner_operators_by_their_own_time():
    inner = [event("aten::addmm", 6), event("[memory]", 0)]
    del inner[1].extra_fields.sequence_number  # an allocation
    step = Step().add("aten::linear", 10, children=inner).add("aten::linear", 4)
    assert reduce_tree(step.roots)["kernels"] == [
        ["between", "aten::linear", 2, 80],
        ["between", "aten::addmm", 1, 60],
    ]


def test_only_the_thread_of_the_optimizer():
    step = Step().add("aten::stack", thread=2).add("Optimizer.step#SGD.step").add("aten::mul")
    assert [name for name, *_ in rows(reduce_tree(step.roots))] == [
        "Optimizer.step#SGD.step",
        "aten::mul",
    ]


def test_a_long_step_is_cut_and_says_so():
    step = Step()
    for _ in range(MOST_CALLS + 1):
        step.add("aten::mul")
    fact = reduce_tree(step.roots)
    assert fact["truncated"]
    assert len(fact["calls"]["wall"]) == MOST_CALLS
    assert fact["kernels"] == [["between", "aten::mul", MOST_CALLS + 1, (MOST_CALLS + 1) * 100]]


def test_no_event_at_all():
    assert reduce_tree([])["calls"]["wall"] == []
