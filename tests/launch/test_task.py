"""What Hydra is given to call, what it returns, and the command of a cell in any process."""

from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.task import CellTask, check_direction, command_of, value_of_trial
from tests.cells import TRAIN
from tests.faulty import only_fault
from tests.launch.children import PENDING


def hydra_node(**changes: Any) -> Any:
    """Return what is read of Hydra's node of a composition."""
    sources = [
        {"provider": "main", "schema": "file", "path": str(conf_folder())},
        {"provider": "command-line", "schema": "file", "path": "/elsewhere/my_conf"},
    ]
    node = {
        "mode": RunMode.MULTIRUN,
        "sweeper": {},
        "job": {"config_name": "config"},
        "runtime": {"config_sources": sources},
        "overrides": {"hydra": [], "task": []},
    }
    return OmegaConf.create(node | changes)


def test_command_is_that_of_one_cell() -> None:
    hydra = ["hydra/launcher=joblib", "hydra.mode=MULTIRUN", "hydra.sweep.dir='x'", "hydra.verbose=true"]
    overrides = {"hydra": hydra, "task": ["method=lora", "seed=1", "run_name='lora_20k'", "evaluation_name='default'"]}
    assert command_of(hydra_node(overrides=overrides, job={"config_name": "mine"})) == (
        "python", "-m", "medqa_finetune.train", "--config-dir", "/elsewhere/my_conf", "--config-name", "mine",
        "hydra.verbose=true", "method=lora", "seed=1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "sweeper",
    [
        {"direction": "maximize"},
        {"direction": ["minimize", "maximize"]},
        {"optim": {"maximize": True}},
        {"ax_config": {"experiment": {"minimize": False}}},
    ],
)
def test_maximizing_the_validation_loss_is_refused(sweeper: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_direction(hydra_node(sweeper=sweeper))
    assert only_fault(caught).code == "conflict"


def test_minimizing_sweepers_are_let_through() -> None:
    check_direction(hydra_node(sweeper={"direction": "minimize", "optim": {"maximize": False}}))


def test_trial_returns_its_validation_loss() -> None:
    trained = PENDING.updated(train=TRAIN)
    assert value_of_trial(trained) == TRAIN.best_validation_loss
    assert value_of_trial(PENDING) is None
    assert value_of_trial(None) is None


@pytest.mark.parametrize(("mode", "raises"), [(RunMode.RUN, False), (RunMode.MULTIRUN, True)])
def test_refusal_of_single_run_is_kept(mode: RunMode, raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise error

    error = ConfigError(Fault("not-allowed", "is refused", key="seed"))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra_node(mode=mode)))
    called = CellTask(refuse)
    if raises:
        with pytest.raises(ConfigError):
            called(OmegaConf.create())
    else:
        assert called(OmegaConf.create()) is None
        assert called.refused is error
    assert called.started


def test_task_returns_what_is_minimized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig, "get", staticmethod(hydra_node))
    assert CellTask(lambda _: 1.5)(OmegaConf.create()) == 1.5
