"""One experiment, from configuration to record, every stage in order."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from medqa_finetune.collector import collector_paused
from medqa_finetune.config.schema import Config
from medqa_finetune.data.prepare import CACHE_NAME, Splits
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation import backends
from medqa_finetune.evaluation.exams import check_exams, hold_exams, prepare_text
from medqa_finetune.extras import check_extras
from medqa_finetune.lifecycle import (
    begin,
    check_folder,
    fingerprints_of,
    recording_failure,
    trained_before,
    warn_of_damage,
)
from medqa_finetune.log import log_to
from medqa_finetune.model import kernels
from medqa_finetune.model.locate import locate_model
from medqa_finetune.preflight import preflight_run
from medqa_finetune.record.files import write_bytes
from medqa_finetune.record.run_dir import RunDir, now
from medqa_finetune.record.schema import EvaluationRecord, Record
from medqa_finetune.stopping import StopRequest
from medqa_finetune.tasks import task_of

log = logging.getLogger(__name__)


def run_experiment(config: Config) -> Record:
    """Run one experiment to its end, or return its record where that has been done before.

    Raises:
        MedQAError: bad input (nothing is written then), or the run failed (the record says why).
    """
    model_folder = locate_model(config.model)
    fingerprints = fingerprints_of(config, model_folder)
    run = RunDir(config.run_path)
    earlier = check_folder(run, config, fingerprints)
    if earlier is not None and earlier.status == "done":
        log.info("%s: done before, nothing to do", run.path)
        warn_of_damage(run, earlier)
        return earlier
    run.check_free()
    check_extras(config)
    # Before the folder is touched: what cannot be done leaves no failed run behind.
    splits = task_of(config).prepare(config, model_folder, Path(config.outputs) / CACHE_NAME)
    preflight_run(config, splits.manifest.counts)
    check_exams(config)
    try:
        with run.lock():
            record = begin(run, config, fingerprints)
            if record.status == "done":
                return record  # another process has finished it meanwhile
            with log_to(run.log_path), recording_failure(run) as stop:
                if not config.method.loads_model:
                    return _look_up(run, config, splits)
                return _run_stages(run, config, model_folder, splits, stop)
    except OSError as error:
        raise ConfigError(f"outputs={config.outputs}: cannot be written ({error}).") from None


def _run_stages(run: RunDir, config: Config, model_folder: Path, splits: Splits[Any], stop: StopRequest) -> Record:
    # Imported here, so that bad input is refused before torch is loaded.
    with collector_paused():
        from medqa_finetune.model.allocator import keep_freed_memory
        from medqa_finetune.model.load import choose_device, load_model, set_threads
        from medqa_finetune.model.methods import for_inference, restore_trained
        from medqa_finetune.record.environment import describe_environment
        from medqa_finetune.training.checkpoints import Checkpoints
        from medqa_finetune.training.curves import draw_curves
        from medqa_finetune.training.fit import Keeping, fit
        from medqa_finetune.training.fitting import settle

    keep_freed_memory()
    set_threads(config.threads)
    device = choose_device(config.precision)
    record = run.update(environment=describe_environment(device.name, device.precision, _packages(config)))

    task = task_of(config)
    template = config.model.chat_template
    loaded = load_model(model_folder, config.method, device, config.seed, chat=config.chats, template=template)
    encoder = task.encoder(loaded.tokenizer, config)
    text = prepare_text(loaded.tokenizer, config)
    run.update(data_manifest=splits.manifest, parameters=loaded.parameters, layers=loaded.layers)

    if trained_before(run, record):
        restore_trained(loaded.model, run.adapter_path, config.method)
    elif config.method.trains != "nothing":
        config = settle(config, loaded, run)
        sets = task.training_sets(encoder, splits, config)
        trained = fit(loaded, sets, config, run, Keeping(Checkpoints(run.checkpoints_path, record.identity), stop))
        write_bytes(run.curves_path, draw_curves(run.read_metrics(), config.run_name))
        run.update(status="trained", train=trained, files=run.stamps("adapter"))

    model = for_inference(loaded.model, config.method)
    questions = splits.test[: config.evaluate.max_samples]
    # Before the answers, for which the model may be used up.
    hold_exams(model, loaded.tokenizer, text, config.evaluate, run)
    cost = task.examine(model, encoder, questions, config, run)
    return _finish(run, dataclasses.replace(task.score(questions, config, run), **cost))


def _packages(config: Config) -> tuple[str, ...]:
    return (*backends.packages_of(config.evaluate), *kernels.packages_of(config.train.kernels))


def _look_up(run: RunDir, config: Config, splits: Splits[Any]) -> Record:
    """Do all stages of a run that loads no model."""
    from medqa_finetune.evaluation.lookup import look_up_answers
    from medqa_finetune.record.environment import describe_environment

    run.update(environment=describe_environment("cpu", None), data_manifest=splits.manifest)
    questions = splits.test[: config.evaluate.max_samples]
    seconds = look_up_answers(splits.train, questions, run, config.threads)
    cost: dict[str, Any] = {"seconds": seconds, "samples_per_second": len(questions) / seconds}
    return _finish(run, dataclasses.replace(task_of(config).score(questions, config, run), **cost))


def _finish(run: RunDir, evaluation: EvaluationRecord) -> Record:
    run.write_results(evaluation)
    run.update(status="evaluated", evaluation=evaluation)
    return run.update(status="done", finished=now(), files=run.stamps())
