"""Logging: short lines on standard error, everything in the run's own log."""

import contextlib
import copy
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medqa_finetune.languages.translate import Kind, translated

PACKAGE = "medqa_finetune"


def is_terminal() -> bool:
    """Return whether standard error is a terminal that moves its cursor as programs ask.

    A command in a notebook's cell (`!python -m …`) writes to a terminal that nobody emulates: each change of a bar or
    table would stay there as lines of its own.
    """
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not _in_notebook()


def _in_notebook() -> bool:
    """Return whether this process is a notebook's kernel, or was started in a cell."""
    # Set by jupyter_client for kernels, and by ipykernel for what cells start, where other clients start the kernel.
    cell = {"TERM": "xterm-color", "CLICOLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat"}
    return "JPY_PARENT_PID" in os.environ or all(os.environ.get(name) == value for name, value in cell.items())


def in_kernel() -> bool:
    """Return whether this process is a notebook's kernel, which shows more than text."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def without_foreign_warnings() -> Iterator[None]:
    """In a notebook, hide warnings of other packages while the block runs; users cannot act on them.

    Such as tqdm's, that widgets are missing, where nothing here shows a widget. Our own messages are logged.
    """
    if not in_kernel():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def log_to_terminal() -> None:
    """Print this package's messages on standard error; of other packages only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(_Shown("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.addFilter(_without_foreign_noise())
    if is_terminal():
        # On a terminal, a progress bar shows the steps.
        handler.addFilter(lambda record: not record.name.startswith(f"{PACKAGE}.training."))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(PACKAGE).setLevel(logging.DEBUG)
    logging.captureWarnings(True)


def show_quietly() -> None:
    """Let what Hydra shows of itself end with its reader (`| head`): it logs it, and logging reports each lost line."""
    logging.raiseExceptions = False


def _without_foreign_noise() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that drops repeats, and other packages' deprecations, which users cannot act on."""
    seen: set[tuple[str, str]] = set()

    def shown(record: logging.LogRecord) -> bool:
        if record.name.startswith(PACKAGE):
            return True
        if record.name == "py.warnings":
            return False
        key = (record.name, record.getMessage())
        repeated = key in seen
        seen.add(key)
        return not repeated

    return shown


@contextmanager
def log_to(path: Path, *, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Append all messages, tracebacks included, to a file while the block runs.

    Write errors, as on a full disk, are ignored: they must not end a run.

    Args:
        path: The file.
        unless: Returns whether the file is no longer this process's to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _QuietFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not unless())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


class _QuietFileHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        """Print no traceback: the message is on the terminal already."""


def visible(text: str) -> str:
    """Escape unprintable characters (`\\x1b`), so that a terminal shows them instead of obeying them."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shown(text: str) -> str:
    """Return a message with everything but line breaks made `visible`, since it may quote untrusted names."""
    return "\n".join(map(visible, text.split("\n")))


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith(PACKAGE):
            # A copy: log files get the same record, and stay in English.
            record = copy.copy(record)
            record.msg, record.args = translated(record.getMessage(), Kind.LOG), ()
        return shown(super().format(record))
