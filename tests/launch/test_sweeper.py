"""Which cells a command line asks for, what a launcher is given, and what is said when some are not done."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from medqa_finetune.cell import Cell
from medqa_finetune.config.compose import CONFIG_NAME, register_schema
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.launch import sweeper, validate
from medqa_finetune.launch.launcher import register_plugins
from medqa_finetune.launch.task import CellTask
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, Failure
from tests.faulty import only_fault
from tests.launch.children import PENDING

ROOT = Path(__file__).parents[2]
BAD_LUCK = Fault("run-failed", "failed: bad luck")
# What a launcher is given for a cell: names of run and evaluation, and Hydra's folder in two parts.
GIVEN = 4


class Recorder:
    """A launcher that notes what it is asked for, and does it; cells whose seed is 13 fail."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.error: Exception | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.asked += [list(overrides) for overrides in job_overrides]
        if self.error is not None:
            raise self.error
        assert initial_job_idx == 0
        return [self._result(overrides) for overrides in job_overrides]

    @staticmethod
    def _result(overrides: Sequence[str]) -> JobReturn:
        evaluation, folder, name = (text.partition("=")[2].strip("'") for text in overrides[-3:])
        run = RunDir(Path(folder, name))
        if "seed=13" in overrides:
            run.write(PENDING.updated(status="failed", failure=Failure("RunError", "bad luck")))
            result = JobReturn(status=JobStatus.FAILED)
            result.return_value = RunError(BAD_LUCK)
            return result
        # One that says it has come to its end, and has not.
        run.write(PENDING.updated(status="running" if "seed=12" in overrides else "done"))
        if "evaluate.max_samples=12" not in overrides:
            EvaluationDir(run.evaluations_path / evaluation).write(Evaluation(evaluation, "e", "done", {}))
        return JobReturn(status=JobStatus.COMPLETED)


@pytest.fixture(autouse=True)
def only_composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing but the composition of cells is checked here."""

    def no_more(cells: Sequence[Cell], *, here: bool) -> list[Cell]:
        assert here
        return list(cells)

    monkeypatch.setattr(validate, "check_matrix", no_more)
    monkeypatch.chdir(tmp_path)


@cache
def demo() -> DictConfig:
    """Return the composition that every sweep begins with; none changes it."""
    return hydra.compose(CONFIG_NAME, ["profile=demo"], return_hydra_config=True)


def sweep(*arguments: str, params: dict[str, str] | None = None, launcher: Recorder | None = None) -> list[list[str]]:
    """Return the overrides of the cells that were launched."""
    register_schema()
    register_plugins()
    launcher = launcher or Recorder()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        each = sweeper.MatrixSweeper(params=cast(Any, OmegaConf.create(params or {})))
        each.launcher = cast(Any, launcher)
        each.hydra_context = cast(Any, SimpleNamespace(config_loader=GlobalHydra.instance().config_loader()))
        each.config = demo()
        each.sweep(["profile=demo", *arguments])
    return [[each for each in overrides[:-GIVEN] if each != "profile=demo"] for overrides in launcher.asked]


def test_swept_values_are_multiplied_in_the_order_typed() -> None:
    assert sweep("method=lora,qlora", "data=20k,50k") == [
        ["method=lora", "data=20k"], ["method=lora", "data=50k"], ["method=qlora", "data=20k"],
        ["method=qlora", "data=50k"],
    ]  # fmt: skip


def test_a_single_value_is_a_matrix_of_one() -> None:
    assert sweep("seed=1") == [["seed=1"]]


def test_command_line_comes_before_profiles_own_sweep() -> None:
    asked = sweep("method=lora", params={"method": "none,lora,qlora", "data": "20k,50k"})
    assert asked == [["method=lora", "data=20k"], ["method=lora", "data=50k"]]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("seed=range(3)", ["seed=0", "seed=1", "seed=2"]),
        ("seed=range(4,0,step=-2)", ["seed=4", "seed=2"]),
        ("seed=choice(5,3)", ["seed=5", "seed=3"]),
        ("seed=sort(5,3,4)", ["seed=3", "seed=4", "seed=5"]),
        ("seed=sort(5,3,4,reverse=true)", ["seed=5", "seed=4", "seed=3"]),
        ("data=glob([2*,5*])", ["data=20k", "data=50k"]),
        ("train.learning_rate=1e-3,2.5e-4", ["train.learning_rate=0.001", "train.learning_rate=0.00025"]),
        ("method.target_modules=[q_proj],[k_proj,v_proj]",
         ["method.target_modules=[q_proj]", "method.target_modules=[k_proj,v_proj]"]),
        ("outputs='a b,c','d=e'", ["outputs='a b,c'", "outputs='d=e'"]),
        ("++seed=1,2", ["++seed=1", "++seed=2"]),
        ("overwrite=true,false", ["overwrite=True", "overwrite=False"]),
        ("train.max_steps=null,5", ["train.max_steps=null", "train.max_steps=5"]),
    ],
)  # fmt: skip
def test_every_kind_of_sweep_is_expanded(typed: str, values: list[str]) -> None:
    assert sweep(typed) == [[value] for value in values]


def test_shuffled_values_are_all_there() -> None:
    assert sorted(sweep("seed=shuffle(range(5))")) == [[f"seed={seed}"] for seed in range(5)]


@pytest.mark.parametrize("value", ["interval(0,1)", "tag(a,interval(0,1))"])
def test_a_continuous_sweep_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(f"train.learning_rate={value}")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-discrete", "train.learning_rate", value)


@pytest.mark.parametrize("typed", ["seed=range(", "seed=a b", "=1", "seed=choice()"])
def test_what_hydra_cannot_read_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError):
        sweep(typed)


def test_all_cells_that_cannot_compose_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        sweep("train.epochs=-1,1,-2", "data=20k,30k")
    assert [(fault.key, fault.got) for fault in caught.value.faults] == [
        ("train.epochs", -1.0), ("data", "30k"), ("train.epochs", -2.0),
    ]  # fmt: skip


def test_launcher_gets_names_and_folder_of_every_cell(tmp_path: Path) -> None:
    launcher = Recorder()
    sweep(f"outputs='{tmp_path}/结果 (新)'", "method=lora", "data=20k", "seed=1,2", launcher=launcher)
    assert [overrides[-GIVEN:] for overrides in launcher.asked] == [
        [
            f"run_name='lora_n200__seed={seed}'", "evaluation_name='default'",
            f"hydra.sweep.dir='{tmp_path}/结果 (新)/demo'", f"hydra.sweep.subdir='lora_n200__seed={seed}'",
        ]
        for seed in (1, 2)
    ]  # fmt: skip


def test_evaluations_of_one_training_share_a_folder() -> None:
    launcher = Recorder()
    sweep("method=lora", "data=20k", "evaluate.max_samples=2,3", "evaluate.max_new_tokens=8", launcher=launcher)
    named = [dict(each.partition("=")[::2] for each in overrides[-GIVEN:]) for overrides in launcher.asked]
    assert {each["run_name"] for each in named} == {each["hydra.sweep.subdir"] for each in named} == {"'lora_n200'"}
    assert [each["evaluation_name"] for each in named] == [
        f"'max_new_tokens=8__max_samples={number}'" for number in (2, 3)
    ]


def test_failed_cells_are_raised_with_their_reason(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as caught:
        sweep("method=lora", "data=20k", "seed=11,13,14")
    whole, *missing = caught.value.faults
    assert whole.code == "runs-not-done"
    assert [(each.code, str(each.file).strip()) for each in missing] == [("run-failed", "lora_n200__seed=13")]
    assert missing[0].problem == BAD_LUCK.problem
    assert "overrides" not in capfd.readouterr().err  # Hydra prints a line of its own where a failed job is read


def test_unfinished_run_counts_whatever_the_launcher_reports() -> None:
    with pytest.raises(RunError) as caught:
        sweep("method=lora", "data=20k", "seed=12")
    assert [each.code for each in caught.value.faults] == ["runs-not-done", "run-not-done"]


def test_missing_evaluation_of_a_done_run_is_missing() -> None:
    with pytest.raises(RunError) as caught:
        sweep("method=lora", "data=20k", "evaluate.max_samples=12,13")
    _, missing = caught.value.faults
    assert (missing.code, str(missing.file).strip()) == ("run-not-done", "lora_n200__evaluate.max_samples=12")


def test_a_launcher_that_gives_up_is_named() -> None:
    launcher = Recorder()
    launcher.error = OSError("the scheduler is gone")
    with pytest.raises(RunError) as caught:
        sweep("seed=1", launcher=launcher)
    fault = only_fault(caught)
    assert fault.code == "launcher-failed"
    assert all(part in fault.problem for part in ("Recorder", "OSError", "the scheduler is gone"))


def test_sweeping_writes_nothing_of_its_own(tmp_path: Path) -> None:
    launcher = Recorder()
    launcher.error = RunError(Fault("not-started", "nothing was started"))
    with pytest.raises(RunError):
        sweep("seed=1,2", launcher=launcher)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("private", ["_internal", "_return_value", "instance().cfg", "instance().hydra", "_get_node"])
def test_nothing_private_of_hydra_is_used(private: str) -> None:
    sources = sorted((ROOT / "medqa_finetune" / "launch").rglob("*.py"))
    assert [path.name for path in sources if private in path.read_text(encoding="utf-8")] == []


def test_planning_calls_task_with_same_cells() -> None:
    register_schema()
    register_plugins()
    called: list[tuple[Any, Any]] = []
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        each = sweeper.MatrixSweeper(params=cast(Any, OmegaConf.create({"data": "20k,50k"})))
        each.setup(
            hydra_context=cast(Any, SimpleNamespace(config_loader=GlobalHydra.instance().config_loader())),
            task_function=CellTask(
                lambda composed: called.append((HydraConfig.get().runtime.choices["data"], composed.seed)), plans=True
            ),
            config=demo(),
        )
        assert each.sweep(["seed=1,2"]) == []
        assert called == [("20k", 1), ("20k", 2), ("50k", 1), ("50k", 2)]
        with pytest.raises(ConfigError) as caught:
            each.sweep(["method=glob(z*)"])
        assert (only_fault(caught).code, only_fault(caught).key) == ("no-effect", "method")
        with pytest.raises(ConfigError) as caught:
            each.sweep(["sed=1"])
        assert (only_fault(caught).code, only_fault(caught).key) == ("unknown-key", "sed")


def test_planning_raises_faults_of_all_cells() -> None:
    register_schema()
    register_plugins()

    def refuse(composed: Any) -> None:
        if composed.seed > 1:
            raise ConfigError(Fault("not-allowed", "is refused", key="seed", got=composed.seed))

    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        each = sweeper.MatrixSweeper()
        each.setup(
            hydra_context=cast(Any, SimpleNamespace(config_loader=GlobalHydra.instance().config_loader())),
            task_function=CellTask(refuse, plans=True),
            config=demo(),
        )
        with pytest.raises(ConfigError) as caught:
            each.sweep(["seed=1,2,3"])
        assert [fault.got for fault in caught.value.faults] == [2, 3]
