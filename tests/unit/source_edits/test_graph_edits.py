"""Graphs that are kept, gradients nobody asks for, checkpointing, autocast, collections."""

import pytest

LOOP = "for x in loader:\n    loss = f(x)\n    loss.backward()\n    {}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("total += loss", "total += loss.detach()"),
        ("self.total += out['loss']  # all", "self.total += out['loss'].detach()  # all"),
        ("total = total + loss", "total = total + loss.detach()"),
        ("losses.append(loss)", "losses.append(loss.detach())"),
        ("kept[step] = loss", "kept[step] = loss.detach()"),
        ("total += loss * n", "total += (loss * n).detach()"),
        ("total += loss.item()", "total += loss.item()"),
        ("total += loss.detach()", "total += loss.detach()"),
    ],
)
def test_what_is_kept_is_kept_without_its_graph(edited, before, after):
    new = edited(LOOP.format(before), "loss-detach", 4)
    assert new == LOOP.format(after)
    assert edited(new, "loss-detach", 4) == new


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("total += accuracy(loss)", "whether accuracy(loss) is a tensor is not known"),
        ("losses.append((loss, x))", "whether (loss, x) is a tensor is not known"),
        ("print(loss)", "the line does not plainly keep one tensor"),
    ],
)
def test_what_may_be_no_tensor_is_left_to_a_person(by_hand, line, reason):
    note = by_hand(LOOP.format(line), "loss-detach", 4)
    assert (note.reason, note.line) == (reason, 4)


def test_an_unknown_line_is_not_guessed(by_hand):
    note = by_hand(LOOP.format("total += loss"), "loss-detach")
    assert "is not known; name it with at=FILE:LINE" in note.reason


VALIDATION = """\
import torch

class Runner:
    @timed
    def evaluate(self, loader):
        self.model.eval()
        for x in loader:
            print(self.model(x))

    def train(self, loader):
        self.model.train()
        for x in loader:
            self.model(x).backward()
        self.evaluate(loader)
"""


def test_the_function_that_validates_gets_a_decorator(edited):
    new = edited(VALIDATION, "validation-inference-mode")
    assert new == VALIDATION.replace("    def evaluate", "    @torch.no_grad()\n    def evaluate")
    assert edited(new, "validation-inference-mode") == new


def test_a_validation_in_the_training_function_is_left_to_a_person(by_hand):
    text = "import torch\ndef f():\n  for x in y:\n    m.eval()\n    m(x)\n    m(x).backward()\n"
    note = by_hand(text, "validation-inference-mode")
    assert note.reason == "no function plainly validates and nothing else"
    twice = VALIDATION + VALIDATION.partition("import torch\n")[2]
    note = by_hand(twice, "validation-inference-mode")
    assert note.reason == "evaluate (line 5) and evaluate (line 18) validate"


def test_checkpointed_functions_are_called_directly(edited):
    text = (
        "from torch.utils.checkpoint import checkpoint\n"
        "import torch.utils.checkpoint as cp\n"
        "class Model:\n"
        "    def forward(self, x, mask):\n"
        "        for block in self.blocks:\n"
        "            x = checkpoint(block, x, mask, use_reentrant=False)  # saves memory\n"
        "            x = cp.checkpoint(\n"
        "                self.norm,\n"
        "                x,\n"
        "            )\n"
        "        return checkpoint(lambda y: y + 1, x, use_reentrant=False)\n"
    )
    assert edited(text, "checkpointing-off") == (
        "class Model:\n"
        "    def forward(self, x, mask):\n"
        "        for block in self.blocks:\n"
        "            x = block(x, mask)  # saves memory\n"
        "            x = self.norm(\n"
        "                x,\n"
        "            )\n"
        "        return (lambda y: y + 1)(x)\n"
    )


def test_switches_of_transformers(edited):
    text = (
        "model.gradient_checkpointing_enable()\n"
        "arguments = TrainingArguments('out', gradient_checkpointing=True, bf16=True)\n"
    )
    assert edited(text, "checkpointing-off") == (
        "arguments = TrainingArguments('out', bf16=True)\n"
    )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("checkpoint(f, x) if self.save else f(x)", "it is asked for by self.save"),
        ("checkpoint(f, x, preserve_rng_state=False)", "preserve_rng_state says how it is done"),
        ("checkpoint(*stage)", "its arguments come from *stage"),
        ("f(x)", "nothing in the file asks for checkpointing plainly"),
    ],
)
def test_checkpointing_that_is_somebodys_choice(by_hand, call, reason):
    text = (
        f"from torch.utils.checkpoint import checkpoint\ndef forward(self, x):\n    return {call}\n"
    )
    assert by_hand(text, "checkpointing-off").reason == reason


PLAIN = """\
import torch

def main():
    for step, (x, y) in enumerate(loader):
        x = x.to(device)
        out = model(x)  # forward
        loss = criterion(
            out,
            y,
        )
        optimizer.zero_grad()
        loss.backward()
"""


def test_the_forward_of_a_plain_loop_is_put_into_autocast(edited, by_hand):
    new = edited(PLAIN, "autocast-bf16", device="cpu", dtype="bfloat16")
    assert new == PLAIN.replace(
        "        out = model(x)  # forward\n"
        "        loss = criterion(\n"
        "            out,\n"
        "            y,\n"
        "        )\n",
        '        with torch.autocast("cpu", dtype=torch.bfloat16):\n'
        "            out = model(x)  # forward\n"
        "            loss = criterion(\n"
        "                out,\n"
        "                y,\n"
        "            )\n",
    )
    note = by_hand(new, "autocast-bf16", device="cpu", dtype="bfloat16")
    assert note.reason == "the script uses autocast itself"


def test_autocast_keeps_tabs(edited):
    text = "import torch\nwhile True:\n\tloss = model(x)\n\tloss.backward()\n"
    assert edited(text, "autocast-bf16") == (
        "import torch\nwhile True:\n"
        '\twith torch.autocast("cpu", dtype=torch.bfloat16):\n'
        "\t\tloss = model(x)\n\tloss.backward()\n"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("model(x).backward()", "its backward is not of a loss with a name"),
        ("log(loss); loss.backward()", "what computes the loss is not right before it"),
        ("if loss > 0:\n        loss.backward()", "its backward stands in no loop"),
        ("a.backward()\n    b.backward()", "the file has 2 calls of backward, not one"),
    ],
)
def test_a_loop_that_is_not_plain_is_left_to_a_person(by_hand, body, reason):
    note = by_hand(f"import torch\nfor x in loader:\n    {body}\n", "autocast-bf16")
    assert note.reason == reason


COLLECTS = """\
import gc
import torch

for x in loader:
    step(x)
    gc.collect()  # to save memory
gc.collect()
"""


def test_collections_in_the_loop_go(edited):
    new = edited(COLLECTS, "gc-manual-off", 6)
    assert new == COLLECTS.replace("    gc.collect()  # to save memory\n", "")
    assert edited(new, "gc-manual-off") == new


def test_the_import_goes_with_its_last_use(edited):
    text = COLLECTS.removesuffix("gc.collect()\n")
    assert edited(text, "gc-manual-off") == "import torch\n\nfor x in loader:\n    step(x)\n"


@pytest.mark.parametrize(
    "condition",
    [
        "if step % args.collect_every == 0:",
        "if x:\n        if step:",
        "if x: # now and then",
    ],
)
def test_a_condition_that_is_there_for_it_alone_goes_too(edited, condition):
    indent = 4 * (condition.count("if") + 1) * " "
    text = (
        "import gc\n\nfor step, x in enumerate(loader):\n    train(x)\n"
        f"    {condition}\n{indent}gc.collect()\n    log(x)\n"
    )
    assert edited(text, "gc-manual-off") == (
        "for step, x in enumerate(loader):\n    train(x)\n    log(x)\n"
    )


@pytest.mark.parametrize(
    "block",
    [
        "    if is_due(x):\n        gc.collect()\n",
        "    if x:\n        gc.collect()\n    else:\n        pass\n",
        "    if x:\n        pass\n    elif y:\n        gc.collect()\n",
        "    with x:\n        gc.collect()\n",
    ],
)
def test_a_collection_that_is_all_that_a_block_does(by_hand, block):
    note = by_hand(f"import gc\nfor x in loader:\n    f(x)\n{block}", "gc-manual-off")
    assert note.reason == "it is all that its block does"


FREES = """\
import gc

import torch


def free_memory():
    \"\"\"Costs time.\"\"\"
    gc.collect()


def main():
    for x in loader:
        step(x)
        free_memory()


main()
"""


def test_a_function_that_does_nothing_else_goes_with_its_calls(edited):
    new = edited(FREES, "gc-manual-off")
    assert new == (
        "import torch\n\n\ndef main():\n    for x in loader:\n        step(x)\n\n\nmain()\n"
    )
    assert edited(new, "gc-manual-off") == new


def test_a_function_that_is_called_elsewhere_too_stays(edited):
    text = FREES + "free_memory()\n"
    assert edited(text, "gc-manual-off") == text.replace("        free_memory()\n", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    gc.collect()\n", "    gc.collect()\n    torch.save({}, 'x')\n"),
        ("        free_memory()\n", "        x.register_hook(free_memory)\n"),
        ("def free_memory", "@timed\ndef free_memory"),
    ],
)
def test_a_function_that_does_more_is_left_to_a_person(by_hand, old, new):
    note = by_hand(FREES.replace(old, new), "gc-manual-off")
    assert note.reason == "it is called in free_memory"


def test_subnormal_numbers(edited):
    assert edited("import torch\n", "flush-denormal", flush_denormal=True) == (
        "import torch\n\ntorch.set_flush_denormal(True)\n"
    )


def test_prefetching_and_order(edited):
    text = "loader = DataLoader(data, num_workers=2)\n"
    assert edited(text, "loader-prefetch", 1, prefetch_factor=6) == text.replace(
        "=2)", "=2, prefetch_factor=6)"
    )
    assert edited(text, "loader-order", 1, in_order=False) == text.replace(
        "=2)", "=2, in_order=False)"
    )


ACCUMULATES = """\
import torch
from torch.nn.parallel import DistributedDataParallel

model = DistributedDataParallel(Model())
for index, (x, y) in enumerate(loader):
    loss = criterion(model(x), y) / 4
    loss.backward()
    if {}:
        optimizer.step()
        optimizer.zero_grad()
"""
WITHOUT_SYNC = """\
import contextlib

import torch
from torch.nn.parallel import DistributedDataParallel

model = DistributedDataParallel(Model())
for index, (x, y) in enumerate(loader):
    with contextlib.nullcontext() if {0} else model.no_sync():
        loss = criterion(model(x), y) / 4
        loss.backward()
    if {0}:
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    "condition", ["(index + 1) % 4 == 0", "(index + 1) % 4 == 0 or index + 1 == len(loader)"]
)
def test_micro_batches_in_no_sync(edited, condition):
    new = edited(ACCUMULATES.format(condition), "no-sync")
    assert new == WITHOUT_SYNC.format(condition)
    assert edited(new, "no-sync") == new


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (ACCUMULATES.format("ready()"), "the update depends on what is computed"),
        (ACCUMULATES.format("loss < 1"), "the update depends on the forward"),
        (
            ACCUMULATES.format("index").replace("    if index:", "    for _ in range(1):"),
            "no `if` behind the backward says when an update is made",
        ),
        (
            ACCUMULATES.format("index").replace("(model(x)", "(net(x)"),
            "the forward does not call model by that name",
        ),
    ],
)
def test_an_update_whose_time_is_not_plain(by_hand, script, reason):
    note = by_hand(script, "no-sync")
    assert note.reason == reason
    assert note.code.startswith("with contextlib.nullcontext() if last else model.no_sync():")
