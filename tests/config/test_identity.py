import dataclasses
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.config.checks import FOLDER_NAME_BYTES, is_folder_name
from medqa_finetune.config.identity import (
    DEFAULT_EVALUATION,
    Fingerprints,
    answer_settings,
    differences,
    evaluation_identity,
    evaluation_name,
    file_label,
    first_identity,
    flatten,
    former_run_names,
    identity_settings,
    is_same_training,
    run_name,
    settings_of,
    training_identity,
    training_settings,
)
from medqa_finetune.config.schema import Config
from tests.config.builders import VALID, changed, leaf_keys

FINGERPRINTS = Fingerprints(corpus="c" * 64, model="m" * 64)

# Every setting stands in exactly one of these three, each with a value other than the default: whoever adds a setting
# decides here whether it can change the weights, or the scores of given weights.
CHANGES_THE_WEIGHTS: dict[str, Any] = {
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
    "method.target_parameters": ["experts.down_proj"],
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
    "corpus.delimiter": "tab",
    "corpus.rows": "data",
    "corpus.question": ["title", "ask"],
    "corpus.answer": "output",
    "corpus.system": "system",
    "corpus.history": "history",
    "corpus.messages": "messages",
    "corpus.message_keys": ["who", "says"],
    "corpus.user_names": ["家属"],
    "corpus.assistant_names": ["药师"],
    "corpus.system_names": ["旁白"],
    "corpus.join_turns": True,
    "corpus.drop_last_question": True,
    "corpus.drop_first_answer": True,
    "corpus.task": "text",
    "corpus.text": "content",
    "corpus.separator": "\n",
    "corpus.by_line": True,
    "corpus.id": "id",
    "corpus.group": "department",
    "corpus.empty_values": ["无"],
    "corpus.missing_words": ["nil"],
    "corpus.min_question_characters": 2,
    "corpus.min_answer_characters": 2,
    "corpus.identified_by": "prompt",
    "corpus.clean_html": False,
    "corpus.question_prefix": "问：",
    "corpus.question_suffix": "？",
    "corpus.answer_prefix": "答：",
    "model.thinking": "keep",
    "model.date": "2024-07-06",
    "fp32_blocks": ["self_attn"],
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
    "train.fused_adapters": True,
    "train.validations": 2,
    "train.validation_samples": 50,
}
CHANGES_THE_SCORES: dict[str, Any] = {
    "evaluate.max_samples": 10,
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
    "evaluation_name": "x",
    "overwrite": True,
    "threads": 1,
    "time_limit": "11h",
    "storage": "drive",
    "method.name": "my_lora",
    "data.name": "20000",
    "corpus.name": "mine",
    "corpus.path": "pairs.jsonl",  # the bytes in it count, by their fingerprint
    "corpus.repository": "somebody/else",
    "corpus.hub": "modelscope",
    "corpus.revision": "v2",
    "corpus.files": ["train.jsonl"],
    "corpus.max_reject_share": 0.5,
    "corpus.parts": "ignore",  # what it comes to counts, by another fingerprint
    "model.name": "mine",
    "model.path": "models/mine",  # likewise
    "model.repository": "somebody/else",
    "model.modelscope_repository": "somebody/else",
    "model.revision": "v2",
    "model.chat_template": "instruct",  # likewise
    "train.sharding": "full",
    "train.logging_steps": 1,
    "train.warmup_steps_unmetered": 0,
    "train.checkpoint_minutes": 1.0,
    "train.checkpoint_steps": 7,
    "evaluate.batch_size": 4,  # these two change scores by rounding alone
    "evaluate.batch_tokens": 512,
    "evaluate.cuda_graphs": True,
    "evaluate.text_path": "wikitext-2-raw",  # its bytes count
    "tracker.name": "none",
    "tracker.report_to": [],
}
# What of the settings of a training still shapes the answers of an untuned base model.
BASELINE_DEPENDS_ON = {
    key for key in CHANGES_THE_WEIGHTS if key.split(".")[0] not in ("train", "method")
} - {"seed", "data.train_size", "data.near_duplicate_threshold"} | {
    "method.quantization", "method.double_quantization", "method.compute_dtype", "train.max_length",
}  # fmt: skip
FULL = changed(VALID, method__trains="all")
BASELINE = changed(VALID, method__name="none", method__trains="nothing", method__quantization="nf4")


def with_setting(config: Config, key: str, value: Any) -> Config:
    extra: dict[str, Any] = {"corpus__path": "pairs.jsonl"} if key in ("corpus.source", "corpus.task") else {}
    extra |= {"corpus__source": "file"} if key == "corpus.task" else {}
    extra |= {"evaluate__text": "text"} if key in ("evaluate.text_path", "evaluate.stride") else {}
    if key in ("method.double_quantization", "method.compute_dtype"):
        extra = {"method__quantization": "nf4"}
    if key == "train.sharding":
        extra = {"method__trains": "all"}
    if key == "method.target_parameters":
        extra = {"method__dropout": 0.0}
    return changed(config, **{key.replace(".", "__"): value}, **extra)


def training(config: Config, fingerprints: Fingerprints = FINGERPRINTS) -> str:
    return training_identity(settings_of(config, fingerprints))


def evaluation(config: Config, fingerprints: Fingerprints = FINGERPRINTS) -> str:
    return evaluation_identity(settings_of(config, fingerprints))


def name_of(config: Config, defaults: Config = VALID, **labels: str) -> str:
    return run_name(config, flatten(dataclasses.asdict(defaults)), labels)


def evaluation_name_of(config: Config, defaults: Config = VALID, text: str | None = None) -> str:
    return evaluation_name(settings_of(config, FINGERPRINTS), dataclasses.asdict(defaults.evaluate), text)


def test_every_setting_is_classified() -> None:
    assert sorted([*CHANGES_THE_WEIGHTS, *CHANGES_THE_SCORES, *CHANGES_NO_RESULT]) == sorted(leaf_keys())


@pytest.mark.parametrize("key", CHANGES_THE_WEIGHTS)
def test_training_settings_change_the_training_identity_alone(key: str) -> None:
    other = with_setting(VALID, key, CHANGES_THE_WEIGHTS[key])
    assert training(other) != training(VALID)
    # Of running text, no answer is generated.
    assert (evaluation(other) == evaluation(VALID)) is (key != "corpus.task")


@pytest.mark.parametrize("key", CHANGES_THE_SCORES)
def test_evaluation_settings_change_the_evaluation_identity_alone(key: str) -> None:
    other = with_setting(VALID, key, CHANGES_THE_SCORES[key])
    assert evaluation(other) != evaluation(VALID)
    assert training(other) == training(VALID)
    assert name_of(other) == name_of(VALID)


@pytest.mark.parametrize("key", CHANGES_NO_RESULT)
def test_neutral_settings_keep_both_identities(key: str) -> None:
    other = with_setting(VALID, key, CHANGES_NO_RESULT[key])
    same = {"evaluate.text_path": changed(VALID, evaluate__text="text"), "train.sharding": FULL}.get(key, VALID)
    assert other != same
    assert (training(other), evaluation(other)) == (training(same), evaluation(same))
    assert evaluation_name_of(other, same, "a") == evaluation_name_of(same, same, "a") == DEFAULT_EVALUATION


@pytest.mark.parametrize("marks", [("d" * 64, "m" * 64), ("c" * 64, "n" * 64)])
def test_corpus_and_model_change_the_training(marks: tuple[str, str]) -> None:
    assert training(VALID, Fingerprints(*marks)) != training(VALID)
    assert evaluation(VALID, Fingerprints(*marks)) == evaluation(VALID)


def test_what_the_setting_of_parts_comes_to_is_another_training() -> None:
    kept = dataclasses.replace(FINGERPRINTS, parts="published")
    assert training(VALID, kept) != training(VALID)
    assert evaluation(VALID, kept) == evaluation(VALID)


def test_another_text_is_another_evaluation() -> None:
    asking = changed(VALID, evaluate__text="text", evaluate__text_path="a.txt")
    first, second = (Fingerprints("c" * 64, "m" * 64, digit * 64) for digit in "01")
    assert evaluation(asking, first) != evaluation(asking, second)
    assert training(asking, first) == training(asking, second)
    # What is there when no text is asked for says nothing.
    assert training(asking, first) == training(VALID)


def test_equal_sizes_after_scaling_are_the_same_training() -> None:
    half = changed(VALID, data__scale=0.5, data__train_size=20000, data__validation_size=100, data__test_size=60)
    plain = changed(VALID, data__scale=1.0, data__train_size=10000, data__validation_size=50, data__test_size=30)
    assert training(half) == training(plain)


@pytest.mark.parametrize("key", sorted(CHANGES_THE_WEIGHTS.keys() - {"method.trains", "data.scale"}))
def test_untrained_runs_ignore_training_settings(key: str) -> None:
    value = "fp4" if key == "method.quantization" else CHANGES_THE_WEIGHTS[key]
    same = training(with_setting(BASELINE, key, value)) == training(BASELINE)
    assert same is (key not in BASELINE_DEPENDS_ON)


LOOKUP = changed(VALID, method__name="retrieval", method__trains="lookup")
NOT_LOOKED_UP = {key for key in CHANGES_THE_WEIGHTS if key.split(".")[0] in ("seed", "fp32_blocks", "train", "method")}


# Running text has no answers to look up: refused.
@pytest.mark.parametrize("key", sorted(CHANGES_THE_WEIGHTS.keys() - {"method.trains", "data.scale", "corpus.task"}))
def test_retrieval_depends_on_data_alone(key: str) -> None:
    same = training(with_setting(LOOKUP, key, CHANGES_THE_WEIGHTS[key])) == training(LOOKUP)
    assert same is (key in NOT_LOOKED_UP)
    assert training(LOOKUP) != training(changed(LOOKUP, method__trains="nothing"))


@pytest.mark.parametrize("values", [{}, {"evaluate__backend": "vllm", "evaluate__zero_shot": ["cmmlu"]}])
def test_methods_share_the_evaluation_identity(values: dict[str, Any]) -> None:
    cells = [changed(config, **values) for config in (VALID, BASELINE, LOOKUP)]
    assert len({evaluation(config) for config in cells}) == 1
    assert len({training(config) for config in cells}) == 3


@pytest.mark.parametrize(("key", "values"), [("metrics", ["rouge", "bleu"]), ("zero_shot", ["cmmlu", "ceval-valid"])])
def test_the_order_of_metrics_and_tasks_says_nothing(key: str, values: list[str]) -> None:
    one, other = (changed(VALID, **{f"evaluate__{key}": order}) for order in (values, values[::-1]))
    assert evaluation(one) == evaluation(other)
    assert evaluation_name_of(one) == evaluation_name_of(other) == f"{key}={'+'.join(sorted(values))}"
    assert evaluation_name_of(one, other) == DEFAULT_EVALUATION


def test_an_unreached_limit_keeps_the_identity() -> None:
    few = changed(VALID, data__test_size=30)
    for most, same in ((29, False), (30, True), (31, True)):
        limited = changed(few, evaluate__max_samples=most)
        assert (evaluation(limited) == evaluation(few)) is same
        assert (evaluation_name_of(limited, few) == DEFAULT_EVALUATION) is same
    # Of a scaled test set as of any other.
    scaled = changed(VALID, data__test_size=60, data__scale=0.5, evaluate__max_samples=30)
    assert evaluation(scaled) == evaluation(few)


@pytest.mark.parametrize("benchmark", [{"evaluate__text": "wikitext2"}, {"evaluate__zero_shot": ["cmmlu"]}], ids=str)
def test_a_limit_counts_where_benchmarks_are_run(benchmark: dict[str, Any]) -> None:
    evaluated = changed(VALID, data__test_size=30, **benchmark)
    assert evaluation(changed(evaluated, evaluate__max_samples=30)) != evaluation(evaluated)


TEXT = changed(VALID, corpus__task="text", corpus__source="file", corpus__path="a.txt")


@pytest.mark.parametrize(
    ("key", "value", "counts"),
    [("max_new_tokens", 9, False), ("timeout_seconds", 9.0, False), ("metrics", ["perplexity"], False),
     ("stride", 8, True), ("max_samples", 9, True)],
)  # fmt: skip
def test_of_running_text_only_blocks_count(key: str, value: Any, counts: bool) -> None:
    other = changed(TEXT, **{f"evaluate__{key}": value})
    assert (evaluation(other) != evaluation(TEXT)) is counts
    assert evaluation_name_of(other, TEXT) == (f"{key}={value}" if counts else DEFAULT_EVALUATION)


def test_only_prediction_settings_prevent_reuse() -> None:
    def answers(config: Config) -> dict[str, Any]:
        return answer_settings(settings_of(config, FINGERPRINTS))

    changing = {"evaluate.max_new_tokens", "evaluate.backend", "evaluate.timeout_seconds"}
    for key, value in CHANGES_THE_SCORES.items():
        assert (answers(with_setting(VALID, key, value)) != answers(VALID)) is (key in changing), key
    assert answers(changed(LOOKUP, evaluate__max_new_tokens=9)) == answers(LOOKUP) == {}
    assert answers(changed(TEXT, evaluate__max_new_tokens=9)) == answers(TEXT)
    assert answers(changed(TEXT, evaluate__stride=9)) != answers(TEXT)


def test_missing_settings_have_schema_defaults() -> None:
    whole = settings_of(VALID, FINGERPRINTS)
    older = {
        **whole,
        "evaluate": {key: value for key, value in whole["evaluate"].items() if key != "stride"},
        "method": {key: value for key, value in whole["method"].items() if key != "dora"},
    }
    assert evaluation_identity(older) == evaluation_identity(whole)
    assert training_identity(older) == training_identity(whole)
    assert differences(older, whole) == []
    assert differences(older, settings_of(changed(VALID, method__dora=True), FINGERPRINTS)) == [
        "method.dora: False -> True"
    ]


def test_trainings_of_earlier_versions_are_recognized() -> None:
    settings = settings_of(VALID, FINGERPRINTS)
    assert is_same_training(settings, "of fewer settings", settings)
    other = settings_of(changed(VALID, seed=1), FINGERPRINTS)
    assert not is_same_training(other, "of fewer settings", settings)
    # What is written of a text that came from the environment is not its value.
    hidden = {**settings, "train": {**settings["train"], "scheduler": "${oc.env:SCHEDULER}"}}
    assert not is_same_training(hidden, "of fewer settings", settings)
    assert is_same_training(hidden, training_identity(settings), settings)


@pytest.mark.parametrize("config", [VALID, BASELINE, LOOKUP], ids=["lora", "none", "retrieval"])
def test_version_1_identity_matches_any_evaluation(config: Config) -> None:
    """It was of training and evaluation as one."""
    before = settings_of(changed(config, evaluate__max_samples=10, evaluate__batch_size=4), FINGERPRINTS)
    now = settings_of(changed(config, evaluate__max_new_tokens=64), FINGERPRINTS)
    identity = first_identity(before)
    assert identity not in (training_identity(before), training_identity(now))
    assert is_same_training(before, identity, now)
    # With a value from the environment, of which the disk has the name alone, the identity decides.
    hidden = {**before, "corpus": {**before["corpus"], "answer_prefix": "${oc.env:PREFIX}"}}
    assert is_same_training(hidden, identity, now)
    other = settings_of(changed(config, corpus__answer_prefix="答："), FINGERPRINTS)
    assert not is_same_training(hidden, identity, other)


def test_a_setting_newer_than_runs_keeps_their_identity() -> None:
    assert "fp32_blocks" not in identity_settings(settings_of(VALID, FINGERPRINTS))
    assert "fp32_blocks" in identity_settings(settings_of(changed(VALID, fp32_blocks="none"), FINGERPRINTS))


def test_identity_does_not_depend_on_key_order() -> None:
    settings = settings_of(VALID, FINGERPRINTS)
    for identity in (training_identity, evaluation_identity, first_identity):
        assert identity(dict(reversed(settings.items()))) == identity(settings)
        assert len(identity(settings)) == 16


def test_differences_show_both_values() -> None:
    old = settings_of(VALID, FINGERPRINTS)
    other = changed(VALID, train__epochs=2.0, method__rank=8, outputs="elsewhere", tracker__name="none")
    assert differences(old, settings_of(other, FINGERPRINTS)) == ["method.rank: 16 -> 8", "train.epochs: 1.0 -> 2.0"]


def test_differences_show_absent_settings() -> None:
    old = settings_of(VALID, FINGERPRINTS)
    new = old | {"train": old["train"] | {"invented": True}}
    assert differences(old, new) == ["train.invented: absent -> True"]


def test_equal_trainings_have_no_differences() -> None:
    other = changed(VALID, threads=3, evaluate__max_samples=9)
    old, new = (settings_of(config, FINGERPRINTS) for config in (VALID, other))
    assert differences(old, new) == []


def test_training_settings_hold_sizes_after_scaling() -> None:
    kept = training_settings(settings_of(changed(VALID, data__scale=0.01), FINGERPRINTS))
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
        ({"evaluate__text": "wikitext2", "evaluate__text_path": "/data/wiki", "evaluate__stride": 512}, "lora_20k"),
        ({"method__trains": "nothing", "method__name": "none", "evaluate__max_samples": 5}, "none"),
        ({"method__trains": "nothing", "method__name": "none", "method__quantization": "nf4"},
         "none__method.quantization=nf4"),
    ],
)  # fmt: skip
def test_a_name_says_what_differs_from_the_defaults(values: dict[str, Any], name: str) -> None:
    assert name_of(changed(VALID, **values)) == name


def test_model_and_corpus_follow_method_and_data() -> None:
    config = changed(VALID, seed=1)
    assert name_of(config, model="phi-2", corpus="mine-1a2b3c") == "lora_20k__model=phi-2__corpus=mine-1a2b3c__seed=1"


@cache
def grid() -> list[Config]:
    base = [VALID, changed(VALID, method__name="qlora", method__quantization="nf4"), BASELINE]
    settings = {**CHANGES_THE_WEIGHTS, "method.quantization": "fp4", "corpus.encoding": "gbk", "data.scale": 0.25}
    singles = [
        with_setting(config, key, value)
        for config in base
        for key, value in settings.items()
        if key != "method.trains"  # not with quantization
    ]
    twice = [with_setting(config, "seed", 2) for config in singles]
    return [*base, *singles, *twice]


def test_different_trainings_have_different_names() -> None:
    references = {"lora": VALID, "qlora": grid()[1], "none": BASELINE}
    seen: dict[str, str] = {}
    for config in grid():
        name, identity = name_of(config, references[config.method.name]), training(config)
        assert seen.setdefault(name, identity) == identity, name
    assert len(seen) > len(CHANGES_THE_WEIGHTS) * 4


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "default"),
        ({"max_samples": 10, "max_new_tokens": 64}, "max_new_tokens=64__max_samples=10"),
        ({"max_new_tokens": 64, "max_samples": 10}, "max_new_tokens=64__max_samples=10"),
        ({"backend": "vllm", "batch_size": 9, "batch_tokens": 9}, "backend=vllm"),
        ({"metrics": ["rouge", "bleu"]}, "metrics=bleu+rouge"),
        ({"text": "wikitext2", "stride": 8}, "stride=8__text=wikitext2"),
        ({"timeout_seconds": 5.0}, "timeout_seconds=5.0"),
    ],
)
def test_evaluation_names_show_changed_settings(values: dict[str, Any], name: str) -> None:
    config = changed(VALID, **{f"evaluate__{key}": value for key, value in values.items()})
    assert evaluation_name_of(config, text=values.get("text")) == name
    # The other way around, the default has nothing to say of itself, but this has.
    assert (evaluation_name_of(VALID, config) == DEFAULT_EVALUATION) is (name == DEFAULT_EVALUATION)
    assert evaluation_name_of(config, config, values.get("text")) == DEFAULT_EVALUATION


def test_evaluation_names_show_removed_settings() -> None:
    assert evaluation_name_of(VALID, changed(VALID, evaluate__max_samples=100)) == "max_samples=None"
    assert evaluation_name_of(VALID, changed(VALID, evaluate__text="wikitext2")) == "text=None"


def test_user_texts_are_named_by_label() -> None:
    asking = changed(VALID, evaluate__text="text", evaluate__text_path="book.txt")
    assert evaluation_name_of(asking, text="book-0a1b2c") == "text=book-0a1b2c"


def test_names_show_unresolved_interpolations() -> None:
    settings = settings_of(changed(VALID, evaluate__zero_shot=["s3cret"]), FINGERPRINTS)
    defaults, written = dataclasses.asdict(VALID.evaluate), settings["evaluate"] | {"zero_shot": "${oc.env:TASK}"}
    assert "s3cret" in evaluation_name(settings, defaults)
    name = evaluation_name(settings, defaults, written=written)
    assert "s3cret" not in name
    assert name.startswith("zero_shot=")


def test_different_evaluations_have_different_names() -> None:
    singles = [with_setting(VALID, key, value) for key, value in CHANGES_THE_SCORES.items()]
    pairs = [with_setting(config, key, value) for config in singles for key, value in CHANGES_THE_SCORES.items()]
    seen: dict[str, str] = {}
    for config in (VALID, *singles, *pairs):
        name = evaluation_name_of(config, text=config.evaluate.text)
        assert seen.setdefault(name, evaluation(config)) == evaluation(config), name
    # As many evaluations as names: one has one name.
    assert len(set(seen.values())) == len(seen) > 30


@given(folder=st.text(min_size=1), text=st.text(min_size=1))
def test_any_evaluation_name_is_one_folder(folder: str, text: str) -> None:
    settings = settings_of(changed(VALID, evaluate__text="text"), FINGERPRINTS)
    settings["evaluate"]["zero_shot_folder"] = folder
    assert is_folder_name(evaluation_name(settings, dataclasses.asdict(VALID.evaluate), text))


def test_a_pattern_of_files_is_labelled_by_what_has_a_name() -> None:
    labels = {path: file_label("jsonl", path, "0123456789") for path in ("a/b.jsonl", "a/*.jsonl", "a/**", "*.csv")}
    assert labels == {"a/b.jsonl": "b-012345", "a/*.jsonl": "a-012345", "a/**": "a-012345", "*.csv": "jsonl-012345"}


@given(text=st.text(min_size=1), label=st.text(min_size=1))
def test_any_run_name_is_one_folder(text: str, label: str) -> None:
    config = changed(VALID, model__revision=text, corpus__answer=text)
    name = name_of(config, model=label)
    assert is_folder_name(name)
    assert name.startswith("lora_20k__model=")


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_two_texts_give_two_names(texts: list[str]) -> None:
    first, second = (name_of(changed(VALID, model__revision=text)) for text in texts)
    assert first != second


@given(st.text(alphabet="药医a ", min_size=FOLDER_NAME_BYTES, max_size=4 * FOLDER_NAME_BYTES))
def test_long_names_are_shortened_and_distinct(text: str) -> None:
    # One letter of difference at the far end.
    names = [name_of(changed(VALID, corpus__answer=text + end)) for end in "ab"]
    assert all(is_folder_name(name) for name in names)
    assert names[0] != names[1]


@pytest.mark.parametrize("text", ["a/b", "a b", "a\\b", "头痛", "..", "a.", "a.old-1", "\x1b[31m", "\udcff"])
def test_readable_parts_of_a_name_stay_readable(text: str) -> None:
    name = name_of(changed(VALID, model__revision=text, seed=1))
    assert is_folder_name(name)
    assert name.startswith("lora_20k__seed=1__model.revision=")


def test_null_of_earlier_versions_kept_system_prompts() -> None:
    """It means since that they are left out, and `auto` what it meant before."""
    before = settings_of(VALID, FINGERPRINTS, results_version=3)
    before["corpus"]["system"] = None
    assert training_identity(before) == training_identity(settings_of(VALID, FINGERPRINTS, results_version=3))
    now = settings_of(changed(VALID, corpus__system=None), FINGERPRINTS)
    assert training_identity(now) != training(VALID)


AUTO_TRAINING = changed(VALID, train__micro_batch="auto", train__gradient_checkpointing="auto")


@pytest.mark.parametrize(
    ("began", "asked", "same"),
    [
        ((4, True), ("auto", "auto"), True), ((16, False), ("auto", "auto"), True), ((16, True), ("auto", True), True),
        (("auto", "auto"), ("auto", "auto"), True), ((16, True), ("auto", False), False),
        ((4, True), (8, "auto"), False), (("auto", "auto"), (4, True), False),
    ],
)  # fmt: skip
def test_auto_goes_on_with_what_a_run_began_with(began: tuple[Any, Any], asked: tuple[Any, Any], same: bool) -> None:
    old, new = (
        settings_of(changed(VALID, train__micro_batch=first, train__gradient_checkpointing=second), FINGERPRINTS)
        for first, second in (began, asked)
    )
    assert is_same_training(old, training_identity(old), new) is same
    assert (differences(old, new) == []) is same
    # Values from the environment are not on disk: the identity alone shows them.
    hidden = old | {"seed": "from the environment"}
    assert is_same_training(hidden, training_identity(old), new) is same
    other = new | {"seed": 7}
    assert not is_same_training(old, training_identity(old), other)


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ((), {"__train.micro_batch=auto", "__train.gradient_checkpointing=auto",
              "__train.micro_batch=auto__train.gradient_checkpointing=auto"}),
        ((4, "auto"), {"", "__train.micro_batch=4__train.gradient_checkpointing=auto",
                       "__train.gradient_checkpointing=auto"}),
        ((4, True), {"", "__train.micro_batch=4", "__train.gradient_checkpointing=True"}),
    ],
)  # fmt: skip
def test_runs_are_found_by_names_of_earlier_defaults(typed: tuple[Any, ...], names: set[str]) -> None:
    values = dict(zip(("train__micro_batch", "train__gradient_checkpointing"), typed, strict=False))
    defaults = flatten(dataclasses.asdict(AUTO_TRAINING))
    found = former_run_names(changed(AUTO_TRAINING, **values), defaults, {})
    assert set(found) == {f"lora_20k{name}" for name in names}
    assert run_name(changed(AUTO_TRAINING, **values), defaults, {}) not in found
    # A profile that gives numbers has given them before.
    assert former_run_names(VALID, flatten(dataclasses.asdict(VALID)), {}) == []


AUTO_VALIDATIONS = changed(AUTO_TRAINING, train__validations="auto", train__validation_samples="auto")


def _before_samples(**values: Any) -> dict[str, Any]:
    """Settings in the record of an earlier version, which validated on the whole set."""
    settings = settings_of(changed(AUTO_TRAINING, **values), FINGERPRINTS)
    del settings["train"]["validation_samples"]
    return settings


@pytest.mark.parametrize(
    ("began", "asked", "same"),
    [(5, ("auto", "auto"), True), (2, ("auto", "auto"), True), (2, (2, "auto"), True), (5, (5, None), True),
     (5, (4, "auto"), False), (5, (5, 100), False)],
)  # fmt: skip
def test_runs_that_validated_on_all_of_the_set_are_found(began: int, asked: tuple[Any, Any], same: bool) -> None:
    old, new = _before_samples(train__validations=began), settings_of(
        changed(AUTO_TRAINING, train__validations=asked[0], train__validation_samples=asked[1]), FINGERPRINTS
    )  # fmt: skip
    assert is_same_training(old, training_identity(old), new) is same
    assert (differences(old, new) == []) is same


def test_all_of_the_set_is_in_no_identity() -> None:
    old = _before_samples()
    assert training_identity(old) == training_identity(settings_of(AUTO_TRAINING, FINGERPRINTS))
    assert training_identity(old) != training_identity(settings_of(AUTO_VALIDATIONS, FINGERPRINTS))


def test_name_of_a_given_number_is_found_as_the_default_of_before() -> None:
    defaults = flatten(dataclasses.asdict(AUTO_VALIDATIONS))
    given = changed(AUTO_VALIDATIONS, train__validations=5, train__max_steps=9)
    assert run_name(given, defaults, {}) == "lora_20k__train.max_steps=9__train.validations=5"
    assert "lora_20k__train.max_steps=9" in former_run_names(given, defaults, {})
