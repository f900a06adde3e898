"""What cannot take effect is refused, with a remedy."""

import dataclasses
from pathlib import Path

import pytest

from medqa_finetune.compat.hydra import read_config_file
from medqa_finetune.config.composition_line import read_composition
from medqa_finetune.config.no_effect import (
    file_faults,
    refuse_of_a_matrix,
    refuse_unused_settings,
    unchosen,
    used_overrides,
)
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import NO_VALUE, ConfigError
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.stopping import LAUNCHER_VARIABLE
from tests.config.builders import VALID
from tests.faulty import only_fault


@pytest.mark.parametrize(
    ("typed", "code", "key", "got", "hint"),
    [
        ("method=[lora,qlora]", "several-merged", "method", ["lora", "qlora"], "-m method=lora,qlora`"),
        ("-m method=[lora,qlora] seed=1", "several-merged", "method", ["lora", "qlora"], "-m method=lora,qlora seed=1"),
        ("-m data=[20k,50k],all", "several-merged", "data", ["20k", "50k"], "-m data=20k,50k`"),
        ("tracker=[wandb,mlflow]", "several-merged", "tracker", ["wandb", "mlflow"], "report_to=[wandb,mlflow]"),
        ("~tracker", "no-effect", "~tracker", NO_VALUE, "tracker=none"),
        ("~method", "no-effect", "~method", NO_VALUE, "method=NAME"),
        ("~train.epochs", "no-effect", "~train.epochs", NO_VALUE, "train.epochs=VALUE"),
        ("~hydra.launcher", "no-effect", "~hydra.launcher", NO_VALUE, ""),
        ("+method=lora", "key-exists", "+method", "lora", " method=lora`"),
        ("++method=lora", "key-exists", "++method", "lora", " method=lora`"),
        ("method@a=lora", "no-effect", "method@a", "lora", " method=lora`"),
        ("hydra.run.dir=x", "no-effect", "hydra.run.dir", "x", "outputs=DIR"),
        ("hydra.sweep.dir=x", "no-effect", "hydra.sweep.dir", "x", "outputs=DIR"),
        ("-m hydra.sweep.subdir=x", "no-effect", "hydra.sweep.subdir", "x", "outputs=DIR"),
        ("hydra.job.chdir=true", "no-effect", "hydra.job.chdir", True, "outputs=DIR"),
        ("hydra.output_subdir=x", "no-effect", "hydra.output_subdir", "x", "config.yaml"),
        ("hydra.job.name=x", "no-effect", "hydra.job.name", "x", "study=NAME"),
        ("hydra.runtime.output_dir=x", "no-effect", "hydra.runtime.output_dir", "x", ""),
        ("hydra/help=default", "no-effect", "hydra/help", "default", ""),
        ("-m hydra.launcher.retries=1,2", "no-effect", "hydra.launcher.retries", "1,2", "one value"),
        ("profile=[demo,8gb]", "several-merged", "profile", ["demo", "8gb"], "profile=demo`"),
        ("-m hydra/sweeper=[matrix,rank]", "wrong-type", "hydra/sweeper", "[matrix,rank]", "hydra/sweeper=NAME"),
        ("-m hydra.launcher=null", "wrong-type", "hydra.launcher", "null", "hydra/launcher=NAME"),
        ("hydra.searchpath=[file:///nowhere]", "file-missing", "hydra.searchpath", "file:///nowhere", ""),
        ("hydra.searchpath=file://x", "wrong-type", "hydra.searchpath", "file://x", "hydra.searchpath=[file://x]"),
        ("hydra.searchpath=[pkg://nowhere.x]", "file-missing", "hydra.searchpath", "pkg://nowhere.x", ""),
        ("--config-dir conf/config.yaml", "file-missing", "--config-dir", "conf/config.yaml", "--config-name config"),
        ("-m hydra.mode=RUN", "conflict", "hydra.mode", "RUN", ""),
    ],
)  # fmt: skip
def test_arguments_in_vain_are_refused(typed: str, code: str, key: str, got: object, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_composition(typed.split())
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert hint in fault.hint.replace("'", "")


@pytest.mark.parametrize(
    "typed",
    ["hydra.run.dir=.", "hydra.job.chdir=false", "hydra.output_subdir=null", "-m hydra.launcher.retries=2",
     "-m hydra/launcher=basic", "hydra.searchpath=[file:///tmp]", "+hydra.job.env_set.A=1", "hydra.verbose=true",
     "hydra.mode=MULTIRUN", "hydra.unknown=1", "train={epochs:3}", "+experiment=x",
     "method=lora method=qlora", "corpus.question=[title,ask]"],
)  # fmt: skip
def test_arguments_with_an_effect_are_taken(typed: str) -> None:
    assert read_composition(typed.split())


def test_a_launchers_own_arguments_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "1")
    assert read_composition(["hydra.run.dir=x"])


def of_method(name: str, trains: str) -> Config:
    return dataclasses.replace(VALID, method=MethodConfig(name=name, trains=trains))


LORA, FULL, NONE = of_method("lora", "adapter"), of_method("full", "all"), of_method("none", "nothing")


@pytest.mark.parametrize(
    ("config", "override", "with_what"),
    [
        (FULL, "method.rank=8", "method=full"), (FULL, "method.dropout=0.1", "method=full"),
        (NONE, "method.alpha=8", "method=none"), (NONE, "train.epochs=3", "method=none"),
        (LORA, "corpus.repository=a/b", "corpus.source=embedded"), (LORA, "corpus.path=x", "corpus.source=embedded"),
        (LORA, "evaluate.stride=8", "evaluate.text=null"),
    ],
)  # fmt: skip
def test_a_setting_that_the_run_does_not_use_is_refused(config: Config, override: str, with_what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_unused_settings([(config, ["seed=1", override])])
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("no-effect", override.partition("=")[0])
    assert with_what in fault.problem


@pytest.mark.parametrize(
    ("config", "override"),
    [(LORA, "method.rank=8"), (FULL, "train.epochs=3"), (NONE, "train.max_length=8"), (NONE, "method.quantization=nf4"),
     (FULL, "method.name=mine"), (LORA, "corpus.question=ask"), (NONE, "method=none"), (NONE, "train=mine")],
)  # fmt: skip
def test_a_setting_that_the_run_uses_is_taken(config: Config, override: str) -> None:
    refuse_unused_settings([(config, [override])])


def test_one_cell_that_uses_a_setting_is_enough() -> None:
    refuse_unused_settings([(NONE, ["method.rank=8"]), (LORA, ["method.rank=8"])])
    assert used_overrides(NONE, ["method.rank=8", "seed=1"]) == ["seed=1"]


def test_settings_of_a_matrix_need_one() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_of_a_matrix(["hydra.launcher.max_parallel=2"])
    assert (only_fault(caught).code, only_fault(caught).key) == ("no-effect", "hydra.launcher.max_parallel")


CHOICES = {"method": "qlora", "hydra/launcher": "local"}


@pytest.mark.parametrize(
    ("content", "choices", "code", "key"),
    [
        ("defaults: [{override /hydra/launcher: basic}]", CHOICES, "no-effect", "override /hydra/launcher"),
        ("defaults: [{override /method: [lora, qlora]}]", {}, "several-merged", "override /method"),
        ("hydra: {sweep: {dir: x}}", CHOICES, "no-effect", "hydra.sweep.dir"),
        ("hydra: {job: {chdir: true}}", CHOICES, "no-effect", "hydra.job.chdir"),
    ],
)
def test_a_file_that_sets_something_in_vain_is_named(
    content: str, choices: dict[str, object], code: str, key: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text(f"# @package _global_\n{content}\n", encoding="utf-8")
    (tmp_path / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    files = [file for name in ("config", "experiment/mine") if (file := read_config_file(name, [tmp_path]))]
    (fault,) = file_faults(files, choices)
    assert (fault.code, fault.key, fault.file) == (code, key, str(path))


def test_a_file_may_choose_a_method_and_sweep(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [{override /method: qlora}]\nhydra: {sweeper: {params: {seed: '1,2'}}}\n", "utf-8")
    file = read_config_file("mine", [tmp_path])
    assert file is not None
    assert [*file_faults([file, file], CHOICES)] == []


def test_a_group_without_a_choice_is_refused() -> None:
    (fault,) = unchosen({"tracker": None, "profile": None, "method": "lora"})
    assert (fault.code, fault.key) == ("no-effect", "tracker")
