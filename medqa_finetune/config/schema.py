"""Every setting of an experiment, with its type and meaning. The values are in `conf/`.

The dataclasses are the schema that Hydra composes against: a misspelt key or a wrong type is refused at composition,
before torch is imported. Checks beyond types are in `config/checks.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from omegaconf import MISSING

from medqa_finetune.methods.registry import method_of
from medqa_finetune.methods.settings import MethodConfig

__all__ = [
    "DEFAULT_METRICS",
    "EMBEDDED_PREFIX",
    "MISSING_WORDS",
    "NOT_SHARDED",
    "Config",
    "CorpusConfig",
    "DataConfig",
    "EvaluateConfig",
    "MethodConfig",
    "ModelConfig",
    "TrackerConfig",
    "TrainConfig",
    "scaled",
]

DEFAULT_METRICS = (
    "rouge",
    "bleu",
    "perplexity",
    "char_bleu",
    "llamafactory",
    "length_ratio",
    "distinct",
    "special_tokens",
)
# What pandas, Python, SQL and Excel write for a missing value.
MISSING_WORDS = ("nan", "NaN", "NAN", "None", "NULL", "null", "<NA>", "NaT", "#N/A")
# `train.sharding` where each process has all weights.
NOT_SHARDED = "none"
# `model.path` of a model that ships with the package.
EMBEDDED_PREFIX = "embedded:"


@dataclass(frozen=True)
class DataConfig:
    """Sizes of the sets and how they are split.

    Attributes:
        name: Short name of the size, used in the run's name (`20k`).
        train_size: Training examples, or blocks of running text, before `scale`; null for all remaining.
        scale: Multiplies `train_size`, `validation_size` and `test_size`; in (0, 1].
        validation_size: Number of validation questions, the same for every `train_size`; those used of them follow it
            (`train.validation_samples`).
        test_size: Number of test questions, the same for every `train_size`. Of a part that the corpus was published
            in (`corpus.parts`), both take the first in a fixed shuffled order, or all if there are fewer. For running
            text that is split here, both count rows; its published parts are kept whole.
        split_seed: Seed of the split, not of the training.
        near_duplicate_threshold: Jaccard similarity of character trigrams, in (0, 1], from which a training question
            counts as a near-duplicate of a held-out one and is left out.
    """

    name: str = MISSING
    train_size: int | None = MISSING
    scale: float = 1.0
    validation_size: int = 1000
    test_size: int = 1000
    split_seed: int = 0
    near_duplicate_threshold: float = 0.8


@dataclass(frozen=True)
class CorpusConfig:
    """Where examples, or running text, come from.

    Attributes:
        name: Short name, used for the run folder.
        source: `embedded` (ships with the package), `file` (a local file) or `hub` (a public data set).
        path: File, folder or pattern (`shards/*.jsonl`, `**` for any depth), for `file`; `.gz` and `.zst` are read
            directly.
        task: `qa` (question answering) or `text` (causal language modelling of running text).
        format: `auto` (by file name), `jsonl`, `json`, `csv`, `parquet` or `arrow`; for running text also `text`.
        encoding: Of text files, by name (`utf-8`, `gb18030`, …); a byte-order mark is accepted.
        delimiter: Between the cells of a CSV file, one character or `tab`; null finds it out.
        rows: Where a JSON file keeps its rows, where it is one object: `data`, `result.items`, or `.` for an object
            whose values are the rows; null finds it where there is but one list of objects.
        question: Column of the question; several are joined with a line break (title and text); a text with braces is a
            template (`"{title}：{ask}"`). Here and in other columns, `conversations.0.value` selects inside lists and
            objects.
        answer: Column of the answer, several, or a template, e.g. `"<think>{Complex_CoT}</think>{Response}"`; `\\n` in
            a template is a line break.
        system: Column of the system prompt. Rows may lack it; a column not called `system` must exist. `auto` is no
            column, with those among messages; null leaves all out, for templates that refuse them (Gemma).
        history: Column of the earlier turns, a list of `[question, answer]`. Rows may lack it, as above.
        messages: Column of a whole conversation, a list of `{"from", "value"}` or `{"role", "content"}`, in place of
            `question`, `answer` and `history`; null where these are columns.
        message_keys: The names of speaker and text in a message, where they are not the usual ones.
        user_names: Further names of the user in messages (`家属`); docs/data.md lists those known.
        assistant_names: Further names of the assistant.
        system_names: Further names of the system.
        join_turns: Join messages in succession of one speaker with a line break; otherwise the row is refused.
        drop_last_question: Drop what the user says last, unanswered; otherwise the row is refused.
        drop_first_answer: Drop what the assistant says first, such as a greeting; otherwise the row is refused.
        id: Column of the row's id; null numbers the rows.
        group: Column of what an example belongs to, such as the department of a hospital: scores are given for each
            value as well. Rows with an empty cell are counted, and belong to no group.
        text: Column of the text, for `task=text`; plain text files have no columns.
        separator: Text between two rows of running text.
        by_line: Each line of a text file is a row, with its line feed, and empty if it is white space, as in WikiText
            on the hubs; otherwise blank lines separate rows.
        empty_values: Cells that mean "nothing here" in this corpus (`无`). As the only answer they stay, and are
            counted.
        missing_words: Cells that programs write for a missing value. `None` and `null` as the only answer stay.
        min_question_characters: Shorter questions are refused, at least 1; of a dialogue, the last turns are left out.
        min_answer_characters: The same for answers.
        identified_by: What makes two examples the same, so that both go to one set, and near-duplicates are looked for:
            `auto` (the first question; where many examples begin alike, what comes next), `first_question`,
            `last_question`, `system`, or `prompt` (everything before the answer).
        clean_html: Resolve HTML entities and remove tags, outside of code (docs/data.md).
        question_prefix: Regular expression removed from the front of a question.
        question_suffix: Regular expression removed from the end of a question.
        answer_prefix: Regular expression removed from the front of an answer.
        repository: `owner/name` on the hub, for `hub`.
        hub: `huggingface` or `modelscope`, for `hub`.
        revision: Branch, tag or commit on the hub.
        files: File names or patterns inside the repository, for `hub`.
        parts: What becomes of files that are named as training, validation and test data (`train.jsonl`, `dev/`):
            `auto` keeps these parts where files of the training part and of a held-out part are found, and divides
            anew otherwise; `published` refuses otherwise, and trains on files without a part's name if none is named
            train; `ignore` puts all files together and divides anew. The embedded corpus has no files, and with
            `published` parts of its own: held-out questions about other conditions, in other wordings.
        max_reject_share: Share of rows that may be unusable before the corpus is refused; in [0, 1].
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    task: str = "qa"
    format: str = "auto"
    encoding: str = "utf-8"
    delimiter: str | None = None
    rows: str | None = None
    question: Any = "question"
    answer: Any = "answer"
    system: str | None = "auto"
    history: str | None = None
    messages: str | None = None
    message_keys: list[str] = field(default_factory=list)
    user_names: list[str] = field(default_factory=list)
    assistant_names: list[str] = field(default_factory=list)
    system_names: list[str] = field(default_factory=list)
    join_turns: bool = False
    drop_last_question: bool = False
    drop_first_answer: bool = False
    id: str | None = None
    group: str | None = None
    text: str = "text"
    separator: str = "\n\n"
    by_line: bool = False
    empty_values: list[str] = field(default_factory=list)
    missing_words: list[str] = field(default_factory=lambda: list(MISSING_WORDS))
    min_question_characters: int = 1
    min_answer_characters: int = 1
    identified_by: str = "auto"
    clean_html: bool = True
    question_prefix: str | None = None
    question_suffix: str | None = None
    answer_prefix: str | None = None
    repository: str | None = None
    hub: str = "huggingface"
    revision: str = "main"
    files: list[str] = field(default_factory=list)
    parts: str = "auto"
    max_reject_share: float = 0.01


@dataclass(frozen=True)
class ModelConfig:
    """The base model.

    Attributes:
        name: Short name, used for the run folder and in tables.
        path: Folder of a downloaded model, or `embedded:tiny` for the one that ships with the package.
        repository: Source for `medqa-download`, `owner/name`; null for a local model.
        modelscope_repository: Its name on ModelScope, where that differs.
        revision: Branch, tag or commit of that repository.
        chat_template: For a model without a chat template: `instruct`, or a Jinja file; null for the model's own.
        thinking: Thoughts (`<think>…</think>`) in answers: `keep` trains them, and the model is asked to think; `off`
            leaves them out, and it is asked with the template's empty thought, where it has one; `auto` is `keep` if
            the corpus holds thoughts. What follows the thought is scored.
        date: The date that a chat template shows which shows today's, as `YYYY-MM-DD`; null for 2026-01-01. A fixed
            one, since prompts must not change at midnight.
    """

    name: str = MISSING
    path: str = MISSING
    repository: str | None = None
    modelscope_repository: str | None = None
    revision: str = "main"
    chat_template: str | None = None
    thinking: str = "auto"
    date: str | None = None

    @property
    def title(self) -> str:
        """Name in tables; the folder for a local model, since all local models have the name `local`."""
        return self.name if self.is_named else PurePath(self.path).name

    @property
    def is_named(self) -> bool:
        """Whether the name alone identifies the model."""
        return self.repository is not None or self.path.startswith(EMBEDDED_PREFIX)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training.

    Attributes:
        epochs: Passes over the training set; fractions are allowed.
        max_steps: Most optimizer steps; null for no limit but `epochs`.
        batch_size: Examples per optimizer step (effective batch size).
        packing: Concatenate examples without padding; otherwise pad examples of similar length.
        micro_batch: Examples of `max_length` per forward pass at most, which bounds memory: a pack has up to
            `micro_batch * max_length` tokens. Gradients are accumulated up to `batch_size`.
            `auto`, the default in `conf/train/`, takes the largest divisor of `batch_size` that fits in memory, the
            same for all runs of a study that are compared. The default here is that of records without the setting.
        learning_rate: Peak, after warm-up.
        warmup_ratio: Share of the steps in which the learning rate rises to its peak, in [0, 1); the first of them
            trains already. `scheduler=constant` has no warm-up.
        scheduler: Name of a transformers learning-rate schedule.
        weight_decay: AdamW weight decay.
        max_gradient_norm: Gradients are clipped to this norm.
        max_length: Tokens per example; longer ones are truncated at the end and counted, dialogues at the front. Blocks
            of running text have this length.
        gradient_checkpointing: About a third more compute for much less activation memory; `auto`, the default in
            `conf/train/`, enables it where memory is too small without, for all runs that are compared.
        kernels: Kernels of norms, gated MLPs and rotary embeddings in training: `torch`, or `liger` (an extra), Triton
            kernels for CUDA only (Hsu et al. 2024, arXiv:2410.10989). The loss is computed by our code with both.
        fused_adapters: Compute plain LoRA layers in fewer passes over memory than peft: `true`, `false`, or `auto`,
            true on a CPU, where it is measured to be faster. The sums are the same to rounding; dropout draws other
            random numbers. A checkpoint goes on as it began.
        sharding: What several processes that train one cell divide, one GPU each: `none` (each has all weights,
            gradients and optimizer state), or `full` (each has its share of all three, and gathers the weights of one
            layer at a time: FSDP, Zhao et al. 2023, arXiv:2304.11277), for `method=full`. The sums are the same to
            rounding, and a run goes on with either.
        logging_steps: Steps between two points of the training curves.
        validations: Validations in a run, evenly spread, the last one after the last step. `auto`, the default in
            `conf/train/`, is at most 5, and so many that all of them together process at most a quarter of the examples
            that training processes.
        validation_samples: Examples of each, the first of the validation set; null for all. `auto`, the default in
            `conf/train/`, follows the size of the training set within the same bound (`config/steps.py`).
        warmup_steps_unmetered: First steps excluded from the throughput (allocator and kernel warm-up).
        checkpoint_minutes: Minutes between checkpoints; every validation writes one as well.
        checkpoint_steps: Optimizer steps between additional checkpoints; null for none.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 16
    packing: bool = True
    micro_batch: Any = 4
    learning_rate: float = 2e-4
    warmup_ratio: float = 0.03
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    max_length: int = 1024
    gradient_checkpointing: Any = True
    kernels: str = "torch"
    fused_adapters: Any = "auto"
    sharding: str = NOT_SHARDED
    logging_steps: int = 10
    validations: Any = 5
    validation_samples: Any = None
    warmup_steps_unmetered: int = 2
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int | None = None


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the evaluation.

    Attributes:
        max_samples: Test questions, the first in a fixed order, or blocks of running text; null for all.
        batch_size: Most questions per batch.
        batch_tokens: Most tokens per batch, which bounds memory: the number of questions, of similar length, times the
            longest one plus `max_new_tokens`; a batch has at least one question. `auto` takes what fits into the free
            memory of the GPU (`model/auto_batch.py`).
        max_new_tokens: Most tokens generated per question.
        timeout_seconds: Time limit of a batch; predictions not finished by then are cut off, marked and counted.
        metrics: Names of metrics (files in `evaluation/metrics/`, or entry points).
        cuda_graphs: Decode in fixed shapes, whose steps a GPU replays as CUDA graphs instead of launching their kernels
            one by one. Predictions are the same up to rounding. Of transformers on GPUs alone; models that do not allow
            it are refused.
        backend: Generates the predictions: `transformers`, or `vllm` (an extra); the likelihood of references is always
            computed with transformers.
        zero_shot: Tasks of lm-evaluation-harness (an extra), such as `ceval-valid` or `cmmlu`; none by default.
        zero_shot_folder: Folder with the user's own tasks, as YAML files of that harness; null for none.
        text: A corpus of running text (`wikitext2`; file in `conf/corpus/`), on whose test split the perplexity is
            measured in addition; null for none.
        text_path: Path of that text, as `corpus.path`; null for the download from the hub.
        stride: Tokens from one block of running text to the next in the evaluation, in [1, `max_length`]; null for
            `train.max_length`, so that blocks do not overlap.
    """

    max_samples: int | None = None
    batch_size: int = 256
    batch_tokens: Any = 16384
    max_new_tokens: int = 512
    timeout_seconds: float = 1800.0
    metrics: list[str] = field(default_factory=lambda: list(DEFAULT_METRICS))
    cuda_graphs: bool = False
    backend: str = "transformers"
    zero_shot: list[str] = field(default_factory=list)
    zero_shot_folder: str | None = None
    text: str | None = None
    text_path: str | None = None
    stride: int | None = None


@dataclass(frozen=True)
class TrackerConfig:
    """Experiment trackers of settings, curves and scores: `tensorboard`, `wandb`, `mlflow`, `swanlab`, or none."""

    name: str = "tensorboard"
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])


@dataclass(frozen=True)
class Config:
    """All settings of one experiment.

    Attributes:
        outputs: Root of all run folders; relative to the working directory of the command.
        study: Folder below `outputs` that groups runs; empty for none.
        run_name: Name of the run folder; set by the package, by `config/identity.py`.
        evaluation_name: Name of the evaluation's folder in it; set by the package as well.
        seed: Seed of data order, adapter initialisation and dropout, not of the split.
        precision: `auto` (bf16 or fp16 by the GPU, fp32 without one), `bf16`, `fp16` or `fp32`.
        fp32_blocks: Parts of the model's layers that compute in fp32 in a run of half precision: `auto`, those that
            overflow fp16 in a pass before the run begins; `none`; or a list of names, whole or their ends, such as
            `[self_attn]` (all attention, scores included) or `[layers.3.mlp]`.
        overwrite: Move an existing run folder aside, of another run or a finished one, and start again.
        threads: CPU threads for torch; null for torch's default, or less: the cores that this process may use
            (affinity, a container's quota), divided by the cells that run at the same time. Another number gives
            results that differ by rounding, so a run goes on with the number that it began with.
        time_limit: Time after which the command stops by itself, such as `11h` or `90m`: cells that run write a
            checkpoint, and the same command resumes them. For platforms that end a session; null for none.
        storage: A folder, such as a mounted drive, or a URL (`s3://BUCKET/FOLDER`): run folders are fetched from there
            before a start and stored there at each checkpoint, so that another machine goes on with them.
        interpolated: Unresolved interpolations, such as `${oc.env:NAME}`, by dotted key. Records have these in place of
            their values, which may be secret. Set by `config/compose.py`.

    """

    outputs: str = "outputs"
    study: str = ""
    run_name: str = ""
    evaluation_name: str = ""
    seed: int = 0
    precision: str = "auto"
    fp32_blocks: Any = "auto"
    overwrite: bool = False
    threads: int | None = None
    time_limit: str | None = None
    storage: str | None = None
    method: MethodConfig = field(default_factory=MethodConfig)
    data: DataConfig = field(default_factory=DataConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    interpolated: dict[str, Any] = field(default_factory=dict)

    @property
    def run_path(self) -> Path:
        """Folder of the run; relative to the working directory of the command."""
        return Path(self.outputs) / self.study / self.run_name

    @property
    def chats(self) -> bool:
        """Whether the task is question answering, which needs a chat template."""
        return self.corpus.task == "qa"

    @property
    def train_size(self) -> int | None:
        """Training examples after scaling; None for all remaining, 0 where the method uses none."""
        if not method_of(self.method).uses_training_data:
            return 0
        return None if self.data.train_size is None else scaled(self.data.train_size, self.data.scale)

    @property
    def validation_size(self) -> int:
        """Validation questions after scaling."""
        return scaled(self.data.validation_size, self.data.scale)

    @property
    def test_size(self) -> int:
        """Test questions after scaling."""
        return scaled(self.data.test_size, self.data.scale)


def scaled(size: int, scale: float) -> int:
    """Return `size` times `scale`, rounded, at least 1."""
    return max(1, round(size * scale))
