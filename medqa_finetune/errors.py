"""The four ways a command can fail, and the exit code of each.

A message says what is wrong, where (file, line, key), the value got, what is allowed, and what to do. The doors
(`train`, `evaluate`, `summarize`) print it in one or two lines, without a traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager

EXIT_DONE = 0
EXIT_RUN_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class MedQAError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = EXIT_RUN_FAILED


class ConfigError(MedQAError):
    """A setting is unknown, of the wrong type, or impossible."""

    exit_code = EXIT_BAD_INPUT


class DataError(MedQAError):
    """A corpus, prediction or record file cannot be used as asked."""

    exit_code = EXIT_BAD_INPUT


class ModelError(MedQAError):
    """A model, tokenizer or adapter is missing or does not fit."""

    exit_code = EXIT_BAD_INPUT


class RunError(MedQAError):
    """A run started and could not be finished."""

    exit_code = EXIT_RUN_FAILED


@contextmanager
def noting(faults: list[str]) -> Iterator[None]:
    """Note why the block is refused, and go on behind it."""
    try:
        yield
    except MedQAError as error:
        faults.append(str(error))
