"""What a fault says comes from classes, fields, the schema, what was typed and the files; never from words."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException

from medqa_finetune.config import compose as composing
from medqa_finetune.config.compose import to_config
from medqa_finetune.config.explain import explain, hint_of, schema_keys
from medqa_finetune.config.groups import conf_folder, option_names
from medqa_finetune.config.plugin_keys import KEYS
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault
from tests.config.builders import VALID, compose, leaf_keys

LOCAL_KEYS = [f"hydra.launcher.{each}" for each in KEYS["hydra/launcher"]["local"]]
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


def fault_of(overrides: Sequence[str], monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> Fault:
    """Return the fault of a composition, whether Hydra or `to_config` refuses it; also where the error is reworded."""
    as_raised: list[Fault] = []

    def explained(error: Exception, **known: Any) -> list[Fault]:
        as_raised.extend(explain(error, **known))
        return explain(reworded(error), **known)  # type: ignore[arg-type]

    monkeypatch.setattr(composing, "explain", explained)
    try:
        to_config(compose(*overrides, folder=folder))
    except ConfigError as error:
        (fault,) = error.faults
    except Exception as error:  # Hydra's own kinds, ValueError, OSError
        (fault,) = explained(error, typed=overrides, folders=[folder or conf_folder()])
    else:
        pytest.fail(f"{overrides} was accepted")
    for each in as_raised:
        assert "\n" not in each.line()
        assert each.but(problem=fault.problem) == fault
    assert "\n" not in fault.line()
    return fault


METHODS, LAUNCHERS = option_names("method"), ["basic", "local", "ray", "slurm"]
# What is typed; code, key and value of the fault; what is allowed; part of the remedy.
TYPED: list[tuple[list[str], tuple[str, str | None, Any], list[str], str]] = [
    (["train.epohcs=1"], ("unknown-key", "train.epohcs", NO_VALUE), [], "train.epochs?"),
    (["trian.epochs=1"], ("unknown-key", "trian.epochs", NO_VALUE), [], "train.epochs"),
    (["mehtod=qlora"], ("unknown-key", "mehtod", NO_VALUE), [], "method?"),
    (["+train.epohcs=1"], ("unknown-key", "train.epohcs", NO_VALUE), [], "train.epochs"),
    (["train={epohcs:1}"], ("unknown-key", "train.epohcs", NO_VALUE), [], "train.epochs?"),
    (["method@foo=lora"], ("unknown-key", "method@foo", NO_VALUE), [], "method"),
    (["nogroup/x=1"], ("unknown-key", "nogroup/x", NO_VALUE), [], "--help"),
    (["~train.epohcs"], ("unknown-key", "~train.epohcs", NO_VALUE), [], "train.epochs?"),
    (["+train.epochs=3"], ("key-exists", "+train.epochs", 3), [], "without the +"),
    (["train.epochs=fast"], ("wrong-type", "train.epochs", "fast"), [], ""),
    (["train.epochs=fast", "train.epochs=1"], ("wrong-type", "train.epochs", "fast"), [], ""),
    (["train.epochs.x=1"], ("wrong-type", "train.epochs.x", 1), [], ""),
    (["train={epochs:fast}"], ("wrong-type", "train.epochs", "fast"), [], ""),
    (["train.max_steps=1.5"], ("wrong-type", "train.max_steps", 1.5), [], ""),
    (["evaluate.max_samples=1e3"], ("wrong-type", "evaluate.max_samples", 1000.0), [], ""),
    (["seed=true"], ("wrong-type", "seed", True), [], ""),
    (["overwrite=maybe"], ("wrong-type", "overwrite", "maybe"), [], ""),
    (["method.rank=null"], ("wrong-type", "method.rank", None), [], ""),
    (["data.scale=[1]"], ("wrong-type", "data.scale", [1]), [], ""),
    (["train.scheduler=[a]"], ("wrong-type", "train.scheduler", ["a"]), [], ""),
    (["evaluate.metrics=rouge"], ("wrong-type", "evaluate.metrics", "rouge"), [], ""),
    (["evaluate.metrics={a:1}"], ("wrong-type", "evaluate.metrics", {"a": 1}), [], ""),
    (["method=qlor"], ("not-allowed", "method", "qlor"), METHODS, ""),
    (["method=[lora,qlor]"], ("not-allowed", "method", "qlor"), METHODS, ""),
    (["method=null"], ("not-allowed", "method", None), METHODS, ""),
    (["hydra/launcher=nonsense"], ("not-allowed", "hydra/launcher", "nonsense"), LAUNCHERS, ""),
    (["hydra.launcher.retries=many"], ("wrong-type", "hydra.launcher.retries", "many"), [], ""),
    (["hydra.launcher.patience=1"], ("unknown-key", "hydra.launcher.patience", 1), LOCAL_KEYS, "Leave it out."),
    (["hydra.mode=foo"], ("not-allowed", "hydra.mode", "foo"), ["RUN", "MULTIRUN"], ""),
    (["outputs=${oc.env:MEDQA_NOT_SET}"], ("variable-not-set", "outputs", "${oc.env:MEDQA_NOT_SET}"), [],
     "export MEDQA_NOT_SET="),
    (["outputs=${study}", "study=${oc.env:MEDQA_NOT_SET}"], ("variable-not-set", "outputs", "${study}"), [],
     "export MEDQA_NOT_SET="),
    (["outputs=${train.epohcs}"], ("unresolved", "outputs", "${train.epohcs}"), [], "train.epochs?"),
    (["train.epochs=${study}", "study=x"], ("wrong-type", "train.epochs", "x"), [], ""),
    (["outputs=${outputs}"], ("unresolved", "outputs", "${outputs}"), [], ""),
    (["just_a_word"], ("not-key-value", None, "just_a_word"), [], ""),
    (["=3"], ("not-key-value", None, "=3"), [], ""),
    (["seed=["], ("not-readable", None, "seed=["), [], "key='value'"),
    (["method=lora,qlora"], ("several-values", "method", "lora,qlora"), [], "--multirun"),
    (["seed=range(1,3)"], ("several-values", "seed", "range(1,3)"), [], "--multirun"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "expected", "allowed", "hint"), TYPED, ids=[" ".join(overrides) for overrides, *_ in TYPED]
)
def test_typed_faults_do_not_depend_on_wording(
    overrides: list[str], expected: tuple[str, str | None, Any], allowed: list[str], hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fault = fault_of(overrides, monkeypatch)
    assert (fault.code, fault.key, fault.got) == expected
    assert list(fault.allowed) == allowed
    assert hint in fault.hint
    assert fault.file is None


# What stands in the file; code, key and value of the fault.
WRITTEN: list[tuple[str, tuple[str, str | None, Any]]] = [
    ("epohcs: 3\n", ("unknown-key", "train.epohcs", 3)),
    ("epochs: fast\n", ("wrong-type", "train.epochs", "fast")),
    ("epochs: null\n", ("wrong-type", "train.epochs", None)),
    ("epochs: [1]\n", ("wrong-type", "train.epochs", [1])),
    ("epochs: {a: 1}\n", ("wrong-type", "train.epochs", {"a": 1})),
    ("# @package evaluate\nmetrics: {a: 1}\n", ("wrong-type", "evaluate.metrics", {"a": 1})),
    ("packing: maybe\n", ("wrong-type", "train.packing", "maybe")),
    ("max_steps: 1e3\n", ("wrong-type", "train.max_steps", 1000.0)),
    ("# @package _global_\ntrain:\n  epohcs: 2\n", ("unknown-key", "train.epohcs", 2)),
    ("# @package train\n# mine\nscheduler: [a]\n", ("wrong-type", "train.scheduler", ["a"])),
    ("# @package _global_\ntrain: 3\n", ("wrong-type", "train", 3)),
    ("- a\n", ("wrong-type", "train", ["a"])),
    ("42\n", ("not-a-mapping", None, 42)),
    ("1: 2\n", ("unknown-key", "train.1", 2)),
    ("null: 2\n", ("refused", None, NO_VALUE)),
    ("epochs: ${\n", ("refused", "epochs", NO_VALUE)),
    ("epochs: [1\n", ("not-yaml", None, NO_VALUE)),
    ("epochs: 1\nepochs: 2\n", ("not-yaml", None, NO_VALUE)),
    ("defaults: [nosuch]\n", ("not-allowed", "train", "nosuch")),
    ("defaults:\n  - /method: nosuch\n", ("not-allowed", "method", "nosuch")),
    ("# @package _global_\nhydra: {mode: 3}\n", ("not-allowed", "hydra.mode", 3)),
    ("# @package _global_\nhydra: {launcher: {retries: many}}\n", ("wrong-type", "hydra.launcher.retries", "many")),
    ("defaults: [other]\n", ("unknown-key", "train.seed", 1)),
    ("defaults: [/train/other@_here_]\n", ("unknown-key", "train.seed", 1)),
]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(conf_folder(), tmp_path_factory.mktemp("explain") / "conf"))


@pytest.fixture
def folder(copied: Path) -> Iterator[Path]:
    """A copy of `conf/`; what a test writes into `train/` is removed."""
    before = set((copied / "train").iterdir())
    yield copied
    for path in set((copied / "train").iterdir()) - before:
        path.unlink()


@pytest.mark.parametrize(("text", "expected"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_faults_in_files_do_not_depend_on_wording(
    text: str, expected: tuple[str, str | None, Any], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / "train" / "mine.yaml").write_text(text, encoding="utf-8")
    (folder / "train" / "other.yaml").write_text("seed: 1\n", encoding="utf-8")
    fault = fault_of(["train=mine"], monkeypatch, folder)
    assert (fault.code, fault.key, fault.got) == expected
    assert fault.file == str(folder / "train" / ("other.yaml" if expected[1] == "train.seed" else "mine.yaml"))
    assert fault.line_number == (2 if fault.code == "not-yaml" else None)
    choices = {"train": ["default", "mine", "other"], "method": METHODS, "hydra.mode": ["RUN", "MULTIRUN"]}
    assert list(fault.allowed) == (choices[str(fault.key)] if fault.code == "not-allowed" else [])
    assert ("train." in fault.hint) is (fault.code == "unknown-key" and fault.key != "train.1")


def test_a_file_not_in_utf8_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    path = folder / "train" / "mine.yaml"
    path.write_bytes(b"epochs: \xff\n")
    fault = fault_of(["train=mine"], monkeypatch, folder)
    assert (fault.code, fault.file) == ("not-utf8", str(path))


def test_good_files_are_not_blamed_for_arguments(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "train" / "mine.yaml").write_text("epochs: 2\nmax_steps: null\n", encoding="utf-8")
    for typed, key in (("train.epochs=fast", "train.epochs"), ("train.max_steps={a:1}", "train.max_steps")):
        fault = fault_of(["train=mine", typed], monkeypatch, folder)
        assert (fault.code, fault.key, fault.file) == ("wrong-type", key, None)


EPOCHS = Fault("wrong-type", "must be a number", key="train.epochs", got="fast")


def test_good_arguments_are_not_blamed_for_files(folder: Path) -> None:
    (folder / "train" / "mine.yaml").write_text("epochs: fast\n", encoding="utf-8")
    typed = ["train=mine", "train.epochs=3", "train={seed:1}"]
    with pytest.raises(HydraException) as caught:
        compose("train=mine", "train.epochs=3", folder=folder)
    (fault,) = explain(caught.value, typed)
    assert fault.but(problem=EPOCHS.problem) == EPOCHS


def test_without_arguments_the_error_fields_are_used() -> None:
    with pytest.raises(HydraException) as caught:
        compose("train.epochs=fast")
    (fault,) = explain(caught.value)
    assert fault.but(problem=EPOCHS.problem) == EPOCHS
    with pytest.raises(HydraException) as caught:
        compose("data=30k")
    (fault,) = explain(caught.value)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "data", "30k")
    assert list(fault.allowed) == option_names("data")


def test_unknown_errors_keep_the_library_message() -> None:
    for error, words in (
        (ValueError("broken:\n  see https://example.org\n  here."), "broken: here"), (ValueError(), "ValueError"),
    ):  # fmt: skip
        assert explain(error) == [Fault("refused", words)]
    (fault,) = explain(yaml.YAMLError("odd"))
    assert (fault.code, fault.file) == ("not-yaml", None)
    assert "odd" in fault.problem


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("seed", int), ("threads", int | None), ("train.epochs", float), ("evaluate.metrics", list[str]),
        ("evaluate.metrics[0]", str), ("train.micro_batch", None), ("train.epohcs", None), ("nothing", None),
        ("hydra.mode", None),
    ],
)  # fmt: skip
def test_key_types_come_from_the_schema(key: str, hint: Any) -> None:
    assert hint_of(key) == hint


def test_schema_keys_are_the_leaves_of_a_configuration() -> None:
    assert list(schema_keys()) == leaf_keys(VALID)
