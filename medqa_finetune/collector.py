"""Python's cyclic garbage collector, kept from looking for garbage where there is none.

Loading torch, transformers and peft makes more than a million objects that stay, and the collector goes through them
again and again meanwhile; and once more, several times, while Python ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector for imports, which leave no garbage; it is as it was before afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_no_more() -> None:
    """Take all objects there are out of every later collection; for a process that is about to end."""
    gc.freeze()
