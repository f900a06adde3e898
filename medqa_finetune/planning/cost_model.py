"""What cells will take: hours, memory, disk and money, from what they have to do and how fast this machine is."""

from dataclasses import dataclass, field

from medqa_finetune.errors import Fault
from medqa_finetune.model.estimate import Machine

# The figures below are estimates of ours, for where nothing is measured; `plan.probe=true` measures instead.
# Share of the matrix rate that training reaches: a little less than the 46 % of PaLM (arXiv:2204.02311, table 3) and
# the 55 % of a model of 7 million parameters on two CPU cores (benchmarks/cpu.json).
EFFICIENCY = 0.4
# What Python and torch take to call the kernels of one layer for one token; it bounds how fast a small model answers.
SECONDS_PER_LAYER = 5e-4
# From starting a process to the first step, and from the last answer to its end: imports, plots, scores.
START_SECONDS = {"cpu": 10.0, "cuda": 25.0}
# What a cell takes beside what its rehearsal does: its data is looked up, its files are stamped, the launcher notices
# its end. Measured: the mean over the demo's ten cells on two cores.
OUTSIDE_SECONDS = 1.6
# Tokenizing (Qwen2.5, two cores).
PAIRS_ENCODED_PER_SECOND = 2500.0


@dataclass(frozen=True)
class Facts:
    """What one cell has to do, counted on its real data.

    Attributes:
        steps: Optimizer steps.
        train_pairs: Pairs in the training set.
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
        memory_bytes: Peak, reckoned: of the GPU, or of the process where there is none.
        training_bytes: The same of training alone, which is what a run's record says; 0 where nothing is trained.
        set_bytes: Part of it that the encoded pairs take, and what preparing them has left.
        disk_bytes: In the run folder, at most.
        heaviest: Training pairs of the optimizer step that is likely to hold the most at once, by place.
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
class Survey:
    """A machine, and what cells have to do on it.

    Attributes:
        machine: Where they will run.
        matrix_rates: FLOP/s of products of matrices, by precision setting.
        copy_rate: Bytes per second that memory is read and written with.
        facts: Of every cell, in order.
        disk_faults: Disks on which the cells will not fit.
    """

    machine: Machine
    matrix_rates: dict[str, float]
    copy_rate: float
    facts: list[Facts]
    disk_faults: list[Fault]


@dataclass(frozen=True)
class Measured:
    """What a rehearsal of one kind of cell measured.

    Attributes:
        fixed_seconds: All that does not grow with the data: starting, loading, saving, plots, scores.
        encoding_seconds: Per pair.
        train_seconds: Per token; 0 where nothing is trained.
        prompt_seconds: Per token of a question.
        answer_seconds: Per token of an answer.
        reference_seconds: Per question, for the perplexity.
        answer_tokens: Tokens per answer in the rehearsal.
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


def forecast_by_reckoning(facts: Facts, survey: Survey, precision: str) -> Forecast:
    """Reckon from arithmetic and the machine's rates alone."""
    rate = survey.matrix_rates[precision] * EFFICIENCY
    step = max(facts.decode_bytes / survey.copy_rate, facts.layers * SECONDS_PER_LAYER)
    return Forecast(
        start=START_SECONDS[survey.machine.type] + facts.train_pairs / PAIRS_ENCODED_PER_SECOND,
        train=facts.train_flops / rate,
        validate=facts.validation_flops / rate,
        answer=facts.prompt_flops / rate + max(facts.decode_steps * step, facts.decode_flops / rate),
        memory_bytes=facts.memory_bytes,
        training_bytes=facts.training_bytes,
        disk_bytes=facts.disk_bytes,
    )


def forecast_by_rehearsal(facts: Facts, measured: Measured) -> Forecast:
    """Reckon from what a rehearsal of this kind of cell measured.

    A trained model answers about as long as the references are, the untuned base as long as it did in the rehearsal.
    """
    trains = facts.train_tokens > 0
    answer_tokens = facts.answer_tokens if trains else round(measured.answer_tokens * facts.questions)
    return Forecast(
        start=OUTSIDE_SECONDS + measured.fixed_seconds + measured.encoding_seconds * facts.train_pairs,
        train=measured.train_seconds * facts.train_tokens,
        validate=measured.train_seconds * facts.forward_share * facts.validation_tokens,
        answer=measured.prompt_seconds * facts.prompt_tokens
        + measured.answer_seconds * answer_tokens
        + measured.reference_seconds * facts.questions,
        memory_bytes=measured.memory_bytes + facts.set_bytes,
        training_bytes=measured.training_bytes + facts.set_bytes if trains else 0,
        disk_bytes=facts.disk_bytes,
    )
