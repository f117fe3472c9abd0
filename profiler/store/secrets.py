"""What of the user's command and environment may be recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MASK = "***"

_SECRET_WORDS = frozenset(
    ("secret", "password", "passwd", "passphrase", "apikey", "accesskey", "privatekey")
)
"""Make a name secret wherever they stand in it."""

_SECRET_LAST_WORDS = frozenset(
    ("token", "pass", "pwd", "auth", "authorization", "bearer", "credential", "credentials")
)
"""Make a name secret as its last word: `--hf-token`, but not `--token-dim`."""

_KEY_OWNERS = frozenset(
    (
        *("api", "access", "private", "account", "auth", "encryption", "signing", "license"),
        *("wandb", "comet", "neptune", "openai", "aws", "hf", "ssh"),
    )
)
"""Make a name secret before "key": `--wandb-key`, but not `--sort-key`."""

_ASSIGNMENT = re.compile(r"""([\w.-]+)["']?\s*[=:]\s*(["']?)""")
_BARE_VALUE = re.compile(r"""[^\s"',;&}]+""")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_KNOWN_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{12,}"  # no underscores follow: hf_finetune_vision is a folder
    r"|(sk-|ghp_|gho_|ghs_|github_pat_|glpat-|xox[abprs]-|AKIA)[A-Za-z0-9_-]{12,})"
)

_ALLOWED = frozenset(
    (
        "CUDA_DEVICE_ORDER",
        "CUDA_LAUNCH_BLOCKING",
        "CUDA_VISIBLE_DEVICES",
        "GOMP_CPU_AFFINITY",
        "GROUP_RANK",
        "KMP_AFFINITY",
        "KMP_BLOCKTIME",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MKL_NUM_THREADS",
        "NODE_RANK",
        "NUMEXPR_NUM_THREADS",
        "NVIDIA_TF32_OVERRIDE",
        "OMP_NUM_THREADS",
        "OMP_PLACES",
        "OMP_PROC_BIND",
        "OPENBLAS_NUM_THREADS",
        "PYTHONMALLOC",
        "RANK",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_CPUS_PER_TASK",
        "SLURM_JOB_ID",
        "SLURM_JOB_NUM_NODES",
        "SLURM_LOCALID",
        "SLURM_NNODES",
        "SLURM_NODEID",
        "SLURM_NTASKS",
        "SLURM_PROCID",
        "TOKENIZERS_PARALLELISM",
        "WORLD_SIZE",
    )
)
_ALLOWED_PREFIXES = ("NCCL_", "PYTORCH_", "TORCH_NCCL_")


def allowed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that change how fast a training runs, by an allow-list, and no others."""
    return {
        name: mask_secrets([value])[0]
        for name, value in sorted(environ.items())
        if name in _ALLOWED or (name.startswith(_ALLOWED_PREFIXES) and not _is_secret(name))
    }


def mask_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """The command with `***` for the values of secrets.

    Covered: `--token VALUE`, `--token=VALUE`, `KEY=VALUE` and `"key": "VALUE"` anywhere in an
    argument, passwords in URLs, and tokens of well-known shapes. When in doubt it masks.
    """
    masked: list[str] = []
    value_follows = False
    for argument in argv:
        if value_follows and not argument.startswith("-"):
            masked.append(MASK)
            value_follows = False
            continue
        value_follows = argument.startswith("-") and _is_secret(argument)
        masked.append(_mask_inside(argument))
    return tuple(masked)


def _mask_inside(argument: str) -> str:
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", argument)
    text = _KNOWN_TOKEN.sub(MASK, text)
    text = _mask_assignments(text)
    words = re.split(r"(\s+)", text)
    if len(words) > 1:  # a whole command in one argument, as of `bash -c`
        words[::2] = mask_secrets(words[::2])
    return "".join(words)


def _mask_assignments(text: str) -> str:
    parts: list[str] = []
    position = 0
    while match := _ASSIGNMENT.search(text, position):
        parts.append(text[position : match.end()])
        position = match.end()
        if not _is_secret(match[1]):
            continue
        quote = match[2]
        if quote:
            end = text.find(quote, position)
            end = len(text) if end < 0 else end
        else:
            value = _BARE_VALUE.match(text, position)
            end = value.end() if value else position
        if end > position:
            parts.append(MASK)
        position = end
    return "".join([*parts, text[position:]])


def _is_secret(name: str) -> bool:
    """Whether a flag or variable of this name holds a secret."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    if not words:
        return False
    if _SECRET_WORDS.intersection(words) or words[-1] in _SECRET_LAST_WORDS:
        return True
    return words[-1] == "key" and bool(_KEY_OWNERS.intersection(words[:-1]))
