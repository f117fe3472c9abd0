"""Loaders, optimizers and threads: the very call, wherever its values are written."""

import pytest

LOADER = "from torch.utils.data import DataLoader\nx = 1\nloader = DataLoader(data, 8)\n"


def test_workers_are_added_to_the_very_call(edited):
    text = (
        "from torch.utils.data import DataLoader\n"
        "train = DataLoader(data, 8, shuffle=True)\n"
        "valid = DataLoader(other, batch_size=8)  # not this one\n"
    )
    new = edited(text, "loader-workers", 2, num_workers=4, persistent_workers=True)
    assert new == text.replace(
        "shuffle=True)", "shuffle=True, num_workers=4, persistent_workers=True)"
    )


def test_a_second_time_nothing_changes(edited):
    wanted = {"num_workers": 4, "persistent_workers": True, "prefetch_factor": 3}
    new = edited(LOADER, "loader-workers", 3, **wanted)
    assert new != LOADER
    assert edited(new, "loader-workers", 3, **wanted) == new


def test_what_is_torchs_default_anyway_is_not_written(edited):
    new = edited(LOADER, "loader-workers", 3, num_workers=2, prefetch_factor=2)
    assert new == LOADER.replace("8)", "8, num_workers=2)")


def test_a_number_in_the_source_is_changed_in_its_place(edited):
    text = LOADER.replace("8)", "8, num_workers = 1,  # of four\n    drop_last=True)")
    assert edited(text, "loader-workers", 3, num_workers=3) == text.replace(
        "workers = 1", "workers = 3"
    )


def test_without_workers_all_that_needs_them_goes(edited):
    text = (
        "loader = torch.utils.data.DataLoader(\n"
        "    data,\n"
        "    num_workers=2,\n"
        "    persistent_workers=True,\n"
        "    prefetch_factor=4,\n"
        "    timeout=30,\n"
        "    shuffle=True,\n"
        ")\n"
    )
    new = "loader = torch.utils.data.DataLoader(\n    data,\n    shuffle=True,\n)\n"
    assert edited(text, "loader-workers", 1, num_workers=0) == new
    assert edited(new, "loader-workers", 1, num_workers=0) == new


def test_workers_by_position(edited):
    text = "loader = DataLoader(data, 8, True, None, None, 2, drop_last=True)\n"
    assert edited(text, "loader-workers", 1, num_workers=0) == text.replace("2,", "0,")
    assert edited(text, "loader-workers", 1, num_workers=6) == text.replace("2,", "6,")


def test_a_name_given_on_import(edited):
    text = "from torch.utils.data import DataLoader as Loader\nloader = Loader(data)\n"
    new = edited(text, "loader-workers", 2, num_workers=2)
    assert new == text.replace("(data)", "(data, num_workers=2)")


def test_both_calls_of_a_line_where_the_plan_was_for_both(edited):
    text = "train, valid = DataLoader(a, shuffle=True), DataLoader(b)\n"
    new = edited(text, "loader-workers", 1, num_workers=2)
    assert new == (
        "train, valid = DataLoader(a, shuffle=True, num_workers=2), DataLoader(b, num_workers=2)\n"
    )


def test_one_of_several_objects_of_a_line_is_not_guessed(by_hand):
    text = "train, valid = DataLoader(a, shuffle=True), DataLoader(b)\n"
    note = by_hand(text, "loader-workers", 1, ordinal=0, num_workers=2)
    assert "only one of the objects" in note.reason
    assert note.code == "num_workers=2"


def test_the_only_loader_needs_no_line(edited):
    new = edited(LOADER, "loader-workers", num_workers=2)
    assert new == LOADER.replace("8)", "8, num_workers=2)")


def test_of_two_loaders_one_has_to_be_named(by_hand):
    note = by_hand(f"{LOADER}other = DataLoader(data)\n", "loader-workers", num_workers=2)
    assert "at lines 3 and 4; name one with at=FILE:LINE" in note.reason


def test_a_loader_of_another_library_is_not_taken_for_torchs(by_hand):
    text = "from ours.data import DataLoader\nloader = DataLoader(data)\n"
    assert "makes no DataLoader" in by_hand(text, "loader-workers", num_workers=2).reason
    text = "class DataLoader:\n    pass\nloader = DataLoader()\n"
    assert "makes no DataLoader" in by_hand(text, "loader-workers", num_workers=2).reason


def test_a_line_that_makes_no_loader(by_hand):
    note = by_hand(LOADER, "loader-workers", 2, num_workers=4, persistent_workers=True)
    assert (note.line, note.reason) == (2, "no call of DataLoader stands in this line")
    assert note.code == "num_workers=4, persistent_workers=True"


def test_a_call_inside_another_call_over_several_lines(edited):
    text = (
        "run(\n"
        "    model,\n"
        "    DataLoader(data),\n"
        "    optimizer=SGD(model.parameters(), lr=0.1),\n"
        ")\n"
    )
    new = edited(text, "loader-workers", 3, num_workers=2)
    assert new == text.replace("(data)", "(data, num_workers=2)")


def test_unpacked_arguments_are_named_with_their_line(by_hand):
    text = f"options = dict(num_workers=0)\n{LOADER.replace('8)', '**options)')}"
    note = by_hand(text, "loader-workers", 4, num_workers=2)
    assert note.reason == "its arguments come from **options, which is made at line 1"
    assert note.line == 4


OPTION = (
    "parser.add_argument('-j', '--workers', type=int, default=0)  # of the loader\n"
    "args = parser.parse_args()\n"
    "loader = DataLoader(data, num_workers=args.workers)\n"
)


def test_the_default_of_an_option_is_changed(edited):
    new = edited(OPTION, "loader-workers", 3, num_workers=4, persistent_workers=True)
    assert new == (
        OPTION.replace("default=0", "default=4").replace(
            "args.workers)", "args.workers, persistent_workers=True)"
        )
    )
    assert edited(new, "loader-workers", 3, num_workers=4, persistent_workers=True) == new


@pytest.mark.parametrize("word", ["--workers", "--workers=2", "-j"])
def test_an_option_that_the_command_passes_is_not(by_hand, word):
    note = by_hand(OPTION, "loader-workers", 3, ("train.py", word, "2"), num_workers=4)
    assert note.reason.endswith(f"pass {word.partition('=')[0]} 4 there")
    assert note.line == 1


def test_the_default_of_an_option_for_no_workers(edited):
    text = OPTION.replace("default=0", "default=2").replace(
        "args.workers)", "args.workers, persistent_workers=True)"
    )
    new = edited(text, "loader-workers", 3, num_workers=0)
    assert new == OPTION


def test_an_option_without_default(by_hand):
    note = by_hand(OPTION.replace(", default=0", ""), "loader-workers", 3, num_workers=4)
    assert note.reason == "num_workers comes from --workers; let its default be 4"


CONSTANT = "WORKERS = 0\nloader = DataLoader(data, num_workers=WORKERS)\n"


def test_a_constant_is_changed_where_it_is_written(edited):
    assert edited(CONSTANT, "loader-workers", 2, num_workers=4) == CONSTANT.replace("0", "4")


def test_a_constant_that_is_used_elsewhere_is_left_to_a_person(by_hand):
    note = by_hand(f"{CONSTANT}print(WORKERS)\n", "loader-workers", 2, num_workers=4)
    assert "used elsewhere too; let it be 4" in note.reason
    assert note.line == 1


@pytest.mark.parametrize("value", ["os.cpu_count()", "2 * n", "config['workers']", "self.workers"])
def test_a_computed_number_is_left_to_a_person(by_hand, value):
    text = CONSTANT.replace("=WORKERS", f"={value}")
    note = by_hand(text, "loader-workers", 2, num_workers=4)
    assert note.reason == f"num_workers is {value}; let that be 4"


def test_the_loader_of_the_trainer_of_transformers(edited):
    text = (
        "from transformers import Trainer, TrainingArguments\n"
        "arguments = TrainingArguments(\n"
        "    output_dir='out',\n"
        "    dataloader_num_workers=2,\n"
        ")\n"
        "trainer = Trainer(model, arguments)\n"
        "trainer.train()\n"
    )
    new = edited(text, "loader-workers", 7, num_workers=4, persistent_workers=True)
    assert new == text.replace(
        "workers=2,\n", "workers=4,\n    dataloader_persistent_workers=True,\n"
    )
    assert edited(text, "loader-workers", 7, num_workers=0) == text.replace(
        "    dataloader_num_workers=2,\n", ""
    )


def test_a_loader_made_inside_of_a_library_without_such_arguments(by_hand):
    note = by_hand("trainer = make()\ntrainer.fit(model)\n", "loader-workers", 2, num_workers=1)
    assert note.reason == (
        "no call of DataLoader stands in this line, it is made inside of what is called there"
    )


OPTIMIZER = "import torch\noptimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)\n"


@pytest.mark.parametrize("line", [2, None])
def test_fused(edited, line):
    new = edited(OPTIMIZER, "optimizer-fused", line, fused=True)
    assert new == OPTIMIZER.replace("1e-3)", "1e-3, fused=True)")
    assert edited(new, "optimizer-fused", line, fused=True) == new


def test_an_optimizer_of_the_scripts_own_is_not_taken_for_torchs(by_hand):
    text = "class SGD:\n    pass\noptimizer = SGD(model.parameters())\n"
    assert "no call of Adam" in by_hand(text, "optimizer-fused", 3, fused=True).reason


def test_a_change_that_would_be_no_python_is_not_made(by_hand):
    text = "loader = DataLoader(x for x in y)\n"
    note = by_hand(text, "loader-workers", 1, num_workers=2)
    assert note.reason == "the change would not be Python"


def test_fused_takes_the_place_of_foreach(edited):
    text = OPTIMIZER.replace("1e-3)", "1e-3, foreach=True, amsgrad=True)")
    new = edited(text, "optimizer-fused", 2, fused=True)
    assert new == OPTIMIZER.replace("1e-3)", "1e-3, amsgrad=True, fused=True)")


def test_an_optimizer_chosen_by_name_is_left_to_a_person(by_hand):
    text = "optimizer = OPTIMIZERS[args.optimizer](model.parameters())\n"
    note = by_hand(text, "optimizer-fused", 1, fused=True)
    assert note.reason == "no call of Adam or AdamW or SGD or Adagrad stands in this line"
    assert note.code == "fused=True"


def test_threads_are_set_after_the_imports(edited):
    text = (
        '"""A training."""\n'
        "import os\n"
        "import torch  # the library\n"
        "from torch import nn\n"
        "\n"
        "\n"
        "def main():\n"
        "    pass\n"
    )
    new = edited(text, "intra-op-threads", num_threads=2)
    assert new == text.replace("import nn\n", "import nn\n\ntorch.set_num_threads(2)\n")
    assert edited(new, "intra-op-threads", num_threads=2) == new


def test_threads_in_a_script_that_knows_torch_by_another_name(edited):
    assert edited("import torch as t; x = t.ones(3)\n", "intra-op-threads", num_threads=2) == (
        "import torch as t; x = t.ones(3)\n\nt.set_num_threads(2)\n"
    )


def test_threads_in_a_script_without_torch(edited):
    assert edited("import lightning as L\nx = 1\n", "intra-op-threads", num_threads=2) == (
        "import lightning as L\n\nimport torch\n\ntorch.set_num_threads(2)\nx = 1\n"
    )


def test_threads_in_a_script_without_imports_or_line_end(edited):
    assert edited("import torch", "intra-op-threads", num_threads=2) == (
        "import torch\n\ntorch.set_num_threads(2)"
    )
    text = "#!/usr/bin/env python\n# coding: utf-8\nx = 1\n"
    assert edited(text, "intra-op-threads", num_threads=2) == text.replace(
        "x = 1", "import torch\n\ntorch.set_num_threads(2)\n\nx = 1"
    )


def test_threads_that_are_set_are_changed(edited):
    text = "import torch\ntorch.set_num_threads( 16 )  # all\n"
    new = text.replace("16", "2")
    assert edited(text, "intra-op-threads", num_threads=2) == new
    assert edited(new, "intra-op-threads", num_threads=2) == new


def test_threads_of_an_option(edited, by_hand):
    text = (
        "import torch\n"
        "parser.add_argument('--threads', default=8)\n"
        "torch.set_num_threads(parser.parse_args().threads)\n"
    )
    assert (
        "is parser.parse_args().threads" in by_hand(text, "intra-op-threads", num_threads=2).reason
    )
    text = text.replace("parser.parse_args().", "args.")
    assert edited(text, "intra-op-threads", num_threads=2) == text.replace("8", "2")


def test_threads_that_are_set_twice(by_hand):
    text = "import torch\ntorch.set_num_threads(4)\ntorch.set_num_threads(8)\n"
    assert "called at lines 2 and 3" in by_hand(text, "intra-op-threads", num_threads=2).reason


LONG = (
    "import torch\n\n# {}\n\ndef main():\n"
    "    loader = DataLoader(photos, batch_size=args.batch_size, shuffle=True)\n"
)


@pytest.mark.parametrize(
    ("longest", "after"),
    [
        (
            88,
            "DataLoader(\n        photos,\n        batch_size=args.batch_size,\n"
            "        shuffle=True,\n        num_workers=2,\n"
            "        persistent_workers=True,\n    )\n",
        ),
        (
            100,
            "DataLoader(\n        photos, batch_size=args.batch_size, shuffle=True, num_workers=2,"
            " persistent_workers=True\n    )\n",
        ),
        (
            120,
            "DataLoader(photos, batch_size=args.batch_size, shuffle=True, num_workers=2,"
            " persistent_workers=True)\n",
        ),
    ],
)
def test_lines_stay_within_the_width_that_the_file_keeps(edited, longest, after):
    text = LONG.format((longest - 2) * "-")
    new = edited(text, "loader-workers", 6, num_workers=2, persistent_workers=True)
    assert new == text[: text.index("DataLoader(")] + after


def test_arguments_that_share_a_line_get_a_line_each(edited):
    shared = (
        "DataLoader(\n        photos, batch_size=args.batch_size, shuffle=True, drop_last=True\n"
        "    )\n"
    )
    text = LONG.format(86 * "-")
    text = text[: text.index("DataLoader(")] + shared
    new = edited(text, "loader-workers", 6, num_workers=2, persistent_workers=True)
    assert new.endswith(
        "DataLoader(\n        photos,\n        batch_size=args.batch_size,\n        shuffle=True,\n"
        "        drop_last=True,\n        num_workers=2,\n        persistent_workers=True,\n    )\n"
    )


def test_a_call_amid_its_line_stays_in_one(edited):
    text = LONG.format("-").replace("shuffle=True)", "shuffle=True), None")
    new = edited(text, "loader-workers", 6, num_workers=2, persistent_workers=True)
    assert new.endswith("persistent_workers=True), None\n")


EPOCHS = """\
def make_loader(data):
    return DataLoader(data, num_workers=2)


def main(data):
    for epoch in range(3):
        loader = make_loader(data)
        for batch in loader:
            step(batch)
"""


def test_workers_of_a_loader_that_is_made_each_epoch_cannot_live_on(by_hand):
    note = by_hand(EPOCHS, "loader-workers", 2, persistent_workers=True)
    assert note.reason.startswith("a new loader is made in each turn of this loop")
    assert note.line == 6
    inline = EPOCHS.replace("make_loader(data)\n        for", "DataLoader(data)\n        for")
    assert by_hand(inline, "loader-workers", 7, persistent_workers=True).line == 6


def test_what_else_is_wanted_of_such_a_loader_is_written(edited):
    new = edited(EPOCHS, "loader-workers", 2, num_workers=4, persistent_workers=True)
    assert new == EPOCHS.replace("num_workers=2", "num_workers=4")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        loader = make_loader(data)\n", ""),
        ("    for epoch", "    make_loader(data)\n    for epoch"),
        (
            "        for batch in loader:\n            step(batch)\n",
            "        for turn in range(2):\n            for batch in loader:\n"
            "                step(batch)\n",
        ),
    ],
    ids=["made once", "made elsewhere too", "a loop over trainings"],
)
def test_workers_that_can_live_on(edited, old, new):
    text = EPOCHS.replace(old, new)
    assert edited(text, "loader-workers", 2, persistent_workers=True) == text.replace(
        "num_workers=2", "num_workers=2, persistent_workers=True"
    )


def test_a_function_that_calls_itself(edited):
    text = EPOCHS.replace("    return", "    make_loader(data)\n    return")
    new = edited(text, "loader-workers", 3, num_workers=4, persistent_workers=True)
    assert new == text.replace("num_workers=2", "num_workers=4")


def test_a_loader_that_accelerate_makes_anew(edited, by_hand):
    text = (
        "loader = DataLoader(data, num_workers=2)\n"
        "model, loader = accelerator.prepare(model, loader)\n"
    )
    new = edited(text, "loader-workers", 2, persistent_workers=True)
    assert new == text.replace("=2)", "=2, persistent_workers=True)")
    two = "other = DataLoader(rest)\n" + text
    assert by_hand(two, "loader-workers", 3, persistent_workers=True).reason.startswith("no call")


def test_settings_of_a_parallel_model(edited):
    before = (
        "from torch.nn.parallel import DistributedDataParallel as DDP\n"
        "model = DDP(net, find_unused_parameters=True, bucket_cap_mb=0.001)\n"
    )
    new = edited(before, "ddp-flags", 2, find_unused_parameters=False)
    assert new == before.replace("find_unused_parameters=True, ", "")
    assert edited(new, "bucket-size", 2, bucket_cap_mb=25) == new.replace(
        ", bucket_cap_mb=0.001", ""
    )
    assert "bucket_cap_mb=100)" in edited(before, "bucket-size", 2, bucket_cap_mb=100)


def test_the_size_of_batches(edited):
    text = "loader = DataLoader(data, 8, shuffle=True)\n"
    text = "from torch.utils.data import DataLoader\n" + text
    assert edited(text, "batch-larger", 2, batch_size=32) == text.replace("8", "32")
