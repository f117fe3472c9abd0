"""What is masked and what is recorded of the command and the environment."""

import pytest

from trainprof.profiler.store.secrets import MASK, allowed_environment, mask_secrets

SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    "argv",
    [
        ["--token", SECRET],
        ["--hf_token", SECRET],
        ["--api-key", SECRET],
        ["--wandbApiKey", SECRET],
        ["--password", SECRET],
        ["--secret", SECRET],
        ["-password", SECRET],
        [f"--token={SECRET}"],
        [f"--db.password={SECRET}"],
        [f"HF_TOKEN={SECRET}"],
        [f"AWS_SECRET_ACCESS_KEY={SECRET}"],
        [f"+logger.api_key={SECRET}"],
        [f"export WANDB_API_KEY='{SECRET} and more'; python train.py"],
        ["-c", f"python train.py --token {SECRET}"],
        ["-c", f"login(token='{SECRET}')"],
        [f'{{"a":1,"api_key":"{SECRET}"}}'],
        [f"https://user:{SECRET}@example.org/data"],
        [f"https://example.org/data?token={SECRET}&page=2"],
        ["hf_abcdefghijklmnopqrst" + SECRET],
    ],
)
def test_secrets_are_masked(argv):
    masked = mask_secrets(["train.py", *argv])
    assert SECRET not in " ".join(masked)
    assert "and more" not in " ".join(masked)
    assert MASK in " ".join(masked)
    assert masked[0] == "train.py"


@pytest.mark.parametrize(
    "argv",
    [
        ["--max-tokens", "512"],
        ["--tokenizer", "bert"],
        ["--token-dim=64"],
        ["--sort-key", "length"],
        ["--lr=0.1", "--epochs", "3"],
        ["optim.lr=1e-3", "path=/data:/more", "https://example.org/x?page=2"],
        ["--author", "me"],
        ["/home/me/hf_finetune_vision/train.py"],
        ["-c", "print('hello  world')"],
        [""],
    ],
)
def test_everything_else_is_kept_to_the_letter(argv):
    assert mask_secrets(argv) == tuple(argv)


def test_a_switch_does_not_swallow_the_next_flag():
    assert mask_secrets(["--auth", "--lr", "0.1"]) == ("--auth", "--lr", "0.1")


def test_a_url_keeps_what_is_no_secret():
    assert mask_secrets([f"https://h/d?token={SECRET}&page=2"]) == (
        f"https://h/d?token={MASK}&page=2",
    )


def test_only_listed_variables_are_recorded():
    kept = {
        "CUDA_VISIBLE_DEVICES": "0",
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "SLURM_JOB_ID": "7",
        "WORLD_SIZE": "2",
    }
    dropped = {
        "HF_TOKEN": SECRET,
        "HOME": "/home/me",
        "NCCL_AUTH_TOKEN": SECRET,
        "PATH": "/bin",
        "SLURM_JWT": SECRET,
        "WANDB_API_KEY": SECRET,
    }
    assert allowed_environment(kept | dropped) == kept


def test_a_secret_inside_an_allowed_variable_is_masked():
    found = allowed_environment({"PYTORCH_X": f"https://me:{SECRET}@host"})
    assert SECRET not in found["PYTORCH_X"]
