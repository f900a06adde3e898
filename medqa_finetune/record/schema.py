"""The record of a run: settings, costs and results. A value that was not measured is None, never 0."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

# Version 1 had one evaluation, in the record and its folder; version 2 has any number of them below the folder.
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)

Status = Literal["pending", "running", "trained", "evaluated", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class Failure:
    """Why a run is not done.

    Attributes:
        kind: An error's class or a signal's name.
        message: One or two lines.
        final: Whether a retry would fail the same way: bad input, a non-finite loss, too little memory.
        faults: Fields of every fault (`errors.Fault.as_json`); empty where the error was not raised on purpose.
    """

    kind: str
    message: str
    final: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Process:
    """The process that works on a run, or the last one that did."""

    pid: int
    host: str


@dataclass(frozen=True)
class FileStamp:
    """Size in bytes and sha256 of a file when the run wrote it."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SetManifest:
    """One set of a run: its size and the sha256 over its examples, or blocks of running text, in order."""

    n: int
    sha256: str


@dataclass(frozen=True)
class DataManifest:
    """The data of a run.

    Attributes:
        corpus_sha256: sha256 of the corpus bytes.
        counts: Rows read, rejected and removed in preparation, by reason.
        parts: Files of each part that the corpus was published in and that the sets were taken from; empty where the
            corpus was divided anew.
    """

    corpus_sha256: str
    train: SetManifest
    validation: SetManifest
    test: SetManifest
    counts: dict[str, int] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameters:
    """Number of weights of the model, counted as if unquantized.

    Attributes:
        total: Weights of the base model, without adapters.
        trainable: Trained weights.
        adapted: Modules and parameters with an adapter, as peft names them: whole paths, or their ends.
        active: Weights of a mixture of experts that a token passes; None for models without experts.
    """

    total: int
    trainable: int
    adapted: list[str] = field(default_factory=list)
    active: int | None = None


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of a model's layers, one number per layer: heads, key-value heads, and the width of the MLP."""

    heads: list[int]
    key_heads: list[int]
    intermediate: list[int]


@dataclass(frozen=True)
class Fitted:
    """The values of `train` that `auto` resolved to, one choice for all runs that are compared with each other.

    Attributes:
        micro_batch: As in `TrainConfig`, as is the next.
        gradient_checkpointing: Whether activations are computed again.
        chosen_in: Name of the run of the study in which they were chosen; empty in records of earlier versions.
        decided_by: Name of the run that needs most memory with them, for which they were chosen; empty where runs of an
            earlier version began with them.
        among: Names of the runs that were known to be compared, and for which they fit by the estimate.
        instead_of: Name of a compared run whose values do not fit for this one, so that both train with others; None
            elsewhere.
    """

    micro_batch: int
    gradient_checkpointing: bool
    chosen_in: str = ""
    decided_by: str = ""
    among: list[str] = field(default_factory=list)
    instead_of: str | None = None


@dataclass(frozen=True)
class Validated:
    """What a training validates on, `auto` resolved; by the loss there, the weights that are kept are chosen.

    Attributes:
        times: Number of validations.
        samples: Examples of each, the first of the validation set.
        of: Examples of the validation set.
        share: Examples of all validations over the examples that training processes.
    """

    times: int
    samples: int
    of: int
    share: float


@dataclass(frozen=True)
class Fp16Probe:
    """What one pass in fp16 showed before a run began; see `training/fp16_probe.py`.

    Attributes:
        largest_activation: Largest absolute activation of the base model on real examples.
        largest_at: The module with it.
        share_of_range: It over 65,504, the largest number of fp16: above 1 it overflows.
        first_overflow: The module where an activation first left the range, or came too near to its end; None where
            none did.
        fp32_blocks: Blocks of the model that compute in fp32 in this run, in training and answering.
        finite_loss: Whether the loss is finite with these blocks in fp32.
        finite_gradients: Whether its gradients are, at some scale; None where nothing is trained.
        gradient_scale: The largest factor of the loss that was tried at which they are.
    """

    largest_activation: float
    largest_at: str
    share_of_range: float
    first_overflow: str | None = None
    fp32_blocks: list[str] = field(default_factory=list)
    finite_loss: bool = True
    finite_gradients: bool | None = None
    gradient_scale: float | None = None


@dataclass(frozen=True)
class TrainRecord:
    """Amounts, costs and losses of a training.

    Attributes:
        samples: Examples, or blocks of running text, processed, repeats included.
        tokens: Tokens processed, without padding.
        answer_tokens: Tokens that the loss was computed on.
        truncated: Training examples truncated to `train.max_length`.
        truncated_rate: Their share of all training examples, in [0, 1]; None in records of earlier versions.
        seconds: Of the training loop, without loading, validation and saving.
        samples_per_second: Without warm-up steps.
        tokens_per_second: Without warm-up steps and padding.
        flops: Floating-point operations of forward and backward passes (`architecture/flops.py`).
        model_flops_utilization: These per second, without warm-up steps, over `matrix_flops_per_second`.
        matrix_flops_per_second: Measured rate of matrix products on the device in the run's precision.
        datasheet_flops_per_second: Their peak rate by the data sheet; None where that is not known.
        peak_vram_bytes: Most GPU memory held by tensors at once; None without CUDA.
        peak_vram_reserved_bytes: Most GPU memory held by the allocator at once; None without CUDA.
        peak_rss_bytes: Most resident memory of the run's own process.
        cpu_share: CPU time of the run's process over the time that its threads had, in [0, 1]; one thread with a GPU.
            None in records of earlier versions, and for less than a second.
        cpu_taken_rate: Share of that time for which other programs had the cores, in [0, 1]; None likewise.
        gpu_throttled_rate: Share of looks at the GPU at which its clock was lowered for heat or by the power supply, in
            [0, 1]; None without CUDA, and where the driver does not tell.
        gpu_shared_rate: Share of looks at which another process computed on the GPU, likewise.
        fused_adapters: Whether `train.fused_adapters` was in effect; None in records of earlier versions.
        optimizer: Name of the optimizer used on this device.
        batch_size: Examples per optimizer step (effective batch); the last step of an epoch may have fewer.
        batch_tokens: Mean tokens per optimizer step.
        skipped_steps: Optimizer steps that trained nothing, because their gradients were not finite in fp16; None in
            other precisions and in records of earlier versions.
        weight_change: Norm of the difference of the kept trained weights from those before training, relative to the
            norm of these, over a sample of each weight's values; above 0. None in records of earlier versions.
        best_step: Optimizer step with the lowest validation loss, whose weights are kept.
        resumed_from: Steps of the checkpoints that training resumed from, in order of time; empty without a restart.
        processes: Number of processes that trained together, since the last restart. Amounts, rates and times are
            theirs together, peaks of memory those of the process that needed most.
        devices: Names of their devices, by rank; empty for a single process.
        sharding: What they divided (`train.sharding`).
    """

    samples: int
    tokens: int
    answer_tokens: int
    steps: int
    epochs: float
    seconds: float
    optimizer: str
    truncated: int = 0
    truncated_rate: float | None = None
    batch_size: int | None = None
    batch_tokens: float | None = None
    micro_batch: int | None = None
    gradient_checkpointing: bool | None = None
    fused_adapters: bool | None = None
    skipped_steps: int | None = None
    weight_change: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    flops: float | None = None
    model_flops_utilization: float | None = None
    matrix_flops_per_second: float | None = None
    datasheet_flops_per_second: float | None = None
    peak_vram_bytes: int | None = None
    peak_vram_reserved_bytes: int | None = None
    peak_rss_bytes: int | None = None
    cpu_share: float | None = None
    cpu_taken_rate: float | None = None
    gpu_throttled_rate: float | None = None
    gpu_shared_rate: float | None = None
    final_train_loss: float | None = None
    best_validation_loss: float | None = None
    best_step: int | None = None
    resumed_from: list[int] = field(default_factory=list)
    processes: int = 1
    devices: list[str] = field(default_factory=list)
    sharding: str = "none"


@dataclass(frozen=True)
class Score:
    """A value with the signature of its computation; only values with equal signatures compare."""

    value: float
    signature: str


@dataclass(frozen=True)
class EvaluationRecord:
    """Scores and costs of the predictions, or of running text; every score counts all `n` questions or blocks.

    Attributes:
        seconds: Of generation; for running text, of computing its likelihood. Neither this nor the rates include
            predictions reused from another evaluation of the run; None where all are reused.
        samples_per_second: Questions, or blocks, per second; None for predictions from a file.
        tokens_per_second: Tokens generated, or scored, per second, without padding.
        empty_rate: Share of predictions without a visible character, in [0, 1].
        truncated_rate: Share of predictions that reached `evaluate.max_new_tokens`, in [0, 1]; None when not known.
        timed_out_rate: Share of predictions cut off by `evaluate.timeout_seconds`, in [0, 1]; None when not known.
        repetition_rate: Share of character 4-grams that repeat an earlier one of the same prediction, over all.
        unclosed_rate: Share of predictions that begin a thought and do not close it, in [0, 1]; None where the model
            writes no thoughts.
        prompt_cut_rate: Share of questions whose prompt, with earlier turns, was cut to fit `train.max_length`, in
            [0, 1]; None when not known.
        reference_cut_rate: Share of questions of whose reference the perplexity counts only the beginning, likewise.
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
    unclosed_rate: float | None = None
    prompt_cut_rate: float | None = None
    reference_cut_rate: float | None = None
    peak_vram_bytes: int | None = None


@dataclass(frozen=True)
class Environment:
    """Software, device and command, to reproduce the run."""

    versions: dict[str, str]
    device: str
    precision: str | None
    commit: str | None
    command: list[str]


@dataclass(frozen=True)
class Reused:
    """Predictions, or likelihoods of blocks, that an evaluation reused from another one of the same run.

    Attributes:
        evaluation: Name of the other evaluation.
        answers: Their number; they are the first lines of `predictions.jsonl`.
    """

    evaluation: str
    answers: int


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run's weights, as in its `evaluation.json`.

    Attributes:
        name: Name of its folder: the settings that differ from the defaults, or `default`.
        identity: Equal for evaluations, of any run, whose scores compare.
        settings: The section `evaluate`, and `text_sha256` where a text is measured.
        reused: Predictions that were reused; None for none.
        stop_ids: Tokens that ended the predictions; None before the first, without a model, and in records of earlier
            versions, where the token that the chat template puts after an answer was the only one.
        batch_tokens: What `evaluate.batch_tokens=auto` resolved to; None where a number was given.
        result: Scores and costs.
        exams: Benchmarks: scores of `evaluate.zero_shot`, by `<task>/<metric>`, mostly in [0, 1]; and of
            `evaluate.text`, by `<text>/perplexity`, in [1, ∞).
        environment: Environment of the predictions; None before the first.
        files: Its files by path relative to its folder; written with the status `done`.
    """

    name: str
    identity: str
    status: Status
    settings: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    failure: Failure | None = None
    reused: Reused | None = None
    stop_ids: list[int] | None = None
    batch_tokens: int | None = None
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
    """The record of one run, mainly of its training, as in `record.json`.

    Attributes:
        status: `trained` once the weights are saved; then that of its first evaluation, until one is `done`.
        evaluation_name: The evaluation that `evaluation` and `zero_shot` belong to: the one with the default settings,
            or the first one until that exists.
        evaluation_defaults: Default settings of the section `evaluate`, which names of evaluations are relative to;
            None in a record of version 1.
        zero_shot: `exams` of that evaluation.
        process: The process that works on it, or the last one that did.
        layers: Sizes of the model's layers where they differ from `config.json`, as in a pruned model.
        fitted: Values that `auto` resolved to, kept at restarts; None where no setting is `auto`.
        validation: What it validates on, kept at restarts; None without training and in records of earlier versions.
        fp16: What a pass in fp16 showed, kept at restarts; None in other precisions and in records of earlier versions.
        resumed_from: Steps of the checkpoints that training resumed from, in order of time.
        files: Files of the training by path relative to the folder; written with the status `trained`. In version 1
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
    validation: Validated | None = None
    fp16: Fp16Probe | None = None
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
    def data_counts(self) -> dict[str, int]:
        """The counts from preparing the data; empty before it is prepared."""
        return {} if self.data_manifest is None else self.data_manifest.counts

    @property
    def is_trained(self) -> bool:
        """Whether the training is complete."""
        return self.status in ("trained", "evaluated", "done") or bool(self.files)

    def seen_by(self, evaluation: Evaluation | None) -> "Record":
        """Return the record with the results of one of the run's evaluations.

        Before the training is complete, that is the record itself; afterwards status, failure, process and scores are
        those of the evaluation.

        Args:
            evaluation: None for one that has not started.
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
