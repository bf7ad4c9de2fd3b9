r"""Where a process reward model scores: the token at which each step of a completion ends.

    steps ["Step 1: 3 + 4 = 7\n", "\\boxed{7}"]  ->  ids "..<|assistant|>Step 1: 3 + 4 = 7 \n \boxed{ 7 } <|end|>"
                                                     scored at                              ^          ^

A step ends with the last token that reaches no further than its last character. The white space behind it counts: only
there is it certain that a number has ended (at the first digit of 42 the model would judge a 4). A token that holds
the beginning of the next step too ("\n\nSo", " Then") is the next step's, and the step ends one token earlier. Training
and scoring use this one function on the same ids, and the end-of-turn token is never scored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from agentark_core.chat import ChatFormat
from agentark_core.types import Message


class Tokens(NamedTuple):
    """input_ids: prompt and completion. positions: index of the token at which each step ends. start: index of the
    completion's first token."""

    input_ids: list[int]
    positions: list[int]
    start: int


def tokenise(chat: ChatFormat, messages: Sequence[Message], steps: Sequence[str]) -> Tokens:
    """Prompt and completion as token ids, and where its steps end.

    A step without a token of its own (white space that the template trims) ends where the one before it does.
    Raises ModelError as `ChatFormat.completion_ends` does.
    """
    prompt = chat.prompt_ids(messages)
    completion, ends = chat.completion_ends(messages, "".join(steps))
    positions = [len(prompt) + bisect_right(ends, end) - 1 for end in accumulate(map(len, steps))]
    return Tokens(prompt + completion, positions, len(prompt))
