"""Importing torch, vLLM, TRL or Prefect makes a million objects that live as long as the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imports() -> Iterator[None]:
    """Import without garbage collection: it would look at all those objects again and again, a fifth of the time.

    Afterwards they are frozen, so no later collection looks at them either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
