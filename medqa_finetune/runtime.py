"""Settings of the process itself: Python's garbage collector, how glibc keeps freed memory, what torch reads.

The collector pauses during heavy imports: torch, transformers and peft create over a million permanent objects, which
it would scan again and again during the import and when Python ends.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3) and the largest values that glibc accepts.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20
LARGEST = 2**31 - 1
TOP_PAD_BYTES = 64 * 2**20
# Where torch reads the settings of its allocator, the second name until 2.8 alone.
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector for imports, which leave no garbage; restores its state afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_no_more() -> None:
    """Exclude all existing objects from garbage collection; for a process that is about to end."""
    gc.freeze()


def keep_freed_memory() -> None:
    """Return free memory to the system once; then let glibc keep memory that tensors free for later ones. Linux only.

    By default glibc returns blocks of 128 KiB and more to the system when they are freed. Every optimizer step would
    request them again, which costs a page fault and zero-filling per 4 KiB. Set within the process, so that it applies
    however the run was started. Nothing changes where the user has set a `MALLOC_` environment variable.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):  # musl has neither
        return
    # Data preparation leaves free memory in pieces too small for tensors.
    trim(0)
    for parameter, value in (
        (MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD),
        (TRIM_THRESHOLD, LARGEST),
        (TOP_PAD, TOP_PAD_BYTES),
    ):
        mallopt(parameter, value)


def settle_before_torch() -> None:
    """Set what torch reads from the environment when it is loaded; processes that this one starts inherit it."""
    _limit_spinning()
    _let_segments_grow()


def _limit_spinning() -> None:
    """Limit how long torch's CPU threads spin while they wait for each other.

    By default (libgomp) they spin 300,000 times before they sleep, which makes training many times slower on a machine
    with other load; without spinning, training is 1.5 times slower on an idle one. Nothing changes where the user has
    set `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT`.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _let_segments_grow() -> None:
    """Let torch extend a GPU's blocks of memory, where by default it requests another one for each larger size.

    Packs have another number of tokens in every step, whose blocks would leave gaps that fit no later one. Linux alone
    has it. Nothing changes where the user has set one of torch's variables.
    """
    if sys.platform.startswith("linux") and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        os.environ[ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"
