r"""Labels of the steps of one question's traces: from the evidence of the debate, from rollouts, or exact for arkling.

A step says something that can be compared when it states a *result*: the numbers that stand after an equals sign and
are not the beginning of a longer expression (`3 + 4 = 7`: 7); without any, the formulas after an equals sign inside
mathematics, as `answer_forms.normalise` spells them; without any, the numbers that the question does not give. Numbers
are compared as exact values (1,200.0 is 1200). The step that states the trace's answer has the answer as a result, and
what it says after equals signs.

Rules of `evidence_labels`, where a witness is another answer-correct trace of the question:

- Trace correct: a step agrees, and is positive, if one witness states all its results; an answer agrees with that of
  any witness, both being verified. Otherwise it is unlabelled.
- Trace incorrect: the step that states the answer is negative, the verifier refuted it. So is each other step with a
  result that no witness states. A step whose results witnesses state is unlabelled, even after an error: it may be
  right. (To call every step after the first unsupported one negative was measured to be less exact.)
- A step without results, a trace whose verdict is undecided, and everything but a refuted answer where there is no
  witness stay unlabelled.
- `soft` is the same label with the strength of its evidence: of a positive step the share of the witnesses that state
  all its results, 0 of a negative one. It is no calibrated probability: a right step on a rare path has a small share.

Two copies of one text are witnesses of each other, as the method has it. How far this agrees with exact labels:
benchmarks/step_label_agreement.py.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from agentark_core.answer_forms import normalise, parse_number
from agentark_core.answers import equivalent, extract
from agentark_core.arkling import generator
from agentark_core.errors import DataError
from agentark_core.steps import spans
from agentark_core.types import Reached, VerdictLabel

Reason = Literal[
    "agrees",
    "unmatched",
    "unsupported",
    "supported",
    "refuted",
    "no_result",
    "no_witness",
    "undecided",
    "reached",
    "unreached",
    "no_rollout",
    "exact",
]
"""Why a step has its label.

agrees: a witness states the same; unmatched: correct trace, but no witness states it; unsupported: incorrect trace and
no witness states it; supported: incorrect trace, yet a witness states it; refuted: it states a refuted answer;
no_result: nothing to compare; no_witness: no other correct trace; undecided: no verdict on the trace. reached,
unreached: whether a solution that goes on from here comes to the right answer, or the trace that ends here has;
no_rollout: no sample has a verdict. exact: checked.
"""

Result = Fraction | str
"""An exact number, or a formula as `answer_forms.normalise` spells it."""

_NUMERAL = r"-?\\[dt]?frac\{-?\d{1,30}\}\{\d{1,30}\}|-?(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,30})(?:\.\d{1,30})?(?:/\d{1,30})?"
_NOT_LONGER = (
    r"(?!\d|[.,/]\d|[a-zA-Z](?![a-zA-Z])|\s{0,2}(?:[-+*/×÷·^]|x\b|\\cdot|\\times|\\div|\\frac|\\sqrt)\s{0,2}[\d\\($])"
)
_NUMBER = re.compile(rf"(?<![\w.])(?:{_NUMERAL})")
_EQUALS_NUMBER = re.compile(rf"(?:(?<![<>!])=|≈|\\approx)[\s\\$]{{0,4}}({_NUMERAL}){_NOT_LONGER}")
_EQUALS_FORMULA = re.compile(r"(?<![<>!])=\s{0,3}([^=\n$&;]{1,80}?)\s{0,3}(?=\$|\\\)|\\\]|\\\\|=|&)")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|\\(?:sqrt|pi)\b")
_ORDINAL = re.compile(r"[\s#*_]{0,8}(?:(?:Step|Case)\s)?\(?\d{1,3}[.):](?=\s|\*|_|$)", re.IGNORECASE)
"""`Step 2:` or `2.` at the beginning of a line is no number of the reasoning."""


@dataclass(frozen=True, slots=True)
class StepLabel:
    """One step, text[start:end] of its trace: True positive, False negative, None unlabelled, and why.

    soft: the label as a value from 0 to 1 (above); 1 or 0 where steps were checked; None: unlabelled.
    """

    start: int
    end: int
    label: bool | None
    reason: Reason
    soft: float | None


@dataclass(frozen=True, slots=True)
class _Trace:
    """The span and the results of each step, the step that states the answer (-1: none does), and that answer."""

    spans: list[tuple[int, int]]
    results: list[frozenset[Result]]
    answer_step: int
    answer: Result | None


def evidence_labels(
    texts: Sequence[str], verdicts: Sequence[VerdictLabel], *, question: str, task: str
) -> list[list[StepLabel]]:
    """Labels of the steps of each trace, in order, by the rules above. Pure: the same traces give the same labels.

    texts: the traces of one question, for example of its debate's last round; verdicts: the verifier's word on each.
    Raises DataError for an unknown task or if the two differ in length.
    """
    if len(texts) != len(verdicts):
        raise DataError(f"{len(texts)} traces but {len(verdicts)} verdicts: give one verdict for each trace")
    given = frozenset(_numbers(question))
    traces = [_read(text, given=given, task=task) for text in texts]
    stated = [frozenset[Result]().union(*trace.results) for trace in traces]
    labels = []
    for index, (trace, verdict) in enumerate(zip(traces, verdicts, strict=True)):
        witnesses = [stated[k] for k, label in enumerate(verdicts) if label == "correct" and k != index]
        labels.append(_judge(trace, verdict=verdict, witnesses=witnesses))
    return labels


def _judge(trace: _Trace, *, verdict: VerdictLabel, witnesses: list[frozenset[Result]]) -> list[StepLabel]:
    anywhere = frozenset[Result]().union(*witnesses)

    def judge(results: frozenset[Result], is_answer: bool) -> tuple[bool | None, Reason, float | None]:
        if verdict == "undecided":
            return None, "undecided", None
        if verdict == "incorrect" and is_answer:
            return False, "refuted", 0.0
        if not results and not is_answer:
            return None, "no_result", None
        if not witnesses:
            return None, "no_witness", None
        if verdict == "incorrect":
            return (None, "supported", None) if results <= anywhere else (False, "unsupported", 0.0)
        # verified answers agree, however they are spelled
        compared = results - {trace.answer} if is_answer else results
        agreeing = sum(compared <= witness for witness in witnesses)
        return (True, "agrees", agreeing / len(witnesses)) if agreeing else (None, "unmatched", None)

    return [
        StepLabel(start, end, *judge(results, step == trace.answer_step))
        for step, ((start, end), results) in enumerate(zip(trace.spans, trace.results, strict=True))
    ]


def _read(text: str, *, given: frozenset[Result], task: str) -> _Trace:
    steps = spans(text)
    results = [_results(text[start:end], given=given) for start, end in steps]
    answer = extract(text, task=task)
    if answer is None:
        return _Trace(steps, results, -1, None)
    number = parse_number(answer)
    value: Result = normalise(answer) if number is None else number.value
    for step in range(len(steps) - 1, -1, -1):
        stated = extract(text[slice(*steps[step])], task=task)
        if stated is not None and equivalent(stated, answer, task=task):
            results[step] = _equations(text[slice(*steps[step])]) | {value}
            return _Trace(steps, results, step, value)
    return _Trace(steps, results, -1, None)


def _results(step: str, *, given: frozenset[Result]) -> frozenset[Result]:
    """What a step states, see above; `given`: the numbers of the question."""
    return _equations(step) or frozenset(_numbers(step)) - given


def _equations(step: str) -> frozenset[Result]:
    """Numbers after an equals sign or, without any, formulas."""
    found = {_value(match[1]) for match in _EQUALS_NUMBER.finditer(step)}
    if not found:
        pieces = (match[1] for match in _EQUALS_FORMULA.finditer(step))
        found = {normalise(piece) for piece in pieces if _VARIABLE.search(piece)}
    return frozenset(found)


def _numbers(text: str) -> set[Result]:
    """The values of all numerals but those that number a line."""
    lines = (_ORDINAL.sub("", line, count=1) for line in text.split("\n"))
    return {_value(match[0]) for line in lines for match in _NUMBER.finditer(line)}


@lru_cache(maxsize=1 << 16)
def _value(numeral: str) -> Result:
    number = parse_number(numeral)
    return numeral if number is None else number.value


def rollout_labels(text: str, reached: Sequence[Reached], *, correct: bool) -> list[StepLabel]:
    """Labels of the steps of one verified trace from samples that go on from each (Math-Shepherd, arXiv 2312.08935).

    Positive if any of them is right (hard estimation there); soft is the share of them (soft estimation). The last step
    has the verdict on the trace.

    reached: one entry a step but the last. Raises ValueError if it is of another number of steps.
    """
    *steps, (last, end) = spans(text)
    labels = []
    for (start, stop), found in zip(steps, reached, strict=True):
        if not found.decided:
            labels.append(StepLabel(start, stop, None, "no_rollout", None))
        else:
            reason: Reason = "reached" if found.right else "unreached"
            labels.append(StepLabel(start, stop, found.right > 0, reason, found.right / found.decided))
    return [*labels, StepLabel(last, end, correct, "reached" if correct else "unreached", float(correct))]


def exact_labels(text: str, *, question: str) -> list[StepLabel]:
    """Exact labels of the steps of one solution of an arkling question, all with the reason `exact`.

    A step is right if all its lines are, as `arkling.generator.check_lines` says.
    Raises DataError if the question is not arkling's own.
    """
    lines = text.splitlines(keepends=True)
    ends = list(accumulate(map(len, lines)))
    wrong = [end for end, right in zip(ends, generator.check_lines(question, text), strict=True) if not right]
    labels = []
    for start, end in spans(text):
        right = bisect_right(wrong, start) == bisect_right(wrong, end)
        labels.append(StepLabel(start, end, right, "exact", float(right)))
    return labels
