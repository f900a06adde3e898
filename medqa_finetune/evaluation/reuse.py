"""Reuses predictions and benchmark scores of a run's other evaluations that have the same settings.

Predictions from different environments are never mixed. If another evaluation has everything that is needed, it is
reused together with its environment, and no model is loaded.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medqa_finetune.config.identity import answer_settings
from medqa_finetune.record.checksums import damages
from medqa_finetune.record.environment import same_place
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluations_of
from medqa_finetune.record.files import write_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, Evaluation, Record, Reused

log = logging.getLogger(__name__)

Row = dict[str, Any]
Settings = Mapping[str, Any]
# Settings that a benchmark's score depends on, in addition to the weights.
OF_THE_TEXT = ("text", "text_sha256", "stride", "max_samples")
OF_THE_TASKS = ("zero_shot", "zero_shot_folder", "max_samples")


class Source(NamedTuple):
    """Another evaluation of the same run, and its predictions for questions of this one, in its own order."""

    evaluation: Evaluation
    rows: list[Row]


def reuse(
    run: RunDir, folder: EvaluationDir, settings: Settings, ids: Sequence[str], environment: Environment | None
) -> bool:
    """Copy what other evaluations of a run have already computed; return whether that is everything.

    Args:
        run: The run; this process holds the lock of the evaluation.
        folder: Folder of the evaluation; its existing predictions are kept.
        settings: Settings of the cell.
        ids: Ids of all questions, or blocks of running text, of the evaluation.
        environment: Environment of this evaluation; None if not yet known: then only a complete evaluation is reused.
    """
    record, own = run.read(), folder.read()
    if record is None or own is None:
        return False
    sources = list(_sources(run, record, folder, settings, set(ids)))
    if own.reused is None or len(folder.read_predictions()) < own.reused.answers:
        own = _reuse_answers(folder, own, sources, ids, environment)
    place = own.environment if environment is None else environment
    if place is not None:
        own = _reuse_benchmarks(folder, own, sources, place)
    # The evaluation's own predictions do not count: the process that completes them sums up their cost.
    taken = {row.get("id") for row in reused_rows(folder)}
    return taken >= set(ids) and not missing_benchmarks(own)


def needs_model(run: RunDir, folder: EvaluationDir, settings: Settings, ids: Sequence[str]) -> bool:
    """Return whether an evaluation needs a model: not if other evaluations of the run have all predictions.

    Nothing is written. Benchmarks count as missing, since they may have been run in another environment.
    """
    record = run.read()
    benchmarks = settings["evaluate"]["text"] is not None or bool(settings["evaluate"]["zero_shot"])
    if record is None or not record.is_trained or benchmarks:
        return True
    sources = _sources(run, record, folder, settings, set(ids))
    return not any(len(source.rows) >= len(set(ids)) for source in sources)


def _reuse_answers(
    folder: EvaluationDir,
    own: Evaluation,
    sources: Sequence[Source],
    ids: Sequence[str],
    environment: Environment | None,
) -> Evaluation:
    """Copy the predictions of the source that has most of them, unless this evaluation has predictions."""
    if folder.read_predictions():
        return own
    if environment is not None:
        sources = [source for source in sources if same_place(source.evaluation.environment, environment)]
    best = max(sources, key=lambda source: len(source.rows), default=None)
    if best is None or not best.rows or (environment is None and len(best.rows) < len(set(ids))):
        return own
    # The mark is written first: predictions without it would count as this evaluation's own.
    own = folder.update(
        reused=Reused(best.evaluation.name, len(best.rows)),
        environment=environment or best.evaluation.environment,
        stop_ids=best.evaluation.stop_ids,
    )
    write_text(folder.predictions_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in best.rows))
    log.info("%d of %d answers are those of evaluation %s", len(best.rows), len(ids), best.evaluation.name)
    return own


def _reuse_benchmarks(
    folder: EvaluationDir, own: Evaluation, sources: Sequence[Source], place: Environment
) -> Evaluation:
    """Copy benchmark scores computed under the same settings in the same environment."""
    for missing in missing_benchmarks(own):
        keys = OF_THE_TEXT if missing == "text" else OF_THE_TASKS
        for source in sources:
            other = source.evaluation
            known = {
                name: score for name, score in other.exams.items() if is_of_text(name, other) == (missing == "text")
            }
            alike = all(_plain(own.settings.get(key)) == _plain(other.settings.get(key)) for key in keys)
            if known and alike and same_place(other.environment, place):
                log.info("the scores of %s are those of evaluation %s", ", ".join(sorted(known)), other.name)
                own = folder.update(exams=own.exams | known)
                break
    return own


def missing_benchmarks(evaluation: Evaluation) -> list[str]:
    """Return the kinds of configured benchmarks, `tasks` and `text`, that have no score yet."""
    of_text = [is_of_text(name, evaluation) for name in evaluation.exams]
    asked = {"tasks": bool(evaluation.settings.get("zero_shot")), "text": evaluation.settings.get("text") is not None}
    return [kind for kind, is_asked in asked.items() if is_asked and (kind == "text") not in of_text]


def is_of_text(name: str, evaluation: Evaluation) -> bool:
    """Return whether a benchmark score is the perplexity of the evaluation's text."""
    signature = evaluation.exams[name].signature
    return name.endswith("/perplexity") and "text_sha256:" in signature


def _sources(run: RunDir, record: Record, folder: EvaluationDir, settings: Settings, ids: set[str]) -> Iterator[Source]:
    wanted = answer_settings(settings)
    for other, evaluation, error in evaluations_of(run, record):
        if other == folder:
            continue
        if error is not None:
            log.warning("%s; nothing is taken from it", error)
        if evaluation is None:
            continue
        stamp = {name: stamp for name, stamp in evaluation.files.items() if name == other.predictions_path.name}
        if damage := damages(other.path, stamp):
            log.warning("evaluation %s: %s; nothing is taken from it", evaluation.name, damage[0])
            continue
        alike = answer_settings({**settings, "evaluate": evaluation.settings}) == wanted
        rows = {row.get("id"): row for row in other.read_predictions()} if alike else {}
        yield Source(evaluation, [row for key, row in rows.items() if key in ids])


def set_aside_elsewhere(folder: EvaluationDir, environment: Environment) -> None:
    """Set aside an evaluation started in another environment: with other package versions or another precision."""
    own = folder.read()
    begun = own is not None and (bool(own.exams) or folder.predictions_path.is_file())
    if own is None or not begun or own.environment is None or same_place(own.environment, environment):
        return
    log.warning(
        "evaluation %s was started with other package versions or in another precision; it is moved aside and starts "
        "anew, for its scores would be a mixture", own.name,
    )  # fmt: skip
    folder.move_aside()


def drop_other_endings(folder: EvaluationDir, stops: Sequence[int], end_id: int) -> None:
    """Record which tokens end predictions, and drop predictions that other tokens ended: scores would be a mixture.

    Args:
        folder: Folder of the evaluation, with or without a record.
        stops: The tokens.
        end_id: The only such token of records that have none.
    """
    own = folder.read()
    before = [end_id] if own is None or own.stop_ids is None else own.stop_ids
    if before != [*stops] and folder.read_predictions():
        log.warning("predictions in %s were ended by other tokens, and are made again", folder.path)
        folder.predictions_path.unlink()
        folder.answering_path.unlink(missing_ok=True)
        own = None if own is None else folder.update(reused=None)
    if own is not None and own.stop_ids != [*stops]:
        folder.update(stop_ids=[*stops])


def reused_rows(folder: EvaluationDir) -> list[Row]:
    """Return the rows of `predictions.jsonl` that were reused from another evaluation."""
    own = folder.read()
    if own is None or own.reused is None:
        return []
    rows = folder.read_predictions()
    return rows[: own.reused.answers] if len(rows) >= own.reused.answers else []


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value
