import gc
import json
import time
import types
import weakref

import torch
from torch import nn

from trainprof.profiler.agent.describe import describe_model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 2, bias=False).to(torch.float64)
        self.tied = nn.Linear(8, 2, bias=False)
        self.tied.weight = self.head.weight
        self.encoder[0].weight.requires_grad_(False)

    def __repr__(self):
        raise AssertionError("the agent must not ask for a repr")


def test_counts_sizes_and_tree():
    fact = describe_model(torch, Net().eval())
    assert fact["type"] == f"{__name__}.Net"
    assert fact["where"]["file"] == __file__
    assert fact["parameter_count"] == 32 + 8 + 8 + 8 + 16  # the tied weight once
    assert fact["parameter_bytes"] == (32 + 8 + 8 + 8) * 4 + 16 * 8
    assert fact["trainable_count"] == fact["parameter_count"] - 32
    assert fact["dtypes"] == {"float32": 56, "float64": 16}
    assert fact["devices"] == {"cpu": 72}
    assert fact["buffer_bytes"] == 8 * 4 + 8 * 4 + 8
    assert fact["training"] is False
    assert fact["wrapper"] is None
    assert fact["submodule_count"] == 5
    assert fact["submodules"] == [
        {"name": "encoder", "type": "torch.nn.modules.container.Sequential", "parameters": 56},
        {"name": "encoder.0", "type": "torch.nn.modules.linear.Linear", "parameters": 40},
        {"name": "encoder.1", "type": "torch.nn.modules.batchnorm.BatchNorm1d", "parameters": 16},
        {"name": "head", "type": "torch.nn.modules.linear.Linear", "parameters": 16},
        {"name": "tied", "type": "torch.nn.modules.linear.Linear", "parameters": 16},
    ]
    assert json.loads(json.dumps(fact)) == fact


def test_names_agree_with_torchs_own():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    expected = [(name, type(module).__name__) for name, module in model.named_modules() if name]
    fact = describe_model(torch, model)
    found = [(node["name"], node["type"].rpartition(".")[2]) for node in fact["submodules"]]
    assert found == expected
    assert fact["parameter_count"] == sum(p.numel() for p in model.parameters())


def test_a_module_used_twice_counts_once():
    shared = nn.Linear(2, 2)
    fact = describe_model(torch, nn.Sequential(shared, shared))
    assert fact["submodule_count"] == 1
    assert fact["parameter_count"] == 6


def test_wrappers_are_looked_through():
    compiled = torch.compile(nn.Linear(2, 2), backend="eager")
    fact = describe_model(torch, compiled)
    assert (fact["type"], fact["wrapper"]) == (
        "torch.nn.modules.linear.Linear",
        "OptimizedModule",
    )
    in_place = nn.Linear(2, 2)
    in_place.compile(backend="eager")
    assert describe_model(torch, in_place)["wrapper"] == "compile"
    parallel = describe_model(torch, nn.DataParallel(compiled))
    assert parallel["wrapper"] == "DataParallel > OptimizedModule"
    assert parallel["type"] == "torch.nn.modules.linear.Linear"


def test_empty_container_inside_a_wrapper():
    fact = describe_model(torch, nn.DataParallel(nn.Sequential()))
    assert fact["type"] == "torch.nn.modules.container.Sequential"
    assert fact["parameter_count"] == 0


def test_lazy_parameters_count_nothing_yet():
    fact = describe_model(torch, nn.Sequential(nn.LazyLinear(3), nn.Linear(2, 1)))
    assert fact["parameter_count"] == 3


def test_meta_and_scripted_modules():
    fact = describe_model(torch, nn.Linear(10, 10, device="meta"))
    assert fact["devices"] == {"meta": 110}


def test_tree_is_cut_and_totals_are_not():
    model = nn.ModuleList(nn.Linear(1, 1) for _ in range(2_500))
    fact = describe_model(torch, model)
    assert len(fact["submodules"]) == 2_000
    assert fact["submodule_count"] == 2_500
    assert fact["parameter_count"] == 5_000


def conv_net(bias, norm=nn.BatchNorm2d):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 8, 3, bias=bias), norm(8), nn.ReLU()),
        nn.Conv2d(8, 2, 1),
    )


def test_biases_in_front_of_a_batch_norm():
    fact = describe_model(torch, conv_net(bias=True))
    assert (fact["convolutions"], fact["biases_before_norm"], fact["batch_norms"]) == (3, 2, 2)
    assert describe_model(torch, conv_net(bias=False))["biases_before_norm"] == 0


def test_what_has_a_switch_is_counted():
    own = nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1))
    fact = describe_model(torch, own)
    assert (fact["image_convolutions"], fact["switchable_attentions"]) == (0, 0)
    fact = describe_model(torch, nn.Sequential(nn.Conv2d(3, 4, 3), nn.MultiheadAttention(4, 2)))
    assert (fact["image_convolutions"], fact["switchable_attentions"]) == (1, 1)


class OfTransformers(nn.Module):
    """As a model of transformers says how it computes attention."""

    def __init__(self, attention):
        super().__init__()
        self.config = types.SimpleNamespace(_attn_implementation=attention)

    def set_attn_implementation(self, name):
        self.config._attn_implementation = name


def test_a_model_of_transformers_has_a_switch_until_it_is_set():
    assert describe_model(torch, OfTransformers("eager"))["switchable_attentions"] == 1
    assert describe_model(torch, OfTransformers("sdpa"))["switchable_attentions"] == 0


def test_batch_norms_that_do_not_learn_from_the_batch_are_not_counted():
    assert describe_model(torch, conv_net(bias=True).eval())["batch_norms"] == 0
    assert describe_model(torch, conv_net(True, nn.SyncBatchNorm))["batch_norms"] == 0
    normed = describe_model(torch, conv_net(True, lambda width: nn.GroupNorm(2, width)))
    assert (normed["batch_norms"], normed["biases_before_norm"]) == (0, 0)


def test_a_norm_of_other_channels_is_not_behind_the_convolution():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5))
    assert describe_model(torch, model)["biases_before_norm"] == 0


def test_keeps_no_reference():
    model = nn.Linear(2, 2)
    reference = weakref.ref(model)
    describe_model(torch, model)
    del model
    gc.collect()
    assert reference() is None


def test_ten_thousand_submodules_in_a_tenth_of_a_second():
    model = nn.ModuleList(nn.Sequential(nn.Linear(1, 1), nn.ReLU()) for _ in range(3_400))
    best_s = float("inf")
    for _ in range(5):
        start_s = time.thread_time()
        assert describe_model(torch, model)["submodule_count"] == 10_200
        best_s = min(best_s, time.thread_time() - start_s)
    assert best_s < 0.1
