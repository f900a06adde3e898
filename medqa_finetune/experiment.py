"""One experiment, from a checked cell to its record, every stage in order."""

import dataclasses
import logging
from functools import partial
from pathlib import Path

from medqa_finetune.cell import Cell
from medqa_finetune.config.schema import Config
from medqa_finetune.cores import usable_cores
from medqa_finetune.data.prepare import CACHE_NAME
from medqa_finetune.evaluation import backends
from medqa_finetune.evaluation.benchmarks import check_benchmarks
from medqa_finetune.evaluation.reuse import needs_model
from medqa_finetune.evaluation.without_model import predict_without_model
from medqa_finetune.methods.base import MethodWithoutModel
from medqa_finetune.methods.registry import method_of
from medqa_finetune.model import kernels
from medqa_finetune.objectives import task_of
from medqa_finetune.preflight import check_packages, check_processes, preflight_run
from medqa_finetune.progress import begin, shown
from medqa_finetune.record.environment import describe_environment
from medqa_finetune.record.schema import Record
from medqa_finetune.run_state.claim import claimed
from medqa_finetune.run_state.resume import (
    check_free,
    earlier_record,
    fetched,
    needs_training,
    warn_of_changed_files,
)
from medqa_finetune.runtime import collector_paused
from medqa_finetune.storage.keeper import store_finished

log = logging.getLogger(__name__)


@shown()
def run_experiment(cell: Cell) -> Record:  # noqa: C901, PLR0915 (every stage, top to bottom)
    """Train and evaluate one cell; return its record, also where all of that was done before.

    A complete training is reused, and only the missing part of the evaluation is done.

    Raises:
        MedQAError: bad input (nothing is written then), or the run failed (its records say why).
    """
    cell = fetched(cell)
    config, run, evaluation = cell.config, cell.run, cell.evaluation
    check_processes(config)
    task, method = task_of(config), method_of(config.method)

    # State left by earlier starts.
    found = earlier_record(cell)
    if found is not None and found.status == "done":
        log.info("%s, evaluation %s: done before, nothing to do", run.path, config.evaluation_name)
        warn_of_changed_files(cell)
        store_finished(config)
        return found
    check_free(cell)

    # Impossible settings are refused before the folder is changed and torch is loaded.
    check_packages(config)
    begin("preparing", detail=config.corpus.name)
    splits = task.prepare(config, cell.model, Path(config.outputs) / CACHE_NAME)
    questions = splits.test[: config.evaluate.max_samples]
    if needs_model(run, evaluation, cell.settings, task.ids(questions)) or config.overwrite:
        preflight_run(config, splits.manifest.counts)
        check_benchmarks(config)

    with claimed(cell) as claim:
        if claim.is_done():
            return claim.cell_record()  # another process has finished it in the meantime
        training = needs_training(run, claim.record)
        if training:
            claim.begin_training()
        else:
            claim.begin_evaluation()
            if claim.reuse_all(task.ids(questions)):
                return claim.finish(task.score(questions, config, evaluation))

        if isinstance(method, MethodWithoutModel):
            environment = describe_environment("cpu", None, command=cell.command)
            if training:
                claim.end_training(None, environment=environment, data_manifest=splits.manifest)
            claim.begin_predictions(environment, task.ids(questions))
            cost = predict_without_model(method, splits.train, questions, evaluation, config.threads or usable_cores())
            return claim.finish(dataclasses.replace(task.score(questions, config, evaluation), **cost))

        begin("loading", detail=config.model.title)
        with collector_paused():
            from medqa_finetune.evaluation.batch_size import settle_batches
            from medqa_finetune.evaluation.benchmarks import prepare_text, run_benchmarks
            from medqa_finetune.model.answering import answering_model
            from medqa_finetune.model.fp32_blocks import names_in_fp32
            from medqa_finetune.model.load import choose_device, load_model, set_threads
            from medqa_finetune.runtime import keep_freed_memory
            from medqa_finetune.training.auto_settings import settle, settle_validations
            from medqa_finetune.training.checkpoints import Checkpoints
            from medqa_finetune.training.curves import write_curves
            from medqa_finetune.training.fit import Keeping, fit
            from medqa_finetune.training.fp16_probe import settle_fp32_blocks
            from medqa_finetune.training.group import Group, start

        # The base model, and how its data is encoded.
        keep_freed_memory()
        group = start(claim.lose) if training and method.trains_weights else Group()
        group.share((config, cell.model))
        set_threads(config.threads, claim.begun_on, group.size)
        device = choose_device(config.precision, group.size)
        environment = describe_environment(device.name, device.precision, _packages(config), cell.command)
        template = config.model.chat_template
        loaded = load_model(cell.model, config.method, device, config.seed, chat=config.chats, template=template)
        encoder = task.encoder(loaded.tokenizer, config, splits.manifest.counts)
        task.prepare_model(loaded.model, encoder, config.evaluate)
        text = prepare_text(loaded.tokenizer, config, cell.fingerprints.text)
        settle_fp32_blocks(config, loaded, partial(task.sample, encoder, splits), run, keep=training)

        # Training, or loading the trained weights.
        if training:
            known = {"environment": environment, "data_manifest": splits.manifest, "layers": loaded.layers}
            record = claim.update_run(parameters=loaded.parameters, **known)
            trained = record.train
            if method.trains_weights:
                config = settle(config, loaded, run)
                begin("tokenizing", detail=f"{len(splits.train):,}")
                sets = task.training_sets(encoder, splits, config)
                config = settle_validations(config, sets, run)
                checkpoints = Checkpoints(run.checkpoints_path, record.identity, claim.store_soon)
                keeping = Keeping(checkpoints, claim.stop, claim.trackers, group)
                group.share((config, names_in_fp32(loaded.model), record.identity))
                trained = fit(loaded, sets, config, run, keeping)
                write_curves(run.read_metrics(), config.run_name, run.curves_paths)
            claim.end_training(trained)
        elif method.trains_weights:
            method.restore(loaded.model, run.adapter_path)

        # Benchmarks come before predictions: predicting may modify the model in place.
        claim.begin_predictions(environment, task.ids(questions))
        model = answering_model(loaded.model, config.method, device)
        config = dataclasses.replace(config, evaluate=settle_batches(config.evaluate, model, loaded.size, evaluation))
        run_benchmarks(model, loaded.tokenizer, text, config.evaluate, evaluation)
        cost = task.predict(model, encoder, questions, config, evaluation)
        begin("scoring")
        return claim.finish(dataclasses.replace(task.score(questions, config, evaluation), **cost))


def _packages(config: Config) -> tuple[str, ...]:
    return (*backends.packages_of(config.evaluate), *kernels.packages_of(config.train.kernels))
