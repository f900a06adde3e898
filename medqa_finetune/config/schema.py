"""Every setting of an experiment, typed. Values live in `conf/`; this file says what a value may be.

The dataclasses are the schema that Hydra composes against: a misspelt key or a wrong type is refused at composition,
before torch is imported. Checks that need more than one key live in `config/checks.py`.
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
# `model.path` of a model that ships with the package.
EMBEDDED_PREFIX = "embedded:"


@dataclass(frozen=True)
class DataConfig:
    """How many pairs are trained on, and how held-out sets are cut.

    Attributes:
        name: Short name of the size, used for the run folder (`20k`).
        train_size: Number of training pairs, or blocks of running text, before `scale`; null takes all that are left.
        scale: Multiplies `train_size`, `validation_size` and `test_size`; in (0, 1].
        validation_size: Number of validation questions, the same for every `train_size`.
        test_size: Number of test questions, the same for every `train_size`. Of running text that is divided here, both
            count rows; a corpus with parts of its own keeps them whole.
        split_seed: Order of the questions, hence the split. Not the training seed.
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
    """Where pairs come from.

    Attributes:
        name: Short name, used for the run folder.
        source: `embedded` (ships with the package), `file` (a local file) or `hub` (a public data set).
        path: File or folder, for `file`; `.gz` and `.zst` are read directly.
        task: What is learnt: `qa` (to answer questions) or `text` (to go on with running text).
        format: `auto` (by file name), `jsonl`, `json`, `csv` or `parquet`; for running text also `text`.
        encoding: Of text files, by name (`utf-8`, `gb18030`, …); a byte-order mark is accepted.
        question: Column of the question; several are joined with a line break (title and text). Here and in other
            columns, `conversations.0.value` goes into lists and objects.
        answer: Column of the answer.
        system: Column of the system prompt. Rows may lack it; a column of another name than `system` must be there.
        history: Column of the earlier turns, a list of `[question, answer]`. Rows may lack it, as above.
        messages: Column of a whole conversation, a list of `{"from", "value"}` or `{"role", "content"}`, in place of
            `question`, `answer` and `history`; null where these are columns.
        id: Column of the row's id; null numbers the rows.
        text: Column of the text, for `task=text`; text files have no columns.
        separator: What stands between two rows of running text.
        by_line: Whether each line of a text file is a row, its line feed kept, those of white space alone empty, as
            WikiText's rows are on the hubs; else rows are what blank lines separate.
        empty_values: Cells that mean "nothing here" in this corpus (`无`).
        question_prefix: Regular expression removed from the front of a question.
        question_suffix: Regular expression removed from the end of a question.
        answer_prefix: Regular expression removed from the front of an answer.
        repository: `owner/name` on the hub, for `hub`.
        hub: `huggingface` or `modelscope`, for `hub`.
        revision: Branch, tag or commit on the hub.
        files: File names or patterns inside the repository, for `hub`.
        max_reject_share: Share of rows that may be unusable before the corpus is refused; in [0, 1].
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    task: str = "qa"
    format: str = "auto"
    encoding: str = "utf-8"
    question: Any = "question"
    answer: str = "answer"
    system: str | None = None
    history: str | None = None
    messages: str | None = None
    id: str | None = None
    text: str = "text"
    separator: str = "\n\n"
    by_line: bool = False
    empty_values: list[str] = field(default_factory=list)
    question_prefix: str | None = None
    question_suffix: str | None = None
    answer_prefix: str | None = None
    repository: str | None = None
    hub: str = "huggingface"
    revision: str = "main"
    files: list[str] = field(default_factory=list)
    max_reject_share: float = 0.01


@dataclass(frozen=True)
class ModelConfig:
    """The base model.

    Attributes:
        name: Short name, used for the run folder and in tables.
        path: Folder of a downloaded model, or `embedded:tiny` for the one that ships with the package.
        repository: Where `scripts/download_model.py` gets it, `owner/name`; null for a local model.
        revision: Branch, tag or commit of that repository.
        chat_template: For a model without a chat template: `instruct`, or a Jinja file; null for the model's own.
    """

    name: str = MISSING
    path: str = MISSING
    repository: str | None = None
    revision: str = "main"
    chat_template: str | None = None

    @property
    def title(self) -> str:
        """What tables call it: a local model by its folder, since all of them are chosen by `model=local`."""
        return self.name if self.is_named else PurePath(self.path).name

    @property
    def is_named(self) -> bool:
        """Whether the name alone says which model it is."""
        return self.repository is not None or self.path.startswith(EMBEDDED_PREFIX)


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained.

    Attributes:
        epochs: Passes over the training set; fractions are allowed.
        max_steps: Optimizer steps at most; null leaves it to `epochs`.
        batch_size: Pairs per optimizer step (the effective batch).
        packing: Lay pairs end to end, without padding; otherwise pad pairs of like length.
        micro_batch: Pairs of `max_length` that one forward pass may hold, a bound on memory: packs hold
            `micro_batch * max_length` tokens, however many pairs that is. What is left of `batch_size` is accumulated.
            `auto` takes the largest divisor of `batch_size` that fits in memory.
        learning_rate: Peak, after warm-up.
        warmup_ratio: Share of the steps in which the learning rate rises, in [0, 1).
        scheduler: Name of a transformers learning-rate schedule.
        weight_decay: AdamW weight decay.
        max_gradient_norm: Gradients are clipped to this norm.
        max_length: Tokens per pair; what is longer is cut at the end and counted, dialogues from the front. Blocks of
            running text have that many.
        gradient_checkpointing: Trade about a third more compute for much less activation memory; `auto` does so where
            too little fits without.
        kernels: What computes norms, gated MLPs and rotary embeddings in training: `torch`, or `liger`, the Triton
            kernels of an extra, on CUDA alone (Hsu et al. 2024, arXiv:2410.10989). The loss is ours with both.
        logging_steps: Steps between two points of the training curves.
        validations: How often the validation loss is measured in a run, evenly spread; the last step is always one.
        warmup_steps_unmetered: First steps left out of the throughput (allocator and kernel warm-up).
        checkpoint_minutes: Minutes between two checkpoints; one more is written at every validation.
        checkpoint_steps: Optimizer steps between two checkpoints, beside those; null for none.
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
    logging_steps: int = 10
    validations: int = 5
    warmup_steps_unmetered: int = 2
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int | None = None


@dataclass(frozen=True)
class EvaluateConfig:
    """How it is evaluated.

    Attributes:
        max_samples: Test questions answered, the first of a fixed order, or blocks of running text; null takes all.
        batch_size: Questions answered at once at most.
        batch_tokens: Tokens that a batch has room for, a bound on memory: questions of like length are answered at
            once as long as their number times the longest, `max_new_tokens` added, stays within it; one at least.
        max_new_tokens: Tokens generated per answer at most.
        timeout_seconds: Seconds that one batch may take; answers not ended by then are cut off, marked and counted.
        metrics: Names of metrics (files in `evaluation/metrics/`).
        backend: Who generates the answers: `transformers`, or `vllm` (an extra); the likelihood of references is always
            taken of the model as it was trained.
        zero_shot: Tasks of lm-evaluation-harness (an extra), such as `ceval-valid` or `cmmlu`; none by default.
        zero_shot_folder: Folder with tasks of one's own, as YAML files of that harness; null for its own alone.
        text: A corpus of running text (`wikitext2`; file in `conf/corpus/`), on whose test part the perplexity is
            measured beside all else; null for none.
        text_path: Where that text lies, as `corpus.path`; null for where the hub's download is.
        stride: Tokens from one block of running text to the next, in the evaluation alone, in [1, `max_length`]; null
            for `train.max_length`, blocks that do not overlap.
    """

    max_samples: int | None = None
    batch_size: int = 256
    batch_tokens: int = 16384
    max_new_tokens: int = 512
    timeout_seconds: float = 1800.0
    metrics: list[str] = field(default_factory=lambda: list(DEFAULT_METRICS))
    backend: str = "transformers"
    zero_shot: list[str] = field(default_factory=list)
    zero_shot_folder: str | None = None
    text: str | None = None
    text_path: str | None = None
    stride: int | None = None


@dataclass(frozen=True)
class TrackerConfig:
    """Who else is told of the training curves: `tensorboard`, `wandb`, `mlflow`, several or none of them."""

    name: str = "tensorboard"
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])


@dataclass(frozen=True)
class Config:
    """One experiment, whole.

    Attributes:
        outputs: Root of all run folders; relative to where the command was typed.
        study: Folder below `outputs` that keeps runs of one kind together; empty for none.
        run_name: Name of the run folder; filled in by `config/identity.py`, not by hand.
        evaluation_name: Name of the evaluation's folder in it; filled in likewise.
        seed: Data order, adapter initialisation and dropout. Never the split.
        precision: `auto` (bf16 or fp16 by the GPU, fp32 without one), `bf16`, `fp16` or `fp32`.
        overwrite: Move a run folder aside that holds another run, or a finished one, and start anew.
        threads: CPU threads for torch; null leaves it to torch.
        interpolated: Texts that came from elsewhere, such as `${oc.env:NAME}`, by dotted key, as they were written;
            what is kept on disk has these in place of their values, which may be secret. Filled in by
            `config/compose.py`, not by hand.

    """

    outputs: str = "outputs"
    study: str = ""
    run_name: str = ""
    evaluation_name: str = ""
    seed: int = 0
    precision: str = "auto"
    overwrite: bool = False
    threads: int | None = None
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
        """Folder of the run; relative to where the command was typed."""
        return Path(self.outputs) / self.study / self.run_name

    @property
    def chats(self) -> bool:
        """Whether questions are answered, for which a chat template is needed; running text needs none."""
        return self.corpus.task == "qa"

    @property
    def train_size(self) -> int | None:
        """Training pairs after scaling; None for every pair that is left, 0 where nothing is trained."""
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
