"""What a command says while it works: short lines on standard error, everything in the run's own log."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "medqa_finetune"


def log_to_terminal() -> None:
    """Print this package's messages on standard error, and only warnings of others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.addFilter(_without_foreign_noise())
    if sys.stderr.isatty():
        # A progress bar shows the steps there.
        handler.addFilter(lambda record: not record.name.startswith(f"{PACKAGE}.training."))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(PACKAGE).setLevel(logging.DEBUG)
    logging.captureWarnings(True)


def _without_foreign_noise() -> Callable[[logging.LogRecord], bool]:
    """Return a filter for other packages: deprecations, which only developers can act on, and repeats are left out."""
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
def log_to(path: Path) -> Iterator[None]:
    """Append all messages, tracebacks included, to a file while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def visible(text: str) -> str:
    """Return `text` with unprintable characters escaped (`\\x1b`), so that a terminal shows and does not obey them."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
