"""Checks of how a model is evaluated: generation, metrics, benchmarks, running text."""

import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from medqa_finetune.config.ranges import AUTO, above_zero, at_least, auto_or_at_least, one_of
from medqa_finetune.config.schema import DEFAULT_METRICS, Config, EvaluateConfig
from medqa_finetune.errors import Fault
from medqa_finetune.methods.registry import described, own_methods

BACKENDS = ("transformers", "vllm")
# Entry point group of other packages' metrics.
METRIC_GROUP = "medqa_finetune.metrics"
# Metrics of running text, whatever `evaluate.metrics` lists.
TEXT_METRICS = ("perplexity",)
GRAPHS = "evaluate.cuda_graphs"
OTHER_BACKEND = "Or give evaluate.backend=transformers."


def text_faults(config: Config) -> Iterator[Fault]:
    """Yield faults of running text, as the corpus or as `evaluate.text`."""
    yield from _block_faults(config)
    if config.corpus.task != "text":
        return
    method = described(config.method.trains)
    if "text" not in method.tasks:
        allowed = tuple(kind for kind, each in own_methods().items() if "text" in each.tasks)
        problem = "running text has no answers to look up"
        yield Fault("conflict", problem, key="method.trains", got=config.method.trains, allowed=allowed)
    # The default list is for question answering; the user did not ask for it.
    metrics = tuple(config.evaluate.metrics)
    if metrics not in (DEFAULT_METRICS, TEXT_METRICS):
        problem = "running text has no answers to compare, and only perplexity is measured"
        hint = "Leave it out, or give evaluate.metrics=[perplexity]."
        yield Fault("conflict", problem, key="evaluate.metrics", got=list(metrics), allowed=TEXT_METRICS, hint=hint)


def _block_faults(config: Config) -> Iterator[Fault]:
    stride, length = config.evaluate.stride, config.train.max_length
    if config.corpus.task != "text" and config.evaluate.text is None:
        if stride is not None:
            problem = "applies to running text only, and there is none here"
            hint = "Leave it out, or give evaluate.text=wikitext2 as well."
            yield Fault("conflict", problem, key="evaluate.stride", got=stride, hint=hint)
        return
    # The first token of a block has no context and no loss, so a block of one token teaches nothing.
    if length == 1:
        yield Fault("out-of-range", "must be ≥ 2 for running text", key="train.max_length", got=length)
    if stride is not None and stride > length:
        problem = f"must be ≤ train.max_length={length}, or tokens are left out"
        yield Fault("out-of-range", problem, key="evaluate.stride", got=stride)


def backend_faults(config: Config) -> Iterator[Fault]:
    """Yield settings that vLLM does not support."""
    # Methods without a model ignore the backend, so that a sweep may include the retrieval baseline.
    if config.evaluate.backend != "vllm" or not described(config.method.trains).loads_model:
        return
    if config.corpus.task == "text":
        problem = "does not measure running text, for which nothing is generated"
        yield Fault("conflict", problem, key="evaluate.backend", got="vllm", allowed=("transformers",))
    if config.method.quantization == "int8":
        problem = "vLLM (evaluate.backend=vllm) does not multiply as bitsandbytes does in 8 bits"
        allowed = ("none", "nf4", "fp4")
        yield Fault("conflict", problem, key="method.quantization", got="int8", allowed=allowed, hint=OTHER_BACKEND)
    if config.method.compute_dtype != AUTO:
        problem, got = "vLLM (evaluate.backend=vllm) multiplies in the run's own precision", config.method.compute_dtype
        yield Fault("conflict", problem, key="method.compute_dtype", got=got, allowed=(AUTO,), hint=OTHER_BACKEND)


def graph_faults(config: Config) -> Iterator[Fault]:
    """Yield settings with which `evaluate.cuda_graphs=true` changes nothing, or cannot work."""
    if not config.evaluate.cuda_graphs or not described(config.method.trains).loads_model:
        return
    allowed = ("false",)
    if config.corpus.task == "text":
        problem = "has no effect on running text, for which nothing is generated"
        yield Fault("conflict", problem, key=GRAPHS, got=True, allowed=allowed)
    if config.evaluate.backend == "vllm":
        problem = "has no effect on vLLM (evaluate.backend=vllm), which decides itself"
        yield Fault("conflict", problem, key=GRAPHS, got=True, allowed=allowed, hint=OTHER_BACKEND)
    if config.method.quantization == "int8":
        problem = "is not possible with method.quantization=int8, whose layers ask the host which columns are large"
        yield Fault("conflict", problem, key=GRAPHS, got=True, allowed=allowed)


def graphs_need_gpu(device: str) -> Fault:
    """Return the fault of `evaluate.cuda_graphs=true` on another device."""
    problem = f"needs a CUDA GPU, and this run would compute on {device}"
    return Fault("needs-gpu", problem, key=GRAPHS, got=True, allowed=("false",))


def evaluate_faults(evaluate: EvaluateConfig) -> Iterator[Fault]:
    """Yield faults of how predictions are generated and scored."""
    yield from auto_or_at_least("evaluate.batch_tokens", evaluate.batch_tokens, 1)
    for key in ("batch_size", "max_new_tokens"):
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
        problem, hint = "needs evaluate.text", "Give evaluate.text=text as well."
        yield Fault("conflict", problem, key="evaluate.text_path", got=evaluate.text_path, hint=hint)
    # OmegaConf checks the elements of the outer list alone, so a nested list gets here.
    if any(not isinstance(name, str) or not name.strip() for name in evaluate.zero_shot):
        problem, hint = "must be a list of task names", "For example, give evaluate.zero_shot=[ceval-valid]."
        yield Fault("wrong-type", problem, key="evaluate.zero_shot", got=evaluate.zero_shot, hint=hint)
    folder = evaluate.zero_shot_folder
    if folder is not None and not Path(folder).is_dir():
        hint = "Give a folder with YAML files of tasks."
        yield Fault("file-missing", "no such folder", key="evaluate.zero_shot_folder", got=folder, hint=hint)
    if not evaluate.metrics:
        yield Fault("empty", "must name at least one", key="evaluate.metrics", got=[], allowed=tuple(metrics))


def metric_names() -> list[str]:
    """Return the names of all metrics, shipped and of installed packages; imports none of them."""
    return sorted({*shipped_metrics(), *entry_points_of_metrics()})


def shipped_metrics() -> list[str]:
    """Return the names of the files in `evaluation/metrics/`."""
    folder = Path(__file__).parents[1] / "evaluation" / "metrics"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "base"))


def entry_points_of_metrics() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages' metrics, by name."""
    return _entry_points(tuple(map(_state_of, sys.path)))


def _state_of(folder: str) -> tuple[str, int, int]:
    """Return a folder of modules with what changes when a package is installed in it."""
    try:
        found = Path(folder).stat()
    except OSError:
        return folder, 0, 0
    return folder, found.st_ino, found.st_mtime_ns


# Looking into every installed package takes as long as all other checks of a configuration, many times over.
@lru_cache(maxsize=1)
def _entry_points(places: tuple[tuple[str, int, int], ...]) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=METRIC_GROUP)}
