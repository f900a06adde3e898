"""Trial runs: short runs of cells through every stage, each in its own process, to measure costs on this machine."""

import dataclasses
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from medqa_finetune.config.schema import Config
from medqa_finetune.config.steps import validations_of
from medqa_finetune.data.prepare import Splits
from medqa_finetune.evaluation.without_model import BATCH, predict_without_model
from medqa_finetune.memory import peak_resident_bytes
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.registry import method_of, model_method
from medqa_finetune.model.locate import locate_model
from medqa_finetune.objectives import task_of
from medqa_finetune.planning.cost_model import OUTSIDE_SECONDS, Forecast, TrialCosts
from medqa_finetune.preflight import preflight_run
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record, TrainRecord
from medqa_finetune.stopping import StopRequest

if TYPE_CHECKING:
    from medqa_finetune.model.load import LoadedModel

Item = TypeVar("Item")

# Measured optimizer steps: as many as fit in this time, within these bounds.
STEPS_SECONDS = 15.0
FEWEST_STEPS, MOST_STEPS = 8, 60
# Disk space for log, record and scores.
SMALL_FILES_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class TrialRequest:
    """One kind of cell to measure.

    Attributes:
        config: Settings of the largest cell of its kind, with a temporary folder as `outputs`.
        cache: Folder of prepared data.
        heaviest: Indices of the training examples of the optimizer step that holds the most tokens.
        forward_share: FLOPs of a forward pass as a share of those of a training step.
    """

    config: Config
    cache: str
    heaviest: list[int]
    forward_share: float


@dataclasses.dataclass(frozen=True)
class TrainingCosts:
    """Measured costs of training.

    Attributes:
        per_token: Seconds per token.
        encoding: Seconds per example.
        growing: Total seconds of work that grows with the data, or that a cell does not do.
        peak_bytes: Peak memory.
    """

    per_token: float = 0.0
    encoding: float = 0.0
    growing: float = 0.0
    peak_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class EvaluationCosts:
    """Measured costs of evaluation: its seconds, the other seconds per item, and the tokens generated or measured."""

    seconds: float
    around: float
    tokens: int


def run_trial(request: TrialRequest) -> TrialCosts:
    """Run the stages of a cell on a few examples and measure their costs.

    Raises:
        MedQAError: the cell would be refused, or fails.
    """
    began = psutil.Process().create_time()
    config = request.config
    task, folder, template = task_of(config), locate_model(config.model), config.model.chat_template
    splits = task.prepare(config, folder, Path(request.cache))
    preflight_run(config, splits.manifest.counts)
    from medqa_finetune.model.load import choose_device, load_model, set_threads
    from medqa_finetune.record.environment import describe_environment
    from medqa_finetune.training.auto_settings import settle
    from medqa_finetune.training.meters import peak_bytes

    set_threads(config.threads)
    device = choose_device(config.precision)
    run = _begin(config, "evaluated")
    run.update(environment=describe_environment(device.name, device.precision))
    loaded = load_model(folder, config.method, device, config.seed, chat=config.chats, template=template)
    method = model_method(config.method)
    if method.trains_weights:
        request = dataclasses.replace(request, config=settle(config, loaded, run))
    encoder = task.encoder(loaded.tokenizer, config, splits.manifest.counts)
    trained = _train(request, loaded, encoder, splits) if method.trains_weights else TrainingCosts()
    questions = _spread(splits.test[: config.evaluate.max_samples], config.evaluate.batch_size)
    evaluated = _evaluate(config, loaded, encoder, questions, run)
    reading = trained.per_token * request.forward_share
    answering = 0.0
    if task.generates:
        prompts = sum(map(len, encoder.prompts(questions)))
        answering = max(0.0, evaluated.seconds - reading * prompts) / evaluated.tokens
    else:
        reading = evaluated.seconds / evaluated.tokens
    return TrialCosts(
        fixed_seconds=time.time() - began - evaluated.around - evaluated.seconds - trained.growing,
        encoding_seconds=trained.encoding,
        train_seconds=trained.per_token,
        prompt_seconds=reading,
        answer_seconds=answering,
        reference_seconds=evaluated.around / len(questions),
        answer_tokens=evaluated.tokens / len(questions) if task.generates else 0.0,
        memory_bytes=max(peak_bytes(device.type), trained.peak_bytes),
        training_bytes=trained.peak_bytes,
    )


def _evaluate(
    config: Config, loaded: "LoadedModel", encoder: Any, questions: Sequence[Any], run: RunDir
) -> EvaluationCosts:
    from medqa_finetune.evaluation.batch_size import settle_batches
    from medqa_finetune.model.answering import answering_model

    model = answering_model(loaded.model, config.method, loaded.device)
    config = dataclasses.replace(config, evaluate=settle_batches(config.evaluate, model, loaded.size))
    started = time.perf_counter()
    folder = EvaluationDir(run.path, in_run=True)
    cost = task_of(config).predict(model, encoder, questions, config, folder)
    around = time.perf_counter() - started - cost["seconds"]
    task_of(config).score(questions, config, folder)
    return EvaluationCosts(cost["seconds"], around, round(cost["seconds"] * cost["tokens_per_second"]))


def _begin(config: Config, name: str) -> RunDir:
    run = RunDir(Path(config.outputs) / name)
    run.path.mkdir(parents=True)
    method, data, model = config.method.name, config.data.name, config.model.title
    run.write(Record(name, "trial", "running", method, data, model, config.seed, config={}))
    return run


def _spread(items: Sequence[Item], number: int) -> list[Item]:
    """Return `number` evenly spaced items."""
    step = max(1, len(items) // number)
    return [items[place] for place in range(0, len(items), step)][:number]


def _train(request: TrialRequest, loaded: "LoadedModel", encoder: Any, splits: Splits[Any]) -> TrainingCosts:
    """Train on the heaviest step repeatedly to measure peak memory, then on typical examples to measure speed."""
    from medqa_finetune.training.curves import draw_curves
    from medqa_finetune.training.meters import peak_bytes

    config, train = request.config, request.config.train
    validated = _spread(splits.validation, train.batch_size)
    validations = validations_of(train, len(splits.train), len(splits.validation)).times
    steps = max(validations, train.warmup_steps_unmetered + 2)
    run = _begin(config, "heaviest")
    heaviest = [splits.train[place] for place in request.heaviest]
    whole: dict[str, Any] = {"validation_samples": None}
    first = _fit(
        run, _with_steps(config, steps, validations=validations, **whole), loaded, encoder, (heaviest, validated)
    )
    draw_curves(run.read_metrics(), "trial")
    peak = peak_bytes(loaded.device.type)
    gc.collect()
    started = time.perf_counter()
    wanted = min(MOST_STEPS, max(FEWEST_STEPS, STEPS_SECONDS * steps / first.seconds))
    steps = train.warmup_steps_unmetered + round(wanted)
    usual = _spread(splits.train, steps * train.batch_size)
    list(encoder.encode(usual))
    encoding = (time.perf_counter() - started) / len(usual)
    second = _fit(
        _begin(config, "usual"),
        _with_steps(config, steps, validations=1, **whole),
        loaded,
        encoder,
        (usual, validated[:1]),
    )
    per_token = 1 / second.tokens_per_second if second.tokens_per_second else second.seconds / second.tokens
    peak = max(peak, peak_bytes(loaded.device.type))
    # The first training measures the work around a cell's steps: set-up, validations, checkpoints.
    tokens = validations * sum(len(item.input_ids) for item in encoder.encode(validated))
    validating = per_token * request.forward_share * tokens
    return TrainingCosts(per_token, encoding, first.seconds + validating + time.perf_counter() - started, peak)


def _with_steps(config: Config, steps: int, **changes: Any) -> Config:
    train = dataclasses.replace(config.train, max_steps=steps, epochs=float(steps), **changes)
    return dataclasses.replace(config, train=train)


def _fit(
    run: RunDir, config: Config, loaded: "LoadedModel", encoder: Any, sets: tuple[list[Any], list[Any]]
) -> TrainRecord:
    from medqa_finetune.data.token_sets import EncodedSet
    from medqa_finetune.training.checkpoints import Checkpoints
    from medqa_finetune.training.fit import Keeping, TrainingSets, fit

    keeping = Keeping(Checkpoints(run.checkpoints_path, "trial"), StopRequest())
    return fit(loaded, TrainingSets(*(EncodedSet(encoder.encode(part)) for part in sets)), config, run, keeping)


@dataclasses.dataclass(frozen=True)
class TrialWithoutModelRequest:
    """A cell that loads no model, and a folder of prepared data."""

    config: Config
    cache: str


def run_trial_without_model(request: TrialWithoutModelRequest) -> Forecast:
    """Retrieve and score answers for up to a batch of questions, and estimate the cost of the cell.

    Raises:
        MedQAError: the corpus cannot be used.
    """
    began, config = psutil.Process().create_time(), request.config
    task, method = task_of(config), method_of(config.method)
    if isinstance(method, ModelMethod):
        raise TypeError(f"{config.method.name} loads a model")
    splits = task.prepare(config, Path(), Path(request.cache))
    questions = splits.test[: config.evaluate.max_samples]
    probed = questions[:BATCH]
    with tempfile.TemporaryDirectory(prefix=".lookup-", dir=request.cache) as folder:
        run = EvaluationDir(Path(folder))
        looking = predict_without_model(method, splits.train, probed, run, config.threads)["seconds"]
        task.score(probed, config, run)  # loads dictionaries, so that the timed call does not
        started = time.perf_counter()
        task.score(probed, config, run)
        scoring = time.perf_counter() - started
        written = sum(path.stat().st_size for path in (run.predictions_path, run.item_scores_path))
    share = len(questions) / len(probed)
    return Forecast(
        start=OUTSIDE_SECONDS + time.time() - began - looking - 2 * scoring,
        train=0.0,
        validate=0.0,
        answer=(looking + scoring) * share,
        memory_bytes=peak_resident_bytes(),
        training_bytes=0,
        disk_bytes=round(written * share) + SMALL_FILES_BYTES,
    )
