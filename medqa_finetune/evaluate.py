"""Command-line entry point for evaluation: of trained weights, a run's predictions, or a file of predictions."""

import dataclasses
import glob
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.config.command_line import aligned_table, print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options
from medqa_finetune.config.ranges import at_least
from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.errors import EXIT_DONE, ConfigError, DataError, Fault, RunError, distinct, noting
from medqa_finetune.languages.translate import say
from medqa_finetune.stopping import LAUNCHER_VARIABLE, stop_with_parent

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell
    from medqa_finetune.record.run_dir import RunDir
    from medqa_finetune.record.schema import EvaluationRecord, Score

    Rows = list[dict[str, Any]]

SECTION = "evaluate."
PLACES = ("model.path", "corpus.path")
PATTERN = "*?["
OF_PREDICTIONS = ("prediction_key", "reference_key", "question_key", "id_key", "references")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(Options):
    """Options of `evaluate`; exactly one of `run` and `predictions` is given."""

    run: str | None = option(None, "folder of a run, or a pattern of such folders in quotes", value="DIR|PATTERN")
    predictions: str | None = option(
        None,
        'score a file of {"id", "question", "reference" or "references", "prediction"}, or as LLaMA-Factory, ms-swift '
        "and batches of OpenAI or vLLM name them: JSON Lines, a JSON array, CSV or Parquet; says which keys it takes",
        value="FILE",
    )
    prediction_key: str | None = option(
        None, "key of the prediction in that file, `a.0.b` inside values; found by its name if left out", value="KEY"
    )
    reference_key: str | None = option(
        None, "key of the reference, likewise; in the file of references= where that is given", value="KEY"
    )
    question_key: str | None = option(None, "key of the question, likewise", value="KEY")
    id_key: str | None = option(
        None, "key of the id, likewise; the line, or the place in an array, if there is none", value="KEY"
    )
    references: str | None = option(
        None, "file with the references of those predictions, by id or row by row", value="FILE"
    )
    evaluation: str | None = option(
        None, "the evaluation to score again; all if left out, and the run's default one is printed", value="NAME"
    )
    metrics: list[str] = option(
        list(DEFAULT_METRICS), "names of metrics; those of an evaluation are always included", value="[rouge,…]"
    )
    format: str = option(
        "text",
        'a table, or one JSON object {"n", "scores": {name: {"value", "signature"}}}; with several runs one line each, '
        'with "run" and "evaluation"',
        allowed=("text", "json"),
    )
    items: bool = option(False, "print the scores of every prediction as well")
    output: str | None = option(None, "write the JSON to this file as well", value="FILE")
    max_parallel: int | None = option(
        None,
        "runs evaluated at the same time at most; one per gpus_per_run GPUs if left out",
        check=partial(at_least, least=1),
    )
    gpus_per_run: int = option(1, "GPUs that each of several runs gets", check=partial(at_least, least=0))
    retries: int = option(
        1, "how often a crashed evaluation of a run is started again", check=partial(at_least, least=0)
    )
    threads: int | None = option(
        None, "CPU threads for torch; the run's own setting if left out", check=partial(at_least, least=1)
    )

    def conflicts(self) -> Iterator[Fault]:
        """Yield faults of options that exclude each other, and of an output that cannot be written."""
        if (self.run is None) == (self.predictions is None):
            hint = "Give run=DIR, or predictions=FILE."
            yield Fault("conflict", "exactly one of run and predictions must be given", hint=hint)
        if self.predictions is None:
            for key in OF_PREDICTIONS:
                if (value := getattr(self, key)) is not None:
                    yield Fault("conflict", "is for predictions=FILE", key=key, got=value, hint="Leave it out.")
        if self.output is not None and (not self.output.strip() or _is_folder(self.output)):
            yield Fault("not-a-file", "must be the name of a file", key="output", got=self.output)
        for what, given in (("predictions", self.predictions), ("references", self.references)):
            if self.output is not None and given is not None and _same(self.output, given):
                problem = f"would overwrite the {what}"
                yield Fault("same-file", problem, key="output", got=self.output, hint="Give another file.")
        if not self.metrics:
            yield Fault("empty", "must name a metric", key="metrics", got=[], hint="Leave it out for all of them.")


USAGE = f"""\
usage: python -m medqa_finetune.evaluate key=value …

Evaluates trained weights again, or scores predictions again without a model.

  python -m medqa_finetune.evaluate run=DIR evaluate.KEY=VALUE …
      another evaluation of a run: nothing is trained, and predictions made under the same settings are used again
  python -m medqa_finetune.evaluate run='outputs/*' evaluate.KEY=VALUE …
      the same for every run that matches, one per GPU at a time
  python -m medqa_finetune.evaluate run=DIR
      scores the predictions of a run again and writes the scores to its records
  python -m medqa_finetune.evaluate predictions=FILE

options:
{describe(EvaluateOptions)}\
for another evaluation:
  evaluate.KEY=VALUE        settings as `train` has them; what is left out is as in the run's default evaluation
  model.path=DIR            where the base model lies now
  corpus.path=FILE          where the corpus lies now
"""


def main() -> NoReturn:
    """Run the command `evaluate`, and end the process."""
    run_command(evaluate)


def evaluate(arguments: list[str]) -> int:
    """Evaluate as `arguments` ask, print the results, and return the exit code.

    Raises:
        ConfigError: an option is unknown or impossible.
        DataError: predictions are missing, incomplete or malformed, or a run is not trained.
        RunError: another process is working on the run, or an evaluation failed.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    of_evaluation = [each for each in arguments if each.startswith(SECTION)]
    places = [each for each in arguments if each.partition("=")[0] in PLACES]
    own = [each for each in arguments if each not in (*of_evaluation, *places)]
    _check_sections(own)
    options = parse_options(EvaluateOptions, own)
    again = [*of_evaluation, *places]
    _check_together(options, arguments, again)
    if options.predictions is not None:
        found = [Found({}, *_of_file(options))]
    elif not again:
        from medqa_finetune.record.run_dir import RunDir
        from medqa_finetune.run_state.tracker_rows import report_again

        folders = _runs(str(options.run))
        found = [_scored(RunDir(folder), folder, options.metrics, options.evaluation) for folder in folders]
        with redirect_stdout(sys.stderr):  # trackers print
            for folder in folders:
                report_again(RunDir(folder), options.evaluation)
    else:
        found = _evaluated_again(options, again)
    _show(found, options)
    return EXIT_DONE


def _check_sections(arguments: Sequence[str]) -> None:
    """Refuse training settings, which an evaluation cannot change."""
    keys = [argument.partition("=")[0] for argument in arguments]
    hint = "Give evaluate.KEY=VALUE, model.path=DIR or corpus.path=FILE; other weights are another training."
    problem = "an evaluation cannot change this"
    if faults := [Fault("unknown-key", problem, key=key, hint=hint) for key in keys if "." in key.strip("+~")]:
        raise ConfigError(*faults)


@dataclasses.dataclass(frozen=True)
class Found:
    """Results of one run or file: names, scores, scores per prediction, and benchmarks."""

    names: "dict[str, str]"
    record: "EvaluationRecord"
    rows: "Rows"
    exams: "Mapping[str, Score]" = dataclasses.field(default_factory=dict)

    def content(self, *, items: bool, named: bool) -> dict[str, Any]:
        """Return the results as a JSON object; `items` adds the scores per prediction, `named` the names."""
        scores = {name: dataclasses.asdict(score) for name, score in self.record.scores.items()}
        content: dict[str, Any] = {**(self.names if named else {}), "n": self.record.n, "scores": scores}
        if self.exams:
            content["exams"] = {name: dataclasses.asdict(score) for name, score in self.exams.items()}
        return content | {"items": self.rows} if items else content


def _check_together(options: EvaluateOptions, arguments: Sequence[str], again: Sequence[str]) -> None:
    faults = []
    if options.predictions is not None:
        hint = "Leave it out, or give run=DIR."
        faults += [_useless(argument, "predictions are scored as they are", hint) for argument in again]
    if again and any(argument.startswith("metrics=") for argument in arguments):
        faults.append(
            _useless(
                f"metrics={_listed(options.metrics)}",
                "is for scoring existing predictions again",
                "Leave it out, or give evaluate.metrics=[…].",
            )
        )
    if again and options.evaluation is not None:
        problem = "is for scoring again, and the other arguments ask for a new evaluation"
        faults.append(
            _useless(
                f"evaluation={options.evaluation}",
                problem,
                "Leave it out: a new evaluation is named after its settings.",
            )
        )
    if faults:
        raise ConfigError(*faults)


def _useless(argument: str, problem: str, hint: str) -> Fault:
    key, _, value = argument.partition("=")
    return Fault("conflict", problem, key=key, got=value, hint=hint)


def _listed(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"


def _runs(pattern: str) -> list[Path]:
    """Return the run folders that a path or pattern matches, sorted.

    Raises:
        DataError: a pattern matches no run.
    """
    if not any(character in pattern for character in PATTERN) or Path(pattern).exists():
        return [Path(pattern)]
    from medqa_finetune.record.run_dir import RECORD_NAME

    # Without folders that were moved aside.
    found = [Path(each) for each in sorted(glob.glob(pattern)) if ".old-" not in Path(each).name]  # noqa: PTH207
    runs = [path for path in found if (path / RECORD_NAME).is_file()]
    if not runs:
        hint = "Put the pattern in quotes, run='outputs/*'."
        raise DataError(Fault("no-match", f"no folder with a {RECORD_NAME} matches", key="run", got=pattern, hint=hint))
    return runs


def _scored(run: "RunDir", folder: Path, metrics: Sequence[str], name: str | None) -> Found:
    """Score a run's evaluation; `folder` is the path as typed."""
    from medqa_finetune.evaluation.rescore import read_by_name, score_run

    record, rows = score_run(run, metrics, name)
    evaluation = read_by_name(run, name)
    return Found({"run": str(folder), "evaluation": evaluation.name}, record, rows, evaluation.exams)


def _evaluated_again(options: EvaluateOptions, typed: Sequence[str]) -> list[Found]:
    """Evaluate one run in this process, or several in one process each, and return the results.

    Raises:
        RunError: a run is not trained, or its evaluation failed; the others are still evaluated.
    """
    from medqa_finetune.cell import Cell, cell_of_run
    from medqa_finetune.record.run_dir import RunDir

    evaluate = _values(typed)
    others = {key: value for key, _, value in (each.partition("=") for each in typed) if key in PLACES}
    more: Mapping[str, object] = others if options.threads is None else {**others, "threads": options.threads}
    folders = _runs(str(options.run))
    if len(folders) == 1:
        cell = cell_of_run(RunDir(folders[0]), evaluate, more)
        return [_evaluate_here(cell, folders[0])]
    cells: list[Cell] = []
    faults: list[Fault] = []
    named: dict[Path, Path] = {}
    for folder in folders:
        with noting(faults):
            cells.append(cell_of_run(RunDir(folder), evaluate, more))
            named[cells[-1].run.path] = folder
    lasting = [fault for fault in faults if fault.code not in ("not-trained", "not-a-run", "busy")]
    if lasting:
        raise ConfigError(*distinct(lasting))
    if not cells:
        raise (RunError if any(fault.code == "busy" for fault in faults) else ConfigError)(*distinct(faults))
    faults += _evaluate_in_processes(cells, options, typed)
    done = [cell for cell in cells if (record := cell.folder.read()) and record.status == "done"]
    found = [_scored(cell.run, named[cell.run.path], [], cell.config.evaluation_name) for cell in done]
    if faults:
        _show(found, options)
        raise RunError(*faults)
    return found


def _evaluate_here(cell: "Cell", folder: Path) -> Found:
    from medqa_finetune.experiment import run_experiment
    from medqa_finetune.log import log_to_terminal

    if LAUNCHER_VARIABLE in os.environ:
        stop_with_parent()
    log_to_terminal()
    with redirect_stdout(sys.stderr):
        run_experiment(cell)
    return _scored(cell.run, folder, [], cell.config.evaluation_name)


def _evaluate_in_processes(cells: "Sequence[Cell]", options: EvaluateOptions, typed: Sequence[str]) -> list[Fault]:
    """Evaluate runs in a queue over the GPUs; return a fault for each evaluation that is not done."""
    from medqa_finetune.config.labels import labels_of
    from medqa_finetune.launch.gpus import make_slots, visible_gpus
    from medqa_finetune.launch.launcher import run_jobs
    from medqa_finetune.launch.scheduler import job_of
    from medqa_finetune.launch.validate import check_matrix

    cells = check_matrix(cells)
    threads = [] if options.threads is None else [f"threads={options.threads}"]
    labels = labels_of([cell.config for cell in cells])
    jobs = [
        job_of(cell, label, [f"run={cell.run.path}", *typed, *threads])
        for cell, label in zip(cells, labels, strict=True)
    ]
    gpus = visible_gpus() if options.gpus_per_run else []
    run_jobs(jobs, make_slots(gpus, options.gpus_per_run, options.max_parallel), retries=options.retries)
    return [
        Fault("not-evaluated", job.exit_status.reason, file=str(job.run.path))
        for job in jobs
        if job.exit_status is not None and job.exit_status.state != "done"
    ]


def _values(typed: Sequence[str]) -> dict[str, Any]:
    """Return the typed `evaluate` settings, keys without the section.

    Raises:
        ConfigError: an unknown or repeated key, or a value of the wrong type.
    """
    from medqa_finetune.config.schema import EvaluateConfig

    own = [argument for argument in typed if argument.startswith(SECTION)]
    parsed = parse_options(EvaluateConfig, own, prefix=SECTION)
    keys = [argument.partition("=")[0].removeprefix(SECTION) for argument in own]
    return {key: getattr(parsed, key) for key in keys}


def _show(found: Sequence[Found], options: EvaluateOptions) -> None:
    contents = [each.content(items=options.items, named=len(found) > 1) for each in found]
    lines = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in contents]
    if options.output is not None:
        _write(Path(options.output), "".join(f"{line}\n" for line in lines))
    if options.format == "json":
        print("\n".join(lines))
        return
    for each in found:
        if len(found) > 1:
            print(f"{each.names['run']}  [{each.names['evaluation']}]")
        print(as_text(each.record, each.rows if options.items else [], each.exams) + ("\n" if len(found) > 1 else ""))


def as_text(
    record: "EvaluationRecord", rows: Sequence[dict[str, Any]], benchmarks: "Mapping[str, Score] | None" = None
) -> str:
    """Return the scores as a table, followed by rates, benchmarks and scores per prediction, if any."""
    table = [
        [name, f"{score.value:.2f}", str(record.n), score.signature] for name, score in sorted(record.scores.items())
    ]
    header = [say("score"), say("value"), "n", say("signature")]
    parts = [aligned_table(header, table, left=[header[0], header[-1]])]
    shares = {
        say("empty"): record.empty_rate,
        say("cut at the length limit"): record.truncated_rate,
        say("cut off by time"): record.timed_out_rate,
        say("repeated 4-grams"): record.repetition_rate,
        say("thoughts not closed"): record.unclosed_rate,
        say("asked cut"): record.prompt_cut_rate or None,
        say("references cut in the perplexity"): record.reference_cut_rate or None,
    }
    parts.append(say(", ").join(f"{name} {value:.1%}" for name, value in shares.items() if value is not None))
    if benchmarks:
        table = [[name, f"{score.value:.4g}", score.signature] for name, score in sorted(benchmarks.items())]
        header = [say("benchmark"), say("value"), say("signature")]
        parts.append(aligned_table(header, table, left=[header[0], header[-1]]))
    parts = [part for part in parts if part]
    if rows:
        header = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[str(row["id"]), *(f"{row[name]:.2f}" if name in row else "-" for name in header[1:])] for row in rows]
        parts.append(aligned_table(header, cells, left=["id"]))
    return "\n\n".join(parts)


def _of_file(options: EvaluateOptions) -> "tuple[EvaluationRecord, list[dict[str, Any]]]":
    from medqa_finetune.evaluation.metric_registry import find_metric
    from medqa_finetune.evaluation.prediction_files import Keys, read_prediction_file
    from medqa_finetune.evaluation.score import own_scores, score_predictions
    from medqa_finetune.log import log_to_terminal

    log_to_terminal()
    keys = Keys(options.prediction_key, options.reference_key, options.question_key, options.id_key)
    references = None if options.references is None else Path(options.references)
    answers = read_prediction_file(Path(str(options.predictions)), keys, references)
    try:
        record, rows = score_predictions(answers, options.metrics)
    except DataError as error:
        raise DataError(*(fault.but(file=fault.file or options.predictions) for fault in error.faults)) from None
    for name in options.metrics if options.metrics != list(DEFAULT_METRICS) else ():
        if record.scores.keys().isdisjoint(find_metric(name).names):
            problem = "no answer carries what this metric needs"
            raise DataError(Fault("answers-lack", problem, key="metrics", got=[name], file=options.predictions))
    return record, [own_scores(row) for row in rows]


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 (no error for a name that is too long)


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _write(path: Path, text: str) -> None:
    from medqa_finetune.record.files import write_text

    try:
        write_text(path, text)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise ConfigError(
            Fault("not-writable", problem, key="output", got=str(path), hint="Give another file.")
        ) from None


if __name__ == "__main__":
    main()
