"""The record of a run: what it was, what it cost, what came out. A value that was not measured is None, never 0."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

# Version 1 held one evaluation, in the record and its folder; version 2 holds any number of them below the folder.
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)

Status = Literal["pending", "running", "trained", "evaluated", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class Failure:
    """Why a run is not done.

    Attributes:
        kind: An error's class or a signal's name.
        message: One or two lines.
        final: Whether another try would end the same way: bad input, a loss that is no number, too little memory.
        faults: The fields of every fault (`errors.Fault.as_json`); empty where the error was not raised on purpose.
    """

    kind: str
    message: str
    final: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Process:
    """The process that works on a run, or did last."""

    pid: int
    host: str


@dataclass(frozen=True)
class FileStamp:
    """A file as the run left it: its size in bytes and the sha256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SetManifest:
    """One of the sets a run used: its size and the sha256 over its pairs, or blocks of running text, in order."""

    n: int
    sha256: str


@dataclass(frozen=True)
class DataManifest:
    """Which pairs a run used.

    Attributes:
        corpus_sha256: Over the corpus bytes as found.
        counts: What preparation read, rejected and removed, by reason.
    """

    corpus_sha256: str
    train: SetManifest
    validation: SetManifest
    test: SetManifest
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameters:
    """Weights of the model, counted unquantized; trainable ones apart.

    Attributes:
        total: Of the base model, without adapters.
        trainable: Of what is trained.
        adapted: Modules that have an adapter beside them, as peft names them: whole paths, or their ends.
    """

    total: int
    trainable: int
    adapted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of a model's layers, one number for each: heads, heads of keys and values, and the width of the MLP."""

    heads: list[int]
    key_heads: list[int]
    intermediate: list[int]


@dataclass(frozen=True)
class Fitted:
    """What `auto` stood for: settings of `train` that were chosen by the memory of the machine."""

    micro_batch: int
    gradient_checkpointing: bool


@dataclass(frozen=True)
class TrainRecord:
    """What training did and cost.

    Attributes:
        samples: Pairs, or blocks of running text, seen, repeats counted.
        tokens: Tokens seen, padding not counted.
        answer_tokens: Tokens that the loss was taken on.
        truncated: Pairs of the training set that were cut at `train.max_length`.
        seconds: Of the training loop: no loading, no validation, no saving.
        samples_per_second: Without warm-up steps.
        tokens_per_second: Without warm-up steps and padding.
        flops: Floating-point operations of the model's own arithmetic, forwards and backwards (`model/flops.py`).
        model_flops_utilization: These per second, without warm-up steps, over `matrix_flops_per_second`.
        matrix_flops_per_second: What products of matrices reach on the device, measured in the run's precision.
        datasheet_flops_per_second: What they should reach, as the device's maker says; None where that is not known.
        peak_vram_bytes: Most GPU memory held by tensors at once; None without CUDA.
        peak_vram_reserved_bytes: Most GPU memory held by the allocator at once; None without CUDA.
        peak_rss_bytes: Most resident memory of the run's own process.
        optimizer: The one used on this device.
        batch_size: Pairs of an optimizer step, the effective batch; the last step of an epoch may have fewer.
        batch_tokens: Tokens of an optimizer step, on average.
        best_step: Optimizer step of the weights kept, by validation loss.
        resumed_from: Steps of the checkpoints that training went on from, in order of time; empty without a restart.
    """

    samples: int
    tokens: int
    answer_tokens: int
    steps: int
    epochs: float
    seconds: float
    optimizer: str
    truncated: int = 0
    batch_size: int | None = None
    batch_tokens: float | None = None
    micro_batch: int | None = None
    gradient_checkpointing: bool | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    flops: float | None = None
    model_flops_utilization: float | None = None
    matrix_flops_per_second: float | None = None
    datasheet_flops_per_second: float | None = None
    peak_vram_bytes: int | None = None
    peak_vram_reserved_bytes: int | None = None
    peak_rss_bytes: int | None = None
    final_train_loss: float | None = None
    best_validation_loss: float | None = None
    best_step: int | None = None
    resumed_from: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Score:
    """A figure with the signature that says how it was computed; only equal signatures compare."""

    value: float
    signature: str


@dataclass(frozen=True)
class EvaluationRecord:
    """How the answers, or running text, scored. `n` questions or blocks, every one of them counted in every score.

    Attributes:
        seconds: Of generation alone; of running text, of measuring its likelihood. Answers that another evaluation of
            the same run had given are not in it, nor in the rates; None where all of them are such.
        samples_per_second: Questions answered, or blocks measured, a second; None when the answers came from a file.
        tokens_per_second: Tokens generated, or measured, a second, padding not counted.
        empty_rate: Share of answers without a visible character, in [0, 1].
        truncated_rate: Share of answers that hit `evaluate.max_new_tokens`, in [0, 1]; None when not known.
        timed_out_rate: Share of answers cut off by `evaluate.timeout_seconds`, in [0, 1]; None when not known.
        repetition_rate: Share of character 4-grams of all answers that repeat an earlier one of the same answer.
    """

    n: int
    scores: dict[str, Score]
    seconds: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    empty_rate: float | None = None
    truncated_rate: float | None = None
    timed_out_rate: float | None = None
    repetition_rate: float | None = None
    peak_vram_bytes: int | None = None


@dataclass(frozen=True)
class Environment:
    """Where it ran: enough to run it again."""

    versions: dict[str, str]
    device: str
    precision: str | None
    commit: str | None
    command: list[str]


@dataclass(frozen=True)
class Reused:
    """Answers, or blocks of running text, that an evaluation took from another one of the same run.

    Attributes:
        evaluation: The other one's name.
        answers: How many, the first lines of `predictions.jsonl`.
    """

    evaluation: str
    answers: int


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run's weights, as its `evaluation.json` holds it.

    Attributes:
        name: Of its folder: what differs from the default settings, or `default`.
        identity: What it shares with every evaluation, of any run, whose scores compare.
        settings: The section `evaluate`, and `text_sha256` where a text is measured.
        reused: Where answers came from that were there before; None for none.
        result: Scores and what they cost.
        exams: Scores of `evaluate.zero_shot`, by `<task>/<metric>`, as the harness gives them, mostly in [0, 1]; and of
            `evaluate.text`, by `<text>/perplexity`, in [1, ∞).
        environment: Where the answers were given; None until the first.
        files: What it is made of, by path relative to its folder; written with the status `done`.
    """

    name: str
    identity: str
    status: Status
    settings: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    failure: Failure | None = None
    reused: Reused | None = None
    result: EvaluationRecord | None = None
    exams: dict[str, Score] = field(default_factory=dict)
    environment: Environment | None = None
    process: Process | None = None
    files: dict[str, FileStamp] = field(default_factory=dict)
    started: str | None = None
    finished: str | None = None

    def updated(self, **changes: Any) -> "Evaluation":
        """Return a copy with the given fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Record:
    """The truth about one run, its training above all, as `record.json` holds it.

    Attributes:
        status: `trained` once its weights are there; from then on that of its first evaluation, until one is `done`.
        evaluation_name: Which of the run's evaluations `evaluation` and `zero_shot` are of: the one with the default
            settings, or the first one while there is none such.
        evaluation_defaults: The section `evaluate` as it is where nobody changes a setting; evaluations are named
            against it. None in a record of version 1.
        zero_shot: `exams` of that evaluation.
        process: Who works on it, or did last.
        layers: Sizes of the model's layers where they are not those of its `config.json`, as in a pruned model.
        fitted: What `auto` stands for in this run, at every restart; None where nothing was left to be chosen.
        resumed_from: Steps of the checkpoints that training went on from, in order of time.
        files: What the training left, by path relative to the folder; written with the status `trained`. In version 1
            those of the evaluation too, written with `done`.
    """

    name: str
    identity: str
    status: Status
    method: str
    data: str
    model: str
    seed: int
    config: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    failure: Failure | None = None
    data_manifest: DataManifest | None = None
    parameters: Parameters | None = None
    layers: LayerSizes | None = None
    fitted: Fitted | None = None
    train: TrainRecord | None = None
    evaluation: EvaluationRecord | None = None
    evaluation_name: str | None = None
    evaluation_defaults: dict[str, Any] | None = None
    zero_shot: dict[str, Score] = field(default_factory=dict)
    environment: Environment | None = None
    process: Process | None = None
    resumed_from: list[int] = field(default_factory=list)
    files: dict[str, FileStamp] = field(default_factory=dict)
    started: str | None = None
    finished: str | None = None

    def updated(self, **changes: Any) -> "Record":
        """Return a copy with the given fields replaced."""
        return replace(self, **changes)

    @property
    def is_trained(self) -> bool:
        """Whether the weights are there: nothing of the training is left to do."""
        return self.status in ("trained", "evaluated", "done") or bool(self.files)

    def seen_by(self, evaluation: Evaluation | None) -> "Record":
        """Return the record as it is for whoever asks about one of the run's evaluations.

        Until the weights are there, it is the training's; then status, failure, process, scores and files are the
        evaluation's.

        Args:
            evaluation: Which one; None for one that has not begun.
        """
        if not self.is_trained or (evaluation is None and self.status != "done"):
            return self.updated(evaluation=None, zero_shot={})
        if evaluation is None:
            return self.updated(status="trained", failure=None, evaluation=None, zero_shot={}, finished=None)
        settings = {**self.config, "evaluate": evaluation.settings}
        return self.updated(
            status="trained" if evaluation.status == "pending" else evaluation.status,
            failure=evaluation.failure,
            config=settings,
            evaluation=evaluation.result,
            evaluation_name=evaluation.name,
            zero_shot=evaluation.exams,
            process=evaluation.process or self.process,
            finished=evaluation.finished,
        )

    def setting(self, group: str, key: str) -> Any:
        """Return a setting of the run; None where the record has no such group or key."""
        settings = self.config.get(group)
        return settings.get(key) if isinstance(settings, dict) else None
