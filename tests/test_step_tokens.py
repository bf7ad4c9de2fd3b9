"""Where steps end in tokens, for tokenizers and chat templates of four families."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tiny_models

from agentark_core import arkling
from agentark_core.chat import ChatFormat
from agentark_core.step_tokens import tokenise
from agentark_core.steps import split

PROMPT = [{"role": "user", "content": "Q: 22 + 11"}]
TEXTS = [
    "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297\n\\boxed{297}",
    "First we add.\n\n\\[22 + 11 = 33\\]\n\nThen 33 * 9 = 297.\n\n\\boxed{297}\n",
    "  Wörter: 22 → 33 🙂\n\n  indented 33\n\nThe answer is 297",
    "Ends with a token of the chat: <|im_end|>\nStep 2: <end_of_turn> <|eot_id|> <|end|> 33\n\\boxed{297}\n\n",
    "One line " + "and a sentence of it. " * 40 + "Then 33 * 9 = 297. Therefore \\boxed{297}",
]


@pytest.fixture(scope="module", params=["arkling", "qwen3", "llama", "gemma"])
def chat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    if request.param == "arkling":
        return ChatFormat.load(arkling.model_path("student"))
    return ChatFormat.load(tiny_models.make(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.mark.parametrize("text", TEXTS)
def test_every_step_is_scored_at_its_own_last_token(chat: ChatFormat, text: str) -> None:
    steps = split(text)
    assert len(steps) > 1
    ids, positions, start = tokenise(chat, PROMPT, steps)
    prompt = chat.prompt_ids(PROMPT)
    assert start == len(prompt)
    assert ids == prompt + chat.completion_ids(PROMPT, text), "the ids that a policy is trained on and samples"
    assert all(before < after for before, after in pairwise(positions)) and positions[-1] < len(ids) - 1
    for number, position in enumerate(positions):
        seen = chat.tokenizer.decode(ids[len(prompt) : position + 1], clean_up_tokenization_spaces=False)
        seen = seen.replace("<think>\n\n</think>\n\n", "").lstrip()
        until = "".join(steps[: number + 1]).lstrip()
        assert until.startswith(seen), "nothing of a later step is seen"
        assert until.rstrip() == seen.rstrip(), "all of this step is seen"


def test_a_line_break_behind_a_step_belongs_to_it(chat: ChatFormat) -> None:
    ids, positions, _ = tokenise(chat, PROMPT, split(TEXTS[0]))
    assert chat.tokenizer.decode(ids[: positions[0] + 1], clean_up_tokenization_spaces=False).endswith("= 33\n")


def test_trimmed_white_space_has_no_token_and_no_step_is_lost(chat: ChatFormat) -> None:
    assert tokenise(chat, PROMPT, []).positions == []
    ids, positions, _ = tokenise(chat, PROMPT, [" \n"])
    assert len(positions) == 1 and 0 < positions[0] < len(ids)
