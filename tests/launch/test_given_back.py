"""A configuration that was written before, given back by Hydra's flags."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medqa_finetune.cell import Cell
from medqa_finetune.config.compose import CONFIG_NAME, register_schema
from medqa_finetune.config.flags import CommandLine, split_flags
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.compose import make_cell
from medqa_finetune.launch.given_back import with_file_given_back
from medqa_finetune.launch.launcher import register_plugins
from tests.faulty import only_fault

TYPED = ("profile=demo", "method=qlora", "data=50k", "train.learning_rate=0.001", "seed=3",
         "corpus.empty_values=['无','a, b']", "corpus.separator='it\\'s'")  # fmt: skip


@pytest.fixture(autouse=True)
def hydra_is_off() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


def cell(*overrides: str) -> Cell:
    register_schema()
    register_plugins()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        composed = hydra.compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
        return make_cell(composed, composed.hydra, overrides)


@cache
def first() -> Cell:
    return cell(*TYPED)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, as far as it is read here."""
    monkeypatch.chdir(tmp_path)
    folder = first().run.path
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(first().written_settings), folder / "config.yaml")
    (folder / "record.json").write_text("{}", encoding="utf-8")
    return folder


def given(*arguments: str) -> CommandLine:
    return with_file_given_back(split_flags(arguments))


def test_saved_configuration_is_the_same_cell_again(run: Path) -> None:
    lines = [given("--config-path", str(run), "--config-name", "config"), given("--config-dir", str(run))]
    assert [line.flags for line in lines] == [{}, {}]
    assert lines[0].overrides == lines[1].overrides
    again = cell(*lines[0].overrides, "overwrite=true")
    assert (again.config.run_name, again.identity) == (first().config.run_name, first().identity)
    assert again.evaluation_identity == first().evaluation_identity
    assert again.run.path == first().run.path
    # Only what differs from the groups is typed again.
    assert len(lines[0].overrides) < 15


def test_typed_settings_come_before_saved_ones(run: Path) -> None:
    overrides = given("--config-dir", str(run), "method=lora", "seed=4").overrides
    assert [each for each in overrides if each.startswith(("method", "seed"))] == ["method=lora", "seed=4"]
    assert "train.learning_rate=0.001" in overrides


def test_run_given_back_from_elsewhere_is_found(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.absolute()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert f"outputs='{tmp_path}/outputs'" in given("--config-dir", str(folder)).overrides


def test_unknown_keys_of_the_file_are_named(run: Path) -> None:
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("sede: 1\n")
    with pytest.raises(ConfigError) as caught:
        given("--config-dir", str(run))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("unknown-key", "sede", str(run / "config.yaml"))


def test_profile_next_to_a_saved_configuration_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        given("--config-dir", str(run), "profile=demo")
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "profile")


def test_file_shadowed_by_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("defaults: [method: lora]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        given("--config-dir", str(tmp_path))
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "--config-dir")


def test_configuration_with_defaults_list_stays_hydras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nseed: 3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path.parent)
    line = given("--config-path", tmp_path.name, "--config-name", "mine")
    assert line.flags == {"--config-path": str(tmp_path), "--config-name": "mine"}


def test_missing_folder_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        given("--config-path", "no/such/folder")
    assert only_fault(caught).code == "file-missing"


@pytest.mark.parametrize("typed", [(), ("method=none",)])
def test_settings_that_the_method_does_not_read_are_left_out(
    typed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a profile in a folder that is not given: all that differs from ours is in the file alone."""
    monkeypatch.chdir(tmp_path)
    saved = cell("profile=demo", "method=retrieval", "data=20k").written_settings
    saved = {**saved, "train": {**saved["train"], "epochs": 7.0, "logging_steps": 3}, "seed": 5}
    OmegaConf.save(OmegaConf.create(saved), tmp_path / "config.yaml")
    line = given("--config-dir", str(tmp_path), "--config-name", "config", *typed)
    assert [each for each in line.overrides if each.startswith("train.")] == []
    assert "seed=5" in line.overrides
    made = cell(*line.overrides)
    assert made.config.method.name == ("none" if typed else "retrieval")
