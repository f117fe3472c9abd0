import inspect
import io
import os
import sys
import threading

import pytest
import torch

from trainprof.profiler.agent import hooks_saving
from trainprof.profiler.agent import marks as m

STATE = {"weight": torch.ones(1000)}


@pytest.fixture
def collector(hooks):
    return hooks.install(hooks_saving)


def _only(collector):
    (event,) = collector.take_events()
    assert event.kind == "checkpoint"
    assert event.duration_ns > 0
    return event.data


def test_save_to_a_path(hooks, collector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = sys._getframe().f_lineno + 1
    torch.save(STATE, "model.pt")
    path = tmp_path / "model.pt"
    assert _only(collector) == {
        "call": "torch.save",
        "file": str(path),
        "bytes": path.stat().st_size,
        "where": {"file": __file__, "line": line, "function": "test_save_to_a_path"},
    }
    assert hooks.kinds() == [m.SAVE, m.SAVE_END]
    assert torch.equal(torch.load(path)["weight"], STATE["weight"])
    assert collector.take_events() == []


@pytest.mark.parametrize("keyword", [True, False])
def test_save_to_file_objects(collector, tmp_path, keyword):
    buffer = io.BytesIO()
    buffer.write(b"header")
    if keyword:
        torch.save(obj=STATE, f=buffer)
    else:
        torch.serialization.save(STATE, buffer)
    data = _only(collector)
    assert data["bytes"] == buffer.tell() - len(b"header")
    assert data["file"] is None
    with open(tmp_path / "a.pt", "wb") as file:
        torch.save(STATE, file)
    data = _only(collector)
    assert data["file"] == str(tmp_path / "a.pt")
    assert data["bytes"] == (tmp_path / "a.pt").stat().st_size


def test_failing_save_raises_its_own_error(hooks, collector, tmp_path):
    with pytest.raises(RuntimeError, match=r"Parent directory .* does not exist"):
        torch.save(STATE, tmp_path / "missing" / "model.pt")
    assert hooks.kinds() == [m.SAVE, m.SAVE_END]
    assert _only(collector)["bytes"] is None


def test_remote_targets_are_not_looked_up(collector):
    class Remote:
        def __init__(self):
            self.written = 0

        def write(self, data):
            self.written += len(bytes(data))
            return len(bytes(data))

        def flush(self):
            pass

    remote = Remote()
    torch.save(STATE, remote)
    data = _only(collector)
    assert remote.written > 4000
    assert (data["file"], data["bytes"]) == (None, None)


def test_other_threads_pass_through(hooks, collector, tmp_path):
    thread = threading.Thread(target=torch.save, args=(STATE, tmp_path / "a.pt"))
    thread.start()
    thread.join()
    assert hooks.kinds() == []
    assert collector.take_events() == []


@pytest.mark.loops
def test_safetensors(collector, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    assert hasattr(save_file, "__wrapped__")
    save_file(STATE, tmp_path / "model.safetensors")
    data = _only(collector)
    assert data["call"] == "safetensors.save_file"
    assert data["bytes"] == (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.loops
def test_save_pretrained_is_one_checkpoint(hooks, collector, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=50, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    (tmp_path / "unrelated").write_bytes(b"x" * 1_000_000)
    os.utime(tmp_path / "unrelated", (1, 1))
    model.save_pretrained(tmp_path)
    data = _only(collector)
    assert data["call"] == "save_pretrained"
    assert data["file"] == str(tmp_path)
    written = sum(file.stat().st_size for file in tmp_path.iterdir() if file.name != "unrelated")
    assert data["bytes"] == written
    assert hooks.kinds() in ([m.SAVE, m.SAVE, m.SAVE_END, m.SAVE_END], [m.SAVE, m.SAVE_END])
    assert hasattr(transformers.PreTrainedModel.save_pretrained, "__wrapped__")
    hooks.uninstall()
    assert not hasattr(transformers.PreTrainedModel.save_pretrained, "__wrapped__")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_distributed_checkpoint(hooks, collector, tmp_path):
    import torch.distributed.checkpoint as dcp

    dcp.save({"weight": torch.ones(1000)}, checkpoint_id=tmp_path / "step1", no_dist=True)
    data = _only(collector)
    assert data["call"] == "dcp.save"
    assert data["file"] == str(tmp_path / "step1")
    assert data["bytes"] > 4000
    before = dcp.save
    hooks.uninstall()
    assert dcp.save is before.__wrapped__
    assert dcp.save is dcp.state_dict_saver.save


def test_nested_saves_add_up_where_the_outer_target_is_unknown(hooks, collector, tmp_path):
    target = hooks_saving.Target("m", "", "f", 9, None, "both")

    def both():
        torch.save(STATE, tmp_path / "a.pt")
        torch.save(STATE, tmp_path / "b.pt")

    collector.wrap(target, both)()
    data = _only(collector)
    assert data["call"] == "both"
    assert data["bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert len(hooks.kinds()) == 6


def test_cost_outside_of_the_original(hooks, collector, tmp_path, nanoseconds_per_call):
    target = hooks_saving.Target("m", "", "f", 0, "path", "f")
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    wrapped = collector.wrap(target, lambda path: None)
    assert nanoseconds_per_call(lambda: wrapped(str(path)), calls=50) < 100_000
    collector.take_events()


@pytest.mark.loops
@pytest.mark.parametrize("target", hooks_saving._TARGETS, ids=lambda t: f"{t.module}.{t.function}")
def test_targets_are_where_the_libraries_have_them(target):
    owner = pytest.importorskip(target.module)
    if target.owner:
        owner = getattr(owner, target.owner)
    parameters = list(inspect.signature(getattr(owner, target.function)).parameters.values())
    if target.argument is None:
        return
    names = [parameter.name for parameter in parameters]
    assert target.argument in names
    if parameters[names.index(target.argument)].kind is not inspect.Parameter.KEYWORD_ONLY:
        assert names.index(target.argument) == target.position


@pytest.mark.loops
@pytest.mark.filterwarnings("ignore")
def test_lightning_checkpoint(hooks, collector, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.demos.boring_classes import BoringModel

    trainer = lightning.Trainer(
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        limit_val_batches=0,
    )
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    data = _only(collector)
    assert data["call"] == "Trainer.save_checkpoint"
    assert data["bytes"] == (tmp_path / "a.ckpt").stat().st_size
    assert data["where"]["file"] == __file__
    assert hooks.kinds() == [m.SAVE, m.SAVE, m.SAVE_END, m.SAVE_END]
