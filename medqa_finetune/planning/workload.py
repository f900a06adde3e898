"""Counts the work of cells on their real data; nothing is trained, and no weights are needed."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.config.schema import Config, ModelConfig
from medqa_finetune.config.steps import total_steps, validation_steps, validations_of, with_validations
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.memory import resident_bytes
from medqa_finetune.methods.registry import method_of, model_method
from medqa_finetune.model.auto_batch import resolve_answering, resolve_auto
from medqa_finetune.model.auto_matrix import Resolved, resolve_matrix
from medqa_finetune.model.cards import CARDS, Card
from medqa_finetune.model.estimate import PROCESS_BYTES, Machine, answering_memory, run_bytes, training_memory
from medqa_finetune.model.locate import has_weights, locate_architecture
from medqa_finetune.objectives import task_of
from medqa_finetune.planning.card_work import PlannedCard, passes_of_a_step, with_operations
from medqa_finetune.planning.cost_model import CellWorkload, Workload
from medqa_finetune.planning.several_gpus import exchanged_bytes
from medqa_finetune.planning.token_counts import TokenCounts
from medqa_finetune.precision import Precision
from medqa_finetune.preflight import disk_faults
from medqa_finetune.runtime import settle_before_torch

# Maximum number of examples to tokenize; of more, every n-th. Mean lengths are then within about 2 %.
SAMPLE = 2000
# Number of sampled optimizer steps from which the largest step is estimated.
STEPS_DRAWN = 1000
# An encoded token is an int32.
TOKEN_BYTES = 4


@dataclasses.dataclass(frozen=True)
class WorkloadRequest:
    """The cells whose work is to be counted.

    Attributes:
        cells: Their settings.
        cache: Folder of prepared data to read or fill.
        random_models: Models without weights, each with a folder for a random model of the same architecture.
        gpu: Short name of the card to plan for (`model/cards.py`); None for this machine.
        gpus: GPUs of each cell, one process on each.
    """

    cells: list[Config]
    cache: str
    random_models: list[tuple[ModelConfig, str]] = dataclasses.field(default_factory=list)
    gpu: str | None = None
    gpus: int = 1


def measure_workload(request: WorkloadRequest) -> Workload:
    """Write the requested random models, and count the work of the cells.

    Raises:
        MedQAError: a cell cannot run.
    """
    settle_before_torch()
    _write_random_models(request)
    if request.gpu is not None:
        return workload_on_card(request.cells, Path(request.cache), request.gpu, request.gpus)
    return workload_of(request.cells, Path(request.cache), request.gpus)


def workload_on_card(cells: Sequence[Config], cache: Path, gpu: str, gpus: int = 1) -> Workload:
    """Count the work of cells for a card that is not here, or several for each; their disk is not known.

    Raises:
        MedQAError: a cell cannot run.
    """
    card = CARDS[gpu]
    machine = Machine("cuda", card.title, card.memory_bytes, card.precisions[0], gpus)
    batches = resolve_matrix(cells, _sizes(cells), machine, on_disk=False)
    cells = _with_batches(cells, batches)
    work = [count_work(config, cache, machine, card) for config in cells]
    rates = {each.precision: card.product_flops(precision_of(each, machine)) for each in cells}
    return Workload(machine, rates, card.bytes_per_second, work, [], batches, gpu)


def _sizes(cells: Sequence[Config]) -> list[ModelSize | None]:
    return [size_of(locate_architecture(config.model)) for config in cells]


def _with_batches(cells: Sequence[Config], batches: Sequence[Resolved]) -> list[Config]:
    return [dataclasses.replace(config, train=each.train) for config, each in zip(cells, batches, strict=True)]


def precision_of(config: Config, machine: Machine) -> Precision:
    """Return the precision that a cell computes in on a machine."""
    return machine.precision if config.precision == "auto" else cast(Precision, config.precision)


def workload_of(cells: Sequence[Config], cache: Path, gpus: int = 1) -> Workload:
    """Count the work of cells, and measure the machine's rates.

    Raises:
        MedQAError: a cell cannot run.
    """
    from medqa_finetune.model.load import choose_device, set_threads
    from medqa_finetune.model.probe import find_machine
    from medqa_finetune.model.rates import measure_copy_rate, measure_matrix_rate

    set_threads(cells[0].threads if cells else None)
    machine = dataclasses.replace(find_machine(), processes=gpus)
    precisions = {config.precision: choose_device(config.precision).precision for config in cells}
    batches = resolve_matrix(cells, _sizes(cells), machine)
    cells = _with_batches(cells, batches)
    facts = [count_work(config, cache, machine) for config in cells]
    # The files of a run count once, however many cells evaluate it.
    runs = {config.run_path if config.run_name else place: config for place, config in enumerate(cells)}
    sizes = [(config, size_of(locate_architecture(config.model))) for config in runs.values()]
    return Workload(
        machine,
        {name: measure_matrix_rate(machine.type, precision) for name, precision in precisions.items()},
        measure_copy_rate(machine.type),
        facts,
        list(disk_faults(sizes, cuda=machine.type == "cuda")),
        batches,
    )


def count_work(config: Config, cache: Path, machine: Machine, card: Card | None = None) -> CellWorkload:
    """Count the FLOPs, tokens, memory and disk of one cell on its real data; for a card by kind of operator as well.

    Raises:
        MedQAError: its model or its data cannot be used.
    """
    from medqa_finetune.model.kernels import check_kernels
    from medqa_finetune.model.load import load_tokenizer
    from medqa_finetune.model.probe import check_blocks

    folder = locate_architecture(config.model)
    trains = method_of(config.method).trains_weights
    if trains:
        check_kernels(config.train.kernels, folder, machine.type)
    if not isinstance(config.fp32_blocks, str):
        check_blocks(folder, config.fp32_blocks)
    size = size_of(folder)
    train, evaluate = resolve_auto(config, size, machine), resolve_answering(config, size, machine)
    config = dataclasses.replace(config, train=train, evaluate=evaluate)
    task = task_of(config)
    before = resident_bytes()
    splits = task.prepare(config, folder, cache)
    # The cell that prepares a corpus keeps that memory, as this process does; later cells do not.
    left = max(0, resident_bytes() - before)
    tokenizer = load_tokenizer(folder, config.model.chat_template, chat=config.chats)
    encoder = task.encoder(tokenizer, config, splits.manifest.counts)
    parts = (splits.train, splits.validation)
    samples, numbers = [_sample(encoder, part) for part in parts], list(map(len, parts))
    training = _training_work(config, size, samples, numbers)
    tokenized = sum(each.work(number).tokens for each, number in zip(samples, numbers, strict=True)) if trains else 0
    processes, steps = machine.processes, training["steps"]
    heaviest, tokens = heaviest_step(samples[0], config, steps, processes) if trains else ([], 0)
    passes = passes_of_a_step(train, training["train_tokens"] / steps, processes) if trains else 0
    tested = _sample(encoder, splits.test[: config.evaluate.max_samples])
    questions = min(len(splits.test), config.evaluate.max_samples or len(splits.test))
    evaluation = (_generation_work if task.generates else _likelihood_work)(config, size, tested, questions)
    set_bytes = tokenized * TOKEN_BYTES + left if machine.type == "cpu" else 0
    process = PROCESS_BYTES + set_bytes if machine.type == "cpu" else 0
    held = training_memory(size, config, machine, tokens).total + process if trains else 0
    answered = answering_memory(size, config, machine)
    found = CellWorkload(
        **training,
        **evaluation,
        decode_bytes=answered.weights,  # every decoding step reads all weights
        layers=size.layers,
        memory_bytes=max(held, answered.total + process),
        training_bytes=held,
        set_bytes=set_bytes,
        disk_bytes=run_bytes(size, config, cuda=machine.type == "cuda"),
        heaviest=heaviest,
        examples_cut=samples[0].cut if trains else 0.0,
        questions_cut=tested.cut,
        exchanged_bytes=exchanged_bytes(size, config, passes, processes) if trains else 0,
    )
    if card is None:
        return found
    return with_operations(found, size, config, PlannedCard(card, processes), [*samples, tested])


@functools.cache
def size_of(folder: Path) -> ModelSize:
    """Return a model's size from its weights, or from `config.json` alone; cached per folder.

    Raises:
        ModelError: its token embedding cannot be found.
    """
    from medqa_finetune.model.probe import architecture_size

    size = read_size(folder) if has_weights(folder) else architecture_size(folder)
    if size is None:
        problem = "no weight of config.json's vocab_size rows is found; its cost cannot be planned"
        raise ModelError(Fault("layer-sizes-unknown", problem, file=str(folder)))
    return size


def _sample(encoder: Any, pairs: Sequence[Any]) -> TokenCounts:
    places = sorted({round(place) for place in np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs)))})
    encoded = list(encoder.encode([pairs[place] for place in places]))
    return TokenCounts(
        [len(item.input_ids) for item in encoded],
        [item.answer_tokens for item in encoded],
        [len(item.input_ids) - item.answer_start for item in encoded],
        places,
        sum(item.cut for item in encoded) / max(1, len(encoded)),
    )


class _TrainingWork(TypedDict):
    steps: int
    train_pairs: int
    train_tokens: int
    train_flops: float
    validation_tokens: int
    validation_flops: float
    forward_share: float
    validations: int
    validation_samples: int


def _training_work(config: Config, size: ModelSize, samples: list[TokenCounts], numbers: list[int]) -> _TrainingWork:
    method = model_method(config.method)
    if not method.trains_weights:
        return {
            "steps": 0,
            "train_pairs": 0,
            "train_tokens": 0,
            "train_flops": 0.0,
            "validation_tokens": 0,
            "validation_flops": 0.0,
            "forward_share": 1.0,
            "validations": 0,
            "validation_samples": 0,
        }
    train = config.train
    steps = total_steps(numbers[0], train)
    seen = min(steps * train.batch_size, round(numbers[0] * train.epochs))
    work = samples[0].work(seen)
    found = validations_of(train, *numbers)
    times = len(validation_steps(steps, with_validations(train, found)))
    validated = samples[1].work(times * found.samples)
    forward, whole = method.forward_flops(size), method.training_flops(size)
    again = work.flops(dataclasses.replace(forward, per_answer_token=0)) if train.gradient_checkpointing else 0
    return {
        "steps": steps,
        "train_pairs": numbers[0],
        "train_tokens": work.tokens,
        "train_flops": float(work.flops(whole) + again),
        "validation_tokens": validated.tokens,
        "validation_flops": float(validated.flops(forward)),
        "forward_share": work.flops(forward) / (work.flops(whole) + again),
        "validations": times,
        "validation_samples": found.samples,
    }


def heaviest_step(sample: TokenCounts, config: Config, steps: int, processes: int = 1) -> tuple[list[int], int]:
    """Return the examples of the step that holds the most tokens out of `steps`, and that number of tokens.

    Steps are sampled at random, as in training. Held are the tokens of one pass, of one of the processes.
    """
    from medqa_finetune.training.batches import group_by_length, pack, share_out

    train = config.train
    draws = np.random.default_rng(config.seed)
    pairs = min(train.batch_size, len(sample.lengths))
    best: tuple[int, list[int]] = (0, [])
    for _ in range(min(steps, STEPS_DRAWN)):
        drawn = draws.choice(len(sample.lengths), pairs, replace=False).tolist()
        whole = [sample.lengths[place] for place in drawn]
        held = 0
        for share in share_out(whole, processes) if processes > 1 else [range(len(whole))]:
            lengths = [whole[place] for place in share]
            if train.packing:
                packs = pack(lengths, train.micro_batch * train.max_length)
                held = max(held, *(sum(lengths[i] for i in part) for part in packs))
            else:
                groups = group_by_length(lengths, train.micro_batch)
                held = max(held, *(len(part) * max(lengths[i] for i in part) for part in groups))
        if held > best[0]:
            best = (held, [sample.places[place] for place in drawn])
    return best[1], best[0]


class _EvaluationWork(TypedDict):
    questions: int
    prompt_tokens: int
    answer_tokens: int
    prompt_flops: float
    decode_steps: int
    decode_flops: float


def _likelihood_work(config: Config, size: ModelSize, sample: TokenCounts, blocks: int) -> _EvaluationWork:
    """Return the work of measuring perplexity on `blocks` blocks: one forward pass each."""
    work = sample.work(blocks)
    return {
        "questions": blocks,
        "prompt_tokens": work.tokens,
        "answer_tokens": 0,
        "prompt_flops": float(work.flops(model_method(config.method).forward_flops(size))),
        "decode_steps": 0,
        "decode_flops": 0.0,
    }


def _generation_work(config: Config, size: ModelSize, sample: TokenCounts, questions: int) -> _EvaluationWork:
    """Return the work of generating `questions` predictions, and of the perplexity of their references."""
    last = dataclasses.replace(sample, labelled=sample.answers)
    work, limit = last.work(questions), config.evaluate.max_new_tokens
    times = questions / len(sample.answers)
    answers = [min(answer, limit) for answer in sample.answers]
    forward = model_method(config.method).forward_flops(size)
    prompts = work.tokens - work.answer_tokens
    room = config.evaluate.batch_tokens // (prompts // questions + limit)
    rows = min(config.evaluate.batch_size, max(1, room))
    # A batch ends with its longest prediction.
    longest = [max(answers[begin : begin + rows]) for begin in range(0, len(answers), rows)]
    read = work.flops(forward)
    decoded = round(sum(answers) * times)
    return {
        "questions": questions,
        "prompt_tokens": prompts,
        "answer_tokens": decoded,
        "prompt_flops": float(read + prompts * forward.per_token),
        "decode_steps": round(sum(longest) * times),
        "decode_flops": float(decoded * (forward.per_token + forward.per_answer_token)),
    }


def _write_random_models(request: WorkloadRequest) -> None:
    from medqa_finetune.model.load import choose_device
    from medqa_finetune.model.probe import write_random_model

    for model, target in request.random_models:
        precision = next(config.precision for config in request.cells if config.model == model)
        write_random_model(locate_architecture(model), Path(target), choose_device(precision).precision)
