"""Settings of the launcher that no cluster can take."""

import dataclasses

import pytest

from medqa_finetune.config.plugin_keys import KEYS, LAUNCHER
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.cluster.ray.settings import RayLauncherConfig, bytes_of, check_settings
from tests.faulty import only_fault


def test_keys_are_those_of_the_settings() -> None:
    assert KEYS[LAUNCHER]["ray"] == tuple(each.name for each in dataclasses.fields(RayLauncherConfig))[1:]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [("max_parallel", 0, "out-of-range"), ("gpus_per_cell", -1, "out-of-range"), ("cpus_per_cell", 0, "out-of-range"),
     ("retries", -1, "out-of-range"), ("grace_seconds", 0, "out-of-range"), ("stalled_starts", 0, "out-of-range"),
     ("time", "soon", "wrong-value"), ("time", "2", "conflict"), ("memory", "32", "wrong-value"),
     ("memory", "0G", "wrong-value"), ("address", "head", "wrong-value"),
     ("address", "ray://head:10001", "wrong-value"), ("environment", ["NOT_SET_HERE"], "missing")],
)  # fmt: skip
def test_setting_that_cannot_work_is_refused(key: str, value: object, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(dataclasses.replace(RayLauncherConfig(), **{key: value}))  # type: ignore[arg-type]
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, f"hydra.launcher.{key}")


def test_jobs_keep_to_no_number_at_a_time() -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(RayLauncherConfig(wait=False, max_parallel=2))
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "hydra.launcher.max_parallel")


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.7:6379", "[::1]:6379"])
def test_addresses_are_taken(address: str) -> None:
    check_settings(RayLauncherConfig(address=address, time="4:00:00", memory="32G", max_parallel=1))


@pytest.mark.parametrize(("memory", "size"), [("500M", 500 << 20), ("32G", 32 << 30), ("1T", 1 << 40)])
def test_memory_has_a_unit(memory: str, size: int) -> None:
    assert bytes_of(memory) == size


def test_cells_take_the_variables_that_are_named_and_where_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RayLauncherConfig().environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("PYTHONPATH", "/code")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert RayLauncherConfig().variables() == {"HF_HOME": "/models", "PYTHONPATH": "/code"}
