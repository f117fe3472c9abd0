"""tokenizers-parallelism."""

from __future__ import annotations

from collections.abc import Mapping

from .environment import EnvironmentFix


class TokenizersParallelism(EnvironmentFix):
    """TOKENIZERS_PARALLELISM: whether a fast tokenizer of Hugging Face's uses threads.

    With it the tokenizer also uses threads after a fork, in loader workers; without, each process
    uses one. Tokens are the same.
    """

    id = "tokenizers-parallelism"
    title = "Threads of tokenizers"
    safety = "safe"
    by_hand = "TOKENIZERS_PARALLELISM=false python train.py"
    parameters: Mapping[str, type] = {"parallel": bool}
    variable = "TOKENIZERS_PARALLELISM"

    def value(self) -> str:
        """The word for it; false unless it is asked for."""
        return "true" if self.params.get("parallel") else "false"
