"""Python API for notebooks and programs: `from medqa_finetune import finetune, evaluate, chat`.

The functions share configuration, code and run folders with the commands. Unusable input raises an error of
`medqa_finetune.errors`, whose text says what to do.
"""

import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from medqa_finetune.api_inputs import check_in_memory, choose_corpus, choose_method, choose_model, read_given
from medqa_finetune.chatting.sources import Source, source_of_model, source_of_run
from medqa_finetune.config.durations import seconds_of
from medqa_finetune.config.evaluation_checks import evaluate_faults
from medqa_finetune.config.ranges import sampling_faults
from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.config.schema_faults import unknown_key
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import CACHE_NAME
from medqa_finetune.errors import ConfigError, DataError, Fault, MedQAError, RunError
from medqa_finetune.log import without_foreign_warnings
from medqa_finetune.ranks import WITHOUT, refuse_several
from medqa_finetune.record.display import as_html, benchmark_scores, in_lines, main_scores
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs, read_evaluation
from medqa_finetune.record.run_dir import RECORD_NAME, RunDir
from medqa_finetune.record.schema import EvaluationRecord, Record, Score
from medqa_finetune.stopping import Interrupted, stopping_after
from medqa_finetune.versions import warn_of_untested_versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medqa_finetune.chatting.chat_model import ChatModel
    from medqa_finetune.chatting.conversation import Conversation
    from medqa_finetune.evaluation.predictions import Prediction

# A name in conf/model, a folder, or a transformers model in memory.
Model: TypeAlias = "str | Path | PreTrainedModel"
# A name in conf/corpus, a file, or examples in memory.
Pairs: TypeAlias = "str | Path | Iterable[Example | Mapping[str, Any] | tuple[str, str]]"
Method: TypeAlias = str | MethodConfig | Mapping[str, Any]

METRICS = ("rouge", "bleu", "perplexity")


@dataclass(frozen=True, repr=False)
class Finetuned:
    """A finished run.

    Attributes:
        record: Its record (`record.json`), with the results of the requested evaluation.
        path: Its folder, with the trained weights in `adapter/` and the evaluations in `evaluations/`.
    """

    record: Record
    path: Path

    @property
    def scores(self) -> dict[str, Score]:
        """The scores on the held-out test questions, by name, each with its signature."""
        return {} if self.record.evaluation is None else self.record.evaluation.scores

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The names of its evaluations, the default one first.

        Raises:
            DataError: the record of one of them cannot be read.
        """
        run = RunDir(self.path)
        record = run.read()
        if record is None:
            return ()
        found = (read_evaluation(run, record, folder) for folder in evaluation_dirs(run, record))
        return tuple(evaluation.name for evaluation in found if evaluation is not None)

    def __repr__(self) -> str:
        names: tuple[str, ...] = ()
        with suppress(MedQAError, OSError):  # the folder may be gone
            names = self.evaluations
        return in_lines(
            f"Finetuned [{self.record.status}] {self.record.name}",
            main_scores(self.record.evaluation, _headlines()),
            benchmark_scores(self.record.zero_shot),
            f"evaluations: {', '.join(names)}" if names else "",
            f"folder: {self.path}",
        )

    def _repr_html_(self) -> str:
        return as_html(f"{self.record.name} [{self.record.status}]", self.record.evaluation, self.record.zero_shot)

    def chat(self, **options: Any) -> "Conversation":
        """Start a conversation with it; the same as `chat(run, …)`."""
        return chat(self, **options)

    def load(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Return the trained model, in evaluation mode, and its tokenizer.

        Raises:
            MedQAError: the run is not done, its weights are damaged, or its base model is missing or has changed.
        """
        model = _open(source_of_run(self.path))
        return cast("PreTrainedModel", model.model), model.encoder.tokenizer


def _headlines() -> list[str]:
    from medqa_finetune.evaluation.metric_registry import shortlist

    return [score.name for score in shortlist()]


@dataclass(frozen=True, repr=False)
class Evaluated:
    """Predictions and their scores.

    Attributes:
        record: Scores with signatures, and shares of empty, truncated and repetitive predictions.
        answers: The predictions, in the order of the questions or the file; empty for running text.
        exams: Scores of benchmarks, by `<task>/<metric>` and `<text>/perplexity`.
    """

    record: EvaluationRecord
    answers: "tuple[Prediction, ...]"
    exams: Mapping[str, Score] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by name, each with its signature."""
        return self.record.scores

    def __repr__(self) -> str:
        return in_lines(f"Evaluated  {main_scores(self.record, _headlines())}", benchmark_scores(self.exams))

    def _repr_html_(self) -> str:
        return as_html(f"n {self.record.n}", self.record, self.exams)


@without_foreign_warnings()
def finetune(
    model: Model,
    pairs: Pairs,
    method: Method = "lora",
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    outputs: str | Path = "outputs",
    **settings: Any,
) -> Finetuned:
    """Train and evaluate one run, or return it if it is finished.

    Of examples in memory or in a file, a tenth (1,000 at most) is held out for validation and another for the test,
    unless `data={"validation_size": …, "test_size": …}` or a profile sets other sizes; training uses all others. A
    folder with validation and test files of its own keeps them (`corpus.parts`), 1,000 examples each at most.

    Args:
        model: A name in `conf/model`, a folder, or a transformers model in memory, which is first saved below
            `outputs/cache` and is not changed.
        pairs: A name in `conf/corpus`, a file as in `corpus.path`, or examples: tuples, dictionaries with `question`
            and `answer`, or `Example`s.
        method: A name in `conf/method` (`lora`, `qlora`, `full`, …), a `MethodConfig`, or a dictionary of settings,
            `{"name": "lora", "rank": 64}`.
        tokenizer: Tokenizer of a model in memory.
        outputs: Root of all run folders.
        settings: Other settings of `config/schema.py`, those of a section as a dictionary: `train={"epochs": 2},
            seed=1`; or a name in `conf/`: `data="20k", tracker="none", profile="demo"`.

    Raises:
        MedQAError: the input is unusable (`ConfigError`, `DataError`, `ModelError`; only caches are written then), or
            the run failed (`RunError`; the record in its folder has the reason).
        KeyboardInterrupt: Ctrl-C; a checkpoint has been written, and the same call resumes from it.
    """
    from medqa_finetune.experiment import run_experiment
    from medqa_finetune.launch.compose import check_without_pairs, compose_cell
    from medqa_finetune.run_state.resume import check_outputs
    from medqa_finetune.runtime import settle_before_torch

    refuse_several(WITHOUT)
    warn_of_untested_versions()
    settle_before_torch()
    cache = Path(outputs) / CACHE_NAME
    check_outputs(str(outputs), cache)
    asked = {"outputs": str(outputs), **settings}
    choices = {"model": choose_model(model, tokenizer, cache), "method": choose_method(method)}
    check_without_pairs(choices, asked)
    cell = compose_cell({**choices, "corpus": choose_corpus(pairs, cache)}, asked)
    limit = cell.config.time_limit
    with _interruptible(), stopping_after(None if limit is None else seconds_of(limit)):
        record = run_experiment(cell)
    return Finetuned(record, cell.config.run_path)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Convert the exception of a stop signal: Ctrl-C raises KeyboardInterrupt, other signals end the process."""
    try:
        yield
    except Interrupted as error:
        if error.number != signal.SIGINT:
            raise
        raise KeyboardInterrupt(str(error)) from None


@without_foreign_warnings()
def evaluate(
    subject: "Finetuned | Model | Iterable[Mapping[str, Any]]",
    pairs: "Pairs | None" = None,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    precision: str | None = None,
    **settings: Any,
) -> Evaluated:
    """Score existing predictions, or generate and score them, for a run's test set or for given examples.

    `evaluate(run)` scores the predictions of a run again. `evaluate(run, max_samples=100)` makes another evaluation of
    the run, like `python -m medqa_finetune.evaluate run=DIR evaluate.max_samples=100`: nothing is trained, and
    predictions made with the same settings are reused.

    Args:
        subject: Without `pairs`: a run, whose records are updated with the scores; a file, or dictionaries, with
            `question`, `reference` or `references`, and `prediction`, or as other programs name them
            (`evaluation/prediction_files.py`). With `pairs`: a run, or a model as in `finetune`.
        pairs: Questions with references, as in `finetune`; all of them are used.
        tokenizer: Tokenizer of a model in memory.
        adapter: Folder of an adapter for the model.
        metrics: Names of metrics; `METRICS` if None. Where predictions of a run are scored again, its own are always
            included; another evaluation of a run uses these, or the run's own if None.
        precision: `auto`, `bf16`, `fp16` or `fp32`; a run's own if None.
        settings: Other settings of `EvaluateConfig`, such as `max_new_tokens`; by default those of the run.

    Raises:
        MedQAError: the input is unusable, or the evaluation failed (its record has the reason).
        KeyboardInterrupt: Ctrl-C; predictions are kept, and the same call resumes from them.
    """
    warn_of_untested_versions()
    known = [each.name for each in fields(EvaluateConfig)]
    if faults := [unknown_key(key, value, known) for key, value in settings.items() if key not in known]:
        raise ConfigError(*faults)
    if pairs is None and settings:
        given = {"tokenizer": tokenizer, "adapter": adapter, "precision": precision}
        return _evaluate_again(subject, settings | ({} if metrics is None else {"metrics": metrics}), given)
    metrics = METRICS if metrics is None else metrics
    if pairs is None:
        return _score(subject, metrics)
    from medqa_finetune.evaluation.evaluate_model import evaluate_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = read_given(pairs, folder)
        model = _chat_model(cast("Finetuned | Model", subject), tokenizer, adapter, precision=precision)
        asking = EvaluateConfig(**{"max_new_tokens": model.max_new_tokens, "metrics": list(metrics), **settings})
        if faults := list(evaluate_faults(asking)):
            raise ConfigError(*faults)
        record, answers = evaluate_model(model.model, model.encoder, questions, asking, EvaluationDir(folder))
    return Evaluated(record, tuple(answers))


def _score(subject: Any, metrics: Sequence[str]) -> Evaluated:
    from medqa_finetune.evaluation.prediction_files import predictions_of, read_prediction_file
    from medqa_finetune.evaluation.rescore import read_by_name, score_run
    from medqa_finetune.evaluation.score import score_predictions
    from medqa_finetune.run_state.tracker_rows import report_again

    if (run := _run_of(subject)) is not None:
        record, _ = score_run(run, metrics)
        report_again(run, None)
        return Evaluated(record, _answers_of(run), read_by_name(run).exams)
    if not _is_answers(subject):
        raise DataError(Fault("missing-key", "is missing: a model needs questions to answer", key="pairs"))
    if isinstance(subject, str | Path):
        answers = read_prediction_file(Path(subject))
    else:
        rows = [{"id": str(number), **row} for number, row in enumerate(subject)]
        answers = predictions_of(list(enumerate(rows, start=1)), Path("answers"))
    scored, _ = score_predictions(answers, list(metrics))
    return Evaluated(scored, tuple(answers))


def _is_answers(subject: Any) -> bool:
    if isinstance(subject, str | Path):
        return not Path(subject).is_dir()
    return isinstance(subject, Iterable)


def _evaluate_again(subject: Any, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Evaluated:
    """Make another evaluation of a run.

    Args:
        subject: The run.
        settings: Settings of the evaluation that differ from the run's defaults.
        given: Arguments that are refused for a run, which has its own.
    """
    from medqa_finetune.cell import cell_of_run
    from medqa_finetune.experiment import run_experiment
    from medqa_finetune.runtime import settle_before_torch

    run = _run_of(subject)
    if run is None and isinstance(subject, str | Path) and not Path(subject).exists():
        run = RunDir(Path(subject))  # refused below, as a run
    if run is None and _is_answers(subject):
        problem = "does not apply to predictions that exist already"
        others = {key: value for key, value in settings.items() if key != "metrics"}
        raise ConfigError(*(Fault("conflict", problem, key=key, got=value) for key, value in others.items()))
    if run is None:
        raise DataError(Fault("missing-key", "is missing: a model needs questions to answer", key="pairs"))
    if faults := [_of_the_run(key, value) for key, value in given.items() if value is not None]:
        raise ConfigError(*faults)
    settle_before_torch()
    cell = cell_of_run(run, {key: _plain(value) for key, value in settings.items()})
    with _interruptible():
        record = run_experiment(cell)
    if record.evaluation is None:
        raise RunError(Fault("not-evaluated", f"the evaluation is {record.status}", file=str(run.path)))
    return Evaluated(record.evaluation, _answers_of(run, cell.config.evaluation_name), record.zero_shot)


def _of_the_run(key: str, value: Any) -> Fault:
    got = value if isinstance(value, str | Path) else type(value).__name__
    return Fault("conflict", "a run has its own", key=key, got=str(got), hint="Leave it out.")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _answers_of(run: RunDir, name: str | None = None) -> "tuple[Prediction, ...]":
    from medqa_finetune.evaluation.rescore import predictions_of

    record = run.read()
    of_text = record is not None and record.setting("corpus", "task") == "text"
    return () if of_text else tuple(predictions_of(run, name))


@without_foreign_warnings()
def chat(  # noqa: PLR0913 (options by name, as the command has them)
    subject: "Finetuned | Model",
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    system: str = "",
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    precision: str | None = None,
) -> "Conversation":
    """Start a conversation: `.ask(question)` returns an answer, `.stream(question)` yields it as it grows.

    Args:
        subject: A run, or a model as in `finetune`.
        tokenizer: Tokenizer of a model in memory.
        adapter: Folder of an adapter for the model.
        system: System prompt.
        temperature: In [0, 100]. 0 decodes greedily, as the evaluation does; otherwise tokens are sampled.
        top_p: Samples from the most likely tokens whose probabilities add up to this, in (0, 1].
        max_new_tokens: Most tokens of an answer; the run's own setting, or 512, if None.
        seed: Seed of the sampling.
        load_in_4bit: Loads the base weights in NF4, whatever the training used.
        load_in_8bit: Loads the base weights in int8, whatever the training used.
        precision: `auto`, `bf16`, `fp16` or `fp32`; a run's own if None.

    Raises:
        MedQAError: the subject cannot be used.
    """
    warn_of_untested_versions()
    faults = list(sampling_faults(temperature, top_p, 1 if max_new_tokens is None else max_new_tokens))
    if load_in_4bit and load_in_8bit:
        faults.append(Fault("conflict", "load_in_4bit and load_in_8bit exclude each other", hint="Give one of them."))
    if faults:
        raise ConfigError(*faults)
    quantization = "nf4" if load_in_4bit else "int8" if load_in_8bit else None
    model = _chat_model(subject, tokenizer, adapter, precision=precision, quantization=quantization)
    from medqa_finetune.chatting.chat_model import Sampling
    from medqa_finetune.chatting.conversation import Conversation

    sampling = Sampling(temperature, top_p, max_new_tokens or model.max_new_tokens)
    return Conversation(model, sampling, system, seed)


def _chat_model(
    subject: "Finetuned | Model",
    tokenizer: "PreTrainedTokenizerBase | None",
    adapter: str | Path | None,
    *,
    precision: str | None = None,
    quantization: str | None = None,
) -> "ChatModel":
    run = _run_of(subject)
    if run is None and not isinstance(subject, str | Path):
        check_in_memory(subject, tokenizer)
        given = (adapter, precision, quantization)
        if any(each is not None for each in given):
            problem = "adapter, precision and load_in_… are for a folder; a model in memory is used as it is"
            raise ConfigError(Fault("conflict", problem))
        from medqa_finetune.chatting.chat_model import chat_model_of

        return chat_model_of(subject, tokenizer)
    if run is not None and adapter is not None:
        hint = "Give the model's folder with an adapter."
        raise ConfigError(Fault("conflict", "a run has its own", key="adapter", got=str(adapter), hint=hint))
    source = (
        source_of_run(run.path) if run else source_of_model(str(subject), None if adapter is None else str(adapter))
    )
    return _open(
        (source if precision is None else replace(source, precision=precision)).with_quantization(quantization)
    )


def _run_of(subject: Any) -> RunDir | None:
    """Return the run that a subject is or names; None for other subjects."""
    if isinstance(subject, Finetuned):
        return RunDir(subject.path)
    if isinstance(subject, str | Path) and (Path(subject) / RECORD_NAME).is_file():
        return RunDir(Path(subject))
    return None


def _open(source: Source) -> "ChatModel":
    from medqa_finetune.chatting.chat_model import load_source
    from medqa_finetune.runtime import settle_before_torch

    settle_before_torch()
    return load_source(source)
