import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.config.checks import FOLDER_NAME_BYTES, is_folder_name
from medqa_finetune.config.identity import (
    Fingerprints,
    differences,
    flatten,
    identity_of,
    identity_settings,
    is_same_run,
    run_name,
    settings_of,
)
from medqa_finetune.config.schema import Config
from tests.config.builders import VALID, changed, leaf_keys

FINGERPRINTS = Fingerprints(corpus="c" * 64, model="m" * 64)

# Every setting stands in exactly one of these two, each with a value other than the default: whoever adds a setting
# decides here whether it can change a result.
CHANGES_THE_RESULT: dict[str, Any] = {
    "seed": 1,
    "precision": "bf16",
    "method.trains": "all",
    "method.rank": 8,
    "method.alpha": 16,
    "method.rslora": True,
    "method.dora": True,
    "method.loraplus_ratio": 16.0,
    "method.dropout": 0.1,
    "method.target_modules": ["q_proj"],
    "method.quantization": "nf4",
    "method.double_quantization": True,
    "method.compute_dtype": "fp32",
    "method.optimizer": "adafactor",
    "method.optimizer_without_cuda": "adafactor",
    "data.train_size": 50000,
    "data.scale": 0.5,
    "data.validation_size": 10,
    "data.test_size": 10,
    "data.split_seed": 1,
    "data.near_duplicate_threshold": 0.9,
    "corpus.source": "file",
    "corpus.format": "csv",
    "corpus.encoding": "gb18030",
    "corpus.question": ["title", "ask"],
    "corpus.answer": "output",
    "corpus.system": "system",
    "corpus.history": "history",
    "corpus.messages": "messages",
    "corpus.task": "text",
    "corpus.text": "content",
    "corpus.separator": "\n",
    "corpus.by_line": True,
    "corpus.id": "id",
    "corpus.empty_values": ["无"],
    "corpus.question_prefix": "问：",
    "corpus.question_suffix": "？",
    "corpus.answer_prefix": "答：",
    "train.epochs": 2.0,
    "train.max_steps": 5,
    "train.batch_size": 32,
    "train.packing": False,
    "train.micro_batch": 8,
    "train.learning_rate": 1e-3,
    "train.warmup_ratio": 0.1,
    "train.scheduler": "linear",
    "train.weight_decay": 0.01,
    "train.max_gradient_norm": 0.5,
    "train.max_length": 512,
    "train.gradient_checkpointing": False,
    "train.kernels": "liger",
    "train.validations": 2,
    "evaluate.max_samples": 10,
    "evaluate.batch_size": 4,
    "evaluate.batch_tokens": 512,
    "evaluate.max_new_tokens": 64,
    "evaluate.timeout_seconds": 5.0,
    "evaluate.metrics": ["rouge"],
    "evaluate.backend": "vllm",
    "evaluate.zero_shot": ["cmmlu"],
    "evaluate.zero_shot_folder": ".",
    "evaluate.text": "wikitext2",
    "evaluate.stride": 512,
}
CHANGES_NO_RESULT: dict[str, Any] = {
    "outputs": "elsewhere",
    "study": "mine",
    "run_name": "x",
    "overwrite": True,
    "threads": 1,
    "method.name": "my_lora",
    "data.name": "20000",
    "corpus.name": "mine",
    "corpus.path": "pairs.jsonl",  # the bytes in it count, by their fingerprint
    "corpus.repository": "somebody/else",
    "corpus.hub": "modelscope",
    "corpus.revision": "v2",
    "corpus.files": ["train.jsonl"],
    "corpus.max_reject_share": 0.5,
    "model.name": "mine",
    "model.path": "models/mine",  # likewise
    "model.repository": "somebody/else",
    "model.revision": "v2",
    "model.chat_template": "instruct",  # likewise
    "train.logging_steps": 1,
    "train.warmup_steps_unmetered": 0,
    "train.checkpoint_minutes": 1.0,
    "train.checkpoint_steps": 7,
    "evaluate.text_path": "wikitext-2-raw",  # likewise
    "tracker.name": "none",
    "tracker.report_to": [],
}
# What of the above still shapes the answers of an untuned base model.
BASELINE_DEPENDS_ON = {
    key for key in CHANGES_THE_RESULT if key.split(".")[0] not in ("train", "method")
} - {"seed", "data.train_size", "data.near_duplicate_threshold"} | {
    "method.quantization", "method.double_quantization", "method.compute_dtype", "train.max_length",
}  # fmt: skip
BASELINE = changed(VALID, method__name="none", method__trains="nothing", method__quantization="nf4")


def with_setting(config: Config, key: str, value: Any) -> Config:
    extra = {"corpus__path": "pairs.jsonl"} if key in ("corpus.source", "corpus.task") else {}
    extra |= {"corpus__source": "file"} if key == "corpus.task" else {}
    extra |= {"evaluate__text": "text"} if key in ("evaluate.text_path", "evaluate.stride") else {}
    if key in ("method.double_quantization", "method.compute_dtype"):
        extra = {"method__quantization": "nf4"}
    return changed(config, **{key.replace(".", "__"): value}, **extra)


def identity(config: Config, fingerprints: Fingerprints = FINGERPRINTS) -> str:
    return identity_of(settings_of(config, fingerprints))


def name_of(config: Config, defaults: Config = VALID, **labels: str) -> str:
    return run_name(config, flatten(dataclasses.asdict(defaults)), labels)


def test_every_setting_is_classified() -> None:
    assert sorted([*CHANGES_THE_RESULT, *CHANGES_NO_RESULT]) == sorted(leaf_keys())


@pytest.mark.parametrize("key", CHANGES_THE_RESULT)
def test_a_setting_that_can_change_the_result_changes_the_identity(key: str) -> None:
    assert identity(with_setting(VALID, key, CHANGES_THE_RESULT[key])) != identity(VALID)


@pytest.mark.parametrize("key", CHANGES_NO_RESULT)
def test_a_setting_that_cannot_change_the_result_leaves_the_identity(key: str) -> None:
    other = with_setting(VALID, key, CHANGES_NO_RESULT[key])
    same = changed(VALID, evaluate__text="text") if key == "evaluate.text_path" else VALID
    assert other != same
    assert identity(other) == identity(same)


@pytest.mark.parametrize("marks", [("d" * 64, "m" * 64), ("c" * 64, "n" * 64), ("c" * 64, "m" * 64, "t" * 64)])
def test_other_corpus_bytes_another_model_or_text_are_another_run(marks: tuple[str, ...]) -> None:
    assert identity(VALID, Fingerprints(*marks)) != identity(VALID)


def test_equal_sizes_after_scaling_are_the_same_run() -> None:
    half = changed(VALID, data__scale=0.5, data__train_size=20000, data__validation_size=100, data__test_size=60)
    plain = changed(VALID, data__scale=1.0, data__train_size=10000, data__validation_size=50, data__test_size=30)
    assert identity(half) == identity(plain)


@pytest.mark.parametrize("key", sorted(CHANGES_THE_RESULT.keys() - {"method.trains", "data.scale"}))
def test_a_run_that_trains_nothing_depends_on_what_shapes_answers_alone(key: str) -> None:
    value = "fp4" if key == "method.quantization" else CHANGES_THE_RESULT[key]
    same = identity(with_setting(BASELINE, key, value)) == identity(BASELINE)
    assert same is (key not in BASELINE_DEPENDS_ON)


LOOKUP = changed(VALID, method__name="retrieval", method__trains="lookup")
NOT_LOOKED_UP = {key for key in CHANGES_THE_RESULT if key.split(".")[0] in ("seed", "train", "method")} | {
    "evaluate.backend", "evaluate.zero_shot", "evaluate.zero_shot_folder", "evaluate.text", "evaluate.stride",
}  # fmt: skip


# Running text has no answers to look up: refused.
@pytest.mark.parametrize("key", sorted(CHANGES_THE_RESULT.keys() - {"method.trains", "data.scale", "corpus.task"}))
def test_looking_answers_up_depends_on_the_data_and_not_on_what_a_model_needs(key: str) -> None:
    same = identity(with_setting(LOOKUP, key, CHANGES_THE_RESULT[key])) == identity(LOOKUP)
    assert same is (key in NOT_LOOKED_UP)
    assert identity(LOOKUP) != identity(changed(LOOKUP, method__trains="nothing"))


def test_a_setting_that_a_run_lacks_has_the_schema_default() -> None:
    whole = settings_of(VALID, FINGERPRINTS)
    older = {**whole, "evaluate": {key: value for key, value in whole["evaluate"].items() if key != "stride"}}
    assert identity_of(older) == identity_of(whole)
    assert differences(older, whole) == []
    windows = settings_of(changed(VALID, evaluate__text="text", evaluate__stride=8), FINGERPRINTS)
    assert differences(older, windows) == ["evaluate.stride: None -> 8", "evaluate.text: None -> text"]


def test_a_run_of_an_earlier_version_is_the_same_run() -> None:
    settings = settings_of(VALID, FINGERPRINTS)
    assert is_same_run(settings, "of fewer settings", settings)
    other = settings_of(changed(VALID, seed=1), FINGERPRINTS)
    assert not is_same_run(other, "of fewer settings", settings)
    # What is written of a text that came from the environment is not its value.
    hidden = {**settings, "train": {**settings["train"], "scheduler": "${oc.env:SCHEDULER}"}}
    assert not is_same_run(hidden, "of fewer settings", settings)
    assert is_same_run(hidden, identity_of(settings), settings)


def test_an_identity_is_stable_text_that_does_not_depend_on_the_order_of_keys() -> None:
    settings = settings_of(VALID, FINGERPRINTS)
    assert identity_of(dict(reversed(settings.items()))) == identity_of(settings)
    assert len(identity_of(settings)) == 16


def test_differences_list_the_settings_that_count_with_both_values() -> None:
    old = settings_of(VALID, FINGERPRINTS)
    other = changed(VALID, train__epochs=2.0, method__rank=8, outputs="elsewhere", tracker__name="none")
    assert differences(old, settings_of(other, FINGERPRINTS)) == ["method.rank: 16 -> 8", "train.epochs: 1.0 -> 2.0"]


def test_differences_name_a_setting_that_one_of_the_runs_does_not_have() -> None:
    old = settings_of(VALID, FINGERPRINTS)
    new = old | {"train": old["train"] | {"invented": True}}
    assert differences(old, new) == ["train.invented: absent -> True"]


def test_equal_runs_have_no_differences() -> None:
    old, new = (settings_of(config, FINGERPRINTS) for config in (VALID, changed(VALID, threads=3)))
    assert differences(old, new) == []


def test_identity_settings_hold_sizes_after_scaling() -> None:
    kept = identity_settings(settings_of(changed(VALID, data__scale=0.01), FINGERPRINTS))
    assert kept["data.effective_train_size"] == 200
    assert "data.scale" not in kept


def test_flatten_joins_keys_and_keeps_lists() -> None:
    assert flatten({"a": {"b": {"c": [1, {"d": 2}]}}, "e": None}) == {"a.b.c": [1, {"d": 2}], "e": None}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "lora_20k"),
        ({"seed": 3}, "lora_20k__seed=3"),
        ({"train__epochs": 2.0, "method__rank": 8}, "lora_20k__method.rank=8__train.epochs=2.0"),
        ({"method__target_modules": ["q_proj", "v_proj"]}, "lora_20k__method.target_modules=q_proj+v_proj"),
        ({"data__train_size": None}, "lora_20k__data.train_size=None"),
        ({"outputs": "x", "study": "y", "threads": 1, "overwrite": True, "tracker__name": "none"}, "lora_20k"),
        ({"method__name": "none", "method__trains": "nothing", "train__epochs": 9.0}, "none"),
        ({"method__name": "none", "method__trains": "nothing", "seed": 3}, "none"),
        ({"method__name": "retrieval", "method__trains": "lookup", "seed": 3, "train__epochs": 9.0},
         "retrieval_20k__method.trains=lookup"),
        ({"method__name": "retrieval", "method__trains": "lookup", "data__split_seed": 3},
         "retrieval_20k__method.trains=lookup__data.split_seed=3"),
        ({"evaluate__text": "wikitext2", "evaluate__text_path": "/data/wiki", "evaluate__stride": 512},
         "lora_20k__evaluate.stride=512"),
        ({"method__trains": "nothing", "method__name": "none", "evaluate__max_samples": 5},
         "none__evaluate.max_samples=5"),
        ({"method__trains": "nothing", "method__name": "none", "method__quantization": "nf4"},
         "none__method.quantization=nf4"),
    ],
)  # fmt: skip
def test_a_name_says_what_differs_from_the_defaults(values: dict[str, Any], name: str) -> None:
    assert name_of(changed(VALID, **values)) == name


def test_another_model_or_corpus_follows_the_two_first_parts() -> None:
    config = changed(VALID, seed=1)
    assert name_of(config, model="phi-2", corpus="mine-1a2b3c") == "lora_20k__model=phi-2__corpus=mine-1a2b3c__seed=1"


def grid() -> list[Config]:
    base = [VALID, changed(VALID, method__name="qlora", method__quantization="nf4"), BASELINE]
    settings = {**CHANGES_THE_RESULT, "method.quantization": "fp4", "corpus.encoding": "gbk", "data.scale": 0.25}
    singles = [
        with_setting(config, key, value)
        for config in base
        for key, value in settings.items()
        if key != "method.trains"  # not with quantization
    ]
    twice = [with_setting(config, "seed", 2) for config in singles]
    return [*base, *singles, *twice]


def test_no_two_different_runs_of_a_grid_share_a_name() -> None:
    references = {"lora": VALID, "qlora": grid()[1], "none": BASELINE}
    seen: dict[str, str] = {}
    for config in grid():
        # As `matrix/cells.py` calls a text of a hub.
        labels = {"text": config.evaluate.text} if config.evaluate.text is not None else {}
        name = name_of(config, references[config.method.name], **labels)
        assert seen.setdefault(name, identity(config)) == identity(config), name
    assert len(seen) > len(CHANGES_THE_RESULT) * 4


@given(text=st.text(), label=st.text(min_size=1))
def test_whatever_is_typed_a_name_is_one_folder_name(text: str, label: str) -> None:
    config = changed(VALID, model__revision=text, corpus__answer=text)
    name = name_of(config, model=label)
    assert is_folder_name(name)
    assert name.startswith("lora_20k__model=")


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_two_texts_give_two_names(texts: list[str]) -> None:
    first, second = (name_of(changed(VALID, model__revision=text)) for text in texts)
    assert first != second


@given(st.text(alphabet="药医a ", min_size=FOLDER_NAME_BYTES, max_size=4 * FOLDER_NAME_BYTES))
def test_long_names_are_cut_to_the_bytes_that_file_systems_take_and_stay_apart(text: str) -> None:
    # One letter of difference at the far end.
    names = [name_of(changed(VALID, corpus__answer=text + end)) for end in "ab"]
    assert all(is_folder_name(name) for name in names)
    assert names[0] != names[1]


@pytest.mark.parametrize("text", ["a/b", "a b", "a\\b", "头痛", "..", "a.", "a.old-1", "\x1b[31m", "\udcff"])
def test_readable_parts_of_a_name_stay_readable(text: str) -> None:
    name = name_of(changed(VALID, model__revision=text, seed=1))
    assert is_folder_name(name)
    assert name.startswith("lora_20k__seed=1__model.revision=")
