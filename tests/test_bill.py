"""The token formulas against numbers worked out by hand and against prompts written out one by one."""

from __future__ import annotations

import pytest

from agentark_core.bill import Layout, Sizes, context_tokens, ended_by, expected_rounds, question_bill, round_bill

METHOD = Sizes(question=150, trace=1000, shown=1000, suffix=0)
BOARD = Sizes(question=150, trace=1000, shown=1000, suffix=40)
NEVER = (0.0, 0.0, 1.0)
LAYOUTS: tuple[Layout, ...] = ("peers", "history", "board", "authors")


def test_method_numbers_of_the_authors_history() -> None:
    bill = question_bill("authors", num_agents=5, ended=NEVER, sizes=METHOD)
    assert (bill.prompt, bill.prefill, bill.decode, bill.turns) == (84_650, 46_800, 16_000, 16)


def test_method_number_of_the_board() -> None:
    assert question_bill("board", num_agents=5, ended=NEVER, sizes=BOARD).prefill == 15_590


def test_method_forms_hold_for_other_n_at_three_rounds() -> None:
    q, t, s = 150, 1000, 40
    for n in (1, 3, 5, 10, 20):
        authors = question_bill("authors", num_agents=n, ended=NEVER, sizes=METHOD)
        assert authors.prompt == 6 * n * q + 3 * n**2 * t + q + n * t
        assert authors.prefill == q + 2 * n * ((n - 1) * t + q) + (q + n * t)
        board = question_bill("board", num_agents=n, ended=NEVER, sizes=BOARD)
        assert board.prefill == q + 2 * (n * t + n * s) + (n * t + s)
        assert authors.decode == board.decode == n * 3 * t + t


def test_peers_without_a_cache_is_the_papers_formula() -> None:
    # x alone five times, x and four traces ten times, the summariser's x and five traces: 750 + 41,500 + 5,150. Were an
    # agent's own trace shown too, as on the board, it would be 57,400: method.md's "~56k" is that case.
    assert question_bill("peers", num_agents=5, ended=NEVER, sizes=METHOD).prompt == 47_400
    assert question_bill("board", num_agents=5, ended=NEVER, sizes=METHOD).prompt == 57_400


def test_method_contexts_at_twenty_agents() -> None:
    assert context_tokens("authors", num_agents=20, num_rounds=3, sizes=METHOD) == 40_450
    assert context_tokens("board", num_agents=20, num_rounds=3, sizes=BOARD) == 20_190
    assert context_tokens("board", num_agents=20, num_rounds=1, sizes=BOARD) == 20_190  # the summariser's


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_formulas_count_the_prompts_written_out(layout: Layout, n: int) -> None:
    """One letter is one token: prompts as strings, a perfect cache as the set of all their prefixes."""
    for rounds in (1, 2, 4):
        prompts, seen, prefill = _written_out(layout, n=n, rounds=rounds, q=3, v=2, s=2), set(), 0
        for prompt, completion in prompts:
            prefixes = {prompt[:length] for length in range(1, len(prompt) + 1)}
            prefill += len(prefixes - seen)
            seen |= prefixes | {prompt + completion[:length] for length in range(1, len(completion) + 1)}
        ended = (0.0,) * (rounds - 1) + (1.0,)
        sizes = Sizes(question=3, trace=2, shown=2, suffix=2)
        bill = question_bill(layout, num_agents=n, ended=ended, sizes=sizes)
        assert (bill.prompt, bill.turns) == (sum(len(prompt) for prompt, _ in prompts), len(prompts))
        assert bill.prefill == prefill
        longest = max(len(prompt) for prompt, _ in prompts)
        assert context_tokens(layout, num_agents=n, num_rounds=rounds, sizes=sizes) == longest


def _written_out(layout: Layout, *, n: int, rounds: int, q: int, v: int, s: int) -> list[tuple[tuple[str, ...], ...]]:
    """(prompt, completion) of every turn as tuples of distinct tokens.

    A solution is shown under its heading, so it never continues the prompt that it answered; only an agent's own text
    in its own chat does.
    """
    question = tuple(f"q{i}" for i in range(q))
    keys = [(k, a) for k in range(1, rounds + 1) for a in range(1, n + 1)]
    trace = {key: tuple(f"t{key}{i}" for i in range(v)) for key in keys}
    shown = {key: tuple(f"shown{key}{i}" for i in range(v)) for key in keys}
    turns = []
    for k in range(1, rounds + 1):
        for a in range(1, n + 1):
            tail = tuple(f"s{a}.{i}" for i in range(s))
            prompt = question
            if k > 1 and layout in ("peers", "board"):
                for other in range(1, n + 1):
                    prompt += shown[k - 1, other] if layout == "board" or other != a else ()
                prompt += tail
            elif k > 1:
                for past in range(1, k):
                    prompt += trace[past, a]
                    for other in range(1, n + 1):
                        prompt += shown[past, other] if other != a else ()
                    prompt += (question if layout == "authors" else ()) + tail
            turns.append((prompt, trace[k, a]))
    start = ("judge's own words",) if layout == "authors" else ()
    last = tuple(token for a in range(1, n + 1) for token in shown[rounds, a])
    prompt = start + question + last + tuple(f"j{i}" for i in range(s - len(start)))
    return [*turns, (prompt, ("y",) * v)]


def test_expected_bill_is_the_mean_over_stopping_rounds() -> None:
    whole = [question_bill("board", num_agents=5, ended=(0.0,) * k + (1.0,), sizes=BOARD) for k in range(3)]
    mixed = question_bill("board", num_agents=5, ended=(0.5, 0.2, 0.3), sizes=BOARD)
    assert mixed.prefill == pytest.approx(0.5 * whole[0].prefill + 0.2 * whole[1].prefill + 0.3 * whole[2].prefill)
    assert expected_rounds((0.5, 0.2, 0.3)) == pytest.approx(1.8)
    unsummed = question_bill("board", num_agents=5, ended=NEVER, sizes=BOARD, summariser=0.25)
    assert whole[2].decode - unsummed.decode == pytest.approx(750)
    assert round_bill("board", round=2, num_agents=5, sizes=BOARD).prompt == 5 * 5190


def test_hazards_become_shares_and_the_last_round_ends_all() -> None:
    assert ended_by((0.6, 0.5, 0.1)) == pytest.approx((0.6, 0.2, 0.2))
    assert ended_by((0.9,)) == (1.0,)


def test_shares_that_do_not_add_up_are_refused() -> None:
    for shares in ((), (0.5, 0.4), (-0.5, 1.5)):
        with pytest.raises(ValueError, match="add up"):
            expected_rounds(shares)
