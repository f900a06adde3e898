"""Settings of launcher and sweepers: those that exist, and what is said of others."""

import dataclasses

import pytest

from medqa_finetune.compat.hydra import read_arguments
from medqa_finetune.config.plugin_keys import KEYS, LAUNCHER, SWEEPER, tuning_presets, unknown_plugin_setting
from medqa_finetune.launch.launcher import LocalLauncherConfig, MatrixSweeperConfig, TuningSweeperConfig


def test_keys_are_those_of_the_plugins() -> None:
    for group, name, schema in (
        (LAUNCHER, "local", LocalLauncherConfig),
        (SWEEPER, "matrix", MatrixSweeperConfig),
        (SWEEPER, "tuning", TuningSweeperConfig),
    ):
        assert KEYS[group][name] == tuple(each.name for each in dataclasses.fields(schema))[1:]


@pytest.mark.parametrize(
    ("typed", "key", "hint"),
    [
        ([], "hydra.launcher.max_paralel", "Did you mean hydra.launcher.max_parallel?"),
        (["hydra/launcher=basic"], "hydra.launcher.retries", "hydra/launcher=local"),
        ([], "hydra.sweeper.n_trials", "learning_rate"),
        (["hydra/sweeper=rank"], "hydra.sweeper.n_trial", "hydra.sweeper.n_trials"),
        ([], "hydra.sweeper.max_batch_size", "hydra.launcher.max_parallel"),
        (["hydra/launcher=joblib"], "hydra.launcher.foo", "Leave it out."),
    ],
)
def test_hint_names_what_works(typed: list[str], key: str, hint: str) -> None:
    fault = unknown_plugin_setting(key, read_arguments(typed))
    assert (fault.code, fault.key) == ("unknown-key", key)
    assert hint in fault.hint


def test_allowed_settings_are_listed() -> None:
    fault = unknown_plugin_setting("hydra.launcher.foo", [])
    assert list(fault.allowed) == [f"hydra.launcher.{each}" for each in KEYS[LAUNCHER]["local"]]
    assert {"rank", "learning_rate", "tuning"} <= set(tuning_presets())
