import json
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from medqa_finetune.config.compose import to_config
from medqa_finetune.config.explain import MESSAGE_LENGTH, explain
from medqa_finetune.config.identity import Fingerprints, as_written, run_name, settings_of
from medqa_finetune.config.options import conf_folder, option_names
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError
from tests.config.builders import compose


def complaint(*overrides: str) -> str:
    """Return what a user is told, whether Hydra or `to_config` refuses."""
    try:
        to_config(compose(*overrides))
    except ConfigError as error:
        return str(error)
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
    ("override", "parts"),
    [
        ("train.epohcs=1", ["train.epohcs", "Did you mean train.epochs?"]),
        ("trian.epochs=1", ["trian.epochs", "Did you mean train.epochs"]),
        ("mehtod=qlora", ["mehtod", "Did you mean method"]),
        ("nothing_like_it=1", ["nothing_like_it", "--help"]),
        ("+train.epohcs=1", ["train.epohcs", "no such key", "train.epochs"]),
        ("+learning_rate=1", ["learning_rate", "no such key", "train.learning_rate"]),
        ("train.epochs=fast", ["train.epochs=fast", "a number"]),
        ("train.max_steps=1.5", ["train.max_steps=1.5", "a whole number"]),
        ("seed=true", ["seed=true", "a whole number"]),
        ("overwrite=maybe", ["overwrite=maybe", "true or false"]),
        ("method.rank=null", ["method.rank=null", "null is not allowed"]),
        ("data.scale=[1]", ["data.scale=[1]", "a number"]),
        ("train.scheduler=[a]", ["train.scheduler=[a]", "text"]),
        ("evaluate.metrics=rouge", ["evaluate.metrics=rouge", "a list"]),
        ("method=qlor", ["method=qlor: allowed are", *option_names("method")]),
        ("data=30k", ["data=30k: allowed are", *option_names("data")]),
        ("profile=gpu", ["profile=gpu: allowed are", *option_names("profile")]),
        ("outputs=${oc.env:MEDQA_NOT_SET}", ["outputs", "MEDQA_NOT_SET", "is not set"]),
        ("outputs=${train.epohcs}", ["outputs", "train.epohcs", "not found"]),
        ("train.epochs=???", ["train.epochs is missing", "train.epochs=VALUE"]),
        ("model=local", ["model.path is missing", "model.path=VALUE"]),
        ("corpus=csv", ["corpus.path is missing", "corpus.path=FILE"]),
        ("~method", ["method.name is missing"]),
        ("just_a_word", ["just_a_word", "key=value"]),
        ("method=lora,qlora", ["method=lora,qlora", "--multirun"]),
        ("train.epochs=-1", ["train.epochs=-1.0", "above 0"]),
    ],
)
def test_a_fault_is_told_with_its_key_and_what_helps(override: str, parts: list[str]) -> None:
    told = complaint(override)
    for part in parts:
        assert part in told
    assert "\n" not in told
    assert len(told) <= MESSAGE_LENGTH


@pytest.mark.parametrize("noise", ["full_key", "object_type", "search path", "hydra.cc", "To append"])
@pytest.mark.parametrize("override", ["train.epohcs=1", "method=qlor", "train.epochs=fast", "just_a_word"])
def test_what_helps_nobody_is_left_out(override: str, noise: str) -> None:
    assert noise not in complaint(override)


def test_everything_missing_is_told_at_once() -> None:
    lines = complaint("~method", "model=local").splitlines()
    assert [line.split()[0] for line in lines] == ["method.name", "model.path"]


def test_a_key_in_a_users_own_file_is_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    for path in conf_folder().rglob("*.yaml"):
        copy = folder / path.relative_to(conf_folder())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "train" / "mine.yaml").write_text("epohcs: 3\n", encoding="utf-8")
    with pytest.raises(HydraException) as caught:
        to_config(compose("train=mine", folder=folder))
    told = explain(caught.value, ["train=mine"], [folder])
    assert told.startswith("train/mine.yaml: train.epohcs: ")
    assert "Did you mean train.epochs" in told


def test_texts_from_the_environment_are_kept_as_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(ConfigError, match=r"interpolated\.model\.path: there is no such key"):
        to_config(compose("profile=demo", "+interpolated.model.path=x"))
