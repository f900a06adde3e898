"""A short run of one kind of cell, through every stage of a real one, in a process of its own: what it costs here."""

import dataclasses
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from medqa_finetune.config.schema import Config
from medqa_finetune.data.prepare import Splits
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.locate import locate_model
from medqa_finetune.objectives import task_of
from medqa_finetune.planning.cost_model import Measured
from medqa_finetune.preflight import preflight_run
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record, TrainRecord
from medqa_finetune.stopping import StopRequest

if TYPE_CHECKING:
    from medqa_finetune.model.load import LoadedModel

# Optimizer steps on usual pairs: as many as take this long, within these bounds.
STEPS_SECONDS = 15.0
FEWEST_STEPS, MOST_STEPS = 8, 60


@dataclasses.dataclass(frozen=True)
class Rehearsed:
    """What to rehearse.

    Attributes:
        config: Of the largest cell of its kind; `outputs` is a folder that is thrown away.
        cache: Folder of prepared data.
        heaviest: Training pairs of the step that holds the most at once, by place.
        forward_share: Arithmetic of a forward pass, as a share of that of a training step.
    """

    config: Config
    cache: str
    heaviest: list[int]
    forward_share: float


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        per_token: Seconds.
        encoding: Seconds per pair.
        growing: Seconds of all that took place and grows with the data, or that a cell does not do.
        peak_bytes: Most memory held meanwhile.
    """

    per_token: float = 0.0
    encoding: float = 0.0
    growing: float = 0.0
    peak_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Answered:
    """What examining came to: seconds of it alone, seconds of all else for every item, tokens generated or measured."""

    seconds: float
    around: float
    tokens: int


def rehearse(asked: Rehearsed) -> Measured:
    """Go through the stages of a cell, with few pairs.

    Raises:
        MedQAError: the cell would be refused, or fails.
    """
    began = psutil.Process().create_time()
    config = asked.config
    task, folder, template = task_of(config), locate_model(config.model), config.model.chat_template
    splits = task.prepare(config, folder, Path(asked.cache))
    preflight_run(config, splits.manifest.counts)
    from medqa_finetune.model.load import choose_device, load_model, set_threads
    from medqa_finetune.record.environment import describe_environment
    from medqa_finetune.training.auto_settings import settle
    from medqa_finetune.training.meters import peak_bytes

    set_threads(config.threads)
    device = choose_device(config.precision)
    run = _begin(config, "answered")
    run.update(environment=describe_environment(device.name, device.precision))
    loaded = load_model(folder, config.method, device, config.seed, chat=config.chats, template=template)
    method = model_method(config.method)
    if method.trains_weights:
        asked = dataclasses.replace(asked, config=settle(config, loaded, run))
    encoder = task.encoder(loaded.tokenizer, config)
    trained = _train(asked, loaded, encoder, splits) if method.trains_weights else Trained()
    questions = _spread(splits.test[: config.evaluate.max_samples], config.evaluate.batch_size)
    answered = _answer(config, loaded, encoder, questions, run)
    reading = trained.per_token * asked.forward_share
    answering = 0.0
    if task.generates:
        prompts = sum(map(len, encoder.prompts(questions)))
        answering = max(0.0, answered.seconds - reading * prompts) / answered.tokens
    else:
        reading = answered.seconds / answered.tokens
    return Measured(
        fixed_seconds=time.time() - began - answered.around - answered.seconds - trained.growing,
        encoding_seconds=trained.encoding,
        train_seconds=trained.per_token,
        prompt_seconds=reading,
        answer_seconds=answering,
        reference_seconds=answered.around / len(questions),
        answer_tokens=answered.tokens / len(questions) if task.generates else 0.0,
        memory_bytes=max(peak_bytes(device.type), trained.peak_bytes),
        training_bytes=trained.peak_bytes,
    )


def _answer(config: Config, loaded: "LoadedModel", encoder: Any, questions: Sequence[Any], run: RunDir) -> Answered:
    model = model_method(config.method).for_inference(loaded.model)
    started = time.perf_counter()
    folder = EvaluationDir(run.path, in_run=True)
    cost = task_of(config).predict(model, encoder, questions, config, folder)
    around = time.perf_counter() - started - cost["seconds"]
    task_of(config).score(questions, config, folder)
    return Answered(cost["seconds"], around, round(cost["seconds"] * cost["tokens_per_second"]))


def _begin(config: Config, name: str) -> RunDir:
    run = RunDir(Path(config.outputs) / name)
    run.path.mkdir(parents=True)
    method, data, model = config.method.name, config.data.name, config.model.title
    run.write(Record(name, "rehearsal", "running", method, data, model, config.seed, config={}))
    return run


def _spread(pairs: Sequence[Any], number: int) -> list[Any]:
    """Return so many pairs, evenly spread."""
    step = max(1, len(pairs) // number)
    return [pairs[place] for place in range(0, len(pairs), step)][:number]


def _train(asked: Rehearsed, loaded: "LoadedModel", encoder: Any, splits: Splits[Any]) -> Trained:
    """Train on the heaviest step over and over, which shows the peak, then on usual pairs, which shows the speed."""
    from medqa_finetune.training.curves import draw_curves
    from medqa_finetune.training.meters import peak_bytes

    config, train = asked.config, asked.config.train
    validated = _spread(splits.validation, train.batch_size)
    steps = max(train.validations, train.warmup_steps_unmetered + 2)
    run = _begin(config, "heaviest")
    heaviest = [splits.train[place] for place in asked.heaviest]
    first = _fit(run, _with_steps(config, steps), loaded, encoder, (heaviest, validated))
    draw_curves(run.read_metrics(), "rehearsal")
    peak = peak_bytes(loaded.device.type)
    gc.collect()
    started = time.perf_counter()
    wanted = min(MOST_STEPS, max(FEWEST_STEPS, STEPS_SECONDS * steps / first.seconds))
    steps = train.warmup_steps_unmetered + round(wanted)
    usual = _spread(splits.train, steps * train.batch_size)
    list(encoder.encode(usual))
    encoding = (time.perf_counter() - started) / len(usual)
    second = _fit(
        _begin(config, "usual"), _with_steps(config, steps, validations=1), loaded, encoder, (usual, validated[:1])
    )
    per_token = 1 / second.tokens_per_second if second.tokens_per_second else second.seconds / second.tokens
    peak = max(peak, peak_bytes(loaded.device.type))
    # The first training stands for what surrounds a cell's steps: its set-up, its validations, its checkpoints.
    tokens = train.validations * sum(len(item.input_ids) for item in encoder.encode(validated))
    validating = per_token * asked.forward_share * tokens
    return Trained(per_token, encoding, first.seconds + validating + time.perf_counter() - started, peak)


def _with_steps(config: Config, steps: int, **changes: Any) -> Config:
    train = dataclasses.replace(config.train, max_steps=steps, epochs=float(steps), **changes)
    return dataclasses.replace(config, train=train)


def _fit(
    run: RunDir, config: Config, loaded: "LoadedModel", encoder: Any, sets: tuple[list[Any], list[Any]]
) -> TrainRecord:
    from medqa_finetune.data.token_sets import EncodedSet
    from medqa_finetune.training.checkpoints import Checkpoints
    from medqa_finetune.training.fit import Keeping, TrainingSets, fit

    keeping = Keeping(Checkpoints(run.checkpoints_path, "rehearsal"), StopRequest())
    return fit(loaded, TrainingSets(*(EncodedSet(encoder.encode(part)) for part in sets)), config, run, keeping)
