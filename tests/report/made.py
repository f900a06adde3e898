"""Cells of made-up runs, with any fact of their records changed."""

import dataclasses
from typing import Any

from medqa_finetune.record.schema import Environment, EvaluationRecord, Record, Score
from medqa_finetune.report.runs import Cell, Run
from scripts.benchmarks.made_runs import MadeRun, record_of

SIGNATURES = {"rougeL": "rougeL|chars", "bleu": "bleu|zh", "perplexity": "ppl"}


def record(run: MadeRun, scores: dict[str, float] | None = None, n: int = 1000) -> Record:
    values = {"rougeL": 25.0, "bleu": 4.0} | (scores or {})
    return record_of(run, EvaluationRecord(n, {k: Score(v, SIGNATURES.get(k, k)) for k, v in values.items()}))


def changed(whole: Record, **facts: Any) -> Record:
    """Return a record with facts of its training, environment or evaluation replaced, whichever has them."""
    for name, value in facts.items():
        for part in ("train", "environment", "evaluation"):
            found = getattr(whole, part)
            if found is not None and name in {field.name for field in dataclasses.fields(found)}:
                whole = whole.updated(**{part: dataclasses.replace(found, **{name: value})})
                break
        else:
            whole = whole.updated(**{name: value})
    return whole


def cell(method: str = "lora", size: int = 20_000, *, rank: int = 16, seeds: int = 1, **facts: Any) -> Cell:
    runs = [MadeRun(method, size, seed, rank=rank) for seed in range(seeds)]
    scored = [Run(run.name, "", changed(record(run), **facts)) for run in runs]
    return Cell(scored[0].name, tuple(scored))


def with_setting(each: Cell, key: str, value: Any) -> Cell:
    """Return a cell whose configuration has `section.name` set."""
    section, _, name = key.partition(".")
    config = dict(each.first.config)
    config[section] = config[section] | {name: value} if name else value
    run = each.runs[0]
    return Cell(each.name, (dataclasses.replace(run, record=run.known.updated(config=config)),))


def environment(**changes: Any) -> Environment:
    found = record(MadeRun("lora", 20_000)).environment
    assert found is not None
    return dataclasses.replace(found, **changes)
