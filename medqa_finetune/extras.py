"""What settings ask for in addition to the usual packages: whether it is installed, known without torch and data."""

from collections.abc import Iterator
from importlib.util import find_spec

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, Fault, noting
from medqa_finetune.evaluation import backends, lm_eval_tasks
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model import kernels


def check_extras(config: Config) -> None:
    """Refuse a run that needs a package which is not installed.

    Raises:
        ConfigError: with every one of them.
    """
    faults: list[Fault] = []
    # What loads no model needs none of these, so that a sweep may have such a baseline in it.
    method = method_of(config.method)
    if method.loads_model:
        with noting(faults):
            backends.check_installed(config.evaluate)
        with noting(faults):
            lm_eval_tasks.check_installed(config.evaluate)
        with noting(faults):
            kernels.check_installed(config.train.kernels if method.trains_weights else "torch")
    faults += tracker_faults(config)
    if faults:
        raise ConfigError(*faults)


def tracker_faults(config: Config) -> Iterator[Fault]:
    """Yield a fault for every tracker that is not installed."""
    for name in dict.fromkeys(config.tracker.report_to):
        if find_spec(name) is None:
            hint = f"Run `pip install 'medqa_finetune[{name}]'`."
            yield Fault("not-installed", f"{name} is not installed", key="tracker.report_to", got=[name], hint=hint)
