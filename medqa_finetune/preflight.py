"""Checks before a run starts: optional packages, its model, the machine and the disk. Nothing is written here.

A launcher checks the model and the machine in a child process, so that it need not load torch itself.
"""

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from medqa_finetune.architecture.size import ModelSize, read_size
from medqa_finetune.child_process import NoReplyError, call
from medqa_finetune.config.evaluation_checks import graphs_need_gpu
from medqa_finetune.config.schema import NOT_SHARDED, Config
from medqa_finetune.errors import ConfigError, Fault, RunError, noting
from medqa_finetune.evaluation import backends, lm_eval_tasks
from medqa_finetune.memory import GIB, in_units
from medqa_finetune.methods.registry import method_of, sharding_faults
from medqa_finetune.model import kernels
from medqa_finetune.model.auto_matrix import resolve_matrix
from medqa_finetune.model.estimate import FP32, Machine, Memory, checkpoint_bytes, run_bytes, training_memory
from medqa_finetune.model.locate import locate_model
from medqa_finetune.model.requirements import Counts, Need, distinct_needs
from medqa_finetune.ranks import SIZE, WITHOUT, this_place, training_processes
from medqa_finetune.record.files import existing_part
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.runtime import collector_paused, settle_before_torch

log = logging.getLogger(__name__)

# Loading torch from a slow network disk takes minutes.
CHECK_SECONDS = 600
CELL_KEY = "hydra.launcher.gpus_per_cell"


class Findings(NamedTuple):
    """Result of the checks: the machine, None where it cannot be used, and every fault."""

    machine: Machine | None
    faults: list[Fault]


def check_processes(config: Config, planned: int | None = None, planned_key: str = CELL_KEY) -> None:
    """Refuse settings that several processes cannot train together, or one alone not.

    Args:
        config: Settings of a cell.
        planned: Number of processes; None for those that train it now.
        planned_key: The setting that gives this number.

    Raises:
        ConfigError: the method trains nothing, a step has fewer examples than there are processes, or a single process
            has nobody to divide the weights with.
    """
    size, batch = planned or training_processes(), config.train.batch_size
    trains = method_of(config.method).trains_weights
    if size == 1:
        if trains and config.train.sharding != NOT_SHARDED:
            problem = "divides the weights over several processes, and one alone trains this cell"
            hint = f"Leave it out, start torchrun --nproc_per_node=N, or give {CELL_KEY}=N on a machine with N GPUs."
            got, allowed = config.train.sharding, (NOT_SHARDED,)
            raise ConfigError(Fault("no-effect", problem, key="train.sharding", got=got, allowed=allowed, hint=hint))
        return
    key = SIZE if planned is None and this_place().size > 1 else planned_key
    if not trains:
        # The launcher's own processes are started for training alone.
        if key == SIZE:
            problem = f"method={config.method.name} trains nothing that processes could share"
            raise ConfigError(Fault("no-effect", problem, key=key, got=size, hint=WITHOUT))
    elif size > batch:
        problem = f"must be at most train.batch_size={batch}: each process trains on a part of every step"
        raise ConfigError(Fault("out-of-range", problem, key=key, got=size))


def check_packages(config: Config) -> None:
    """Refuse a run whose settings need an optional package that is not installed; loads neither torch nor data.

    Raises:
        ConfigError: names every missing package.
    """
    faults: list[Fault] = []
    # Methods without a model need none of these, so that a sweep may include such a baseline.
    method = method_of(config.method)
    if method.loads_model:
        with noting(faults):
            backends.check_installed(config.evaluate)
        with noting(faults):
            lm_eval_tasks.check_installed(config.evaluate)
        with noting(faults):
            kernels.check_installed(config.train.kernels if method.trains_weights else "torch")
    faults += tracker_faults(config)
    if faults:
        raise ConfigError(*faults)


def tracker_faults(config: Config) -> Iterator[Fault]:
    """Yield a fault for every tracker that is not installed."""
    for name in dict.fromkeys(config.tracker.report_to):
        if find_spec(name) is None:
            hint = f"Run `pip install 'medqa_finetune[{name}]'`."
            yield Fault("not-installed", f"{name} is not installed", key="tracker.report_to", got=[name], hint=hint)


def preflight_matrix(configs: Sequence[Config], counts: Sequence[Counts] = (), *, here: bool = True) -> None:
    """Check all runs of a matrix before they start, in a child process that ends first.

    Args:
        configs: The runs.
        counts: Counts of the prepared data of each run; empty where they are not known.
        here: Whether they run on this machine; its GPU does not matter otherwise.

    Raises:
        ConfigError: with every fault of every run; shared faults are listed once.
    """
    if configs:
        _preflight(configs, counts or [{}] * len(configs), check_needs_in_child if here else check_files_in_child)


def preflight_run(config: Config, counts: Counts | None = None) -> None:
    """Check one run before it starts, in this process.

    Raises:
        ConfigError: with every fault.
    """
    _preflight([config], [counts or {}], check_needs)


def _preflight(
    configs: Sequence[Config], counts: Sequence[Counts], check: Callable[[Sequence[Need]], Findings]
) -> None:
    # Methods without a model need neither torch nor much disk.
    heavy = [
        (config, count) for config, count in zip(configs, counts, strict=True) if method_of(config.method).loads_model
    ]
    if not heavy:
        return
    configs, counts = zip(*heavy, strict=True)
    folders = {config.model: locate_model(config.model) for config in configs}
    sizes = {model: read_size(folder) for model, folder in folders.items()}
    machine, faults = check(distinct_needs(configs, counts, folders))
    cuda = machine is not None and machine.type == "cuda"
    trainings = [(config, sizes[config.model]) for config in _trainings(configs)]
    faults = [*faults, *disk_faults(trainings, cuda=cuda), *expert_faults(trainings)]
    if machine is not None:
        faults += precision_faults(configs, machine)
        if machine.type != "cuda" and any(config.evaluate.cuda_graphs for config in configs):
            faults.append(graphs_need_gpu(machine.type))
    if faults:
        raise ConfigError(*faults)
    if machine is not None:
        warn_about_memory([pair for pair in trainings if not _is_trained(pair[0])], machine)


def _trainings(configs: Sequence[Config]) -> list[Config]:
    """Return the settings of one cell per training, since several cells may evaluate the same training."""
    named = {config.run_path: config for config in configs if config.run_name}
    return [*named.values(), *(config for config in configs if not config.run_name)]


def _is_trained(config: Config) -> bool:
    record = None if config.overwrite else RunDir(config.run_path).read()
    return record is not None and record.is_trained


def check_needs(needs: Sequence[Need]) -> Findings:
    """Load torch in this process, and try the tokenizers, methods and device that the runs will use."""
    settle_before_torch()
    # Imported here, so that this file stays quick to import for a launcher.
    with collector_paused():
        from medqa_finetune.model.probe import probe

    faults: list[Fault] = []
    machine: Machine | None = None
    with noting(faults):
        machine = probe(
            sorted({need.precision for need in needs}), sorted({need.method.quantization for need in needs})
        )
    faults += _file_faults(needs, machine)
    served = [need for need in needs if need.backend == "vllm"]
    if served and machine is not None and not faults:
        from medqa_finetune.evaluation.vllm_backend import serving_faults

        faults += serving_faults(served, machine.precision)
    return Findings(machine, faults)


def check_files(needs: Sequence[Need]) -> Findings:
    """Load torch in this process, and try the tokenizers and methods that the runs will use, on any machine."""
    settle_before_torch()
    return Findings(None, _file_faults(needs, None))


def _file_faults(needs: Sequence[Need], machine: Machine | None) -> list[Fault]:
    """Return the faults of tokenizers and methods, and of kernels where the machine is known."""
    with collector_paused():
        from medqa_finetune.data.encode import Encoder
        from medqa_finetune.model.kernels import check_kernels
        from medqa_finetune.model.probe import check_blocks, check_method, check_model

    faults: list[Fault] = []
    tokenizers: dict[tuple[str, bool, str | None], Any] = {}
    for folder, chats, template in {(need.folder, need.chats, need.template): None for need in needs}:
        with noting(faults):
            tokenizers[folder, chats, template] = check_model(Path(folder), template, chat=chats)
    for need in needs:
        if machine is not None:
            with noting(faults):
                check_kernels(need.kernels, Path(need.folder), machine.type)
        tokenizer = tokenizers.get((need.folder, need.chats, need.template))
        if tokenizer is not None:
            with noting(faults):
                if need.chats:
                    encoder = Encoder(tokenizer, need.max_length, need.form)
                    encoder.check_dialogues(
                        system="system" in need.extra_fields, history="history" in need.extra_fields
                    )
            with noting(faults):
                check_method(Path(need.folder), need.method)
            with noting(faults):
                check_blocks(Path(need.folder), need.fp32_blocks)
    return faults


def check_needs_in_child(needs: Sequence[Need]) -> Findings:
    """Run `check_needs` in a child process, which frees its memory and its GPU context when it ends."""
    return _in_child(check_needs, needs)


def check_files_in_child(needs: Sequence[Need]) -> Findings:
    """Run `check_files` in a child process."""
    return _in_child(check_files, needs)


def _in_child(check: Callable[[Sequence[Need]], Findings], needs: Sequence[Need]) -> Findings:
    try:
        return call(check, needs, timeout=CHECK_SECONDS, quiet=True)
    except RunError as error:
        problem, hint = f"this machine cannot be checked: {error.faults[0].problem}", ""
    except NoReplyError as error:
        said = error.last_line[:300] or "it printed nothing"
        problem = f"this machine cannot be checked: the process that tries it {error.problem} ({said})"
        hint = "A GPU may hang; nvidia-smi shows it." if error.timed_out else ""
    return Findings(None, [Fault("not-checked", problem, hint=hint)])


def precision_faults(configs: Iterable[Config], machine: Machine) -> Iterator[Fault]:
    """Yield a fault for every run that would be resumed in another precision than it was started in.

    And for one with blocks named for fp32 where everything is: it would be named after what changes nothing.
    """
    for config in configs:
        if config.precision == "auto" and machine.precision == "fp32" and not isinstance(config.fp32_blocks, str):
            problem = f"all of the model computes in fp32 on {machine.name}"
            yield Fault("conflict", problem, key="fp32_blocks", got=config.fp32_blocks, allowed=("auto", "none"))
        run = RunDir(config.run_path)
        record = None if config.overwrite or config.precision != "auto" else run.read()
        # Trained weights may be evaluated in another precision, which is recorded with the evaluation.
        environment = record.environment if record is not None and not record.is_trained else None
        kept = run.checkpoints_path.exists()
        if environment is not None and environment.precision not in (None, machine.precision) and kept:
            problem = (
                f"is {machine.precision} here, but the run was started in {environment.precision} on "
                f"{environment.device}; resuming would mix results"
            )
            hint = "Resume it where it was started, or give overwrite=true, which moves it aside and starts anew."
            yield Fault("precision-changed", problem, key="precision", got="auto", hint=hint, file=str(run.path))


def expert_faults(runs: Iterable[tuple[Config, ModelSize | None]]) -> Iterator[Fault]:
    """Yield a fault where several processes are to divide a mixture of experts."""
    for config, size in runs:
        if size is not None and size.experts and config.train.sharding != NOT_SHARDED:
            problem = f"a mixture of experts, as {config.model.title} is, has not been run with divided weights"
            got, allowed = config.train.sharding, (NOT_SHARDED,)
            yield Fault("not-supported", problem, key="train.sharding", got=got, allowed=allowed)
            return


def disk_faults(runs: Iterable[tuple[Config, ModelSize | None]], *, cuda: bool) -> Iterator[Fault]:
    """Yield a fault for every disk on which the runs will not fit."""
    by_disk: dict[int, list[tuple[Config, ModelSize]]] = {}
    for config, size in runs:
        if size is not None:
            by_disk.setdefault(disk_of(config.run_path), []).append((config, size))
    for there in by_disk.values():
        config = there[0][0]
        free = shutil.disk_usage(existing_part(config.run_path)).free
        needed = sum(max(0, run_bytes(size, each, cuda=cuda) - _bytes_there(each)) for each, size in there)
        # One more checkpoint is on disk while it is being written.
        needed += max(checkpoint_bytes(size, each.method, cuda=cuda) for each, size in there)
        # So are exported fp32 weights, while vLLM generates with them.
        needed += max(size.parameters * FP32 if each.evaluate.backend == "vllm" else 0 for each, size in there)
        if needed > free:
            runs_there = f"{len(there)} run{'s' * (len(there) > 1)}"
            problem = f"{runs_there} may need {in_units(needed)}, mostly for checkpoints; {in_units(free)} are free"
            hint = "Make room, or give outputs=DIR on another disk."
            yield Fault("disk-full", problem, key="outputs", got=config.outputs, hint=hint)


def disk_of(path: Path) -> int:
    """Return the device number of the disk that has, or will have, a path."""
    return existing_part(path).stat().st_dev


def _bytes_there(config: Config) -> int:
    """Return the bytes that an earlier start has on disk; 0 with `overwrite`, since moving them aside frees nothing."""
    if config.overwrite:
        return 0
    found = 0
    for path in config.run_path.rglob("*"):
        with contextlib.suppress(OSError):  # deleted in the meantime
            found += path.stat().st_size if path.is_file() else 0
    return found


def warn_about_memory(runs: Iterable[tuple[Config, ModelSize | None]], machine: Machine) -> None:
    """Warn, once per method and model, where training may need more memory than the machine has."""
    known = [(config, size) for config, size in runs if size is not None and method_of(config.method).trains_weights]
    batches = resolve_matrix([config for config, _ in known], [size for _, size in known], machine)
    dearest: dict[tuple[str, str], tuple[Config, Memory]] = {}
    for (asked, size), resolved in zip(known, batches, strict=True):
        config = dataclasses.replace(asked, train=resolved.train)
        memory = training_memory(size, config, machine)
        key = (config.method.name, config.model.title)
        if key not in dearest or dearest[key][1].total < memory.total:
            dearest[key] = (config, memory)
    for config, memory in dearest.values():
        if memory.total > machine.memory_bytes:
            log.warning("%s", memory_warning(config, memory, machine))


def memory_warning(config: Config, memory: Memory, machine: Machine) -> str:
    """Return how much memory training may need and for what, and what would reduce it."""
    parts = ", ".join(f"{name} {count / GIB:.1f}" for name, count in asdict(memory).items() if count >= GIB / 20)
    remedies = {
        "train.gradient_checkpointing=true": not config.train.gradient_checkpointing,
        "train.sharding=full": _could_divide(config, machine),
        "a smaller train.micro_batch (the effective batch stays)": config.train.micro_batch > 1,
        "method=qlora": config.method.quantization == "none",
        "a shorter train.max_length": True,
    }
    together = "" if machine.processes == 1 else f" Each of the {machine.processes} processes needs as much."
    return (
        f"method={config.method.name} with {config.model.title} may need {memory.total / GIB:.1f} GiB ({parts}) where "
        f"{config.train.micro_batch} pairs of train.max_length={config.train.max_length} come together; {machine.name} "
        f"has {machine.memory_bytes / GIB:.1f}. Less is needed with "
        f"{' or '.join(remedy for remedy, helps in remedies.items() if helps)}.{together}"
    )


def _could_divide(config: Config, machine: Machine) -> bool:
    """Return whether several processes have the whole model each, and could divide it."""
    several, undivided = machine.processes > 1, config.train.sharding == NOT_SHARDED
    return several and undivided and not sharding_faults(config.method)
