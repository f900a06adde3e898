"""Estimates hours, memory and disk of cells, from their work and the speed of this machine, or from a trial run."""

from dataclasses import dataclass, field

from medqa_finetune.errors import Fault
from medqa_finetune.model.estimate import Machine

# The figures below are our estimates, for plans without a trial run; `plan.probe=true` measures instead.
# Share of the matrix rate that training reaches: a little less than the 46 % of PaLM (arXiv:2204.02311, table 3) and
# the 55 % of a model of 7 million parameters on two CPU cores (benchmarks/cpu.json).
EFFICIENCY = 0.4
# What Python and torch take to call the kernels of one layer for one token; it bounds how fast a small model answers.
SECONDS_PER_LAYER = 5e-4
# From starting a process to the first step, and from the last answer to its end: imports, plots, scores.
START_SECONDS = {"cpu": 10.0, "cuda": 25.0}
# What a cell takes in addition to its trial run: its data is found, its files are hashed, the launcher notices
# its end. Measured: the mean over the demo's ten cells on two cores.
OUTSIDE_SECONDS = 1.6
# Tokenizing (Qwen2.5, two cores).
PAIRS_ENCODED_PER_SECOND = 2500.0


@dataclass(frozen=True)
class CellWorkload:
    """The work of one cell, counted on its real data.

    Attributes:
        steps: Optimizer steps.
        train_pairs: Examples in the training set.
        train_tokens: Tokens trained on, all epochs together.
        train_flops: Arithmetic of training, with what gradient checkpointing computes a second time.
        validation_tokens: Tokens of all validations together.
        validation_flops: Their arithmetic.
        forward_share: Arithmetic of a forward pass, as a share of that of a training step.
        questions: Questions answered.
        prompt_tokens: Tokens of the questions.
        answer_tokens: Tokens of the reference answers, as long as which answers are taken to be.
        prompt_flops: Arithmetic of reading the questions, and the references for the perplexity.
        decode_steps: Forward passes that add a token to every answer of a batch.
        decode_bytes: Bytes of weights read in each.
        decode_flops: Arithmetic of all of them.
        layers: Layers of the model.
        memory_bytes: Peak by a memory model: of the GPU, or of the process where there is none.
        training_bytes: The same of training alone, which is what a run's record says; 0 where nothing is trained.
        set_bytes: Part of it that the tokenized examples take, and what preparing them has left.
        disk_bytes: In the run folder, at most.
        heaviest: Places of the training examples of the step that is likely to hold the most tokens at once.
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


@dataclass(frozen=True)
class Workload:
    """A machine, and the work of cells on it.

    Attributes:
        machine: Where they will run.
        matrix_rates: FLOP/s of products of matrices, by precision setting.
        copy_rate: Bytes per second that memory is read and written with.
        cells: The work of every cell, in order.
        disk_faults: Disks on which the cells will not fit.
    """

    machine: Machine
    matrix_rates: dict[str, float]
    copy_rate: float
    cells: list[CellWorkload]
    disk_faults: list[Fault]


@dataclass(frozen=True)
class TrialCosts:
    """What a trial run of one kind of cell measured.

    Attributes:
        fixed_seconds: All that does not grow with the data: starting, loading, saving, plots, scores.
        encoding_seconds: Per example.
        train_seconds: Per token; 0 where nothing is trained.
        prompt_seconds: Per token of a question.
        answer_seconds: Per token of an answer.
        reference_seconds: Per question, for the perplexity.
        answer_tokens: Tokens per answer in the trial run.
        memory_bytes: Peak, of the GPU or of the process.
        training_bytes: The same of training alone.
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
    """What one cell will take: seconds by stage, bytes at the peak of memory, at that of training, and on disk."""

    start: float
    train: float
    validate: float
    answer: float
    memory_bytes: int
    training_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """All stages together."""
        return self.start + self.train + self.validate + self.answer


def forecast_from_workload(work: CellWorkload, workload: Workload, precision: str) -> Forecast:
    """Estimate one cell from its arithmetic, a memory model and the machine's rates."""
    rate = workload.matrix_rates[precision] * EFFICIENCY
    step = max(work.decode_bytes / workload.copy_rate, work.layers * SECONDS_PER_LAYER)
    return Forecast(
        start=START_SECONDS[workload.machine.type] + work.train_pairs / PAIRS_ENCODED_PER_SECOND,
        train=work.train_flops / rate,
        validate=work.validation_flops / rate,
        answer=work.prompt_flops / rate + max(work.decode_steps * step, work.decode_flops / rate),
        memory_bytes=work.memory_bytes,
        training_bytes=work.training_bytes,
        disk_bytes=work.disk_bytes,
    )


def forecast_from_trial(work: CellWorkload, measured: TrialCosts) -> Forecast:
    """Estimate one cell from what a trial run of its kind measured.

    A trained model answers about as long as the references are, the untuned base as long as it did in the trial run.
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
    )
