"""`time_limit`: a command stops before a platform ends it, so that every cell has written a checkpoint."""

import contextlib
import os
import time
from contextlib import AbstractContextManager

import psutil

from medqa_finetune.config.durations import seconds_of
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.stopping import LAUNCHER_VARIABLE, stopping_after


def time_limited(config: Config) -> AbstractContextManager[None]:
    """Stop this command when its time is over, which counts from the start of its process.

    A cell of a launcher has no limit of its own: the launcher stops it.
    """
    if config.time_limit is None or LAUNCHER_VARIABLE in os.environ:
        return contextlib.nullcontext()
    # Both by this machine's clock.
    age = time.time() - psutil.Process().create_time()
    return stopping_after(seconds_of(config.time_limit) - age)


def refuse_time_limit(config: Config) -> None:
    """Refuse a limit where cells outlive the command that submits them.

    Raises:
        ConfigError: there is one.
    """
    if config.time_limit is not None:
        problem = "limits this command, while its cells run in the queue of a cluster"
        hint = "Give hydra.launcher.time."
        raise ConfigError(Fault("conflict", problem, key="time_limit", got=config.time_limit, hint=hint))
