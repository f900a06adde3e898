"""What is said of a fault comes from classes, fields, the schema, what was typed and the files; never from words."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException

from medqa_finetune.config import compose as composing
from medqa_finetune.config.compose import to_config
from medqa_finetune.config.explain import dotted_keys, explain, hint_of, schema_node
from medqa_finetune.config.options import conf_folder, option_names
from medqa_finetune.errors import ConfigError
from tests.config.builders import VALID, compose, leaf_keys

OTHER_WORDS = "Ganz andere Worte.\n  and: more"


def reworded(error: BaseException) -> BaseException:
    """Return an error whose words, and those of all behind it, are other ones, as after a release of its library."""
    for each in _chain(error):
        if not isinstance(each, UnicodeDecodeError):
            each.args = (OTHER_WORDS,)
        for attribute in ("msg", "message", "problem", "context", "reason"):
            if getattr(each, attribute, None) is not None:
                setattr(each, attribute, OTHER_WORDS)
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def told(
    overrides: Sequence[str], monkeypatch: pytest.MonkeyPatch, folder: Path | None = None, *, other_words: bool
) -> str:
    """Return what a user is told of a composition, whether Hydra or `to_config` refuses it."""

    def explained(error: Exception, **known: Any) -> str:
        return explain(reworded(error) if other_words else error, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(composing, "explain", explained)
    try:
        to_config(compose(*overrides, folder=folder))
    except ConfigError as error:
        return str(error)
    except Exception as error:  # Hydra's own kinds, ValueError, OSError
        return explained(error, typed=overrides, folders=[folder or conf_folder()])
    pytest.fail(f"{overrides} was accepted")


TYPED = [
    (["train.epohcs=1"], ["train.epohcs", "train.epochs?"]),
    (["trian.epochs=1"], ["trian.epochs", "train.epochs"]),
    (["mehtod=qlora"], ["mehtod", "method?"]),
    (["+train.epohcs=1"], ["train.epohcs", "train.epochs"]),
    (["train={epohcs:1}"], ["train.epohcs", "train.epochs?"]),
    (["method@foo=lora"], ["method@foo", "method"]),
    (["nogroup/x=1"], ["nogroup/x"]),
    (["~train.epohcs"], ["~train.epohcs", "train.epochs?"]),
    (["+train.epochs=3"], ["+train.epochs=3", "without the +"]),
    (["train.epochs=fast"], ["train.epochs=fast", "a number"]),
    (["train.epochs=fast", "train.epochs=1"], ["train.epochs=fast", "a number"]),
    (["train.epochs.x=1"], ["train.epochs.x=1", "a number"]),
    (["train={epochs:fast}"], ["train={epochs:fast}", "a number"]),
    (["train.max_steps=1.5"], ["train.max_steps=1.5", "a whole number or null"]),
    (["evaluate.max_samples=1e3"], ["evaluate.max_samples=1e3", "a whole number"]),
    (["seed=true"], ["seed=true", "a whole number"]),
    (["overwrite=maybe"], ["overwrite=maybe", "true or false"]),
    (["method.rank=null"], ["method.rank=null", "null is not allowed", "a whole number"]),
    (["data.scale=[1]"], ["data.scale=[1]", "a number"]),
    (["train.scheduler=[a]"], ["train.scheduler=[a]", "text"]),
    (["evaluate.metrics=rouge"], ["evaluate.metrics=rouge", "[a,b]"]),
    (["evaluate.metrics={a:1}"], ["evaluate.metrics={a:1}", "[a,b]"]),
    (["method=qlor"], ["method=qlor", *option_names("method")]),
    (["method=[lora,qlor]"], ["method=qlor", *option_names("method")]),
    (["method=null"], ["method=null", *option_names("method")]),
    (["hydra/launcher=nonsense"], ["hydra/launcher=nonsense", "basic", "local"]),
    (["hydra.launcher.retries=many"], ["hydra.launcher.retries=many", "a whole number"]),
    (["hydra.launcher.patience=1"], ["hydra.launcher.patience", "no such key"]),
    (["hydra.mode=foo"], ["hydra.mode=foo", "RUN", "MULTIRUN"]),
    (["outputs=${oc.env:MEDQA_NOT_SET}"], ["outputs=${oc.env:", "variable MEDQA_NOT_SET"]),
    (["outputs=${study}", "study=${oc.env:MEDQA_NOT_SET}"], ["variable MEDQA_NOT_SET"]),
    (["outputs=${train.epohcs}"], ["outputs=${train.epohcs}", "train.epochs?"]),
    (["train.epochs=${study}", "study=x"], ["train.epochs=x", "a number"]),
    (["outputs=${outputs}"], ["outputs=${outputs}"]),
    (["just_a_word"], ["'just_a_word'", "key=value"]),
    (["=3"], ["'=3'", "key=value"]),
    (["seed=["], ["'seed=['"]),
    (["method=lora,qlora"], ["method=lora,qlora", "--multirun"]),
    (["seed=range(1,3)"], ["seed=range(1,3)", "--multirun"]),
]  # fmt: skip


@pytest.mark.parametrize("other_words", [False, True])
@pytest.mark.parametrize(("overrides", "parts"), TYPED, ids=[" ".join(overrides) for overrides, _ in TYPED])
def test_a_typed_fault_is_told_whatever_words_the_libraries_use(
    overrides: list[str], parts: list[str], other_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(overrides, monkeypatch, other_words=other_words)
    assert [part for part in parts if part not in text] == [], text
    assert "\n" not in text
    assert len(text) <= MESSAGE_LENGTH


WRITTEN = [
    ("epohcs: 3\n", ["train/mine.yaml: train.epohcs", "train.epochs?"]),
    ("epochs: fast\n", ["train/mine.yaml: train.epochs=fast", "a number"]),
    ("epochs: null\n", ["train/mine.yaml: train.epochs=null", "a number"]),
    ("epochs: [1]\n", ["train/mine.yaml: train.epochs=[1]", "a number"]),
    ("epochs: {a: 1}\n", ["train/mine.yaml: train.epochs={'a': 1}", "a number"]),
    ("# @package evaluate\nmetrics: {a: 1}\n", ["train/mine.yaml: evaluate.metrics={'a': 1}", "[a,b]"]),
    ("packing: maybe\n", ["train/mine.yaml: train.packing=maybe", "true or false"]),
    ("max_steps: 1e3\n", ["train/mine.yaml: train.max_steps=1000.0", "a whole number"]),
    ("# @package _global_\ntrain:\n  epohcs: 2\n", ["train/mine.yaml: train.epohcs", "train.epochs?"]),
    ("# @package train\n# mine\nscheduler: [a]\n", ["train/mine.yaml: train.scheduler=['a']", "text"]),
    ("# @package _global_\ntrain: 3\n", ["train/mine.yaml: train=3", "a mapping"]),
    ("- a\n", ["train/mine.yaml: train=['a']", "a mapping"]),
    ("42\n", ["train/mine.yaml", "mapping of keys to values", "42"]),
    ("1: 2\n", ["train/mine.yaml: train.1", "no such key"]),
    ("null: 2\n", ["train/mine.yaml: "]),
    ("epochs: ${\n", ["train/mine.yaml: epochs: "]),
    ("epochs: [1\n", ["train/mine.yaml, line 2", "not YAML"]),
    ("epochs: 1\nepochs: 2\n", ["train/mine.yaml, line 2", "not YAML"]),
    ("defaults: [nosuch]\n", ["train/mine.yaml: train=nosuch", "default, mine"]),
    ("defaults:\n  - /method: nosuch\n", ["train/mine.yaml: method=nosuch", *option_names("method")]),
    ("# @package _global_\nhydra: {mode: 3}\n", ["train/mine.yaml: hydra.mode=3", "RUN or MULTIRUN"]),
    (
        "# @package _global_\nhydra: {launcher: {retries: many}}\n",
        ["mine.yaml: hydra.launcher.retries=many", "a whole"],
    ),
    ("defaults: [other]\n", ["train/other.yaml: train.seed", "no such key"]),
    ("defaults: [/train/other@_here_]\n", ["train/other.yaml: train.seed", "no such key"]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(conf_folder(), tmp_path / "conf")
    return tmp_path / "conf"


@pytest.mark.parametrize("other_words", [False, True])
@pytest.mark.parametrize(("text", "parts"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_a_fault_in_a_file_is_told_with_the_file_whatever_words_the_libraries_use(
    text: str, parts: list[str], other_words: bool, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / "train" / "mine.yaml").write_text(text, encoding="utf-8")
    (folder / "train" / "other.yaml").write_text("seed: 1\n", encoding="utf-8")
    said = told(["train=mine"], monkeypatch, folder, other_words=other_words)
    assert [part for part in parts if part not in said] == [], said
    assert "\n" not in said


def test_a_file_that_is_not_utf_8_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "train" / "mine.yaml").write_bytes(b"epochs: \xff\n")
    said = told(["train=mine"], monkeypatch, folder, other_words=True)
    assert said.startswith("train/mine.yaml is not UTF-8 (byte 8)")


def test_a_good_file_is_not_blamed_for_what_was_typed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "train" / "mine.yaml").write_text("epochs: 2\nmax_steps: null\n", encoding="utf-8")
    for typed in ("train.epochs=fast", "train.max_steps={a:1}"):
        assert told(["train=mine", typed], monkeypatch, folder, other_words=True).startswith(f"{typed}: ")


def test_good_arguments_are_not_blamed_for_a_file_that_is_not_found(folder: Path) -> None:
    (folder / "train" / "mine.yaml").write_text("epochs: fast\n", encoding="utf-8")
    typed = ["train=mine", "train.epochs=3", "train={seed:1}"]
    with pytest.raises(HydraException) as caught:
        compose("train=mine", "train.epochs=3", folder=folder)
    assert explain(caught.value, typed) == "train.epochs=fast: a number is wanted."


def test_without_what_was_typed_the_fields_of_the_error_are_said() -> None:
    with pytest.raises(HydraException) as caught:
        compose("train.epochs=fast")
    assert explain(caught.value) == "train.epochs=fast: a number is wanted."
    with pytest.raises(HydraException) as caught:
        compose("data=30k")
    assert explain(caught.value).startswith("data=30k: allowed are ")


def test_what_nothing_is_known_of_is_told_in_the_librarys_words() -> None:
    assert explain(ValueError("broken:\n  see https://example.org\n  here")) == "broken: here"
    assert explain(ValueError()) == "ValueError"
    assert explain(yaml.YAMLError("odd")) == "a configuration file is not YAML: odd"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("seed", int), ("threads", int | None), ("train.epochs", float), ("evaluate.metrics", list[str]),
        ("evaluate.metrics[0]", str), ("train.micro_batch", None), ("train.epohcs", None), ("nothing", None),
        ("hydra.mode", None),
    ],
)  # fmt: skip
def test_the_type_of_a_key_comes_from_the_schema(key: str, hint: Any) -> None:
    assert hint_of(key) == hint


def test_dotted_keys_are_the_leaves_of_the_schema() -> None:
    assert dotted_keys(schema_node()) == leaf_keys(VALID)
