"""Settings of the launcher that no cluster can take."""

import dataclasses

import pytest

from medqa_finetune.config.plugin_keys import KEYS, LAUNCHER
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig, check_settings, seconds_of
from tests.faulty import only_fault


def test_keys_are_those_of_the_settings() -> None:
    assert KEYS[LAUNCHER]["slurm"] == tuple(each.name for each in dataclasses.fields(SlurmLauncherConfig))[1:]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [("max_parallel", 0, "out-of-range"), ("gpus_per_cell", -1, "out-of-range"), ("cpus_per_cell", 0, "out-of-range"),
     ("retries", -1, "out-of-range"), ("grace_seconds", 0, "out-of-range"), ("grace_seconds", 70_000, "out-of-range"),
     ("stalled_starts", 0, "out-of-range"), ("time", "soon", "wrong-value"), ("time", "2", "conflict"),
     ("options", ["-p low"], "wrong-value"), ("options", ["--array=0-9"], "conflict"),
     ("options", ["--no-requeue"], "conflict")],
)  # fmt: skip
def test_setting_that_cannot_work_is_refused(key: str, value: object, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(dataclasses.replace(SlurmLauncherConfig(), **{key: value}))  # type: ignore[arg-type]
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, f"hydra.launcher.{key}")


def test_settings_at_their_limits_are_taken() -> None:
    check_settings(SlurmLauncherConfig(max_parallel=1, gpus_per_cell=0, cpus_per_cell=1, retries=0, stalled_starts=1))
    check_settings(SlurmLauncherConfig(time="3", grace_seconds=120, options=["--qos=long", "--exclusive"]))


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90", 5400), ("1:30", 90), ("4:00:00", 14400), ("1-12", 129600), ("1-12:30", 131400), ("1-12:30:05", 131405)],
)
def test_times_are_read_as_slurm_reads_them(time: str, seconds: int) -> None:
    assert seconds_of(time) == seconds
