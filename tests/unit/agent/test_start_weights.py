"""Published architectures that begin with the weights of their constructor, told by their norms."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trainprof.profiler.agent.start_weights import StartWeights  # noqa: E402


class ResNet(nn.Module):
    """Stands for torchvision's, which is not installed here: only its module's name counts."""

    __module__ = "torchvision.models.resnet"

    def __init__(self, channels=3, zero_last=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.bn2 = nn.BatchNorm2d(8)
        if zero_last:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        return self.bn2(self.bn1(self.conv(x))).mean((1, 2, 3))


class Own(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(8, 2)
        self.norm = nn.LayerNorm(8)


def look(model):
    start = StartWeights(torch)
    start.look([(3, model)])
    return start.facts.get(3)


def test_a_new_network_is_untouched():
    fact = look(Own(ResNet()))

    assert fact["type"] == "torchvision.models.resnet.ResNet"
    assert fact["name"] == "backbone"
    assert (fact["norms"], fact["norms_untouched"]) == (2, 2)
    assert (fact["input_channels"], fact["vocabulary"]) == (3, None)
    assert fact["parameters"] == sum(p.numel() for p in ResNet().parameters())
    assert look(ResNet(zero_last=True))["norms_untouched"] == 2  # as torchvision itself offers


def test_one_update_is_enough_to_be_touched():
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()

    assert look(model)["norms_untouched"] == 0


def test_loaded_weights_are_told_whatever_loads_them():
    trained = {name: value + 0.01 for name, value in ResNet().state_dict().items()}
    by_call, by_hand = ResNet(), ResNet()
    by_call.load_state_dict(trained)
    for name, parameter in by_hand.named_parameters():
        parameter.data = trained[name]

    assert look(by_call)["norms_untouched"] == look(by_hand)["norms_untouched"] == 0


def test_a_trained_scale_or_a_trained_shift_alone_is_told():
    scaled, shifted = ResNet(), ResNet()
    with torch.no_grad():
        scaled.bn1.weight[5] = 1.5
        shifted.bn2.bias[0] = -0.2

    assert look(scaled)["norms_untouched"] == look(shifted)["norms_untouched"] == 1


def test_networks_of_the_users_own_are_not_looked_at():
    assert look(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))) is None


def test_what_lies_on_a_device_is_not_read():
    fact = look(ResNet().to("meta"))
    assert (fact["norms"], fact["norms_untouched"]) == (0, 0)


def test_a_transformer_of_the_library():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    new = transformers.BertForSequenceClassification(config)
    fact = look(new)

    assert fact["type"].endswith("modeling_bert.BertForSequenceClassification")
    assert fact["vocabulary"] == 40
    assert fact["norms"] == fact["norms_untouched"] == 3


def test_a_transformer_that_was_saved_and_loaded(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    loaded = transformers.BertForSequenceClassification.from_pretrained(tmp_path)

    assert look(loaded)["norms_untouched"] == 0
