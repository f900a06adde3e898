"""Which cells a command line asks for, and what is said when some are not done."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from medqa_finetune.config.compose import register_schema
from medqa_finetune.config.options import conf_folder
from medqa_finetune.errors import RunError
from medqa_finetune.matrix.launcher import register_matrix


class Recorder:
    """A launcher that notes what it is asked for; cells whose overrides contain `broken` fail."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.asked += [list(overrides) for overrides in job_overrides]
        return [self._result(overrides) for overrides in job_overrides]

    @staticmethod
    def _result(overrides: Sequence[str]) -> JobReturn:
        failed = "seed=13" in overrides
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        return JobReturn(
            overrides=overrides, status=status, _return_value=RunError("failed: bad luck") if failed else None
        )


def sweep(*arguments: str, params: dict[str, str] | None = None) -> list[list[str]]:
    register_schema()
    register_matrix()
    launcher = Recorder()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        # Hydra loads its own sweeper anew when it looks for plugins; ours comes after that, as it does when run.
        from medqa_finetune.matrix.sweeper import MatrixSweeper

        loader = GlobalHydra.instance().config_loader()
        sweeper = MatrixSweeper(max_batch_size=None, params=cast(Any, OmegaConf.create(params or {})))
        sweeper.launcher = cast(Any, launcher)
        sweeper.hydra_context = cast(Any, SimpleNamespace(config_loader=loader))
        sweeper.config = hydra.compose("config", ["profile=demo"], return_hydra_config=True)
        sweeper.sweep(list(arguments))
    return launcher.asked


def test_swept_values_are_multiplied_in_the_order_typed() -> None:
    assert sweep("method=lora,qlora", "data=20k,50k") == [
        ["method=lora", "data=20k"], ["method=lora", "data=50k"], ["method=qlora", "data=20k"],
        ["method=qlora", "data=50k"],
    ]  # fmt: skip


def test_a_single_value_is_a_matrix_of_one() -> None:
    assert sweep("seed=1") == [["seed=1"]]


def test_the_command_line_comes_before_a_profiles_own_sweep() -> None:
    asked = sweep("method=lora", params={"method": "none,lora,qlora", "data": "20k,50k"})
    assert asked == [["method=lora", "data=20k"], ["method=lora", "data=50k"]]


def test_lists_and_quoted_texts_are_values_of_their_own() -> None:
    asked = sweep("method.target_modules=[q_proj],[k_proj,v_proj]", "outputs='a b,c'")
    assert [overrides[0] for overrides in asked] == [
        "method.target_modules=[q_proj]", "method.target_modules=[k_proj,v_proj]",
    ]  # fmt: skip
    assert {overrides[1] for overrides in asked} == {"outputs='a b,c'"}


def test_what_failed_is_said_with_its_reason_and_raised() -> None:
    with pytest.raises(RunError) as caught:
        sweep("seed=12,13,14")
    assert str(caught.value) == "1 of 3 runs are not done:\n  seed=13: failed: bad luck"


def test_sweeping_writes_nothing_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep("seed=1,2")
    assert list(tmp_path.iterdir()) == []
