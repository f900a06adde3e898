"""Checks of how a model is examined: generation, metrics, exams beside the answers, running text."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.config.ranges import AUTO, above_zero, at_least, between, one_of

if TYPE_CHECKING:
    from medqa_finetune.config.schema import Config, EvaluateConfig

BACKENDS = ("transformers", "vllm")
DEFAULT_METRICS = (
    "rouge", "bleu", "perplexity", "char_bleu", "llamafactory", "length_ratio", "distinct", "special_tokens",
)  # fmt: skip
# Of running text, whatever the list of metrics says.
TEXT_METRICS = ("perplexity",)


def text_faults(config: "Config") -> Iterator[str]:
    """Yield what is impossible with running text, of the corpus or beside it."""
    yield from _block_faults(config)
    if config.corpus.task != "text":
        return
    if not config.method.loads_model:
        yield "method.trains=lookup: running text has no answers to look up; allowed with it: adapter, all, nothing."
    # The list that nobody has changed is one for answers, and was not asked for.
    metrics = tuple(config.evaluate.metrics)
    if metrics not in (DEFAULT_METRICS, TEXT_METRICS):
        yield (
            f"evaluate.metrics=[{','.join(metrics)}]: running text has no answers to compare, and perplexity alone is "
            "measured; leave it out, or give evaluate.metrics=[perplexity]."
        )


def _block_faults(config: "Config") -> Iterator[str]:
    """Yield what is impossible in the blocks of a running text, of the corpus or beside it."""
    stride, length = config.evaluate.stride, config.train.max_length
    if config.corpus.task != "text" and config.evaluate.text is None:
        if stride is not None:
            yield (
                f"evaluate.stride={stride}: for running text alone, which nothing here is; leave it out, or give "
                "evaluate.text=wikitext2 as well."
            )
        return
    # The first token of a block is predicted from nothing, so a block of one has nothing to learn.
    if length == 1:
        yield "train.max_length=1: of running text, blocks of at least 2 tokens are wanted."
    if stride is not None and stride > length:
        yield f"evaluate.stride={stride}: at most train.max_length={length} is wanted, or tokens would be left out."


def backend_faults(config: "Config") -> Iterator[str]:
    """Yield what vLLM cannot do that is known from the settings alone."""
    # Where no model is loaded, nobody generates, so that a sweep may have the retrieval baseline in it.
    if config.evaluate.backend != "vllm" or not config.method.loads_model:
        return
    if config.corpus.task == "text":
        yield "evaluate.backend=vllm: running text is measured, nothing is generated; allowed with it: transformers."
    if config.method.quantization == "int8":
        yield (
            "method.quantization=int8: vLLM does not multiply as bitsandbytes does in 8 bits; allowed with "
            "evaluate.backend=vllm: none, nf4, fp4. Or give evaluate.backend=transformers."
        )
    if config.method.compute_dtype != AUTO:
        yield (
            f"method.compute_dtype={config.method.compute_dtype}: vLLM multiplies in the run's own precision; allowed "
            "with evaluate.backend=vllm: auto. Or give evaluate.backend=transformers."
        )


def evaluate_faults(evaluate: "EvaluateConfig") -> Iterator[str]:
    """Yield what is impossible in how answers are generated and scored."""
    for key in ("batch_size", "batch_tokens", "max_new_tokens"):
        yield from at_least(f"evaluate.{key}", getattr(evaluate, key), 1)
    if evaluate.max_samples is not None:
        yield from at_least("evaluate.max_samples", evaluate.max_samples, 1)
    yield from above_zero("evaluate.timeout_seconds", evaluate.timeout_seconds)
    yield from one_of("evaluate.backend", evaluate.backend, BACKENDS)
    metrics = metric_names()
    for name in evaluate.metrics:
        yield from one_of("evaluate.metrics", name, metrics)
    if evaluate.stride is not None:
        yield from at_least("evaluate.stride", evaluate.stride, 1)
    if evaluate.text_path is not None and evaluate.text is None:
        yield f"evaluate.text_path={evaluate.text_path}: belongs to a text; give evaluate.text=text as well."
    # A list in the list comes as it is: OmegaConf looks at the types of the outer one alone.
    if any(not isinstance(name, str) or not name.strip() for name in evaluate.zero_shot):
        yield f"evaluate.zero_shot={evaluate.zero_shot}: names of tasks are wanted, e.g. [ceval-valid]."
    folder = evaluate.zero_shot_folder
    if folder is not None and not Path(folder).is_dir():
        yield f"evaluate.zero_shot_folder={folder}: no such folder; one with YAML files of tasks is wanted."
    if not evaluate.metrics:
        yield f"evaluate.metrics=[]: at least one is wanted; allowed: {', '.join(metrics)}."


def manner_faults(temperature: float, top_p: float, max_new_tokens: int) -> Iterator[str]:
    """Yield what is impossible in how answers are chosen."""
    yield from between("temperature", temperature, 0, 100, closed=True)
    if not 0 < top_p <= 1:
        yield f"top_p={top_p}: a number above 0 and at most 1 is wanted."
    yield from at_least("max_new_tokens", max_new_tokens, 1)


def metric_names() -> list[str]:
    """Return the names of the metrics that exist: the files of `evaluation/metrics/`, looked at without importing."""
    folder = Path(__file__).parents[1] / "evaluation" / "metrics"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "base"))
