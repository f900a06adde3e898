"""Names of training sizes: `20k` as `conf/data/` has it, or what the number is, as `n300`."""

import dataclasses
import re
from collections.abc import Mapping

from medqa_finetune.config.schema import Config

# As many digits as a number of examples may have: a longer name is no size, and its number may overflow a float.
SIZE_IN_NAME = re.compile(r"n?(\d{1,15}(?:\.\d{1,15})?)(k|m)?", re.IGNORECASE | re.ASCII)
UNITS_OF_SIZES = {None: 1, "k": 1000, "m": 1_000_000}


def size_name(name: str, size: int | None) -> str:
    """Return the name of a number of training examples: `name`, unless that is another number, as `20k` of 200 is.

    Args:
        name: The configured name, e.g. `20k`, `n300` or `small`.
        size: Number of training examples; None if unknown.
    """
    number = size_of(name)
    return name if number is None or not size or number == size else f"n{size}"


def size_of(name: str) -> int | None:
    """Return the number that a name stands for: 20000 for `20k`, 300 for `n300`; None for one that is no number."""
    said = SIZE_IN_NAME.fullmatch(name)
    return None if said is None else round(float(said[1]) * UNITS_OF_SIZES[said[2].lower() if said[2] else None])


def with_size_name(config: Config, defaults: Mapping[str, object]) -> Config:
    """Return the settings with `data.name` called what the size is: `n300` for 300 examples without a name, or scaled.

    Args:
        config: The run's settings.
        defaults: Values of the same groups without single overrides, as dotted keys.
    """
    own = config.data
    is_unnamed = own.train_size != defaults.get("data.train_size", own.train_size) and own.name == defaults.get(
        "data.name"
    )
    if is_unnamed:
        name = "all" if config.train_size is None else f"n{config.train_size}"
    else:
        name = size_name(own.name, config.train_size)
    return dataclasses.replace(config, data=dataclasses.replace(own, name=name))
