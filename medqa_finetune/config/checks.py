"""Checks beyond types: ranges, allowed values, and settings that exclude each other."""

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from medqa_finetune.config.durations import time_faults
from medqa_finetune.config.evaluation_checks import backend_faults, evaluate_faults, graph_faults, text_faults
from medqa_finetune.config.ranges import AUTO, above_zero, at_least, auto_or_at_least, between, one_of, share
from medqa_finetune.config.schema import (
    NOT_SHARDED,
    Config,
    CorpusConfig,
    DataConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from medqa_finetune.config.schema_faults import unknown_value
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.methods.registry import can_fuse, method_faults, sharding_faults
from medqa_finetune.methods.shared.targets import EXPERTS

QUANTIZATIONS = ("none", "nf4", "fp4", "int8")
FOUR_BIT = ("nf4", "fp4")
MODULE_GROUPS = ("all_linear", "attention", "attention_mlp")
KERNELS = ("torch", "liger")
SHARDINGS = (NOT_SHARDED, "full")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
SOURCES = ("embedded", "file", "hub")
TASKS = ("qa", "text")
FORMATS = ("auto", "jsonl", "json", "csv", "parquet", "arrow")
TEXT_FORMATS = (*FORMATS, "text")
IDENTITIES = ("auto", "first_question", "last_question", "system", "prompt")
# Delimiters of CSV files by name: some are hard to type in a terminal.
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "\\t": "\t"}
THINKING = ("auto", "off", "keep")
HUBS = ("huggingface", "modelscope")
PART_RULES = ("auto", "published", "ignore")
# Values of transformers' `report_to` that are tested here.
TRACKERS = ("tensorboard", "wandb", "mlflow", "swanlab")
SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")
# transformers' `lr_end`.
POLYNOMIAL_END = 1e-7
FOLDER_NAME = re.compile(r"[^\x00-\x1f/\\:*?\"<>|.][^\x00-\x1f/\\:*?\"<>|]*")
FOLDER_NAME_BYTES = 200
# Windows device names, endings that Windows drops, and folders that are not searched for runs.
RESERVED_NAME = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?|.*[. ]|summary|cache|.*\.old-.*", re.IGNORECASE)


def checked(config: Config) -> Config:
    """Return the configuration after every check of ranges, allowed values and conflicts.

    Raises:
        ConfigError: with every fault found, each with its key, the value got and what is allowed.
    """
    if found := faults(config):
        raise ConfigError(*found)
    return config


def faults(config: Config) -> list[Fault]:
    """Return every fault of the configuration; empty when there is none."""
    return [
        *_top_faults(config),
        *_method_faults(config.method),
        *data_faults(config.data),
        *corpus_faults(config.corpus),
        *_model_faults(config.model),
        *_train_faults(config.train),
        *_fusion_faults(config),
        *_sharding_faults(config),
        *evaluate_faults(config.evaluate),
        *text_faults(config),
        *backend_faults(config),
        *graph_faults(config),
        *(fault for name in config.tracker.report_to for fault in one_of("tracker.report_to", name, TRACKERS)),
    ]


def _model_faults(model: ModelConfig) -> Iterator[Fault]:
    yield from one_of("model.thinking", model.thinking, THINKING)
    if model.date is not None:
        try:
            date.fromisoformat(model.date)
        except ValueError:
            problem, allowed = "must be a date, or null", ("YYYY-MM-DD",)
            yield Fault("out-of-range", problem, key="model.date", got=model.date, allowed=allowed)


def _top_faults(config: Config) -> Iterator[Fault]:
    yield from one_of("precision", config.precision, PRECISIONS)
    yield from _fp32_blocks_faults(config)
    yield from at_least("seed", config.seed, 0)
    if config.threads is not None:
        yield from at_least("threads", config.threads, 1)
    names = {"method.name": config.method.name, "data.name": config.data.name}
    if config.study:
        names["study"] = config.study
    for key, name in names.items():
        if not is_folder_name(name):
            problem = f"must be a folder name of at most {FOLDER_NAME_BYTES} bytes, without / \\ : or a leading dot"
            reserved = "Names such as con, summary and cache are reserved."
            yield Fault("bad-name", problem, key=key, got=name, hint=reserved)
    if not config.outputs.strip() or "\0" in config.outputs:
        yield Fault("bad-path", "must be the path of a folder", key="outputs", got=config.outputs)
    yield from time_faults("time_limit", config.time_limit)
    yield from _storage_faults(config)


def _storage_faults(config: Config) -> Iterator[Fault]:
    storage = config.storage
    if storage is None:
        return
    if not storage.strip() or "\0" in storage:
        problem, allowed = "must be a folder or a URL", ("null", "DIR", "s3://BUCKET/FOLDER")
        yield Fault("bad-path", problem, key="storage", got=storage, allowed=allowed)
    elif "://" not in storage:
        ours, theirs = Path(config.outputs).absolute(), Path(storage).absolute()
        if ours in (theirs, *theirs.parents) or theirs in ours.parents:
            outputs = config.outputs
            problem = f"must not hold, or lie in, the folder of the runs, {outputs}"
            hint = "Give outputs=DIR elsewhere on this machine."
            yield Fault("conflict", problem, key="storage", got=storage, hint=hint)


def _fp32_blocks_faults(config: Config) -> Iterator[Fault]:
    asked, key = config.fp32_blocks, "fp32_blocks"
    if asked in (AUTO, "none"):
        return
    if not _are_names(asked):
        example = "For example, give fp32_blocks=[self_attn]."
        problem = f"must be {AUTO}, none, or a list of names"
        yield Fault("wrong-type", problem, key=key, got=asked, allowed=(AUTO, "none"), hint=example)
    elif config.precision == "fp32":
        yield Fault("conflict", "all of the model computes in fp32", key=key, got=asked, allowed=(AUTO, "none"))


def is_folder_name(name: str) -> bool:
    """Return whether `name` is a valid folder name on every common file system, and is not skipped by `find_runs`."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:  # bytes that are not UTF-8, typed in a terminal
        return False
    return bool(FOLDER_NAME.fullmatch(name)) and not RESERVED_NAME.fullmatch(name) and size <= FOLDER_NAME_BYTES


def _method_faults(method: MethodConfig) -> Iterator[Fault]:
    yield from one_of("method.quantization", method.quantization, QUANTIZATIONS)
    yield from one_of("method.compute_dtype", method.compute_dtype, PRECISIONS)
    yield from at_least("method.rank", method.rank, 1)
    yield from at_least("method.alpha", method.alpha, 1)
    yield from between("method.dropout", method.dropout, 0, 1)
    for key, usual in (("double_quantization", "false"), ("compute_dtype", AUTO)):
        value = getattr(method, key)
        if value not in (False, AUTO) and method.quantization not in FOUR_BIT:
            problem = f"needs method.quantization={' or '.join(FOUR_BIT)}, not {method.quantization}"
            instead = "For 8 bits, give method=qlora_8bit." if method.quantization == "int8" else ""
            yield Fault("conflict", problem, key=f"method.{key}", got=value, allowed=(usual,), hint=instead)
    ratio = method.loraplus_ratio
    if ratio is not None and not (math.isfinite(ratio) and ratio >= 1):
        yield Fault("out-of-range", "must be a finite number ≥ 1, or null", key="method.loraplus_ratio", got=ratio)
    yield from method_faults(method)
    modules = method.target_modules
    if isinstance(modules, str):
        yield from one_of("method.target_modules", modules, (*MODULE_GROUPS, "a list of module names"))
    elif not _are_names(modules, or_none=method.target_parameters is not None):
        example = "For example, give method.target_modules=[q_proj,v_proj]."
        problem = f"must be {', '.join(MODULE_GROUPS)} or a list of module names"
        yield Fault("wrong-type", problem, key="method.target_modules", got=modules, hint=example)
    parameters = method.target_parameters
    if parameters is not None and parameters != EXPERTS and not _are_names(parameters):
        example = "For example, give method.target_parameters=[experts.down_proj]."
        problem = f"must be {EXPERTS}, a list of parameter names, or null"
        yield Fault("wrong-type", problem, key="method.target_parameters", got=parameters, hint=example)


def _are_names(value: object, *, or_none: bool = False) -> bool:
    """Return whether a setting is a list of names; `or_none` allows an empty one."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return (or_none or bool(value)) and all(isinstance(name, str) and name for name in value)


def data_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield faults of the sizes of the sets and of the split."""
    for key in ("train_size", "validation_size", "test_size"):
        value = getattr(data, key)
        if value is not None:
            yield from at_least(f"data.{key}", value, 1)
    yield from at_least("data.split_seed", data.split_seed, 0)
    for key in ("scale", "near_duplicate_threshold"):
        yield from share(f"data.{key}", getattr(data, key))


def corpus_faults(corpus: CorpusConfig) -> Iterator[Fault]:
    """Yield faults of where the corpus is and how it is read."""
    yield from one_of("corpus.task", corpus.task, TASKS)
    yield from one_of("corpus.source", corpus.source, SOURCES)
    yield from one_of("corpus.format", corpus.format, TEXT_FORMATS if corpus.task == "text" else FORMATS)
    if corpus.task == "text" and corpus.group is not None:
        problem = "groups questions, and corpus.task=text has none"
        yield Fault("conflict", problem, key="corpus.group", got=corpus.group, hint="Leave it out.")
    if corpus.group == "":
        problem = "must be the name of a column"
        yield Fault(
            "wrong-type", problem, key="corpus.group", got="", hint="Give corpus.group=COLUMN, or leave it out."
        )
    if corpus.task == "text" and corpus.source == "embedded":
        problem = "has questions with answers, and corpus.task=text needs running text"
        yield Fault("conflict", problem, key="corpus.source", got="embedded", allowed=("file", "hub"))
    yield from one_of("corpus.hub", corpus.hub, HUBS)
    yield from one_of("corpus.parts", corpus.parts, PART_RULES)
    yield from between("corpus.max_reject_share", corpus.max_reject_share, 0, 1, closed=True)
    if corpus.source == "file" and not corpus.path:
        yield _missing("corpus.path", "corpus.source=file", "Give corpus.path=FILE, or a folder.")
    if corpus.source == "hub" and not corpus.repository:
        yield _missing("corpus.repository", "corpus.source=hub", "Give corpus.repository=owner/name.")
    try:
        codecs.lookup(corpus.encoding)
    except (LookupError, ValueError):
        problem, hint = "is not an encoding that Python knows", "Try utf-8, gb18030 or utf-16."
        yield Fault("unknown-encoding", problem, key="corpus.encoding", got=corpus.encoding, hint=hint)
    for key in ("question_prefix", "question_suffix", "answer_prefix"):
        pattern = getattr(corpus, key)
        try:
            re.compile(pattern or "")
        except re.error as error:
            yield Fault("not-a-pattern", f"is not a regular expression ({error})", key=f"corpus.{key}", got=pattern)
    yield from _rows_faults(corpus)


def _rows_faults(corpus: CorpusConfig) -> Iterator[Fault]:
    """Yield faults of how rows become examples."""
    for key in ("question", "answer"):
        choice = getattr(corpus, key)
        columns = [choice] if isinstance(choice, str) else choice
        if not (isinstance(columns, Sequence) and columns and all(isinstance(name, str) and name for name in columns)):
            problem = "must be a column name, a list of them, or a template with column names in braces"
            yield Fault("wrong-type", problem, key=f"corpus.{key}", got=choice)
        yield from at_least(f"corpus.min_{key}_characters", getattr(corpus, f"min_{key}_characters"), 1)
    yield from one_of("corpus.identified_by", corpus.identified_by, IDENTITIES)
    if len(corpus.message_keys) not in (0, 2):
        problem = "must be the keys of a message's speaker and text, or empty for the usual ones"
        hint = "Give corpus.message_keys=[SPEAKER,TEXT]."
        yield Fault("wrong-type", problem, key="corpus.message_keys", got=corpus.message_keys, hint=hint)
    if corpus.delimiter is not None and len(DELIMITERS.get(corpus.delimiter, corpus.delimiter)) != 1:
        problem = "must be one character, or the name of one"
        yield Fault("not-allowed", problem, key="corpus.delimiter", got=corpus.delimiter, allowed=tuple(DELIMITERS))
    for key, formats in (("delimiter", ("auto", "csv")), ("rows", ("auto", "json", "jsonl"))):
        if getattr(corpus, key) is not None and corpus.format not in formats:
            problem = f"means nothing in a file of corpus.format={corpus.format}"
            yield Fault("conflict", problem, key=f"corpus.{key}", got=getattr(corpus, key), hint="Leave it out.")


def _missing(key: str, asking: str, hint: str) -> Fault:
    return Fault("missing-key", f"is missing, and {asking} needs it", key=key, hint=hint)


def _fusion_faults(config: Config) -> Iterator[Fault]:
    asked, key = config.train.fused_adapters, "train.fused_adapters"
    if type(asked) is not bool and asked != AUTO:
        yield unknown_value(key, asked, ("true", "false", AUTO))
    elif asked is True and not can_fuse(config.method):
        problem = f"needs plain low-rank adapters on linear layers, and method={config.method.name} trains none"
        yield Fault("conflict", problem, key=key, got=asked, allowed=("false", AUTO))


def _sharding_faults(config: Config) -> Iterator[Fault]:
    asked, kernels = config.train.sharding, config.train.kernels
    yield from one_of("train.sharding", asked, SHARDINGS)
    if asked == "full":
        yield from sharding_faults(config.method)
        if kernels == "liger":
            problem = "has not been run with train.sharding=full"
            yield Fault("not-supported", problem, key="train.kernels", got=kernels, allowed=("torch",))


def _train_faults(train: TrainConfig) -> Iterator[Fault]:
    for key in ("batch_size", "max_length", "logging_steps"):
        yield from at_least(f"train.{key}", getattr(train, key), 1)
    yield from auto_or_at_least("train.micro_batch", train.micro_batch, 1)
    yield from auto_or_at_least("train.validations", train.validations, 1)
    if train.validation_samples is not None:
        yield from auto_or_at_least("train.validation_samples", train.validation_samples, 1)
    checkpointing = train.gradient_checkpointing
    if type(checkpointing) is not bool and checkpointing != AUTO:
        yield unknown_value("train.gradient_checkpointing", checkpointing, ("true", "false", AUTO))
    if train.max_steps is not None:
        yield from at_least("train.max_steps", train.max_steps, 1)
    yield from at_least("train.warmup_steps_unmetered", train.warmup_steps_unmetered, 0)
    if train.checkpoint_steps is not None:
        yield from at_least("train.checkpoint_steps", train.checkpoint_steps, 1)
    for key in ("epochs", "learning_rate", "max_gradient_norm", "checkpoint_minutes"):
        yield from above_zero(f"train.{key}", getattr(train, key))
    yield from between("train.warmup_ratio", train.warmup_ratio, 0, 1)
    yield from between("train.weight_decay", train.weight_decay, 0, 1)
    yield from one_of("train.scheduler", train.scheduler, SCHEDULERS)
    if train.scheduler == "polynomial" and 0 < train.learning_rate <= POLYNOMIAL_END:
        problem = f"must be above {POLYNOMIAL_END:g}, the rate at which train.scheduler=polynomial ends"
        yield Fault("out-of-range", problem, key="train.learning_rate", got=train.learning_rate)
    yield from one_of("train.kernels", train.kernels, KERNELS)
