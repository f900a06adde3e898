"""Builds the table of all runs: one row per training and evaluation, blank if not measured."""

from collections.abc import Sequence

import pandas as pd

from medqa_finetune.evaluation.metric_registry import default_scores
from medqa_finetune.evaluation.metrics.base import Prominence
from medqa_finetune.memory import GIB
from medqa_finetune.record.schema import Evaluation, Record
from medqa_finetune.report.runs import Run, disturbance_of, train_size_of
from medqa_finetune.report.scores import SIGNATURE_SEPARATOR, benchmark_column, is_benchmark, score_columns, scores_of

OF_TEXT = tuple(score.name for score in default_scores() if score.running_text)
DETAILS = tuple(score.name for score in default_scores() if score.prominence is Prominence.DETAIL)
SCORES = tuple(score_columns([]))
RATES = (
    "empty_rate", "truncated_rate", "timed_out_rate", "repetition_rate", "unclosed_rate", "prompt_cut_rate",
    "reference_cut_rate",
)  # fmt: skip
CUT_EXAMPLES = "train_truncated_rate"
DISTURBED = "train_disturbed_rate"
SKIPPED = "train_skipped_rate"
COLUMNS = (
    "name", "status", "method", "data", "train_size", "model", "seed",
    *(score for score in SCORES if score not in (*DETAILS, *OF_TEXT)), "peak_vram_gib", "peak_rss_gib",
    "train_seconds", "train_samples_per_second", "train_tokens_per_second", "eval_samples_per_second",
    "trainable_parameters", "n_test", "signature", "model_flops_utilization", "reason", "study", "corpus", "device",
    "test_sha256", "identity", *OF_TEXT, "eval_tokens_per_second", *DETAILS, *RATES,
    CUT_EXAMPLES, "task", "cell", "evaluation", "evaluation_identity", DISTURBED, SKIPPED,
    "label",
)  # fmt: skip
WHOLE_NUMBERS = ("train_size", "seed", "trainable_parameters", "n_test")
NUMBERS = (
    *SCORES, "peak_vram_gib", "peak_rss_gib", "train_seconds", "train_samples_per_second", "train_tokens_per_second",
    "eval_samples_per_second", "model_flops_utilization", "eval_tokens_per_second", *RATES,
    CUT_EXAMPLES, DISTURBED, SKIPPED,
)  # fmt: skip


def results_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run, in the order given; NaN or None if not measured, never 0.

    The columns are `COLUMNS`, one for every other score that a run has, one for every score of a benchmark,
    `<benchmark>/<metric>`, and, for figures that do not compare with these, `<benchmark>/<metric>#2` and so on.

    `train_size` counts training examples (or blocks of running text), and is 0 for the untuned base; scores are as
    their metrics describe them, the perplexity of running text in its own column; memory is in GiB (2**30 bytes);
    `signature` holds `score=signature` of every score, as `scores.signatures` reads it back; `task` is `qa` or
    `text`; `cell` names the cell of a done run (`grouping.cell_names`), and
    `label` is what the report calls it. An unreadable record has the status
    `unreadable` and the reason.
    """
    benchmarks = sorted({column for run in runs for column in run.values if is_benchmark(column)}, key=_apart_last)
    others = [score for score in score_columns(run.values.get("signature") for run in runs) if score not in SCORES]
    columns = (*COLUMNS, *others, *benchmarks)
    frame = pd.DataFrame({name: pd.Series([run.values.get(name) for run in runs], dtype=object) for name in columns})
    for column in (*NUMBERS, *others, *benchmarks):
        frame[column] = frame[column].astype("Float64").astype(float)
    for column in WHOLE_NUMBERS:
        frame[column] = frame[column].astype("Int64")
    return frame.where(frame.notna(), None)


def _apart_last(column: str) -> tuple[bool, str, int]:
    name, _, kind = column.partition("#")
    return bool(kind), name, int(kind or 1)


def row_of(record: Record, evaluation: Evaluation | None) -> dict[str, object]:
    """Return the values of a run by column, except name, study and cell; None if not measured.

    Args:
        record: Record of the run with this evaluation.
        evaluation: Record of the evaluation; None if none has begun.
    """
    row = _what(record) | _costs(record) | _outcome(record)
    if evaluation is not None:
        row |= {"evaluation": evaluation.name, "evaluation_identity": evaluation.identity}
    return row


def _what(record: Record) -> dict[str, object]:
    manifest, environment = record.data_manifest, record.environment
    return {
        "status": record.status,
        "method": record.method,
        "data": record.data,
        "train_size": train_size_of(record),
        "model": record.model,
        "seed": record.seed,
        "corpus": record.setting("corpus", "name"),
        "task": record.setting("corpus", "task"),
        "device": environment.device if environment is not None else None,
        "test_sha256": manifest.test.sha256 if manifest is not None else None,
        "identity": record.identity,
    }


def _costs(record: Record) -> dict[str, object]:
    train, parameters = record.train, record.parameters
    costs: dict[str, object] = {"trainable_parameters": parameters.trainable if parameters is not None else None}
    if train is not None:
        costs |= {
            "peak_vram_gib": _gib(train.peak_vram_bytes),
            "peak_rss_gib": _gib(train.peak_rss_bytes),
            "train_seconds": train.seconds,
            "train_samples_per_second": train.samples_per_second,
            "train_tokens_per_second": train.tokens_per_second,
            "model_flops_utilization": train.model_flops_utilization,
            CUT_EXAMPLES: _cut_share(record),
            DISTURBED: disturbance_of(train),
            SKIPPED: None if train.skipped_steps is None else train.skipped_steps / train.steps,
        }
    return costs


def _cut_share(record: Record) -> float | None:
    """Return the share of training examples that were truncated; records of earlier versions have their number."""
    train, manifest = record.train, record.data_manifest
    if train is None or train.truncated_rate is not None:
        return None if train is None else train.truncated_rate
    return train.truncated / manifest.train.n if manifest is not None and manifest.train.n else None


def _outcome(record: Record) -> dict[str, object]:
    outcome: dict[str, object] = {"reason": _reason(record)}
    evaluation = record.evaluation
    if evaluation is not None:
        scores = scores_of(evaluation)
        benchmarks = {benchmark_column(name): score for name, score in record.zero_shot.items()}
        outcome |= {name: score.value for name, score in (scores | benchmarks).items()}
        outcome["eval_samples_per_second"] = evaluation.samples_per_second
        outcome["eval_tokens_per_second"] = evaluation.tokens_per_second
        outcome |= {name: getattr(evaluation, name) for name in RATES}
        outcome["n_test"] = evaluation.n
        every = sorted((scores | benchmarks).items())
        parts = [f"{name}={score.signature}" for name, score in every]
        outcome["signature"] = SIGNATURE_SEPARATOR.join(parts) or None
    return outcome


def _reason(record: Record) -> str | None:
    if record.failure is not None:
        return f"{record.failure.kind}: {record.failure.message}"
    if record.status != "done":
        return f"{record.status}, not done"
    return "done, but without scores" if record.evaluation is None else None


def _gib(count: int | None) -> float | None:
    return None if count is None else count / GIB
