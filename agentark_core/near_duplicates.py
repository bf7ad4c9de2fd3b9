"""Which questions and traces say the same as others: against test questions, within a training set, within a question.

    {"index": 3846, "matched": 2339, "rule": "exact", "score": 1.0}     training question 3846 is test question 2339

Contamination costs the evaluation its meaning and a wrongly dropped question costs one row of thousands, so the rules
against test questions lean to dropping. Within the training set it is the other way round: variety is what is paid
for, so a question goes only if hardly a word differs, its numbers come in the same order and its gold is the same.

Numbers decide. Two questions made from one template with other numbers have other answers and both stay: no rule but
`exact` drops a question in which a number of the test question is replaced by another. A number replaced by a letter
(`John runs x miles`, as in the backward questions of MetaMath) or left out is not another number.

What the thresholds were chosen by is measured by benchmarks/decontamination.py and told in docs/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from agentark_core.held_out import question_key
from agentark_core.token_overlap import (
    LETTER,
    NUMBER,
    PAIRS,
    SIGN,
    Encoded,
    Features,
    counts,
    encode,
    features,
    jaccard,
    overlapping,
)

NEAR_DUPLICATES_VERSION = 1
"""Changes whenever the same texts could be judged otherwise; part of the fingerprint of what was selected."""

NGRAM = 13
"""Tokens of an n-gram: GPT-3's length (Brown et al. 2020, appendix C). Shorter test questions count as one n-gram."""

SHORTEST_NGRAM = 8
"""GPT-3's lower limit: a test question of fewer tokens is found by the other two rules only."""

NGRAM_SHARE = 0.5
"""A test question counts as copied from this share of its tokens inside shared n-grams on (as in Tulu 3, 2024)."""

BOILERPLATE = 10
"""An n-gram of more test questions than this is a phrase of the benchmark ("Enter the letter of the correct ...")."""

TEST_OVERLAP = 0.5
"""With the 13-grams it finds 98.4 % of MetaMath's backward questions and drops 2.9 % of MATH's training questions; 0.45
gains 0.6 points of the one and costs 0.6 of the other, 0.6 loses 1.7 and saves 0.6."""

TRAIN_OVERLAP = 0.8
"""All pairs read from here on were repeats; from 0.7 to 0.8 some ask about another card or in other coordinates."""

TRACE_OVERLAP = 0.8
"""From here on recorded traces differ in their connecting words only, below it in what they explain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A text to drop, and why: its index, what it matched (index of a test question, or of the text that is kept).

    rule: exact | 13-gram | token overlap. score: 1 for exact, the covered share of the test question's tokens, or the
    weighted Jaccard index.
    """

    index: int
    matched: int
    rule: str
    score: float


def contaminated(questions: Sequence[str], test_questions: Sequence[str]) -> tuple[Match, ...]:
    """The questions that are also test questions, in order; each by the first rule that finds it and its best match.

    Rules in order: `exact` (same letters and digits), `13-gram`, `token overlap`. The weights come from both sides
    together, so a question near the threshold may be judged otherwise in another set.
    """
    if not questions or not test_questions:
        return ()
    found = _exact(questions, test_questions)
    texts = encode([*test_questions, *questions])
    limit = len(test_questions)
    numbers = _Numbers(texts)
    for rule, (test, question, score) in (
        (f"{NGRAM}-gram", _shared_ngrams(texts.part(0, limit), texts.part(limit, len(texts)))),
        ("token overlap", _overlap_with_tests(texts, tests=limit)),
    ):
        same = ~numbers.replaced(test, question + limit)
        test, question, score = test[same], question[same], score[same]
        best = np.lexsort((test, -score, question))
        for k in best[np.unique(question[best], return_index=True)[1]]:
            index = int(question[k])
            found.setdefault(index, Match(index=index, matched=int(test[k]), rule=rule, score=float(score[k])))
    return tuple(found[index] for index in sorted(found))


def near_duplicate_questions(questions: Sequence[str], golds: Sequence[str]) -> tuple[Match, ...]:
    """The questions that repeat an earlier one with the same gold: `matched` is the first question of the cluster.

    Clusters are connected components of the pairs above TRAIN_OVERLAP, so they do not depend on the order of the
    questions; at the end of a long chain the score, overlap with the first question, may be below the threshold.
    """
    if not questions:
        return ()
    texts = encode(questions)
    copies = _first_copies(texts, questions, labels=golds)
    one_each = np.unique(copies)
    texts = texts.take(one_each)
    made = features(texts)
    a, b, _ = overlapping(made, made, threshold=TRAIN_OVERLAP)
    order, answer = _sequence_hashes(texts, kind=NUMBER), _numbered(golds)[one_each]
    same = (a < b) & (order[a] == order[b]) & (answer[a] == answer[b])
    return _cluster_matches(made, a[same], b[same], copies=copies)


def near_duplicate_traces(traces: Sequence[str], groups: Sequence[str]) -> tuple[Match, ...]:
    """The traces that repeat an earlier trace of their group, matched with the first of their cluster.

    A group is a question with a verdict: a right and a wrong trace that differ in the chosen letter are not the same.
    Two traces are near duplicates if they name the same numbers and the Jaccard index of their features reaches
    TRACE_OVERLAP. Nothing depends on the traces of other groups, so a stage may pass a shard at a time.
    """
    if not traces:
        return ()
    texts = encode(traces)
    copies = _first_copies(texts, traces, labels=groups)
    one_each = np.unique(copies)
    texts = texts.take(one_each)
    made = features(texts, weighted=False)
    numbers, group = _set_hashes(texts, kind=NUMBER), _numbered(groups)[one_each]
    ordered = np.argsort(group, kind="stable")
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for lag in range(1, int(np.bincount(group).max())):
        a, b = ordered[:-lag], ordered[lag:]
        pairs.append(np.stack([a, b])[:, (group[a] == group[b]) & (numbers[a] == numbers[b])])
    a, b = np.concatenate(pairs, axis=1)
    same = jaccard(made, made, i=a, j=b) >= TRACE_OVERLAP
    return _cluster_matches(made, a[same], b[same], copies=copies)


# ---- rules against test questions


def _exact(questions: Sequence[str], test_questions: Sequence[str]) -> dict[int, Match]:
    """A question without letters and digits is compared as it stands."""
    tests: dict[str, int] = {}
    for number, text in enumerate(test_questions):
        tests.setdefault(question_key(text) or text, number)
    keys = ((index, question_key(text) or text) for index, text in enumerate(questions))
    return {i: Match(index=i, matched=tests[key], rule="exact", score=1.0) for i, key in keys if key in tests}


def _shared_ngrams(tests: Encoded, questions: Encoded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(test, question, share of the test question's tokens inside shared n-grams) of the pairs from NGRAM_SHARE on."""
    lengths = np.diff(tests.starts)
    found = [np.empty((3, 0), dtype=np.int64)]  # question, test, position of the n-gram in the test question
    sizes = np.minimum(lengths, NGRAM)
    for size in range(SHORTEST_NGRAM, NGRAM + 1):
        test, position, key = _ngrams(tests, size=size)
        chosen = sizes[test] == size
        test, position, key = test[chosen], position[chosen], key[chosen]
        order = np.lexsort((position, test, key))
        test, position, key = test[order], position[order], key[order]
        first = np.ones(len(key), dtype=bool)
        first[1:] = (key[1:] != key[:-1]) | (test[1:] != test[:-1])
        _, group = np.unique(key, return_inverse=True)
        specific = np.bincount(group[first], minlength=1)[group] <= BOILERPLATE
        test, position, key = test[specific], position[specific], key[specific]
        offset = 0
        for part in questions.parts():
            question, _, own = _ngrams(part, size=size)
            low, high = np.searchsorted(key, own, side="left"), np.searchsorted(key, own, side="right")
            hit = high > low
            # Once per question and n-gram: a text that repeats one a million times must not meet itself squared.
            question, low, high = np.unique(np.stack([question[hit], low[hit], high[hit]]), axis=1)
            times = high - low
            place = np.repeat(low, times) + np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
            found.append(np.stack([np.repeat(question, times) + offset, test[place], position[place]]))
            offset += len(part)
    question, test, position = np.unique(np.concatenate(found, axis=1), axis=1)
    new = np.ones(len(question), dtype=bool)
    new[1:] = (question[1:] != question[:-1]) | (test[1:] != test[:-1])
    covered = sizes[test]
    covered[1:] = np.where(new[1:], covered[1:], np.minimum(covered[1:], np.diff(position)))
    share = np.add.reduceat(covered, np.flatnonzero(new)) / lengths[test[new]] if len(test) else np.empty(0)
    kept = share >= NGRAM_SHARE
    return test[new][kept], question[new][kept], share[kept]


def _ngrams(texts: Encoded, *, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(text, position in it, 64-bit hash) of every n-gram of `size` tokens."""
    count = max(len(texts.ids) - size + 1, 0)
    rows = texts.rows
    inside = np.flatnonzero(rows[:count] == rows[size - 1 :])
    mixed = _mix(texts.ids)
    key = np.zeros(len(inside), dtype=np.uint64)
    for shift in range(size):
        key = key * _PRIME + mixed[inside + shift]
    return rows[inside], inside - texts.starts[rows[inside]], key


def _overlap_with_tests(texts: Encoded, *, tests: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(test, question, jaccard) of the pairs from TEST_OVERLAP on; the first `tests` texts are the test questions."""
    made = features(texts, among=tests)
    return overlapping(made.part(0, tests), made.part(tests, len(texts)), threshold=TEST_OVERLAP)


class _Numbers:
    """Numbers and signs of texts, to tell whether one text has others in their place."""

    def __init__(self, texts: Encoded) -> None:
        self.numbers, self.signs = counts(texts, kind=NUMBER), counts(texts, kind=SIGN)
        self.letters = counts(texts, kind=LETTER)
        self.letters.data[:] = 1

    def replaced(self, test: np.ndarray, question: np.ndarray) -> np.ndarray:
        """Whether question[k] lacks a number (or sign) of test[k] and has another one; each new letter excuses one."""
        missing, added = _differences(self.numbers, test, question)
        _, unknowns = _differences(self.letters, test, question)
        missing_signs, added_signs = _differences(self.signs, test, question)
        changed = np.minimum(np.maximum(missing - unknowns, 0), added)
        return changed + np.minimum(missing_signs, added_signs) > 0


def _differences(table: Any, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how many tokens row i[k] has that row j[k] lacks, the reverse) for every k."""
    missing, added = np.zeros(len(i), dtype=np.int64), np.zeros(len(i), dtype=np.int64)
    for first in range(0, len(i), PAIRS):
        at = slice(first, first + PAIRS)
        difference = table[i[at]] - table[j[at]]
        total = difference.sum(axis=1)
        size = abs(difference).sum(axis=1)
        missing[at], added[at] = (size + total) // 2, (size - total) // 2
    return missing, added


# ---- clusters


def _first_copies(texts: Encoded, raw: Sequence[str], *, labels: Sequence[str]) -> np.ndarray:
    """For every text the first text with the same tokens in the same order and the same label.

    Texts without tokens are compared as they stand.
    """
    if len(raw) != len(labels):
        raise ValueError(f"{len(raw)} texts but {len(labels)} labels; give one per text")
    hashes = _sequence_hashes(texts)
    first: dict[tuple[str, int | str], int] = {}
    keys = (
        text if empty else int(key) for text, empty, key in zip(raw, np.diff(texts.starts) == 0, hashes, strict=True)
    )
    found = (first.setdefault((label.strip(), key), k) for k, (label, key) in enumerate(zip(labels, keys, strict=True)))
    return np.fromiter(found, dtype=np.int64, count=len(raw))


def _cluster_matches(made: Features, a: np.ndarray, b: np.ndarray, *, copies: np.ndarray) -> tuple[Match, ...]:
    """Every text but the first of each cluster: made, a and b number the distinct texts, copies all of them."""
    one_each, distinct = np.unique(copies, return_inverse=True)
    size = len(one_each)
    links = sparse.coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(size, size))
    _, component = csgraph.connected_components(links, directed=False)
    first = np.unique(component, return_index=True)[1][component][distinct]  # as a number among the distinct texts
    dropped = np.flatnonzero(one_each[first] != np.arange(len(copies)))
    score = jaccard(made, made, i=distinct[dropped], j=first[dropped])
    return tuple(
        Match(index=k, matched=kept, rule="exact", score=1.0)
        if copy == kept
        else Match(index=k, matched=kept, rule="token overlap", score=overlap)
        for k, kept, copy, overlap in zip(
            dropped.tolist(), one_each[first[dropped]].tolist(), copies[dropped].tolist(), score.tolist(), strict=True
        )
    )


def _numbered(labels: Sequence[str]) -> np.ndarray:
    """Equal numbers for labels that are equal but for white space around them."""
    numbers: dict[str, int] = {}
    found = (numbers.setdefault(label.strip(), len(numbers)) for label in labels)
    return np.fromiter(found, dtype=np.int64, count=len(labels))


# ---- hashes: 64 bits, so that among 342,000 questions two differ unseen with a probability of 3e-9

_PRIME = np.uint64(0x100000001B3)


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014)."""
    mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _sequence_hashes(texts: Encoded, *, kind: int | None = None) -> np.ndarray:
    """A hash of each text's tokens (of one kind) in their order."""
    hashes = []
    for part in texts.parts():
        chosen = np.ones(len(part.ids), dtype=bool) if kind is None else part.kinds[part.ids] == kind
        ids = part.ids[chosen].astype(np.uint64)
        bounds = np.concatenate([[0], np.cumsum(chosen)])[part.starts]
        position = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
        hashes.append(_sums(_mix(ids * _PRIME + _mix(position)), bounds))
    return np.concatenate(hashes)


def _set_hashes(texts: Encoded, *, kind: int) -> np.ndarray:
    """A hash of each text's set of tokens of one kind."""
    table = counts(texts, kind=kind)
    return _sums(_mix(table.indices), table.indptr)


def _sums(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums modulo 2**64 of values[bounds[k] : bounds[k + 1]]."""
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values, dtype=np.uint64)])
    return running[bounds[1:]] - running[bounds[:-1]]
