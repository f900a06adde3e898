"""From what Hydra composed to a checked cell with a name of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest

from medqa_finetune.cell import Cell
from medqa_finetune.config.compose import CONFIG_NAME, register_schema
from medqa_finetune.config.groups import conf_folder, option_names
from medqa_finetune.errors import ConfigError, DataError, ModelError
from medqa_finetune.launch.compose import make_cell
from medqa_finetune.launch.launcher import register_plugins
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from tests.faulty import only_fault


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model; nothing loads it here."""
    return fake_model(tmp_path / "Mine", b"weights")


def fake_model(folder: Path, weights: bytes) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    header = json.dumps({"__metadata__": {"note": weights.decode()}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture(autouse=True)
def hydra_is_on() -> Iterator[None]:
    register_schema()
    register_plugins()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        yield


def cell(*overrides: str) -> Cell:
    composed = hydra.compose(CONFIG_NAME, ["corpus=embedded", *overrides], return_hydra_config=True)
    return make_cell(composed, composed.hydra, overrides)


def name(*overrides: str) -> str:
    return cell(*overrides).config.run_name


def test_matrix_cell_is_named_by_method_and_data(model: Path) -> None:
    assert name("method=qlora", "data=50k", "profile=demo", "model=qwen2.5-0.5b", f"model.path={model}") == (
        "qlora_n500__model=qwen2.5-0.5b__corpus=embedded"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.train_size=300"], "lora_n300"),
        (["data=all", "data.train_size=1500"], "lora_n1500"),
        (["data.train_size=null"], "lora_all"),
        (["data.train_size=300", "data.name=mine"], "lora_mine"),
        (["data.train_size=30000", "data.scale=0.01"], "lora_n300__data.scale=0.01"),
        (["data.train_size=300", "seed=2"], "lora_n300__seed=2"),
    ],
)
def test_a_size_is_called_what_it_is(overrides: list[str], expected: str, model: Path) -> None:
    typed = ("model=qwen2.5-3b", f"model.path={model}", "corpus=huatuo26m_lite", "corpus.source=embedded", *overrides)
    assert name(*typed).replace("__corpus.source=embedded", "").replace("__model=qwen2.5-3b", "") == expected


@pytest.mark.parametrize(("size", "named"), [("data=50k", "50k"), ("data.train_size=50000", "500")])
def test_a_run_that_was_named_after_another_size_is_found(size: str, named: str, model: Path, tmp_path: Path) -> None:
    typed = ("profile=demo", f"model.path={model}", f"outputs={tmp_path}", size)
    fresh = cell(*typed)
    former = RunDir(fresh.run.path.with_name(fresh.config.run_name.replace("n500", named)))
    former.write(Record(former.path.name, fresh.identity, "trained", "lora", named, "tiny", 0, fresh.written_settings))
    assert cell(*typed).run.path == former.path


def test_the_run_lies_below_outputs_and_study(model: Path, tmp_path: Path) -> None:
    made = cell(f"model.path={model}", f"outputs={tmp_path}", "study=mine", "model=qwen2.5-3b")
    assert made.run.path == tmp_path / "mine" / made.config.run_name


def test_named_model_is_the_same_in_any_folder(model: Path) -> None:
    assert "model=" not in name(f"model.path={model}")


def test_local_model_is_named_with_its_digest(model: Path, tmp_path: Path) -> None:
    other = fake_model(tmp_path / "elsewhere", b"other weights").rename(tmp_path / "other")
    first, second = (name("model=local", f"model.path={path}") for path in (model, other))
    assert first.startswith("lora_20k__model=Mine-")
    assert second.startswith("lora_20k__model=other-")


def test_folder_replacing_the_shipped_model_is_named(model: Path) -> None:
    assert name("profile=demo", f"model.path={model}").startswith("lora_n200__model=Mine-")


def test_same_folder_name_with_other_weights_differs(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        fake_model(tmp_path / place / "Mine", place.encode())
    made = [cell("model=local", f"model.path={tmp_path / place / 'Mine'}") for place in ("a", "b")]
    assert made[0].config.run_name != made[1].config.run_name
    assert made[0].identity != made[1].identity


def test_two_files_of_same_name_are_two_runs(model: Path, tmp_path: Path) -> None:
    names = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        path = tmp_path / place / "问答 1.jsonl"
        path.write_text(f'{{"question": "{place}", "answer": "x"}}\n', encoding="utf-8")
        names.append(name(f"model.path={model}", "corpus=jsonl", f"corpus.path='{path}'"))
    assert len(set(names)) == 2
    assert all(each.startswith("lora_20k__corpus=问答-1-") for each in names)


@pytest.mark.parametrize("method", option_names("method"))
def test_defaults_of_every_method_are_not_spelt_out(method: str, model: Path) -> None:
    made = name(f"method={method}", f"model.path={model}")
    assert made.startswith("none" if method == "none" else f"{method}_20k")
    assert "method." not in made
    assert "train." not in made


def test_values_of_a_profile_are_not_spelt_out(model: Path) -> None:
    assert name("profile=demo", "model=local", f"model.path={model}", "corpus=embedded_held_out").count("__") == 1


def test_a_changed_value_of_a_profile_is(model: Path) -> None:
    assert name("profile=demo", f"model.path={model}", "train.epochs=1").endswith("__train.epochs=1.0")


EVALUATION = ("evaluate.max_samples=2", "evaluate.max_new_tokens=8")


def test_run_and_evaluation_have_names_of_their_own(model: Path) -> None:
    plain, other = cell(f"model.path={model}"), cell(f"model.path={model}", *EVALUATION)
    assert plain.config.run_name == other.config.run_name
    assert plain.config.evaluation_name == "default"
    assert other.config.evaluation_name == "max_new_tokens=8__max_samples=2"
    assert plain.identity == other.identity
    assert plain.evaluation_identity != other.evaluation_identity
    assert other.evaluation.path == other.run.path / "evaluations" / other.config.evaluation_name


@pytest.mark.parametrize(
    ("typed", "evaluation"),
    [
        (EVALUATION[::-1], "max_new_tokens=8__max_samples=2"),
        (("evaluate.max_samples=null",), "default"),
        (("evaluate.batch_size=3", "evaluate.batch_tokens=4096"), "default"),
        (("evaluate.metrics=[char_bleu,bleu]",), "metrics=bleu+char_bleu"),
        (("evaluate.metrics=[bleu,char_bleu]",), "metrics=bleu+char_bleu"),
    ],
)
def test_order_and_defaults_do_not_change_the_name(typed: tuple[str, ...], evaluation: str, model: Path) -> None:
    assert cell(f"model.path={model}", *typed).config.evaluation_name == evaluation


@pytest.mark.parametrize("key", ["run_name", "evaluation_name"])
def test_name_that_is_not_this_cells_is_refused(key: str, model: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        cell(f"model.path={model}", f"{key}=mine")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("name-given", key, "mine")


@pytest.mark.parametrize(
    ("override", "kind"),
    [("train.epochs=-1", ConfigError), ("model.path=nowhere", ModelError),
     ("corpus=jsonl corpus.path=nowhere.jsonl", DataError)],
)  # fmt: skip
def test_what_cannot_run_is_refused(override: str, kind: type[Exception], model: Path) -> None:
    with pytest.raises(kind):
        cell(f"model.path={model}", *override.split())
