"""Settings of our launcher and sweepers, which Hydra's errors do not name."""

import difflib
from collections.abc import Mapping, Sequence

from medqa_finetune.compat.hydra import Argument
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import NO_VALUE, Fault

LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"
# Ours are the first; `tests/launch/test_launcher.py` compares the keys with their dataclasses.
KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    LAUNCHER: {
        "local": ("max_parallel", "gpus_per_cell", "retries", "grace_seconds"),
        "slurm": (
            "partition",
            "account",
            "time",
            "gpus_per_cell",
            "cpus_per_cell",
            "memory",
            "setup",
            "options",
            "max_parallel",
            "wait",
            "retries",
            "grace_seconds",
            "stalled_starts",
        ),
        "ray": (
            "address",
            "gpus_per_cell",
            "cpus_per_cell",
            "memory",
            "time",
            "environment",
            "max_parallel",
            "wait",
            "retries",
            "grace_seconds",
            "stalled_starts",
        ),
    },
    SWEEPER: {"matrix": ("params",), "tuning": ("space", "n_trials", "n_jobs", "sampler", "seed", "params")},
}
# Hydra's own matrix is the same as ours.
SAME = {"basic": "matrix"}
BATCHES = "hydra.sweeper.max_batch_size"


def tuning_presets() -> list[str]:
    """Return the names of sweepers that tune, those with a space of their own first."""
    return [*sorted(path.stem for path in (conf_folder() / SWEEPER).glob("*.yaml")), "tuning"]


def chosen_plugin(group: str, arguments: Sequence[Argument]) -> str:
    """Return the launcher or sweeper that arguments choose, a preset as the sweeper that it is of."""
    typed = [str(each.value) for each in arguments if each.key == group]
    name = typed[-1] if typed else next(iter(KEYS[group]))
    if group == SWEEPER:
        name = "tuning" if name in tuning_presets() else SAME.get(name, name)
    return name


def is_plugin_setting(key: str) -> bool:
    """Return whether a key is of a launcher or a sweeper."""
    return key.startswith(tuple(f"{group.replace('/', '.')}." for group in KEYS))


def unknown_plugin_setting(key: str, arguments: Sequence[Argument]) -> Fault:
    """Return the fault of a key of launcher or sweeper that the chosen one does not have."""
    dotted, plugin, name = key.split(".")[:3]
    group = f"{dotted}/{plugin}"
    chosen = chosen_plugin(group, arguments)
    own = KEYS[group].get(chosen, ())
    others = [each for each, keys in KEYS[group].items() if name in keys and each != chosen]
    allowed = tuple(f"{dotted}.{plugin}.{each}" for each in own)
    close = difflib.get_close_matches(name, own, n=1)
    if key == BATCHES:
        hint = "hydra.launcher.max_parallel=N is how many cells run at a time."
    elif "tuning" in others:
        hint = f"It is for tuning: give {group}=NAME as well, one of {', '.join(tuning_presets())}."
    elif others:
        hint = f"It is for {group}={others[0]}; leave it out, or give that."
    else:
        hint = f"Did you mean {dotted}.{plugin}.{close[0]}?" if close else "Leave it out."
    problem = f"{group}={chosen} has no such setting"
    got = next((each.value for each in arguments if each.key == key), NO_VALUE)
    return Fault("unknown-key", problem, key=key, got=got, allowed=() if close or others else allowed, hint=hint)
