"""Measures scoring speed and correctness: seconds per metric; ROUGE against rouge-score; a golden file."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.metrics.char_bleu import shared_ngrams
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from medqa_finetune.evaluation.score import score_predictions
from scripts.benchmarks.made_pairs import TextMaker, read_rows
from scripts.benchmarks.results import heading, keep, markdown

HEADLINE = ("rouge", "bleu")
ROUGE = ("rouge1", "rouge2", "rougeL")
# Names of expected values in a golden file, and of ours; sentence BLEU is `bleu` of an answer.
GOLDEN = {name: name for name in ROUGE} | {"bleu_zh_sent": "bleu"}
# Seconds of 1,000 answers of 300 characters; differences in points.
SECONDS, TO_ROUGE_SCORE, TO_GOLDEN = 5.0, 1e-9, 1e-6
# rouge-score takes a second for thirty answers of 300 characters.
COMPARED = 100


class CodePoints(Tokenizer):  # type: ignore[misc]
    """A token of every code point but white space, for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        return [character for character in text if not character.isspace()]


def scores(options: argparse.Namespace) -> int:
    """Score generated texts and compare; print and save the result. Returns 1 if a difference exceeds its limit."""
    started = heading("scores")
    maker = TextMaker(read_rows(options.pairs))
    answers = [
        Prediction(str(place), "", (maker.text(options.characters),), maker.text(options.characters))
        for place in range(options.answers)
    ]
    rows = [{"metric": "headline (rouge, bleu)", **_measured(answers, HEADLINE)}]
    rows += [{"metric": "all", **_measured(answers, DEFAULT_METRICS)}]
    rows += [{"metric": name, **_measured(answers, [name])} for name in DEFAULT_METRICS]
    title = f"{options.answers:,} answers and references of {options.characters} characters"
    print(f"{title}, seconds of one core; the second line reads jieba's dictionary as well\n")
    print(markdown(("metric", "seconds"), [(str(row["metric"]), f"{row['seconds']:.2f}") for row in rows]))
    compared = answers[:COMPARED]
    found = [(f"rouge-score, {len(compared)} of these answers", to_rouge_score(compared), TO_ROUGE_SCORE)]
    if options.golden is not None:
        found.append((f"{options.golden.name}, ROUGE and sentence BLEU", to_golden(options.golden), TO_GOLDEN))
    print()
    print(markdown(("compared with", "largest difference, points", "limit"),
                   [(what, f"{most:.1e}", f"{limit:.0e}") for what, most, limit in found]))  # fmt: skip
    differences = [{"compared with": what, "most": most, "limit": limit} for what, most, limit in found]
    keep(options.out, {**started, "answers": options.answers, "characters": options.characters, "rows": rows,
                       "differences": differences})  # fmt: skip
    usual = options.answers <= 1000 and options.characters <= 300
    return int(any(most > limit for _, most, limit in found) or (usual and rows[0]["seconds"] > SECONDS))


def to_rouge_score(answers: Sequence[Prediction]) -> float:
    """Return the largest difference between our ROUGE and that of the package rouge-score, in points."""
    scorer = RougeScorer(list(ROUGE), tokenizer=CodePoints())
    wanted = [scorer.score_multi(list(answer.references), answer.prediction) for answer in answers]
    _, rows = score_predictions(answers, ["rouge"])
    pairs = zip(wanted, rows, strict=True)
    return max(abs(100 * float(want[name].fmeasure) - float(row[name])) for want, row in pairs for name in ROUGE)


def to_golden(path: Path) -> float:
    """Return the largest difference of an answer's scores from those in a file, in points.

    Args:
        path: JSON Lines of answers, as `evaluate` reads them, with `rouge1`, `rouge2`, `rougeL` and `bleu_zh_sent`.
    """
    wanted = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(wanted, start=1):
        if missing := GOLDEN.keys() - row.keys():
            problem = f"the expected scores must be there; missing: {', '.join(sorted(missing))}"
            raise DataError(Fault("missing-key", problem, key=min(missing), file=str(path), line_number=number))
    _, rows = score_predictions(read_predictions(path), HEADLINE)
    pairs = zip(wanted, rows, strict=True)
    return max(abs(float(want[theirs]) - float(row[ours])) for want, row in pairs for theirs, ours in GOLDEN.items())


def _measured(answers: list[Prediction], names: Sequence[str]) -> dict[str, Any]:
    shared_ngrams.cache_clear()
    began = time.process_time()
    score_predictions(answers, list(names))
    return {"seconds": time.process_time() - began}
