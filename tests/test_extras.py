"""What is not installed is refused before data is looked at, by every way to start a run."""

import importlib.util
import json
from pathlib import Path

import pytest

from medqa_finetune import finetune
from medqa_finetune.errors import ConfigError
from medqa_finetune.preflight import check_packages
from tests.commands import train
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

PAIRS = [(f"第{number}个问题？", "多休息。") for number in range(30)]
WANTED = {"evaluate__backend": "vllm", "train__kernels": "liger", "evaluate__zero_shot": ["ceval-valid"]}
without_liger = pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is not None, reason="liger is installed")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.evaluation.backends.find_spec", lambda _: None)
    monkeypatch.setattr("medqa_finetune.model.kernels.find_spec", lambda _: None)
    monkeypatch.setattr("medqa_finetune.preflight.find_spec", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


@pytest.mark.usefixtures("nothing_installed")
def test_all_that_is_missing_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_packages(changed(VALID, **WANTED, tracker__report_to=["mlflow"]))
    found = [(fault.code, fault.key) for fault in caught.value.faults]
    keys = ["evaluate.backend", "evaluate.zero_shot", "train.kernels", "tracker.report_to"]
    assert found == [("not-installed", key) for key in keys]
    assert all("pip install" in fault.hint for fault in caught.value.faults)
    assert caught.value.faults[-1].got == ["mlflow"]


@pytest.mark.usefixtures("nothing_installed")
def test_what_run_does_not_use_may_be_missing() -> None:
    nothing = changed(VALID, tracker__report_to=[])
    check_packages(nothing)
    check_packages(changed(nothing, **WANTED, method__trains="lookup"))
    check_packages(changed(nothing, train__kernels="liger", method__trains="nothing"))


@without_liger
@pytest.mark.parametrize("sweep", [(), ("-m",)])
def test_the_command_prepares_no_corpus_first(
    sweep: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = tmp_path / "here", tmp_path / "faults.json"
    folder.mkdir()
    monkeypatch.setenv("MEDQA_FAULTS_FILE", str(said))
    done = train(*sweep, "profile=demo", "method=lora", "data=20k", "train.kernels=liger", cwd=folder)
    assert done.returncode == 2
    (fault,) = json.loads(said.read_text(encoding="utf-8"))["faults"]
    assert (fault["code"], fault["key"]) == ("not-installed", "train.kernels")
    assert not list(folder.rglob("*.*"))


@without_liger
def test_python_writes_no_pairs_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        finetune("tiny", PAIRS, outputs=tmp_path, tracker="none", train={"kernels": "liger"})
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-installed", "train.kernels")
    assert list(tmp_path.iterdir()) == []
