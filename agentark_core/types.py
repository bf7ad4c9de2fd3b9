"""Records that cross a stage. They hold data only: no I/O, and nothing of ours is imported.

Data flows one way: Problem -> Turn / Debate -> Verdict -> SFTExample -> MethodResult.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, str]
"""One chat message: {"role": "system" | "user" | "assistant", "content": text}."""

TurnStatus = Literal["ok", "no_answer", "truncated", "repeat_loop", "over_context", "engine_poison"]
"""Terminal status of one generation. Only `ok` turns may become training data."""

Role = Literal["agent", "summariser", "judge", "critic"]
"""What a turn is: `agent` and `summariser` write whole solutions, which may become training data; a judge or a critic
writes about others' solutions."""

VerdictLabel = Literal["correct", "incorrect", "undecided"]


def outcome_of(label: VerdictLabel) -> bool | None:
    """Right, wrong, or not known: undecided is never counted as wrong."""
    return None if label == "undecided" else label == "correct"


SelectedBy = Literal["llm", "retried", "rules"]
"""Who chose traces where an LLM is to choose: it, at the first or at the second try, or the rules in its place."""

SUMMARISER = 0
"""Agent number of the summariser; debating agents are numbered from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its gold answer.

    problem_id is stable across runs: "<dataset>-<16 hex digits of the content hash>".
    task names the verifier's rules: gsm8k | gsm8k_reversed | math | medmcqa | number | choice | text; or prose, which
    has scores and no verdict: hotpotqa | qasper | qmsum | truthfulqa | free_text.
    question is the whole text that a model is asked (choices and context included); shots are (question, answer) pairs
    that it is shown before.
    references: every accepted answer of prose, gold first (empty elsewhere); wrong_references: known falsehoods.
    """

    problem_id: str
    dataset: str
    task: str
    question: str
    gold: str
    split: str = "train"
    meta: dict[str, str] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    wrong_references: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """An input row that was kept aside: file, 1-based row number, the reason, and up to 200 characters of it."""

    file: str
    row: int
    reason: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What an engine returns for one request. Token counts are in tokens; cached <= prompt.

    text is the final solution; thinking is what a reasoning model wrote before it (between its thinking tags).
    finish_reason: stop | length | repetition | over_context | engine_poison. cost: what a provider asks for it, in the
    currency of the configured prices. ttft_s: seconds from the call to its first token (time to first token, with the
    time in the engine's queue); None where answers come whole.
    """

    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    thinking: str = ""
    cost: float = 0.0
    ttft_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One agent's trace in one round of one debate, as the ledger stores it.

    Key: (work_id, round, agent). round is 1-based; the summariser is agent 0 in round last+1.
    answer is what the rules extracted while the debate ran (None: none found). shown_limit: characters to which each
    solution in the prompt was shortened so that it fits the context (0: nothing was shortened).
    """

    work_id: str
    problem_id: str
    round: int
    agent: int
    seed: int
    text: str
    answer: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    status: TurnStatus
    role: Role = "agent"
    thinking: str = ""
    shown_limit: int = 0

    @property
    def key(self) -> tuple[str, int, int]:
        """(work_id, round, agent)."""
        return self.work_id, self.round, self.agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Debate:
    """Every turn of every round of one question, and why it ended.

    stop_reason: consensus | rounds | failed (no agent produced an answer in the last round) | imported | a strategy's
    own word. answer is the strategy's decision (None: it came to none).
    """

    work_id: str
    problem: Problem
    turns: tuple[Turn, ...]
    stop_reason: str
    answer: str | None = None

    @property
    def final_round(self) -> int:
        """Number of the last round in which agents wrote solutions (0 if none did)."""
        return max((turn.round for turn in self.turns if turn.role == "agent"), default=0)

    @property
    def final_turns(self) -> tuple[Turn, ...]:
        """The debating agents' turns of the last round, in agent order."""
        last = self.final_round
        return tuple(t for t in self.turns if t.role == "agent" and t.round == last)

    @property
    def summary(self) -> Turn | None:
        """The summariser's turn, if there is one."""
        return next((turn for turn in self.turns if turn.role == "summariser"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verifier's word on one response.

    method names the rule that decided (for example `number`, `math_verify`, `choice`); undecided is never
    counted as wrong, and reason then says why.
    """

    label: VerdictLabel
    method: str
    extracted: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which correct turns of one debate differ in structure, as (round, agent); reason: why not the first reply."""

    turns: tuple[tuple[int, int], ...]
    by: SelectedBy
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Samples that go on from the end of a step. decided: those that the verifier has a word on; right: of them."""

    right: int
    decided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTExample:
    """One row of training data in TRL's conversational prompt-completion columns, with its lineage.

    weight: of its loss; 1/k for the k augmented examples of a question (Eq. 2).
    """

    example_id: str
    problem_id: str
    prompt: tuple[tuple[str, str], ...]
    completion: str
    source_fingerprint: str
    work_id: str
    round: int
    agent: int
    corrective: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """What one way of answering did on the test questions.

    outcomes maps problem_id to True (correct), False (incorrect) or None (undecided or no verdict). tokens: the
    completion tokens of each question, where they are known; their sum is completion_tokens.
    """

    name: str
    model: str
    outcomes: dict[str, bool | None]
    completion_tokens: int
    prompt_tokens: int
    calls: int
    tokens: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
