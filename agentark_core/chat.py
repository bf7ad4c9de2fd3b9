"""Chat messages to token ids and back, by the model's own tokenizer and chat template; no family is assumed.

    [{"role": "user", "content": "Q: 2 + 2"}] -> prompt ids          "...<|im_start|>assistant\\n"
    completion "4"                            -> completion ids      "4<|im_end|>"

Text from data or from a model never becomes a special token (F30): where a message contains the string of one, the
template is rendered around placeholders, the true text is put in afterwards, and the whole is tokenised in pieces cut
through the middle of that string. Without such a string the tokens are exactly those of the template.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentark_core.errors import ModelError
from agentark_core.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_THINKING = re.compile(r"[<\[](?:think|thinking|reason|reasoning|thought)[>\]]", re.IGNORECASE)
_END_OF_THINKING = re.compile(r"[<\[]/(?:think|thinking|reason|reasoning|thought)[>\]]", re.IGNORECASE)


class ChatFormat:
    """One tokenizer with its chat template.

    Attributes: tokenizer; stop_ids: every token id that ends a turn (sorted).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, eos_token_ids: Sequence[int] = ()) -> None:
        """eos_token_ids: those of the model's generation config. Raises ModelError if the template cannot be used."""
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise ModelError(
                f"{tokenizer.name_or_path}: no chat template; add chat_template.jinja to the model directory"
            )
        # A one-character token cannot be cut, and whitespace runs (Gemma) are text, not structure.
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        # Not "special", so decoding would keep them, but written by the template itself (Qwen3's <think>).
        self._markup = {
            number
            for number, token in tokenizer.added_tokens_decoder.items()
            if not token.special and token.content.strip() and token.content in str(tokenizer.chat_template)
        }
        self._thinking_start = {
            n for n in self._markup if _THINKING.fullmatch(tokenizer.added_tokens_decoder[n].content)
        }
        self._thinking_end = {
            n for n in self._markup if _END_OF_THINKING.fullmatch(tokenizer.added_tokens_decoder[n].content)
        }
        structural = sorted((t for t in added if len(t) > 1 and t.strip()), key=lambda t: (-len(t), t))
        self._structural = re.compile("|".join(map(re.escape, structural)) or r"(?!)")
        self._end = self._end_of_turn()
        named = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else tokenizer.eos_token_id or []
        self.stop_ids = sorted({*eos_token_ids, *named, tokenizer.get_added_vocab()[self._end]})

    @classmethod
    def load(cls, model_dir: Path | str) -> ChatFormat:
        """Read tokenizer, template and generation config of a local model directory; no code of it is run."""
        from transformers import AutoTokenizer, GenerationConfig

        path = str(model_dir)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{path}: tokenizer cannot be loaded ({reason}); provide tokenizer.json") from None
        eos: int | list[int] | None = None
        if (Path(model_dir) / "generation_config.json").is_file():
            eos = GenerationConfig.from_pretrained(path, local_files_only=True).eos_token_id
        return cls(tokenizer, eos_token_ids=[eos] if isinstance(eos, int) else eos or [])

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation up to where the assistant's next turn starts; where the last message is the
        assistant's, up to the end of what it has said so far, for a model to go on from."""
        if messages[-1]["role"] == "assistant":
            return self._begun_ids(messages[:-1], messages[-1]["content"])
        text, data = self._render(messages, generation_prompt=True)
        return [token for token, _ in self._encode(text, data)]

    def _begun_ids(self, messages: Sequence[Message], begun: str) -> list[int]:
        """White space at the end is kept, though templates trim it: of a line and its end many tokenizers make one
        token, so that without it a model would not expect the line to end there. The template sees a letter in place
        of the text, which it might rewrite: what it puts before a turn (an empty thought, say) is all that is asked."""
        shown = self._completion(messages, "x")[1].removesuffix(self._end)
        lead = shown.rstrip().removesuffix("x")
        hostile = self._hostile([*messages, {"role": "assistant", "content": begun}])
        prompt, data = self._render(messages, generation_prompt=True, hostile=hostile)
        text = prompt + lead + begun.lstrip()
        written = [*data, (len(prompt + lead), len(text))] if hostile else []
        before = [token for token, _ in self._encode(prompt, data)]
        return before + [token for token, _ in self._behind(prompt, before, text, written)]

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The same as text, for readers: what is a special token and what is data of its name cannot be told apart."""
        return self._template(messages, generation_prompt=True)

    def completion_ids(self, messages: Sequence[Message], completion: str) -> list[int]:
        """Token ids of the assistant's turn, end-of-turn token included, whitespace after that left out.

        prompt_ids(messages) + completion_ids(messages, completion) is the conversation as the template renders it.
        Raises ModelError if the template shows the prompt differently once the turn is there.
        """
        return [token for token, _ in self._completion(messages, completion)[0]]

    def completion_ends(self, messages: Sequence[Message], completion: str) -> tuple[list[int], list[int]]:
        """`completion_ids`, and for each of them the offset in completion where it ends.

        The template's own markup ends at 0 before the completion, and at more than len(completion) behind it. White
        space at either end of the completion may be missing, since templates trim it. Raises ModelError as
        `completion_ids` does, if the template changes the completion, or if the tokenizer knows no offsets.
        """
        if not self.tokenizer.is_fast:
            raise ModelError(
                f"{self.tokenizer.name_or_path}: this tokenizer does not tell where its tokens end, so steps cannot be "
                "scored; add a tokenizer.json"
            )
        tokens, turn = self._completion(messages, completion)
        shown = turn.removesuffix(self._end)
        body = completion.strip()
        if not shown.rstrip().endswith(body):
            raise ModelError(
                f"{self.tokenizer.name_or_path}: the chat template rewrites the answer, so its steps cannot be found; "
                "use a template that shows it as it is"
            )
        before = len(shown.rstrip()) - len(body)
        lead = len(completion) - len(completion.lstrip()) if body else 0
        behind = len(completion) + 1
        ends = [0 if end <= before else behind if end > len(shown) else end - before + lead for _, end in tokens]
        return [token for token, _ in tokens], ends

    def _completion(self, messages: Sequence[Message], completion: str) -> tuple[list[tuple[int, int]], str]:
        """The assistant's turn as tokens with their ends (see _encode), and as text."""
        full: list[Message] = [*messages, {"role": "assistant", "content": completion}]
        hostile = self._hostile(full)
        prompt, prompt_data = self._render(messages, generation_prompt=True, hostile=hostile)
        text, data = self._render(full, generation_prompt=False, hostile=hostile)
        text = text.rstrip()
        if not text.startswith(prompt):
            raise ModelError(
                f"{self.tokenizer.name_or_path}: the chat template renders the prompt differently when the answer "
                "follows, so no loss mask exists; use a template in which the generation prompt is a prefix"
            )
        if not text.endswith(self._end):
            raise ModelError(
                f"{self.tokenizer.name_or_path}: the chat template does not end this turn with {self._end}; "
                "the student would never learn to stop; fix chat_template.jinja"
            )
        prompt_ids = [token for token, _ in self._encode(prompt, prompt_data)]
        return self._behind(prompt, prompt_ids, text, data), text[len(prompt) :]

    def _behind(
        self, prompt: str, prompt_ids: list[int], text: str, data: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """The tokens of text, which begins with prompt, behind it; their ends count from there (see _encode)."""
        tokens = self._encode(text, data)
        start = len(prompt)
        if [token for token, _ in tokens[: len(prompt_ids)]] == prompt_ids:
            return [(token, end - start) for token, end in tokens[len(prompt_ids) :]]
        # Tokens merged across the seam; at inference the prompt is tokenised alone, so training does the same.
        moved = [(max(0, a - start), b - start) for a, b in data if b > start]
        return self._encode(text[start:], moved)

    def decode(self, ids: Sequence[int]) -> tuple[str, str]:
        """(thinking, solution) of generated ids, without special tokens and without the template's own markup.

        Thinking is what stands before the last end-of-thinking tag, or everything if it was opened and never closed.
        What is decoded can be shown to peers and trained on again without the markup being doubled.
        """
        cut = max((place + 1 for place, token in enumerate(ids) if token in self._thinking_end), default=0)
        if not cut and any(token in self._thinking_start for token in ids):
            cut = len(ids)
        text = self._text(ids[cut:])
        # The template puts blank lines between the tags and the solution.
        return self._text(ids[:cut]).strip(), text.lstrip() if cut else text

    def _text(self, ids: Sequence[int]) -> str:
        kept = [token for token in ids if token not in self._markup]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _end_of_turn(self) -> str:
        """The structural token that the template puts behind an assistant's turn."""
        probe: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        text = self._template(probe, generation_prompt=False).rstrip()
        ends = [match.group() for match in self._structural.finditer(text) if match.end() == len(text)]
        if not ends:
            raise ModelError(
                f"{self.tokenizer.name_or_path}: the chat template ends an assistant turn with {text[-20:]!r}, not "
                "with a special token, so a student would never learn to stop; add the end-of-turn token to it"
            )
        return ends[0]

    def _template(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation_prompt
            )
        except TemplateError as error:
            raise ModelError(f"{self.tokenizer.name_or_path}: the chat template refused a message: {error}") from None
        return str(rendered)

    def _hostile(self, messages: Sequence[Message]) -> bool:
        return any(self._structural.search(message["content"]) for message in messages)

    def _render(
        self, messages: Sequence[Message], *, generation_prompt: bool, hostile: bool | None = None
    ) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text and, if a message holds a structural string, the spans that came from data."""
        if not (self._hostile(messages) if hostile is None else hostile):
            return self._template(messages, generation_prompt=generation_prompt), []
        contents = [message["content"] for message in messages]
        nonce = "data" + hashlib.sha256("\0".join(contents).encode(errors="surrogatepass")).hexdigest()[:24]
        placed: list[Message] = []
        for number, message in enumerate(messages):
            content = message["content"]
            body = content.strip()  # outer whitespace stays outside, where the template may trim it
            held = content.replace(body, f"{nonce}x{number}x", 1) if body else content
            placed.append({"role": message["role"], "content": held})
        pieces = re.split(rf"{nonce}x(\d+)x", self._template(placed, generation_prompt=generation_prompt))
        text, spans = "", []
        for index, piece in enumerate(pieces):
            if index % 2:
                body = contents[int(piece)].strip()
                spans.append((len(text), len(text) + len(body)))
                text += body
            else:
                text += piece
        return text, spans

    def _encode(self, text: str, data: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Token ids, each with the offset in text where it ends (only a fast tokenizer knows it).

        No structural string that touches a data span survives in one piece.
        """
        tokens: list[tuple[int, int]] = []
        todo = [(0, len(text))]
        while todo:
            start, end = todo.pop()
            cut = self._first_cut(text, start, end, data)
            if cut is None:
                found = self.tokenizer(
                    text[start:end],
                    add_special_tokens=False,
                    return_offsets_mapping=self.tokenizer.is_fast,
                    verbose=False,
                )
                offsets = found["offset_mapping"] if self.tokenizer.is_fast else [(0, 0)] * len(found["input_ids"])
                tokens += [(token, start + stop) for token, (_, stop) in zip(found["input_ids"], offsets, strict=True)]
            else:
                todo += [(cut, end), (start, cut)]
        return tokens

    def _first_cut(self, text: str, start: int, end: int, data: list[tuple[int, int]]) -> int | None:
        if not data:
            return None
        match = self._structural.search(text, start, end)
        while match:
            a, b = match.span()
            if any(a < stop and begin < b for begin, stop in data):
                return (a + b) // 2
            match = self._structural.search(text, a + 1, end)
        return None
