r"""Long contexts lose their middle, to a budget of tokens that the config names; never in silence.

    budget of 6 tokens, tokenizer of one token a word
    "a b c d e f g h i"  ->  "a b c\n[... 3 tokens left out here ...]\ng h i", removed=3

The rule: a context of more tokens than the budget keeps its first and its last half of the budget (the first half has
the odd token), as papers and meetings say most where they begin and end (LongBench cuts in the same place). The mark's
own few tokens are not counted. Without a budget nothing is ever cut: a prompt over a model's context then ends as
`over_context`, which reports count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentark_core import model_files
from agentark_core.config import ModelConfig
from agentark_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT_RULE = "middle-1"
"""Changes with the rule: part of the questions' revision."""

MARK = "\n[... {removed} tokens left out here ...]\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutText:
    """A context as it is shown. tokens: of the whole one; removed: how many of them are left out (0: none)."""

    text: str
    tokens: int
    removed: int


class ContextBudget:
    """Cuts contexts to max_tokens of one tokenizer.

    Attributes: max_tokens; revision (names the rule, the budget and the tokenizer's files).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, revision: str = "") -> None:
        """Raises ModelError if the tokenizer does not know where its tokens lie in the text."""
        if not tokenizer.is_fast:
            raise ModelError(
                f"{tokenizer.name_or_path}: this tokenizer does not tell where its tokens end; add a tokenizer.json"
            )
        self.max_tokens = max_tokens
        self.revision = f"{CUT_RULE}-{max_tokens}-{revision}"
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model: str, *, max_tokens: int) -> ContextBudget:
        """The budget in tokens of a model: hub id, model directory or arkling:student. Raises ModelError."""
        from agentark_core.chat import ChatFormat

        path = model_files.resolve(ModelConfig(path=model))
        revision = model_files.file_sha256(path / "tokenizer.json")[:8] if (path / "tokenizer.json").exists() else ""
        return cls(ChatFormat.load(path).tokenizer, max_tokens=max_tokens, revision=revision)

    def cut(self, text: str) -> CutText:
        """The text, without its middle if it is longer than the budget."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = found["offset_mapping"]
        removed = len(offsets) - self.max_tokens
        if removed <= 0:
            return CutText(text=text, tokens=len(offsets), removed=0)
        head, tail = self.max_tokens - self.max_tokens // 2, self.max_tokens // 2
        start = text[: offsets[head - 1][1]]
        end = text[offsets[len(offsets) - tail][0] :] if tail else ""
        return CutText(
            text=f"{start.rstrip()}{MARK.format(removed=removed)}{end.lstrip()}",
            tokens=len(offsets),
            removed=removed,
        )
