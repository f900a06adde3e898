"""Every fault names its key, the value got and what is allowed; several are reported at once."""

from typing import Any

import pytest

from medqa_finetune.config.checks import FOLDER_NAME_BYTES, faults, is_folder_name
from medqa_finetune.config.examination import metric_names
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError
from tests.config.builders import VALID, changed

NAN, INFINITY = float("nan"), float("inf")
ONE_FAULT: list[tuple[dict[str, Any], list[str]]] = [
    ({"precision": "fp8"}, ["precision=fp8", "auto, bf16, fp16, fp32"]),
    ({"seed": -1}, ["seed=-1", "at least 0"]),
    ({"seed": 2**32}, ["seed=4294967296", "at most 4294967295"]),
    ({"study": "cache"}, ["study='cache'", "reserved"]),
    ({"threads": 0}, ["threads=0", "at least 1"]),
    ({"study": "a/b"}, ["study='a/b'", "folder name", "200 bytes"]),
    ({"study": "研" * 67}, ["study=", "200 bytes"]),
    ({"outputs": "  "}, ["outputs='  '", "folder"]),
    ({"outputs": "a\0b"}, ["outputs='a\\x00b'", "folder"]),
    ({"method__name": "../lora"}, ["method.name='../lora'", "folder name"]),
    ({"method__trains": "most"}, ["method.trains=most", "adapter, all, nothing"]),
    ({"method__quantization": "int4"}, ["method.quantization=int4", "none, nf4, fp4, int8"]),
    ({"method__trains": "all", "method__quantization": "nf4"}, ["method.quantization=nf4", "method.trains=all: none"]),
    ({"method__rank": 0}, ["method.rank=0", "at least 1"]),
    ({"method__alpha": 0}, ["method.alpha=0", "at least 1"]),
    ({"method__dropout": 1.0}, ["method.dropout=1.0", "at least 0 and below 1"]),
    ({"method__dropout": NAN}, ["method.dropout=nan", "at least 0 and below 1"]),
    ({"method__target_modules": "q_proj"}, ["method.target_modules=q_proj", "all_linear", "list of module names"]),
    ({"method__target_modules": []}, ["method.target_modules=[]", "[q_proj,v_proj]"]),
    ({"method__target_modules": [1]}, ["method.target_modules=[1]", "[q_proj,v_proj]"]),
    ({"method__target_modules": "mlp"}, ["method.target_modules=mlp", "all_linear, attention, attention_mlp, a list"]),
    (
        {"method__compute_dtype": "fp8", "method__quantization": "nf4"},
        ["method.compute_dtype=fp8", "auto, bf16, fp16, fp32"],
    ),
    ({"method__compute_dtype": "bf16"}, ["method.compute_dtype=bf16", "quantization=nf4 or fp4 alone, not none"]),
    (
        {"method__double_quantization": True, "method__quantization": "int8"},
        ["method.double_quantization=True", "nf4 or fp4 alone, not int8. For 8 bits give method=qlora_8bit."],
    ),
    ({"method__dora": True, "method__trains": "all"}, ["method.dora=True", "method.trains=adapter, not all"]),
    ({"method__rslora": True, "method__trains": "all"}, ["method.rslora=True", "method.trains=adapter, not all"]),
    (
        {"method__loraplus_ratio": 16.0, "method__trains": "all"},
        ["method.loraplus_ratio=16.0", "method.trains=adapter, not all"],
    ),
    ({"method__loraplus_ratio": 0.5}, ["method.loraplus_ratio=0.5", "at least 1", "null"]),
    ({"method__loraplus_ratio": NAN}, ["method.loraplus_ratio=nan", "at least 1"]),
    (
        {"method__loraplus_ratio": 16.0, "method__optimizer": "adafactor"},
        ["method.optimizer=adafactor", "method.loraplus_ratio=16", "adamw_ or paged_adamw_"],
    ),
    ({"data__name": "20k/x"}, ["data.name='20k/x'", "folder name"]),
    ({"data__train_size": 0}, ["data.train_size=0", "at least 1"]),
    ({"data__validation_size": 0}, ["data.validation_size=0", "at least 1"]),
    ({"data__test_size": -5}, ["data.test_size=-5", "at least 1"]),
    ({"data__split_seed": -1}, ["data.split_seed=-1", "at least 0"]),
    ({"data__scale": 0.0}, ["data.scale=0.0", "above 0 and at most 1"]),
    ({"data__scale": 1.5}, ["data.scale=1.5", "above 0 and at most 1"]),
    ({"data__scale": NAN}, ["data.scale=nan", "above 0 and at most 1"]),
    ({"data__near_duplicate_threshold": 0.0}, ["data.near_duplicate_threshold=0.0", "above 0 and at most 1"]),
    ({"corpus__source": "web"}, ["corpus.source=web", "embedded, file, hub"]),
    ({"corpus__format": "xlsx"}, ["corpus.format=xlsx", "auto, jsonl, json, csv, parquet"]),
    ({"corpus__hub": "github"}, ["corpus.hub=github", "huggingface, modelscope"]),
    ({"corpus__max_reject_share": 1.1}, ["corpus.max_reject_share=1.1", "at least 0 and at most 1"]),
    ({"corpus__source": "file"}, ["corpus.path is missing", "corpus.path=FILE"]),
    ({"corpus__source": "hub"}, ["corpus.repository is missing", "corpus.repository=owner/name"]),
    ({"corpus__encoding": "utf-9"}, ["corpus.encoding='utf-9'", "utf-8, gb18030"]),
    ({"corpus__encoding": "a\0b"}, ["corpus.encoding='a\\x00b'", "utf-8, gb18030"]),
    ({"corpus__question_prefix": "("}, ["corpus.question_prefix='('", "regular expression"]),
    ({"corpus__question_suffix": "["}, ["corpus.question_suffix='['", "regular expression"]),
    ({"corpus__answer_prefix": "*"}, ["corpus.answer_prefix='*'", "regular expression"]),
    ({"corpus__question": []}, ["corpus.question=[]", "column name or a list"]),
    ({"corpus__question": True}, ["corpus.question=True", "column name or a list"]),
    ({"corpus__question": ["title", ""]}, ["corpus.question=['title', '']", "column name or a list"]),
    ({"train__epochs": 0.0}, ["train.epochs=0.0", "above 0"]),
    ({"train__epochs": INFINITY}, ["train.epochs=inf", "above 0"]),
    ({"train__max_steps": 0}, ["train.max_steps=0", "at least 1"]),
    ({"train__batch_size": 0}, ["train.batch_size=0", "at least 1"]),
    ({"train__micro_batch": "most"}, ["train.micro_batch=most", "auto or a whole number"]),
    ({"train__micro_batch": True}, ["train.micro_batch=True", "auto or a whole number"]),
    ({"train__gradient_checkpointing": "maybe"}, ["train.gradient_checkpointing=maybe", "true, false, auto"]),
    ({"train__gradient_checkpointing": 1}, ["train.gradient_checkpointing=1", "true, false, auto"]),
    ({"train__micro_batch": 0}, ["train.micro_batch=0", "at least 1"]),
    ({"train__learning_rate": NAN}, ["train.learning_rate=nan", "above 0"]),
    ({"train__learning_rate": -1e-4}, ["train.learning_rate=-0.0001", "above 0"]),
    ({"train__max_gradient_norm": 0.0}, ["train.max_gradient_norm=0.0", "above 0"]),
    ({"train__warmup_ratio": 1.0}, ["train.warmup_ratio=1.0", "at least 0 and below 1"]),
    ({"train__weight_decay": -0.1}, ["train.weight_decay=-0.1", "at least 0 and below 1"]),
    ({"train__scheduler": "cosin"}, ["train.scheduler=cosin", "cosine, linear, constant"]),
    ({"train__kernels": "triton"}, ["train.kernels=triton", "torch, liger"]),
    ({"train__max_length": 0}, ["train.max_length=0", "at least 1"]),
    ({"train__logging_steps": 0}, ["train.logging_steps=0", "at least 1"]),
    ({"train__validations": 0}, ["train.validations=0", "at least 1"]),
    ({"train__warmup_steps_unmetered": -1}, ["train.warmup_steps_unmetered=-1", "at least 0"]),
    ({"evaluate__max_samples": 0}, ["evaluate.max_samples=0", "at least 1"]),
    ({"evaluate__batch_size": 0}, ["evaluate.batch_size=0", "at least 1"]),
    ({"evaluate__batch_tokens": 0}, ["evaluate.batch_tokens=0", "at least 1"]),
    ({"train__checkpoint_minutes": 0.0}, ["train.checkpoint_minutes=0.0", "above 0"]),
    ({"train__checkpoint_steps": 0}, ["train.checkpoint_steps=0", "at least 1"]),
    ({"evaluate__timeout_seconds": float("nan")}, ["evaluate.timeout_seconds=nan", "above 0"]),
    ({"evaluate__max_new_tokens": 0}, ["evaluate.max_new_tokens=0", "at least 1"]),
    ({"evaluate__metrics": ["blue"]}, ["evaluate.metrics=blue", "bleu, char_bleu, ", "perplexity, rouge"]),
    ({"evaluate__backend": "tgi"}, ["evaluate.backend=tgi", "transformers, vllm"]),
    (
        {"evaluate__backend": "vllm", "method__quantization": "int8"},
        ["method.quantization=int8", "evaluate.backend=vllm: none, nf4, fp4", "evaluate.backend=transformers"],
    ),
    (
        {"evaluate__backend": "vllm", "method__quantization": "nf4", "method__compute_dtype": "bf16"},
        ["method.compute_dtype=bf16", "with evaluate.backend=vllm: auto", "evaluate.backend=transformers"],
    ),
    (
        {"evaluate__backend": "vllm", "corpus__task": "text", "corpus__source": "file", "corpus__path": "texts"},
        ["evaluate.backend=vllm: running text is measured", "transformers"],
    ),
    ({"evaluate__zero_shot": [" "]}, ["evaluate.zero_shot=", "names of tasks", "[ceval-valid]"]),
    ({"evaluate__zero_shot": [["a"]]}, ["evaluate.zero_shot=", "names of tasks", "[ceval-valid]"]),
    ({"evaluate__zero_shot_folder": "no/such"}, ["evaluate.zero_shot_folder=no/such", "no such folder"]),
    ({"evaluate__text_path": "a.txt"}, ["evaluate.text_path=a.txt", "evaluate.text=text"]),
    ({"evaluate__text": "text", "evaluate__stride": 0}, ["evaluate.stride=0", "at least 1"]),
    ({"evaluate__text": "text", "evaluate__stride": 1025}, ["evaluate.stride=1025", "train.max_length=1024"]),
    ({"evaluate__stride": 8}, ["evaluate.stride=8", "running text alone", "evaluate.text=wikitext2"]),
    ({"evaluate__text": "text", "train__max_length": 1}, ["train.max_length=1", "at least 2 tokens"]),
    ({"evaluate__metrics": []}, ["evaluate.metrics=[]", "bleu, char_bleu, ", "perplexity, rouge"]),
]


def complaints(**values: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, **values)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("values", "parts"), ONE_FAULT, ids=[str(values) for values, _ in ONE_FAULT])
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(values: dict[str, Any], parts: list[str]) -> None:
    (line,) = complaints(**values)
    for part in parts:
        assert part in line


def test_a_valid_configuration_has_no_faults() -> None:
    assert faults(VALID) == []


def test_faults_of_all_sections_are_reported_together() -> None:
    lines = complaints(
        precision="x", method__rank=0, data__scale=2.0, corpus__format="x", train__epochs=-1.0, evaluate__batch_size=0
    )
    assert [line.partition("=")[0] for line in lines] == [
        "precision", "method.rank", "data.scale", "corpus.format", "train.epochs", "evaluate.batch_size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"method__target_modules": ["q_proj", "v_proj"]},
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
def test_values_at_the_edge_of_what_is_allowed_are_accepted(values: dict[str, Any]) -> None:
    assert isinstance(changed(VALID, **values), Config)


@pytest.mark.parametrize("name", ["lora_20k", "医学 问答", "a.b", "console", "cached", "x" * FOLDER_NAME_BYTES])
def test_names_that_every_file_system_takes_are_folder_names(name: str) -> None:
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


def test_running_text_takes_no_metric_of_answers() -> None:
    text = {"corpus__task": "text", "corpus__source": "file", "corpus__path": "texts"}
    changed(VALID, **text)
    changed(VALID, **text, evaluate__metrics=["perplexity"])
    with pytest.raises(ConfigError, match=r"evaluate\.metrics=\[rouge\]: running text has no answers to compare"):
        changed(VALID, **text, evaluate__metrics=["rouge"])


def test_running_text_has_no_answers_to_look_up() -> None:
    text = {"corpus__task": "text", "corpus__source": "file", "corpus__path": "texts", "method__trains": "lookup"}
    with pytest.raises(ConfigError, match=r"method\.trains=lookup: running text has no answers to look up"):
        changed(VALID, **text)


def test_what_loads_no_model_takes_any_backend() -> None:
    retrieval = changed(VALID, method__name="retrieval", method__trains="lookup", evaluate__backend="vllm")
    assert faults(retrieval) == []
