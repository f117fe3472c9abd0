"""What a data set's own attributes say: the paths that it reads, and the objects that it holds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils import data

from trainprof.profiler.agent.describe import describe_loader
from trainprof.profiler.agent.describe.storage import describe_storage

MOUNTS = """\
22 1 0:20 / / rw,relatime - overlay overlay rw
30 22 0:41 / /mnt/team\\040data rw - nfs4 server:/export rw
31 22 0:42 / /mnt/fast rw shared:1 - xfs /dev/nvme0n1 rw
32 22 0:43 / /mnt/tried rw - overlay trainprof:lustre rw
"""


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.fixture
def mounts(tmp_path):
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS)
    return str(file)


def paths_of(mounts, **attributes):
    return describe_storage(Holder(**attributes), mounts)["dataset_paths"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/mnt/fast/train", {"/mnt/fast/train": "xfs"}),
        (Path("/mnt/team data/images"), {"/mnt/team data/images": "nfs4"}),
        (["/mnt/fast/a.jpg", "/mnt/fast/b.jpg"], {"/mnt/fast/a.jpg": "xfs"}),
        ([("/mnt/fast/a.jpg", 3)], {"/mnt/fast/a.jpg": "xfs"}),
        ("/home/somebody/data", {"/home/somebody/data": "overlay"}),
        ("/mnt/tried/train", {"/mnt/tried/train": "lustre"}),
        ("s3://user:secret@bucket/train?key=secret", {"s3://bucket/train": "s3"}),
        ("a caption", {}),
        ("/", {}),
        (7, {}),
        ([], {}),
    ],
    ids=str,
)
def test_paths_and_the_file_systems_below_them(mounts, value, expected):
    assert paths_of(mounts, root=value) == expected


def test_a_relative_path_is_one_of_the_working_folder(mounts):
    assert paths_of(mounts, root="data/train") == {str(Path("data/train").absolute()): "overlay"}


def test_without_proc_no_path_is_named(tmp_path):
    assert paths_of(str(tmp_path / "absent"), root="/mnt/fast") == {}


def test_few_paths_are_enough(mounts):
    many = {f"root{n}": f"/mnt/fast/{n}" for n in range(20)}
    assert len(paths_of(mounts, **many)) == 4


def test_objects_are_counted_and_sampled():
    names = [f"image-{n:07}.jpg" for n in range(5_000)]
    held = describe_storage(Holder(names=names, size=3, few=["a"] * 10))
    assert held["dataset_objects"] == 5_000
    assert held["dataset_objects_bytes"] == 5_000 * sys.getsizeof(names[0])


def test_tuples_count_with_what_they_hold():
    pairs = [(f"image-{n:07}.jpg", n) for n in range(2_000)]
    held = describe_storage(Holder(pairs=pairs))
    least = sys.getsizeof(pairs[0]) + sys.getsizeof(pairs[0][0])
    assert held["dataset_objects_bytes"] > 2_000 * least


def test_arrays_in_a_list_and_the_list_of_a_plain_data_set():
    assert describe_storage(Holder(a=[np.zeros(1)] * 2_000))["dataset_objects"] == 0
    assert describe_storage([f"item {n}" for n in range(2_000)])["dataset_objects"] == 2_000


def test_attributes_that_only_a_property_gives_are_not_asked_for():
    class Trap:
        @property
        def root(self):
            raise AssertionError("the agent must not run code of the data set")

    assert describe_storage(Trap())["dataset_paths"] == {}


def test_it_is_part_of_the_loaders_fact():
    class Named(data.Dataset):
        def __init__(self):
            self.names = [f"image-{n:07}.jpg" for n in range(5_000)]

        def __len__(self):
            return len(self.names)

    import torch

    fact = describe_loader(torch, data.DataLoader(data.Subset(Named(), [1, 2])))
    assert fact["dataset_objects"] == 5_000
