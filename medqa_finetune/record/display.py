"""Results in a notebook or at a Python prompt: a few lines, or a small table."""

from collections.abc import Mapping, Sequence
from html import escape

from medqa_finetune.log import visible
from medqa_finetune.record.schema import EvaluationRecord, Score
from medqa_finetune.record.short_names import short_names

LINE = 100
INDENTED = "  "
SCORES_SHOWN = 3


def in_lines(*lines: str) -> str:
    """Return the non-empty lines, each cut to `LINE` characters, indented below the first."""
    kept = [visible(line) for line in lines if line]
    shown = [short_names([line], LINE - len(INDENTED))[0] for line in kept]
    return f"\n{INDENTED}".join(shown)


def main_scores(record: EvaluationRecord | None, main: Sequence[str]) -> str:
    """Return scores and the number of predictions in one line; empty without scores.

    Args:
        record: Record with all scores.
        main: Names of the scores to show; the record's first one where it has none of them.
    """
    if record is None:
        return ""
    names = ([name for name in main if name in record.scores] or [*record.scores])[:SCORES_SHOWN]
    return INDENTED.join([*(f"{name} {record.scores[name].value:.2f}" for name in names), f"n {record.n}"])


def benchmark_scores(benchmarks: Mapping[str, Score]) -> str:
    """Return benchmark scores in one line; empty where there are none."""
    found = ", ".join(f"{name} {score.value:.4g}" for name, score in sorted(benchmarks.items()))
    return f"benchmarks: {found}" if found else ""


def as_html(title: str, record: EvaluationRecord | None, benchmarks: Mapping[str, Score]) -> str:
    """Return a table of all scores; a score's signature is its tooltip."""
    own = {} if record is None else record.scores
    scores = [(name, f"{score.value:.2f}", score.signature) for name, score in sorted(own.items())]
    scores += [(name, f"{score.value:.4g}", score.signature) for name, score in sorted(benchmarks.items())]
    rows = "".join(
        f'<tr title="{_text(signature)}"><td>{_text(name)}</td><td>{value}</td></tr>'
        for name, value, signature in scores
    )
    head = "<tr><th>score</th><th>value</th></tr>"
    return f"<table><caption>{_text(title)}</caption>{head}{rows}</table>"


def _text(text: str) -> str:
    return escape(visible(text))
