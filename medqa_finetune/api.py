"""The commands as functions, for notebooks and programs: `from medqa_finetune import finetune, evaluate, chat`.

They go the way of the commands: the same configuration, the same core, the same run folder. What cannot be used raises
an error of `medqa_finetune.errors`, whose text says what to do.
"""

import dataclasses
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from medqa_finetune.chatting.sources import Source, source_of_model, source_of_run
from medqa_finetune.config.command_line import unknown_key
from medqa_finetune.config.examination import evaluate_faults, manner_faults
from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.pairs import Pair
from medqa_finetune.data.prepare import CACHE_NAME
from medqa_finetune.errors import ConfigError, DataError, Fault
from medqa_finetune.inputs import check_in_memory, choose_corpus, choose_method, choose_model, read_given
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RECORD_NAME, RunDir
from medqa_finetune.record.schema import EvaluationRecord, Record, Score
from medqa_finetune.stopping import Interrupted
from medqa_finetune.versions import warn_of_untested_versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medqa_finetune.chatting.conversation import Conversation
    from medqa_finetune.chatting.speaker import Speaker
    from medqa_finetune.evaluation.answers import Answer

# A name in conf/model, a folder, or a model of transformers in memory.
Model: TypeAlias = "str | Path | PreTrainedModel"
# A name in conf/corpus, a file, or pairs in memory.
Pairs: TypeAlias = "str | Path | Iterable[Pair | Mapping[str, Any] | tuple[str, str]]"
Method: TypeAlias = str | MethodConfig | Mapping[str, Any]


@dataclass(frozen=True)
class Finetuned:
    """A finished run.

    Attributes:
        record: The truth about it, as `record.json` holds it.
        path: Its folder; the trained weights lie in `adapter/` there.
    """

    record: Record
    path: Path

    @property
    def scores(self) -> dict[str, Score]:
        """The scores on the held-out test questions, by name, each with its signature."""
        return {} if self.record.evaluation is None else self.record.evaluation.scores

    def chat(self, **options: Any) -> "Conversation":
        """Begin a conversation with it; the same as `chat(run, …)`."""
        return chat(self, **options)

    def load(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Return the trained model and its tokenizer, ready to answer."""
        speaker = _open(source_of_run(self.path))
        return cast("PreTrainedModel", speaker.model), speaker.encoder.tokenizer


@dataclass(frozen=True)
class Evaluated:
    """Answers and how they scored.

    Attributes:
        record: Scores with signatures, and shares of odd answers.
        answers: In the order they were given or found.
    """

    record: EvaluationRecord
    answers: "tuple[Answer, ...]"

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by name, each with its signature."""
        return self.record.scores


def finetune(
    model: Model,
    pairs: Pairs,
    method: Method = "lora",
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    outputs: str | Path = "outputs",
    **settings: Any,
) -> Finetuned:
    """Train and evaluate one run, or return it where that has been done before.

    Of pairs in memory or in a file, a tenth is held out for validation and a tenth for the test (1,000 at most), unless
    `data={"validation_size": …, "test_size": …}` or a profile says otherwise; all others are trained on.

    Args:
        model: A name in `conf/model`, a folder, or a model of transformers, which is saved below `outputs/cache` first
            and not changed.
        pairs: A name in `conf/corpus`, a file as `corpus.path` takes it, or pairs: tuples, dictionaries with `question`
            and `answer`, or `Pair`s.
        method: A name in `conf/method` (`lora`, `qlora`, `full`, …), a `MethodConfig`, or a dictionary of settings,
            `{"name": "lora", "rank": 64}`.
        tokenizer: Of a model in memory.
        outputs: Root of all run folders.
        settings: Any other setting of `config/schema.py`, those of a section as a dictionary: `train={"epochs": 2},
            seed=1`; or a name in `conf/`: `data="20k", tracker="none", profile="demo"`.

    Raises:
        MedQAError: something cannot be used (`ConfigError`, `DataError`, `ModelError`; nothing is left behind then but
            what is cached), or the run failed (`RunError`; the record in its folder says why).
        KeyboardInterrupt: Ctrl-C; a checkpoint has been written, and the same call goes on from there.
    """
    from medqa_finetune.experiment import run_experiment
    from medqa_finetune.lifecycle.earlier import check_outputs
    from medqa_finetune.matrix.calling import check_without_pairs, compose_cell
    from medqa_finetune.preflight import wait_briefly

    warn_of_untested_versions()
    wait_briefly()
    cache = Path(outputs) / CACHE_NAME
    check_outputs(str(outputs), cache)
    asked = {"outputs": str(outputs), **settings}
    choices = {"model": choose_model(model, tokenizer, cache), "method": choose_method(method)}
    check_without_pairs(choices, asked)
    cell = compose_cell({**choices, "corpus": choose_corpus(pairs, cache)}, asked)
    with _interruptible():
        record = run_experiment(cell)
    return Finetuned(record, cell.config.run_path)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the block as it ends any other of Python's; other signals end the process, as they should."""
    try:
        yield
    except Interrupted as error:
        if error.number != signal.SIGINT:
            raise
        raise KeyboardInterrupt(str(error)) from None


def evaluate(
    subject: "Finetuned | Model | Iterable[Mapping[str, Any]]",
    pairs: "Pairs | None" = None,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    metrics: Sequence[str] = ("rouge", "bleu", "perplexity"),
    precision: str | None = None,
    **settings: Any,
) -> Evaluated:
    """Score answers, or let a model answer the questions of pairs first.

    Args:
        subject: Without `pairs`: a run, whose record takes the scores; a file of JSON Lines, or dictionaries, of
            `question`, `reference` or `references`, and `prediction`. With `pairs`: a run, or a model as `finetune`
            takes it.
        pairs: What is asked, with the reference answers, as `finetune` takes them; every one is asked.
        tokenizer: Of a model in memory.
        adapter: Folder of an adapter that belongs onto the model.
        metrics: Names of files in `evaluation/metrics`; a run's own are always among them.
        precision: `auto`, `bf16`, `fp16` or `fp32`; a run's own if None.
        settings: Any other of `EvaluateConfig`, such as `max_new_tokens`.

    Raises:
        MedQAError: something cannot be used.
    """
    warn_of_untested_versions()
    if pairs is None:
        return _score(subject, metrics)
    from medqa_finetune.evaluation.examine import examine

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = read_given(pairs, folder)
        speaker = _speaker(cast("Finetuned | Model", subject), tokenizer, adapter, precision=precision)
        known = [field.name for field in dataclasses.fields(EvaluateConfig)]
        if faults := [unknown_key(key, value, known) for key, value in settings.items() if key not in known]:
            raise ConfigError(*faults)
        asking = EvaluateConfig(**{"max_new_tokens": speaker.max_new_tokens, "metrics": list(metrics), **settings})
        if faults := list(evaluate_faults(asking)):
            raise ConfigError(*faults)
        record, answers = examine(speaker.model, speaker.encoder, questions, asking, EvaluationDir(folder))
    return Evaluated(record, tuple(answers))


def _score(subject: Any, metrics: Sequence[str]) -> Evaluated:
    from medqa_finetune.evaluation.again import answers_of, score_run
    from medqa_finetune.evaluation.answers import collect, read_answers
    from medqa_finetune.evaluation.score import score_answers

    if (run := _run_of(subject)) is not None:
        record, _ = score_run(run, metrics)
        return Evaluated(record, tuple(answers_of(run)))
    if isinstance(subject, str | Path) and not Path(subject).is_dir():
        answers = read_answers(Path(subject))
    elif isinstance(subject, Iterable) and not isinstance(subject, str):
        rows = [{"id": str(number), **row} for number, row in enumerate(subject)]
        answers = collect(enumerate(rows, start=1), Path("answers"))
    else:
        raise DataError(Fault("missing-key", "is missing: a model needs questions to answer", key="pairs"))
    scored, _ = score_answers(answers, list(metrics))
    return Evaluated(scored, tuple(answers))


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
    """Begin a conversation: `.ask(question)` returns an answer, `.stream(question)` yields it as it grows.

    Args:
        subject: A run, or a model as `finetune` takes it.
        tokenizer: Of a model in memory.
        adapter: Folder of an adapter that belongs onto the model.
        system: Instructions before the conversation.
        temperature: 0 takes the most likely tokens, as the evaluation does.
        top_p: See `Manner`.
        max_new_tokens: Tokens of an answer at most; a run's own, or 512, if None.
        seed: Of the chance by which tokens are drawn.
        load_in_4bit: Hold base weights in NF4, whatever they were trained beside.
        load_in_8bit: Hold them in int8.
        precision: `auto`, `bf16`, `fp16` or `fp32`; a run's own if None.

    Raises:
        MedQAError: the subject cannot be talked to.
    """
    warn_of_untested_versions()
    faults = list(manner_faults(temperature, top_p, 1 if max_new_tokens is None else max_new_tokens))
    if load_in_4bit and load_in_8bit:
        faults.append(Fault("conflict", "load_in_4bit and load_in_8bit exclude each other", hint="Give one of them."))
    if faults:
        raise ConfigError(*faults)
    quantization = "nf4" if load_in_4bit else "int8" if load_in_8bit else None
    speaker = _speaker(subject, tokenizer, adapter, precision=precision, quantization=quantization)
    from medqa_finetune.chatting.conversation import Conversation
    from medqa_finetune.chatting.speaker import Manner

    manner = Manner(temperature, top_p, max_new_tokens or speaker.max_new_tokens)
    return Conversation(speaker, manner, system, seed)


def _speaker(
    subject: "Finetuned | Model",
    tokenizer: "PreTrainedTokenizerBase | None",
    adapter: str | Path | None,
    *,
    precision: str | None = None,
    quantization: str | None = None,
) -> "Speaker":
    """Return the subject, ready to answer."""
    run = _run_of(subject)
    if run is None and not isinstance(subject, str | Path):
        check_in_memory(subject, tokenizer)
        given = (adapter, precision, quantization)
        if any(each is not None for each in given):
            problem = "adapter, precision and load_in_… are for a folder; a model in memory is used as it is"
            raise ConfigError(Fault("conflict", problem))
        from medqa_finetune.chatting.speaker import speaker_of

        return speaker_of(subject, tokenizer)
    if run is not None and adapter is not None:
        hint = "Give the model's folder with an adapter."
        raise ConfigError(Fault("conflict", "a run has its own", key="adapter", got=str(adapter), hint=hint))
    source = (
        source_of_run(run.path) if run else source_of_model(str(subject), None if adapter is None else str(adapter))
    )
    return _open((source if precision is None else replace(source, precision=precision)).held_in(quantization))


def _run_of(subject: Any) -> RunDir | None:
    """Return the run that a subject is or names; None where it is something else."""
    if isinstance(subject, Finetuned):
        return RunDir(subject.path)
    if isinstance(subject, str | Path) and (Path(subject) / RECORD_NAME).is_file():
        return RunDir(Path(subject))
    return None


def _open(source: Source) -> "Speaker":
    from medqa_finetune.chatting.speaker import open_source
    from medqa_finetune.preflight import wait_briefly

    wait_briefly()
    return open_source(source)
