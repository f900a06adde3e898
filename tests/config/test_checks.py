"""Every fault has its key, the value got and what is allowed; several are reported at once."""

from typing import Any

import pytest

from medqa_finetune.config.checks import FOLDER_NAME_BYTES, SCHEDULERS, faults, is_folder_name
from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault
from medqa_finetune.methods.registry import method_names
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

NAN, INFINITY = float("nan"), float("inf")
# The last setting of each is the one at fault.
OUT_OF_RANGE: list[dict[str, Any]] = [
    {"seed": -1}, {"seed": 2**32}, {"threads": 0},
    {"method__rank": 0}, {"method__alpha": 0}, {"method__dropout": 1.0}, {"method__dropout": NAN},
    {"method__loraplus_ratio": 0.5}, {"method__loraplus_ratio": NAN},
    {"data__train_size": 0}, {"data__validation_size": 0}, {"data__test_size": -5}, {"data__split_seed": -1},
    {"data__scale": 0.0}, {"data__scale": 1.5}, {"data__scale": NAN}, {"data__near_duplicate_threshold": 0.0},
    {"corpus__max_reject_share": 1.1}, {"corpus__min_answer_characters": 0}, {"corpus__min_question_characters": -1},
    {"train__epochs": 0.0}, {"train__epochs": INFINITY}, {"train__max_steps": 0}, {"train__batch_size": 0},
    {"train__micro_batch": 0}, {"train__learning_rate": NAN}, {"train__learning_rate": -1e-4},
    {"train__scheduler": "polynomial", "train__learning_rate": 1e-7},
    {"train__max_gradient_norm": 0.0}, {"train__warmup_ratio": 1.0}, {"train__weight_decay": -0.1},
    {"train__max_length": 0}, {"train__logging_steps": 0}, {"train__validations": 0},
    {"train__warmup_steps_unmetered": -1}, {"train__checkpoint_minutes": 0.0}, {"train__checkpoint_steps": 0},
    {"evaluate__max_samples": 0}, {"evaluate__batch_size": 0}, {"evaluate__batch_tokens": 0},
    {"evaluate__timeout_seconds": NAN}, {"evaluate__max_new_tokens": 0},
    {"evaluate__text": "text", "evaluate__stride": 0}, {"evaluate__text": "text", "evaluate__stride": 1025},
    {"evaluate__text": "text", "train__max_length": 1},
]  # fmt: skip
NOT_ALLOWED: list[tuple[dict[str, Any], list[str]]] = [
    ({"precision": "fp8"}, ["auto", "bf16", "fp16", "fp32"]),
    ({"method__trains": "most"}, list(method_names())),
    ({"method__quantization": "int4"}, ["none", "nf4", "fp4", "int8"]),
    ({"method__target_modules": "mlp"}, ["all_linear", "attention", "attention_mlp", "a list of module names"]),
    ({"method__quantization": "nf4", "method__compute_dtype": "fp8"}, ["auto", "bf16", "fp16", "fp32"]),
    ({"corpus__source": "web"}, ["embedded", "file", "hub"]),
    ({"corpus__format": "xlsx"}, ["auto", "jsonl", "json", "csv", "parquet", "arrow"]),
    ({"corpus__hub": "github"}, ["huggingface", "modelscope"]),
    ({"corpus__delimiter": ", "}, ["comma", "tab", "semicolon", "pipe", r"\t"]),
    ({"corpus__identified_by": "answer"}, ["auto", "first_question", "last_question", "system", "prompt"]),
    ({"train__gradient_checkpointing": "maybe"}, ["true", "false", "auto"]),
    ({"train__gradient_checkpointing": 1}, ["true", "false", "auto"]),
    ({"train__scheduler": "cosin"}, list(SCHEDULERS)),
    ({"train__kernels": "triton"}, ["torch", "liger"]),
    ({"train__fused_adapters": "yes"}, ["true", "false", "auto"]),
    ({"train__sharding": "half"}, ["none", "full"]),
    ({"evaluate__backend": "tgi"}, ["transformers", "vllm"]),
]
TEXT = {"corpus__task": "text", "corpus__source": "file", "corpus__path": "texts"}
# What of the settings excludes the last one, what is allowed with it, and part of the remedy.
CONFLICTS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"method__trains": "all", "method__quantization": "nf4"}, ["none"], ""),
    ({"precision": "fp32", "fp32_blocks": ["mlp"]}, ["auto", "none"], ""),
    ({"method__compute_dtype": "bf16"}, ["auto"], ""),
    ({"method__dora": True, "train__fused_adapters": True}, ["false", "auto"], ""),
    ({"method__trains": "all", "train__fused_adapters": True}, ["false", "auto"], ""),
    ({"train__sharding": "full"}, ["none"], "train.sharding"),
    ({"train__sharding": "full", "method__quantization": "nf4"}, ["none"], "train.sharding"),
    ({"train__sharding": "full", "method__quantization": "int8"}, ["none"], "train.sharding"),
    ({"method__trains": "all", "train__sharding": "full", "method__optimizer": "paged_adamw_8bit"},
     ["adamw_torch_fused", "adamw_torch"], ""),
    ({"method__quantization": "int8", "method__double_quantization": True}, ["false"], "method=qlora_8bit"),
    ({"method__trains": "all", "method__dora": True}, [], ""),
    ({"method__trains": "all", "method__rslora": True}, [], ""),
    ({"method__trains": "all", "method__loraplus_ratio": 16.0}, [], ""),
    ({"method__loraplus_ratio": 16.0, "method__optimizer": "adafactor"}, [], ""),
    ({"evaluate__backend": "vllm", "method__quantization": "int8"}, ["none", "nf4", "fp4"],
     "evaluate.backend=transformers"),
    ({"evaluate__backend": "vllm", "method__quantization": "nf4", "method__compute_dtype": "bf16"}, ["auto"],
     "evaluate.backend=transformers"),
    ({**TEXT, "evaluate__backend": "vllm"}, ["transformers"], ""),
    ({**TEXT, "evaluate__metrics": ["rouge"]}, ["perplexity"], "evaluate.metrics=[perplexity]"),
    ({**TEXT, "method__trains": "lookup"}, ["adapter", "all", "nothing", "pissa"], ""),
    ({"corpus__task": "text", "corpus__source": "embedded"}, ["file", "hub"], ""),
    ({"corpus__format": "jsonl", "corpus__delimiter": "tab"}, [], ""),
    ({"corpus__format": "parquet", "corpus__rows": "data"}, [], ""),
    ({"evaluate__text_path": "a.txt"}, [], "evaluate.text=text"),
    ({"evaluate__stride": 8}, [], "evaluate.text=wikitext2"),
]  # fmt: skip
# Kind of fault, settings, and part of the remedy.
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("bad-name", {"study": "cache"}, ""),
    ("bad-name", {"study": "a/b"}, ""),
    ("bad-name", {"study": "研" * 67}, ""),
    ("bad-name", {"method__name": "../lora"}, ""),
    ("bad-name", {"data__name": "20k/x"}, ""),
    ("bad-path", {"outputs": "  "}, ""),
    ("bad-path", {"outputs": "a\0b"}, ""),
    ("wrong-type", {"fp32_blocks": []}, "fp32_blocks=[self_attn]"),
    ("wrong-type", {"fp32_blocks": "mlp"}, "fp32_blocks=[self_attn]"),
    ("wrong-type", {"method__target_modules": []}, "method.target_modules=[q_proj,v_proj]"),
    ("wrong-type", {"method__target_modules": [1]}, "method.target_modules=[q_proj,v_proj]"),
    ("wrong-type", {"method__dropout": 0.0, "method__target_parameters": []}, "[experts.down_proj]"),
    ("wrong-type", {"method__dropout": 0.0, "method__target_parameters": "all"}, "[experts.down_proj]"),
    ("unknown-encoding", {"corpus__encoding": "utf-9"}, "gb18030"),
    ("unknown-encoding", {"corpus__encoding": "a\0b"}, "gb18030"),
    ("not-a-pattern", {"corpus__question_prefix": "("}, ""),
    ("not-a-pattern", {"corpus__question_suffix": "["}, ""),
    ("not-a-pattern", {"corpus__answer_prefix": "*"}, ""),
    ("not-supported", {"method__trains": "all", "train__sharding": "full", "train__kernels": "liger"}, ""),
    ("wrong-type", {"corpus__question": []}, ""),
    ("wrong-type", {"corpus__question": True}, ""),
    ("wrong-type", {"corpus__question": ["title", ""]}, ""),
    ("wrong-type", {"corpus__answer": []}, ""),
    ("wrong-type", {"corpus__message_keys": ["role"]}, "corpus.message_keys=[SPEAKER,TEXT]"),
    ("wrong-type", {"train__micro_batch": "most"}, ""),
    ("wrong-type", {"train__micro_batch": True}, ""),
    ("wrong-type", {"evaluate__batch_tokens": "all"}, ""),
    ("wrong-type", {"evaluate__batch_tokens": True}, ""),
    ("wrong-type", {"evaluate__batch_tokens": 2.5}, ""),
    ("wrong-type", {"evaluate__zero_shot": [" "]}, "evaluate.zero_shot=[ceval-valid]"),
    ("wrong-type", {"evaluate__zero_shot": [["a"]]}, "evaluate.zero_shot=[ceval-valid]"),
    ("file-missing", {"evaluate__zero_shot_folder": "no/such"}, ""),
]


def fault_of(**values: Any) -> Fault:
    """Return the one fault of a configuration; it is of the last setting given, whose value it has."""
    with pytest.raises(ConfigError) as caught:
        changed(VALID, **values)
    fault = only_fault(caught)
    name, value = list(values.items())[-1]
    assert fault.key == name.replace("__", ".")
    assert fault.got is value or fault.got == value
    return fault


@pytest.mark.parametrize("values", OUT_OF_RANGE, ids=str)
def test_a_number_out_of_its_range_is_refused(values: dict[str, Any]) -> None:
    assert fault_of(**values).code == "out-of-range"


@pytest.mark.parametrize(("values", "allowed"), NOT_ALLOWED, ids=str)
def test_unknown_choices_are_refused_with_those_allowed(values: dict[str, Any], allowed: list[str]) -> None:
    fault = fault_of(**values)
    assert (fault.code, list(fault.allowed)) == ("not-allowed", allowed)


@pytest.mark.parametrize(("values", "allowed", "hint"), CONFLICTS, ids=str)
def test_settings_that_exclude_each_other_are_refused(values: dict[str, Any], allowed: list[str], hint: str) -> None:
    fault = fault_of(**values)
    assert (fault.code, list(fault.allowed)) == ("conflict", allowed)
    assert hint in fault.hint


@pytest.mark.parametrize(("code", "values", "hint"), OTHERS, ids=str)
def test_other_impossible_values_are_refused(code: str, values: dict[str, Any], hint: str) -> None:
    fault = fault_of(**values)
    assert fault.code == code
    assert hint in fault.hint


@pytest.mark.parametrize(("source", "key"), [("file", "corpus.path"), ("hub", "corpus.repository")])
def test_what_a_source_needs_is_asked_for(source: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, corpus__source=source)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("missing-key", key, NO_VALUE)
    assert f"{key}=" in fault.hint


def test_metrics_are_named_by_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, evaluate__metrics=["bleu", "blue"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "evaluate.metrics", "blue")
    assert list(fault.allowed) == metric_names()
    none = fault_of(evaluate__metrics=[])
    assert (none.code, list(none.allowed)) == ("empty", metric_names())


def test_a_valid_configuration_has_no_faults() -> None:
    assert faults(VALID) == []


def test_faults_of_all_sections_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        changed(
            VALID, precision="x", method__rank=0, data__scale=2.0, corpus__format="x", train__epochs=-1.0,
            evaluate__batch_size=0,
        )  # fmt: skip
    assert [fault.key for fault in caught.value.faults] == [
        "precision", "method.rank", "data.scale", "corpus.format", "train.epochs", "evaluate.batch_size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"method__target_modules": ["q_proj", "v_proj"]},
        {"method__target_modules": [], "method__target_parameters": "experts", "method__dropout": 0.0},
        {"method__target_modules": "attention", "method__rslora": True, "method__dora": True},
        {"method__quantization": "fp4", "method__double_quantization": True, "method__compute_dtype": "fp32"},
        {"method__loraplus_ratio": 1.0, "method__optimizer": "paged_adamw_8bit"},
        {"method__trains": "nothing", "method__dora": True},
        {"method__dropout": 0.0},
        {"data__train_size": None},
        {"data__scale": 1.0},
        {"corpus__max_reject_share": 1.0},
        {"corpus__question": ["title", "ask"]},
        {"corpus__encoding": "gb18030"},
        {"train__max_steps": None},
        {"train__epochs": 0.5},
        {"train__micro_batch": 16},
        {"train__micro_batch": "auto", "train__gradient_checkpointing": "auto"},
        {"evaluate__max_samples": None},
        {"study": "我的研究 1"},
        {"study": "研" * 66},
    ],
    ids=str,
)
def test_values_at_the_limits_are_accepted(values: dict[str, Any]) -> None:
    assert isinstance(changed(VALID, **values), Config)


@pytest.mark.parametrize("name", ["lora_20k", "医学 问答", "a.b", "console", "cached", "x" * FOLDER_NAME_BYTES])
def test_portable_names_are_folder_names(name: str) -> None:
    assert is_folder_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a\\b", "a:b", "a\0", "a\nb", "a\x1bb", "a*", "x" * (FOLDER_NAME_BYTES + 1),
     "研" * 67, "a\udcff"],
)  # fmt: skip
def test_names_that_some_file_system_refuses_are_not(name: str) -> None:
    assert not is_folder_name(name)


@pytest.mark.parametrize("name", ["CON", "nul.txt", "com1", "a.", "a ", "summary", "Cache", "lora_20k.old-1"])
def test_reserved_names_are_not(name: str) -> None:
    assert not is_folder_name(name)


def test_metrics_are_found_without_importing_them() -> None:
    assert {"rouge", "bleu", "perplexity"} <= set(metric_names())
    assert not {"base", "__init__"} & set(metric_names())


def test_running_text_accepts_the_default_metrics() -> None:
    changed(VALID, **TEXT)
    changed(VALID, **TEXT, evaluate__metrics=["perplexity"])


def test_what_loads_no_model_takes_any_backend() -> None:
    retrieval = changed(VALID, method__name="retrieval", method__trains="lookup", evaluate__backend="vllm")
    assert faults(retrieval) == []
