"""Estimates time, memory and disk of cells, from their work and the speed of this machine, or from a trial run."""

from dataclasses import dataclass, field

from medqa_finetune.errors import Fault
from medqa_finetune.model.auto_matrix import Resolved
from medqa_finetune.model.cards import CARDS
from medqa_finetune.model.estimate import Machine
from medqa_finetune.model.roofline import Operations, Prediction, predict

# The constants below are our estimates, for plans without a trial run; `plan.probe=true` measures instead.
# Share of the matrix rate that training reaches: a little less than the 46 % of PaLM (arXiv:2204.02311, table 3) and
# the 55 % of a model of 7 million parameters on two CPU cores (benchmarks/cpu.json).
EFFICIENCY = 0.4
# Overhead of Python and torch to launch one layer's kernels for one token; it bounds a small model's decoding speed.
SECONDS_PER_LAYER = 5e-4
# From process start to the first step, and from the last prediction to the end: imports, plots, scores.
START_SECONDS = {"cpu": 10.0, "cuda": 25.0}
# Extra time of a cell over its trial run: finding data, hashing files, and until the launcher notices its end.
# Measured: the mean over the demo's ten cells on two cores.
OUTSIDE_SECONDS = 1.6
# Tokenizing (Qwen2.5, two cores).
PAIRS_ENCODED_PER_SECOND = 2500.0


@dataclass(frozen=True)
class CellWorkload:
    """The work of one cell, counted on its real data.

    Attributes:
        steps: Number of optimizer steps.
        train_pairs: Number of training examples.
        train_tokens: Training tokens over all epochs.
        train_flops: FLOPs of training, including recomputation by gradient checkpointing.
        validations: Number of validations; 0 without training, as is the next.
        validation_samples: Examples of each.
        validation_tokens: Tokens of all validations.
        validation_flops: FLOPs of all validations.
        forward_share: FLOPs of a forward pass as a share of those of a training step.
        questions: Number of questions to answer.
        prompt_tokens: Tokens of all prompts.
        answer_tokens: Tokens of all references; predictions are assumed to be as long.
        prompt_flops: FLOPs of prefill, and of the references' perplexity.
        decode_steps: Number of decoding steps, each adding a token to every prediction of a batch.
        decode_bytes: Bytes of weights read per decoding step.
        decode_flops: FLOPs of all decoding steps.
        layers: Number of layers of the model.
        memory_bytes: Peak memory by a memory model: of the GPU, or of the process without a GPU.
        training_bytes: Peak of training alone, which is what a run's record states; 0 without training.
        set_bytes: Part of the peak for the tokenized examples and what their preparation leaves allocated.
        disk_bytes: Maximum size of the run folder.
        heaviest: Indices of the training examples of the step that is likely to hold the most tokens.
        examples_cut: Share of the training examples that is cut to fit `train.max_length`, in [0, 1].
        questions_cut: Share of the test questions that is cut, or whose reference is, likewise.
        model_flops: FLOPs of training without recomputation; 0 without training.
        training: Work of training by kind of operator; empty unless the plan is for a card that is not here. So are
            the next two.
        validation: Work of all validations.
        answering: Work of answering, and of the references' perplexity.
        exchanged_bytes: Bytes that each of several processes sends to others in an optimizer step.
    """

    steps: int
    train_pairs: int
    train_tokens: int
    train_flops: float
    validation_tokens: int
    validation_flops: float
    forward_share: float
    questions: int
    prompt_tokens: int
    answer_tokens: int
    prompt_flops: float
    decode_steps: int
    decode_bytes: int
    decode_flops: float
    layers: int
    memory_bytes: int
    training_bytes: int
    set_bytes: int
    disk_bytes: int
    heaviest: list[int] = field(default_factory=list)
    examples_cut: float = 0.0
    questions_cut: float = 0.0
    validations: int = 0
    validation_samples: int = 0
    model_flops: float = 0.0
    training: list[Operations] = field(default_factory=list)
    validation: list[Operations] = field(default_factory=list)
    answering: list[Operations] = field(default_factory=list)
    exchanged_bytes: int = 0


@dataclass(frozen=True)
class Workload:
    """The work of cells, and the machine it is estimated for.

    Attributes:
        machine: The machine that runs the cells.
        matrix_rates: FLOP/s of matrix products, by precision setting.
        copy_rate: Memory bandwidth of a copy, in bytes per second.
        cells: The work of every cell, in order.
        disk_faults: One fault per disk that is too small for the cells.
        batches: Training settings of every cell, `auto` resolved, in order.
        gpu: Short name of the card that is planned for (`model/cards.py`); None for this machine.
    """

    machine: Machine
    matrix_rates: dict[str, float]
    copy_rate: float
    cells: list[CellWorkload]
    disk_faults: list[Fault]
    batches: list[Resolved] = field(default_factory=list)
    gpu: str | None = None


@dataclass(frozen=True)
class TrialCosts:
    """Costs that a trial run of one kind of cell measured.

    Attributes:
        fixed_seconds: Time that does not grow with the data: starting, loading, saving, plots, scores.
        encoding_seconds: Per example.
        train_seconds: Per token; 0 without training.
        prompt_seconds: Per prompt token.
        answer_seconds: Per predicted token.
        reference_seconds: Per question, for the perplexity.
        answer_tokens: Mean tokens per prediction in the trial run.
        memory_bytes: Peak memory of the GPU or of the process.
        training_bytes: Peak of training alone.
    """

    fixed_seconds: float
    encoding_seconds: float
    train_seconds: float
    prompt_seconds: float
    answer_seconds: float
    reference_seconds: float
    answer_tokens: float
    memory_bytes: int
    training_bytes: int


@dataclass(frozen=True)
class Forecast:
    """Estimate for one cell: seconds by stage; bytes of peak memory, of training's peak and on disk.

    Attributes:
        examples_cut: Share of the training examples that is cut to fit `train.max_length`, in [0, 1].
        questions_cut: Share of the test questions that is cut, or whose reference is, likewise.
        validations: Number of validations; 0 without training, as is the next.
        validation_samples: Examples of each.
        fits: Whether the peak of memory is less than the card has; None unless the plan is for one.
        training_parts: Seconds of training by kind of operator, and those of all launches; empty likewise.
        training_limit: What decides training's time: `products`, `memory` or `launches`; None likewise.
        utilization: Model FLOPs utilization of training, in (0, 1], of the data sheet's rate; None likewise.
        exchanged_bytes: Bytes that each of several processes sends to others in an optimizer step.
    """

    start: float
    train: float
    validate: float
    answer: float
    memory_bytes: int
    training_bytes: int
    disk_bytes: int
    examples_cut: float = 0.0
    questions_cut: float = 0.0
    validations: int = 0
    validation_samples: int = 0
    fits: bool | None = None
    training_parts: dict[str, float] = field(default_factory=dict)
    training_limit: str | None = None
    utilization: float | None = None
    exchanged_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Sum over all stages."""
        return self.start + self.train + self.validate + self.answer


def forecast_from_workload(work: CellWorkload, workload: Workload, precision: str) -> Forecast:
    """Estimate one cell from its FLOPs, a memory model and the machine's rates; on a card elsewhere by the roofline."""
    if workload.gpu is not None:
        return _forecast_on_card(work, workload, precision)
    rate = workload.matrix_rates[precision] * EFFICIENCY
    step = max(work.decode_bytes / workload.copy_rate, work.layers * SECONDS_PER_LAYER)
    return Forecast(
        start=START_SECONDS[workload.machine.type] + work.train_pairs / PAIRS_ENCODED_PER_SECOND,
        train=work.train_flops / rate / workload.machine.processes,
        validate=work.validation_flops / rate / workload.machine.processes,
        answer=work.prompt_flops / rate + max(work.decode_steps * step, work.decode_flops / rate),
        memory_bytes=work.memory_bytes,
        training_bytes=work.training_bytes,
        disk_bytes=work.disk_bytes,
        examples_cut=work.examples_cut,
        questions_cut=work.questions_cut,
        validations=work.validations,
        validation_samples=work.validation_samples,
        exchanged_bytes=work.exchanged_bytes,
    )


def _forecast_on_card(work: CellWorkload, workload: Workload, precision: str) -> Forecast:
    card, machine = CARDS[str(workload.gpu)], workload.machine
    resolved = machine.precision if precision == "auto" else precision
    training, validation, answering = (
        predict(card, operations, resolved) for operations in (work.training, work.validation, work.answering)
    )
    return Forecast(
        start=START_SECONDS[machine.type] + work.train_pairs / PAIRS_ENCODED_PER_SECOND,
        train=training.seconds,
        validate=validation.seconds,
        answer=answering.seconds,
        memory_bytes=work.memory_bytes,
        training_bytes=work.training_bytes,
        disk_bytes=work.disk_bytes,
        examples_cut=work.examples_cut,
        questions_cut=work.questions_cut,
        validations=work.validations,
        validation_samples=work.validation_samples,
        exchanged_bytes=work.exchanged_bytes,
        fits=work.memory_bytes <= machine.memory_bytes,
        training_parts=_parts(training),
        training_limit=training.limit if work.training else None,
        utilization=work.model_flops / training.seconds / card.datasheet_flops(resolved) if work.training else None,
    )


def _parts(prediction: Prediction) -> dict[str, float]:
    return {**prediction.by_kind, "launches": prediction.launching} if prediction.by_kind else {}


def forecast_from_trial(work: CellWorkload, measured: TrialCosts) -> Forecast:
    """Estimate one cell from what a trial run of its kind measured.

    A trained model's predictions are assumed as long as the references, the untuned base's as long as in the trial run.
    """
    trains = work.train_tokens > 0
    answer_tokens = work.answer_tokens if trains else round(measured.answer_tokens * work.questions)
    return Forecast(
        start=OUTSIDE_SECONDS + measured.fixed_seconds + measured.encoding_seconds * work.train_pairs,
        train=measured.train_seconds * work.train_tokens,
        validate=measured.train_seconds * work.forward_share * work.validation_tokens,
        answer=measured.prompt_seconds * work.prompt_tokens
        + measured.answer_seconds * answer_tokens
        + measured.reference_seconds * work.questions,
        memory_bytes=measured.memory_bytes + work.set_bytes,
        training_bytes=measured.training_bytes + work.set_bytes if trains else 0,
        disk_bytes=work.disk_bytes,
        examples_cut=work.examples_cut,
        questions_cut=work.questions_cut,
        validations=work.validations,
        validation_samples=work.validation_samples,
    )
