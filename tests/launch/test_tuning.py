"""Settings chosen by validation loss: trials, their file, what is refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from medqa_finetune.config.compose import CONFIG_NAME, register_schema
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError, DataError, Fault, MedQAError, RunError
from medqa_finetune.launch import tuning
from medqa_finetune.launch.launcher import register_plugins
from medqa_finetune.launch.study import Study, Trial, propose
from medqa_finetune.launch.task import CellTask
from tests.faulty import only_fault

RATES = [0.001, 0.002, 0.003, 0.004]


def proposed(space: Mapping[str, Any], trials: Sequence[Trial], count: int, *_: object) -> list[dict[str, Any]]:
    """Propose the learning rates of `RATES` in order."""
    return [dict.fromkeys(space, rate) for rate in RATES[len(trials) :][:count]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[float]]:
    """Return the learning rates of the trials that ran; they have a loss of 1/rate, and 0.003 fails."""
    rates: list[float] = []

    def trials(_: object, load: Any, __: object, asked: Sequence[tuple[str, ...]], *, here: bool) -> list[JobReturn]:
        assert here
        results = []
        for overrides in asked:
            rate = float(load(overrides).train.learning_rate)
            rates.append(rate)
            result = JobReturn(status=JobStatus.FAILED if rate == 0.003 else JobStatus.COMPLETED)
            error: MedQAError = RunError(Fault("run-failed", "bad luck"))
            result.return_value = error if rate == 0.003 else 1 / rate
            results.append(result)
        return results

    monkeypatch.setattr(tuning, "propose", proposed)
    monkeypatch.setattr(tuning, "check_optuna", lambda: None)
    monkeypatch.setattr(tuning, "launch_trials", trials)
    monkeypatch.chdir(tmp_path)
    yield rates
    GlobalHydra.instance().clear()


def tune(*arguments: str, task: CellTask | None = None, **settings: Any) -> None:
    register_schema()
    register_plugins()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        sweeper = tuning.TuningSweeper(**settings)
        sweeper.launcher = cast(Any, SimpleNamespace())
        sweeper.hydra_context = cast(Any, SimpleNamespace(config_loader=GlobalHydra.instance().config_loader()))
        sweeper.config = hydra.compose(CONFIG_NAME, ["profile=demo"], return_hydra_config=True)
        if task is not None:
            sweeper.setup(hydra_context=sweeper.hydra_context, task_function=task, config=sweeper.config)
        sweeper.sweep(["profile=demo", *arguments])


RATE = "train.learning_rate=interval(0.0001,0.01)"


def test_study_goes_on_and_keeps_what_failed(ended: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    tune(RATE, n_trials=3)
    assert ended == [0.001, 0.002, 0.003]
    (path,) = Path("outputs/demo").glob("sweep_learning_rate_*.json")
    study = json.loads(path.read_text(encoding="utf-8"))
    assert [trial["status"] for trial in study["trials"]] == ["done", "done", "failed"]
    assert study["best"]["value"] == 500.0
    assert "train.learning_rate=0.002" in study["best"]["command"]
    said = capsys.readouterr().out
    assert str(path) in said
    assert "python -m medqa_finetune.train profile=demo train.learning_rate=0.002" in said
    tune(RATE, n_trials=4)
    assert ended == RATES
    tune(RATE, n_trials=4)
    assert ended == RATES


def test_stopped_trial_runs_again_with_its_values(ended: list[float]) -> None:
    tune(RATE, n_trials=1)
    (path,) = Path("outputs/demo").glob("sweep_*.json")
    study = json.loads(path.read_text(encoding="utf-8"))
    study["trials"].append({"values": {"train.learning_rate": 0.0077}})
    path.write_text(json.dumps(study), encoding="utf-8")
    tune(RATE, n_trials=2)
    assert ended == [0.001, 0.0077]


def test_study_without_finished_trial_fails(ended: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "propose", lambda *_: [{"train.learning_rate": 0.003}])
    with pytest.raises(RunError) as caught:
        tune(RATE, n_trials=1)
    assert [fault.code for fault in caught.value.faults] == ["runs-not-done", "run-failed"]


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(
    ("arguments", "settings", "key"),
    [
        (["method=lora"], {}, "hydra.sweeper.space"),
        ([RATE, "method=none"], {}, "method"),
        (["model=tiny,qwen3-0.6b"], {}, "hydra.sweeper.space"),
        ([RATE, "method=lora,none"], {}, "method"),
        (["train.max_length=128,256"], {}, "train.max_length"),
        (["evaluate.max_samples=1,2"], {}, "evaluate.max_samples"),
        (["threads=1,2"], {}, "threads"),
        (["method=full", "method.rank=4,8"], {}, "method.rank"),
        ([RATE, "method=full", "method.rank=8"], {}, "method.rank"),
        (["train.learning_rate=interval(1e-3,1e-4)"], {}, "train.learning_rate"),
        (["train.learning_rate=tag(log,interval(0,1e-4))"], {}, "train.learning_rate"),
        (["train.learning_rate=glob(z*)"], {}, "train.learning_rate"),
        (["train.epochs=1,2", "train.validation_samples=auto"], {}, "train.epochs"),
        ([RATE], {"n_trials": 0}, "hydra.sweeper.n_trials"),
        ([RATE], {"sampler": "grid"}, "hydra.sweeper.sampler"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    arguments: list[str], settings: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "propose", lambda space, *_: [dict.fromkeys(space, 4)])
    with pytest.raises(ConfigError) as caught:
        tune(*arguments, **settings)
    assert only_fault(caught).key == key


def test_plan_takes_as_many_trials_and_runs_none(ended: list[float], tmp_path: Path) -> None:
    taken: list[float] = []
    task = CellTask(lambda composed: taken.append(composed.train.learning_rate), plans=True)
    tune(RATE, task=task, n_trials=3)
    assert taken == RATES[:3]
    assert ended == []
    assert list(tmp_path.rglob("sweep_*")) == []


def test_every_method_has_a_study_of_its_own(ended: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    tune(RATE, "method=lora,full", n_trials=2)
    assert ended == [*RATES[:2], *RATES[:2]]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in Path("outputs/demo").glob("sweep_*.json")]
    assert sorted(study["fixed"][-1] for study in found) == ["method=full", "method=lora"]
    assert capsys.readouterr().out.count("its command: ") == 2


def test_plan_takes_the_trials_of_every_study(ended: list[float]) -> None:
    taken: list[str] = []
    task = CellTask(lambda composed: taken.append(composed.method.name), plans=True)
    tune(RATE, "method=lora,full", task=task, n_trials=2)
    assert taken == ["lora", "lora", "full", "full"]
    assert ended == []


def test_study_refuses_trials_of_other_settings(tmp_path: Path) -> None:
    study = Study(tmp_path / "sweep.json", {}, [])
    study.settle({"train.weight_decay": 0.1, "train.max_steps": None})
    study.write()
    again = Study(study.path, {}, [])
    again.read()
    again.settle({"train.weight_decay": 0.1, "train.max_steps": None, "train.new": 1})
    with pytest.raises(ConfigError) as caught:
        again.settle({"train.weight_decay": 0.2})
    assert (only_fault(caught).key, only_fault(caught).got) == ("train.weight_decay", 0.2)


@pytest.mark.usefixtures("ended")
def test_what_can_never_work_comes_before_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ConfigError(Fault("not-installed", "optuna"))

    monkeypatch.setattr(tuning, "check_optuna", missing)
    with pytest.raises(ConfigError) as caught:
        tune("method=full", "method.rank=4,8")
    assert only_fault(caught).key == "method.rank"


def test_torn_study_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"trials": [', encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Study(tmp_path / "sweep.json", {}, []).read()
    assert only_fault(caught).code == "not-readable"


def test_proposals_follow_from_results_alone() -> None:
    pytest.importorskip("optuna", minversion="4")
    parsed = OverridesParser.create().parse_overrides(
        ["train.learning_rate=tag(log,interval(1e-5,1e-3))", "method.rank=4,8", "seed=range(1,7,2)"]
    )
    space = {override.get_key_element(): override for override in parsed}
    trials: list[Trial] = []
    for _ in range(7):
        (values,) = propose(space, trials, 1, "tpe", 0)
        assert propose(space, trials, 1, "tpe", 0) == [values]
        assert 1e-5 <= values["train.learning_rate"] <= 1e-3
        assert values["method.rank"] in ("4", "8")
        assert values["seed"] in (1, 3, 5)
        trials.append(Trial(values, "done", values["train.learning_rate"]))
    assert len(propose(space, trials, 3, "random", 0)) == 3
    small = {"method.rank": space["method.rank"]}
    both = [Trial(values, "done", 1.0) for values in propose(small, [], 2, "tpe", 0)]
    assert propose(small, both, 1, "tpe", 0) == []
