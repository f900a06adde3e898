"""Seconds to score answers, metric by metric: made pairs of equal length, one core."""

import argparse
import time
from typing import Any

from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.evaluation.answers import Answer
from medqa_finetune.evaluation.metrics.char_bleu import shared_ngrams
from medqa_finetune.evaluation.score import score_answers
from scripts.benchmarks.made_pairs import TextMaker, read_rows
from scripts.benchmarks.results import heading, keep, markdown


def scores(options: argparse.Namespace) -> int:
    """Score made answers with all metrics together, then with each alone; print the table and keep it."""
    started = heading("scores")
    maker = TextMaker(read_rows(options.pairs))
    answers = [
        Answer(str(place), "", (maker.text(options.characters),), maker.text(options.characters))
        for place in range(options.answers)
    ]
    rows = [{"metric": "all", **_measured(answers, list(DEFAULT_METRICS))}]
    rows += [{"metric": name, **_measured(answers, [name])} for name in DEFAULT_METRICS]
    title = f"{options.answers:,} answers and references of {options.characters} characters"
    print(f"{title}, seconds of one core; the first line reads jieba's dictionary as well\n")
    print(markdown(("metric", "seconds"), [(str(row["metric"]), f"{row['seconds']:.2f}") for row in rows]))
    keep(options.out, {**started, "answers": options.answers, "characters": options.characters, "rows": rows})
    return 0


def _measured(answers: list[Answer], names: list[str]) -> dict[str, Any]:
    shared_ngrams.cache_clear()
    began = time.process_time()
    score_answers(answers, names)
    return {"seconds": time.process_time() - began}
