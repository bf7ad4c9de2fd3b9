"""Texts as token ids, as weighted sets of features, and the pairs of sets that overlap: numpy and scipy, no sampling.

    "Ann's 1,200 apples cost $x+3$"  ->  ann 1200 apples cost x + 3

Features of a text are its words, numbers and letters, and of neighbouring tokens the pairs with a number, sign or
variable: what stands beside a number tells questions about the same things apart, while the order of words may change.
A feature weighs 1000 ln(1 + texts / texts with it), rounded to an integer so that sums do not depend on their order.
The overlap of two texts is the weighted Jaccard index of their features.

`overlapping` finds every pair above a threshold, not most of them as locality-sensitive hashing would. It is the prefix
filter of Chaudhuri et al. (ICDE 2006) and Bayardo et al. (WWW 2007): two sets that overlap share rare features, so
common ones are left out of the search and counted for the few pairs it finds. Libraries of MinHash signatures
(datasketch 2.0, rensa 0.5) would replace this search only, know no weights and miss pairs by chance.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

WORD, LETTER, NUMBER, SIGN = range(4)
"""Kinds of token: LETTER is a single one, as in a formula; `a` and `i` are words."""

_POSSESSIVE = re.compile(r"['’]s\b")
_TOKEN = r"LETTER+|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|[-+*/=<>^]"
_ANY = re.compile(_TOKEN.replace("LETTER", r"[^\W\d_]"))
_ASCII = re.compile(_TOKEN.replace("LETTER", "[a-z]"), re.ASCII)  # the same tokens of lower-case ASCII in half the time
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = (
    {word: str(number) for number, word in enumerate(_UNITS.split()) if word != "one"}  # more often a pronoun
    | {word: str(10 * number) for number, word in enumerate(_TENS.split(), start=2)}
    | {"hundred": "100", "thousand": "1000"}
)

_ROWS = 10_000  # texts at a time, and
PAIRS = 50_000  # pairs at a time: what bounds the memory
_PRODUCTS = 2_000_000  # products of one search step
_COMMON = 0.8  # share of the needed overlap that features left out of the search may have


def tokens(text: str) -> list[str]:
    """Words, numbers and signs of a text; case, punctuation and the way of writing a number do not matter."""
    return [_canonical(raw) for raw in _raw_tokens(text)]


def _raw_tokens(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("{,}", ",").replace(",\\!", ",")
    pattern = _ASCII if folded.isascii() else _ANY
    return pattern.findall(_POSSESSIVE.sub("", folded))


def _canonical(raw: str) -> str:
    if not (raw[0].isdigit() or raw[0] == "."):
        return _NUMBER_WORDS.get(raw, raw)
    whole, _, decimals = raw.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + ("." + decimals if decimals else "")


class _Ids(dict[str, int]):
    """Raw token -> id of its canonical form, given out in order of appearance."""

    def __init__(self) -> None:
        self.canonical: dict[str, int] = {}

    def __missing__(self, raw: str) -> int:
        self[raw] = identity = self.canonical.setdefault(_canonical(raw), len(self.canonical))
        return identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Texts as ids: text k is ids[starts[k] : starts[k + 1]]. kinds[id] is the kind of a token (WORD, ...)."""

    ids: np.ndarray
    starts: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def part(self, first: int, last: int) -> Encoded:
        """Texts first to last - 1."""
        starts = self.starts[first : last + 1]
        return Encoded(ids=self.ids[starts[0] : starts[-1]], starts=starts - starts[0], kinds=self.kinds)

    def take(self, chosen: np.ndarray) -> Encoded:
        """The texts with these numbers, ascending."""
        kept = np.zeros(len(self), dtype=bool)
        kept[chosen] = True
        lengths = np.diff(self.starts)
        starts = np.concatenate([[0], np.cumsum(lengths[kept])])
        return Encoded(ids=self.ids[np.repeat(kept, lengths)], starts=starts, kinds=self.kinds)

    def parts(self) -> Iterator[Encoded]:
        """All texts, some at a time; one empty part if there are none."""
        for first in range(0, max(len(self), 1), _ROWS):
            yield self.part(first, min(first + _ROWS, len(self)))

    @property
    def rows(self) -> np.ndarray:
        """Number of the text that each token belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))


def encode(texts: Sequence[str]) -> Encoded:
    """Token ids of all texts; equal tokens have equal ids."""
    identity = _Ids()
    ids, starts = array("i"), array("q", [0])
    for text in texts:
        ids.extend([identity[raw] for raw in _raw_tokens(text)])
        starts.append(len(ids))
    kinds = np.fromiter(map(_kind, identity.canonical), dtype=np.int8, count=len(identity.canonical))
    return Encoded(ids=np.array(ids, dtype=np.int32), starts=np.array(starts, dtype=np.int64), kinds=kinds)


def _kind(token: str) -> int:
    if token[0].isdigit():
        return NUMBER
    if not token[0].isalpha():
        return SIGN
    return LETTER if len(token) == 1 and token not in "ai" else WORD


def counts(texts: Encoded, *, kind: int) -> Any:
    """How often each token of one kind stands in each text: CSR matrix (texts, ids) of int32."""
    blocks = []
    for part in texts.parts():
        chosen = part.kinds[part.ids] == kind
        made = _matrix(part.rows[chosen], part.ids[chosen], shape=(len(part), len(part.kinds))).astype(np.int32)
        made.sum_duplicates()
        blocks.append(made)
    return sparse.vstack(blocks, format="csr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Texts as weighted sets: sets is a CSR matrix (texts, features) of ones, weights[feature] > 0.

    totals[text] is the weight of all features of a text; one that no other text has may be missing in sets.
    """

    sets: Any
    weights: np.ndarray
    totals: np.ndarray

    def part(self, first: int, last: int) -> Features:
        """Texts first to last - 1."""
        return Features(sets=self.sets[first:last], weights=self.weights, totals=self.totals[first:last])


def features(texts: Encoded, *, among: int | None = None, weighted: bool = True) -> Features:
    """The features of every text with their weights among these texts (all 1 without `weighted`).

    sets holds the features that two texts share, of those only what stands in the first `among` texts.
    """
    keys, found = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for part in texts.parts():
        new, times = np.unique(_distinct(part)[1], return_counts=True)
        merged = np.union1d(keys, new)
        total = np.zeros(len(merged), dtype=np.int64)
        total[np.searchsorted(merged, keys)] = found
        total[np.searchsorted(merged, new)] += times
        keys, found = merged, total
    weights = np.rint(1000 * np.log1p(len(texts) / found)).astype(np.int64) if weighted else np.ones_like(found)
    shared = found > 1
    if among is not None:
        shared &= np.isin(keys, _distinct(texts.part(0, among))[1])
    column = np.where(shared, np.cumsum(shared) - 1, -1).astype(np.int32)
    blocks, totals = [], []
    for part in texts.parts():
        rows, values = _distinct(part)
        place = np.searchsorted(keys, values)
        totals.append(np.bincount(rows, weights=weights[place], minlength=len(part)).astype(np.int64))
        kept = shared[place]
        blocks.append(_matrix(rows[kept], column[place[kept]], shape=(len(part), int(shared.sum()))))
    return Features(sets=sparse.vstack(blocks, format="csr"), weights=weights[shared], totals=np.concatenate(totals))


def _distinct(texts: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """(text, key) of each distinct feature of each text, sorted. A key is a token's id, or made of two ids."""
    rows, ids, kinds = texts.rows, texts.ids.astype(np.int64), texts.kinds[texts.ids]
    formula = kinds != WORD
    beside = (rows[:-1] == rows[1:]) & (formula[:-1] | formula[1:])
    size = len(texts.kinds)
    single = kinds != SIGN
    keys = np.concatenate([ids[single], (ids[:-1][beside] + 1) * size + ids[1:][beside]])
    span = (size + 1) * size  # below 2**49 for 2**24 different tokens, so that a part's rows fit beside it
    ordered = np.sort(np.concatenate([rows[single], rows[:-1][beside]]) * span + keys)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.divmod(ordered[first], max(span, 1))


def _matrix(rows: np.ndarray, columns: np.ndarray, *, shape: tuple[int, int]) -> Any:
    """CSR matrix of int8 ones at each (row, column); rows ascend."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    ones = np.ones(len(columns), dtype=np.int8)
    return sparse.csr_array((ones, columns.astype(np.int32), indptr.astype(np.int32)), shape=shape)


def jaccard(left: Features, right: Features, *, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Weighted Jaccard index of left's text i[k] and right's text j[k], for every k (0 for two empty texts)."""
    shared = np.zeros(len(i), dtype=np.int64)
    for first in range(0, len(i), PAIRS):
        at = slice(first, first + PAIRS)
        shared[at] = left.sets[i[at]].multiply(right.sets[j[at]]) @ left.weights
    return shared / np.maximum(left.totals[i] + right.totals[j] - shared, 1)


def overlapping(left: Features, right: Features, *, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (i, j, jaccard) with left's text i and right's text j at or above the threshold (above 0), sorted.

    Both sides come from one call of `features`.
    """
    frequency = np.bincount(right.sets.indices, minlength=right.sets.shape[1])
    search, left_out = _rare(left, frequency=frequency, threshold=threshold)
    across = _by_feature(right.sets, np.unique(search.indices))
    work = np.concatenate([[0], np.cumsum(np.diff(across.indptr)[search.indices])])[search.indptr]
    all_i, all_j = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    first = 0
    while first < len(left.totals):
        last = max(first + 1, int(np.searchsorted(work, work[first] + _PRODUCTS, side="right")) - 1)
        found = (search[first:last] @ across).tocoo()
        i, j = found.coords[0].astype(np.int64) + first, found.coords[1].astype(np.int64)
        needed = threshold / (1 + threshold) * (left.totals[i] + right.totals[j]) - left_out[i]
        kept = found.data >= needed - 1  # one unit for the rounding of this line; the exact test follows
        all_i.append(i[kept])
        all_j.append(j[kept])
        first = last
    i, j = np.concatenate(all_i), np.concatenate(all_j)
    score = jaccard(left, right, i=i, j=j)
    kept = np.flatnonzero(score >= threshold)
    kept = kept[np.lexsort((j[kept], i[kept]))]
    return i[kept], j[kept], score[kept]


def _rare(left: Features, *, frequency: np.ndarray, threshold: float) -> tuple[Any, np.ndarray]:
    """Each text's rarest features as a CSR matrix of weights, and the weight of the others.

    A partner shares at least threshold * total of a text's weight; what is left out weighs less than that.
    """
    blocks, left_out = [], []
    for first in range(0, max(len(left.totals), 1), _ROWS):
        part = left.part(first, first + _ROWS)
        indices, indptr = part.sets.indices, part.sets.indptr
        rows = np.repeat(np.arange(part.sets.shape[0]), np.diff(indptr))
        columns = indices[np.lexsort((indices, frequency[indices], rows))]
        weight = left.weights[columns]
        ends = np.concatenate([[0], np.cumsum(weight)])
        rest = ends[indptr[1:]][rows] - ends[:-1]  # of this feature and the more common ones of its text
        kept = rest > _COMMON * threshold * part.totals[rows]
        left_out.append(np.bincount(rows[~kept], weights=weight[~kept], minlength=part.sets.shape[0]))
        search = _matrix(rows[kept], columns[kept], shape=part.sets.shape).astype(np.int32)
        search.data = left.weights[search.indices].astype(np.int32)
        blocks.append(search)
    return sparse.vstack(blocks, format="csr"), np.concatenate(left_out)


def _by_feature(sets: Any, used: np.ndarray) -> Any:
    """CSR matrix (features, texts) of the used features only; the rows of the others are empty."""
    wanted = np.zeros(sets.shape[1], dtype=bool)
    wanted[used] = True
    kept = wanted[sets.indices]
    indptr = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[sets.indptr].astype(np.int32)
    ones = np.ones(int(indptr[-1]), dtype=np.int32)
    return sparse.csr_array((ones, sets.indices[kept], indptr), shape=sets.shape).T.tocsr()
