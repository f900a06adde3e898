"""Compose what was typed, one experiment or a sweep of them, and hand it to a door's own function."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.groups import conf_folder, conf_folders
from medqa_finetune.errors import ConfigError

MULTIRUN = ("-m", "--multirun")


def compose_and_call(task: Callable[[Any], None], arguments: Sequence[str]) -> None:
    """Let Hydra compose what was typed after a command, and call `task` with it.

    Raises:
        ConfigError: the composition is impossible.
    """
    # Imported here, so that --help answers at once.
    import hydra

    from medqa_finetune.compat.omegaconf import is_no_mapping
    from medqa_finetune.config.compose import COMPOSITION_ERRORS, CONFIG_NAME, register_schema
    from medqa_finetune.config.explain import explain
    from medqa_finetune.launch.launcher import register_matrix

    started: list[Any] = []

    def run_one(composed: Any) -> None:
        started.append(composed)
        task(composed)

    # Hydra reads the process's arguments itself, and takes `-m` between two overrides for an error.
    sys.argv[1:] = sorted(map(quoted, arguments), key=lambda argument: argument not in MULTIRUN)
    register_schema()
    register_matrix()
    # Hydra would print a traceback or its own text and exit with 1; errors are ours to report.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(config_path=str(conf_folder()), config_name=CONFIG_NAME, version_base="1.3")(run_one)()
    except COMPOSITION_ERRORS as error:
        if started:
            raise
        raise ConfigError(*explain(error, arguments, conf_folders(arguments))) from None
    except OSError as error:
        if started or not is_no_mapping(error):
            raise
        raise ConfigError(*explain(error, arguments, conf_folders(arguments))) from None
