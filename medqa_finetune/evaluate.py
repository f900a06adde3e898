"""The door to scoring: a run's predictions once more, or any file of predictions."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.config.command_line import aligned_table, parse_options, run_door, wants_help
from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.errors import EXIT_DONE, ConfigError, DataError

if TYPE_CHECKING:
    from medqa_finetune.record.schema import EvaluationRecord

USAGE = """\
Score answers again, without a model.

  python -m medqa_finetune.evaluate run=DIR           predictions of a run; its record takes the scores
  python -m medqa_finetune.evaluate predictions=FILE  JSON Lines of {"id", "question", "reference" or "references",
                                                      "prediction"}
Options:
  format=text|json   a table, or one JSON object {"n", "scores": {name: {"value", "signature"}}}    default text
  items=true|false   with the scores of every answer                                                default false
  metrics=[rouge,…]  files in medqa_finetune/evaluation/metrics       default: all; a run's own
  output=FILE        write the JSON object there as well
"""
FORMATS = ("text", "json")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What can be typed after `evaluate`; exactly one of `run` and `predictions` is wanted.

    Attributes:
        run: Folder of a run.
        predictions: File of JSON Lines.
        format: `text` or `json`.
        items: Whether the answers' own scores are printed too.
        metrics: Names of metrics; a run's own are always among them.
        output: Where to write the JSON object.

    Raises:
        ConfigError: an impossible choice.
    """

    run: str | None = None
    predictions: str | None = None
    format: str = "text"
    items: bool = False
    metrics: list[str] = dataclasses.field(default_factory=lambda: list(DEFAULT_METRICS))
    output: str | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.predictions is None):
            raise ConfigError("exactly one of run=DIR and predictions=FILE is wanted; --help says more.")
        if self.format not in FORMATS:
            raise ConfigError(f"format={self.format}: allowed: {', '.join(FORMATS)}.")
        if self.output is not None and (not self.output.strip() or Path(self.output).is_dir()):
            raise ConfigError(f"output={self.output}: the name of a file is wanted.")
        if self.output is not None and self.predictions is not None and _same(self.output, self.predictions):
            raise ConfigError(f"output={self.output}: would overwrite the predictions; another file is wanted.")


def main() -> NoReturn:
    """Score what the command line names, and end the process."""
    run_door(evaluate)


def evaluate(arguments: list[str]) -> int:
    """Score what `arguments` name, print the result, and return the exit code.

    Raises:
        ConfigError: an option is unknown or impossible.
        DataError: predictions are missing, too few or broken.
        RunError: another process is working on the run.
    """
    if wants_help(arguments):
        print(USAGE, end="")
        return EXIT_DONE
    options = parse_options(EvaluateOptions, arguments)
    record, rows = _of_file(options) if options.run is None else _of_run(Path(options.run), options)
    content: dict[str, Any] = {
        "n": record.n,
        "scores": {name: dataclasses.asdict(score) for name, score in record.scores.items()},
    }
    if options.items:
        content["items"] = rows
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if options.output is not None:
        _write(Path(options.output), text + "\n")
    print(text if options.format == "json" else as_text(record, rows if options.items else []))
    return EXIT_DONE


def as_text(record: "EvaluationRecord", rows: Sequence[dict[str, Any]]) -> str:
    """Return the scores as a table, with shares of odd answers below, then the answers' own scores if there are any."""
    table = [
        [name, f"{score.value:.2f}", str(record.n), score.signature] for name, score in sorted(record.scores.items())
    ]
    parts = [aligned_table(["score", "value", "n", "signature"], table, left=["score", "signature"])]
    shares = {
        "empty": record.empty_rate,
        "cut at the length limit": record.truncated_rate,
        "cut off by time": record.timed_out_rate,
        "repeated 4-grams": record.repetition_rate,
    }
    parts.append(", ".join(f"{name} {value:.1%}" for name, value in shares.items() if value is not None))
    parts = [part for part in parts if part]
    if rows:
        header = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[str(row["id"]), *(f"{row[name]:.2f}" if name in row else "-" for name in header[1:])] for row in rows]
        parts.append(aligned_table(header, cells, left=["id"]))
    return "\n\n".join(parts)


def _of_run(folder: Path, options: EvaluateOptions) -> "tuple[EvaluationRecord, list[dict[str, Any]]]":
    from medqa_finetune.evaluation.again import score_run
    from medqa_finetune.record.run_dir import RunDir

    return score_run(RunDir(folder), options.metrics)


def _of_file(options: EvaluateOptions) -> "tuple[EvaluationRecord, list[dict[str, Any]]]":
    from medqa_finetune.evaluation.answers import read_answers
    from medqa_finetune.evaluation.metrics.base import find_metric
    from medqa_finetune.evaluation.score import own_scores, score_answers

    answers = read_answers(Path(str(options.predictions)))
    try:
        record, rows = score_answers(answers, options.metrics)
    except DataError as error:
        raise DataError(f"{options.predictions}: {error}") from None
    for name in options.metrics if options.metrics != list(DEFAULT_METRICS) else ():
        if record.scores.keys().isdisjoint(find_metric(name).names):
            raise DataError(f"{options.predictions}: no answer carries what metrics=[{name}] needs.")
    return record, [own_scores(row) for row in rows]


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _write(path: Path, text: str) -> None:
    from medqa_finetune.record.files import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"output={path}: cannot be written ({error.strerror}).") from None


if __name__ == "__main__":
    main()
