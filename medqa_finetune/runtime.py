"""Settings of the process itself: Python's garbage collector, and how glibc keeps freed memory.

The collector pauses during heavy imports: torch, transformers and peft make more than a million objects that stay, and
it would go through them again and again, and several times more while Python ends.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3) and the values that glibc takes at most.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20
LARGEST = 2**31 - 1
TOP_PAD_BYTES = 64 * 2**20


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


def keep_freed_memory() -> None:
    """Hand back what is free now; then let glibc keep what tensors leave, for the next ones. Others stay as they are.

    By default blocks of 128 KiB and more go back to the system when they are freed, and every optimizer step asks for
    them anew: a page fault for every 4 KiB, and the page filled with zeros. Set within the process, it holds however
    the run was started. Nothing is changed where a `MALLOC_` variable of the environment says what the user wants.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):  # musl, for one, has neither
        return
    # What preparing the data has left lies in pieces too small for tensors.
    trim(0)
    for parameter, value in (
        (MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD),
        (TRIM_THRESHOLD, LARGEST),
        (TOP_PAD, TOP_PAD_BYTES),
    ):
        mallopt(parameter, value)


def limit_spinning() -> None:
    """Limit how long torch's CPU threads spin while they wait for each other; call it before torch is loaded.

    By default they spin 300,000 times before they sleep, which makes training many times slower on a machine that does
    something else as well; without any spinning it is 1.5 times slower on a quiet one. Nothing changes where the user
    has set `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT`.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
