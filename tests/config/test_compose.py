import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from medqa_finetune.config.compose import restore_config, to_config, with_file
from medqa_finetune.config.explain import explain
from medqa_finetune.config.groups import conf_folder, option_names
from medqa_finetune.config.identity import Fingerprints, as_written, run_name, settings_of
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault
from tests.config.builders import VALID, changed, compose
from tests.faulty import only_fault


def faults_of(*overrides: str) -> Sequence[Fault]:
    """Return what is refused, whether Hydra or `to_config` does."""
    try:
        to_config(compose(*overrides))
    except ConfigError as error:
        return error.faults
    except Exception as error:  # Hydra's own kinds, and ValueError
        return explain(error, overrides)
    pytest.fail(f"{overrides} was accepted")


def test_defaults_become_a_checked_configuration() -> None:
    config = to_config(compose())
    assert isinstance(config, Config)
    assert (config.method.name, config.data.train_size, config.train.scheduler) == ("lora", 20000, "cosine")


def test_values_take_the_types_of_the_schema() -> None:
    config = to_config(compose("train.epochs=2", "evaluate.metrics=[bleu]", "method.target_modules=[q_proj]"))
    assert isinstance(config.train.epochs, float)
    assert config.evaluate.metrics == ["bleu"]
    assert config.method.target_modules == ["q_proj"]


def test_hydras_own_node_is_no_setting() -> None:
    composed = compose()
    assert "hydra" in composed
    assert isinstance(to_config(composed), Config)


def test_composing_leaves_hydra_as_it_was() -> None:
    compose("seed=1")
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("override", "code", "key", "got", "hint"),
    [
        ("train.epohcs=1", "unknown-key", "train.epohcs", NO_VALUE, "train.epochs?"),
        ("trian.epochs=1", "unknown-key", "trian.epochs", NO_VALUE, "train.epochs"),
        ("mehtod=qlora", "unknown-key", "mehtod", NO_VALUE, "method?"),
        ("nothing_like_it=1", "unknown-key", "nothing_like_it", NO_VALUE, "--help"),
        ("+train.epohcs=1", "unknown-key", "train.epohcs", NO_VALUE, "train.epochs"),
        ("+learning_rate=1", "unknown-key", "learning_rate", NO_VALUE, "train.learning_rate"),
        ("train.epochs=fast", "wrong-type", "train.epochs", "fast", ""),
        ("train.max_steps=1.5", "wrong-type", "train.max_steps", 1.5, ""),
        ("seed=true", "wrong-type", "seed", True, ""),
        ("overwrite=maybe", "wrong-type", "overwrite", "maybe", ""),
        ("method.rank=null", "wrong-type", "method.rank", None, ""),
        ("data.scale=[1]", "wrong-type", "data.scale", [1], ""),
        ("train.scheduler=[a]", "wrong-type", "train.scheduler", ["a"], ""),
        ("evaluate.metrics=rouge", "wrong-type", "evaluate.metrics", "rouge", ""),
        ("method=qlor", "not-allowed", "method", "qlor", ""),
        ("data=30k", "not-allowed", "data", "30k", ""),
        ("profile=gpu", "not-allowed", "profile", "gpu", ""),
        ("outputs=${oc.env:MEDQA_NOT_SET}", "variable-not-set", "outputs", "${oc.env:MEDQA_NOT_SET}",
         "export MEDQA_NOT_SET="),
        ("outputs=${train.epohcs}", "unresolved", "outputs", "${train.epohcs}", "train.epochs?"),
        ("train.epochs=???", "missing-key", "train.epochs", NO_VALUE, "train.epochs=VALUE"),
        ("model=local", "missing-key", "model.path", NO_VALUE, "model.path=VALUE"),
        ("corpus=csv", "missing-key", "corpus.path", NO_VALUE, "corpus.path=FILE"),
        ("~method", "missing-key", "method.name", NO_VALUE, "method.name=VALUE"),
        ("just_a_word", "not-key-value", None, "just_a_word", ""),
        ("method=lora,qlora", "several-values", "method", "lora,qlora", "--multirun"),
        ("train.epochs=-1", "out-of-range", "train.epochs", -1.0, ""),
    ],
)  # fmt: skip
def test_a_fault_has_its_key_and_what_helps(override: str, code: str, key: str | None, got: Any, hint: str) -> None:
    (fault,) = faults_of(override)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert hint in fault.hint
    assert list(fault.allowed) == (option_names(str(key)) if code == "not-allowed" else [])
    assert "\n" not in fault.line()


@pytest.mark.parametrize("noise", ["full_key", "object_type", "search path", "hydra.cc", "To append"])
@pytest.mark.parametrize("override", ["train.epohcs=1", "method=qlor", "train.epochs=fast", "just_a_word"])
def test_what_helps_nobody_is_left_out(override: str, noise: str) -> None:
    (fault,) = faults_of(override)
    assert noise not in fault.line()


def test_long_arguments_are_shortened() -> None:
    (fault,) = faults_of(f"{'x' * 250}=1")
    assert len(fault.line()) < 340


def test_everything_missing_is_told_at_once() -> None:
    assert [fault.key for fault in faults_of("~method", "model=local")] == ["method.name", "model.path"]


def test_keys_in_user_files_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    for path in conf_folder().rglob("*.yaml"):
        copy = folder / path.relative_to(conf_folder())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "train" / "mine.yaml").write_text("epohcs: 3\n", encoding="utf-8")
    with pytest.raises(HydraException) as caught:
        to_config(compose("train=mine", folder=folder))
    (fault,) = explain(caught.value, ["train=mine"], [folder])
    assert (fault.code, fault.key, fault.got) == ("unknown-key", "train.epohcs", 3)
    assert fault.file == str(folder / "train" / "mine.yaml")
    assert "train.epochs?" in fault.hint


def test_interpolations_are_kept_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    monkeypatch.setenv("MY_RATE", "0.001")
    config = to_config(
        compose(
            "profile=demo", "corpus.repository=${oc.env:MY_TOKEN}", "corpus.revision=${corpus.repository}",
            "corpus.files=[a,'${oc.env:MY_TOKEN}']", "train.learning_rate=${oc.env:MY_RATE}",
        )
    )  # fmt: skip
    assert (config.corpus.repository, config.corpus.revision, config.train.learning_rate) == ("s3cret", "s3cret", 0.001)
    kept = as_written(settings_of(config, Fingerprints("c", "m")), config)
    assert "s3cret" not in json.dumps(kept)
    assert kept["corpus"]["repository"] == "${oc.env:MY_TOKEN}"
    assert kept["corpus"]["files"] == ["a", "${oc.env:MY_TOKEN}"]
    assert kept["train"]["learning_rate"] == 0.001
    assert "s3cret" not in run_name(config, {"corpus.repository": None, "corpus.revision": "main"}, {})


def test_what_was_interpolated_cannot_be_given_by_hand() -> None:
    (fault,) = faults_of("profile=demo", "+interpolated.model.path=x")
    assert (fault.code, fault.key) == ("unknown-key", "interpolated.model.path")


MARKS = Fingerprints("c" * 64, "m" * 64)


def test_settings_are_restored_from_a_record() -> None:
    config = changed(VALID, method__target_modules=["q_proj"], train__epochs=2.5, threads=3, run_name="lora_20k")
    written = json.loads(json.dumps(as_written(settings_of(config, MARKS), config)))
    assert restore_config(written) == config


@pytest.mark.parametrize(("task", "parts"), [("qa", "ignore"), ("text", "auto")])
def test_records_from_before_published_parts_keep_their_division(task: str, parts: str) -> None:
    written = settings_of(changed(VALID, corpus__task=task, corpus__source="file", corpus__path="a"), MARKS)
    del written["corpus"]["parts"]
    assert restore_config(written).corpus.parts == parts


def test_restored_interpolations_are_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written = settings_of(VALID, MARKS)
    written["model"]["path"] = "${oc.env:MY_MODELS}/chat"
    monkeypatch.setenv("MY_MODELS", "/models")
    assert restore_config(written).model.path == "/models/chat"


def test_restored_settings_are_checked() -> None:
    written = settings_of(VALID, MARKS)
    written["method"]["rank"] = 0
    with pytest.raises(ConfigError) as caught:
        restore_config(written)
    assert (only_fault(caught).key, only_fault(caught).got) == ("method.rank", 0)


def test_a_missing_name_is_shown_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "mine.yaml"
    path.write_text("train_size: 300\n", encoding="utf-8")
    runtime = {"choices": {"data": "mine"}, "config_sources": [{"path": str(tmp_path), "schema": "file"}]}
    fault = with_file(Fault("missing-key", "is missing", key="data.name"), OmegaConf.create({"runtime": runtime}))
    assert fault.file == str(path)
    assert "name: mine" in fault.hint
