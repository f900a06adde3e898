"""Optimizer steps of a whole training by `training/fit.py`, recorded; runs in a process to which CUDA was lent.

Loader, copies, clipping, optimizer, scaler, schedule, meters and curves are those of a real training. Validation and
checkpoints, which write values to the disk, are not reached.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer
from torch.utils import _foreach_utils as many

from medqa_finetune.config.schema import Config, TrackerConfig, TrainConfig
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.model.load import Device, LoadedModel, load_tokenizer
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Parameters, Record
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training import fit as fitting
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.trainer import MeteredTrainer
from scripts.fake_cuda.record import Recorder, Trace, site
from scripts.fake_cuda.steps import TOKEN, Setting, Step, begin

TOKENIZER = Path(__file__).parents[2] / "medqa_finetune" / "model" / "tiny"
# Steps that are recorded: the first one has trials of its own, the second is as most, after the third the curve has a
# point.
STEPS, PLAIN, LOGGING = 3, 1, 2
# So many are planned, so that no validation is due.
PLANNED = 100


class _EnoughError(Exception):
    """Enough steps were recorded."""


def loop_step(setting: Setting) -> Step:
    """Return an optimizer step of a training, from its start to that of the next; it has two batches."""
    traces: list[Trace] = []
    passes: list[Trace] = []
    with ExitStack() as stack:
        stack.enter_context(_runtime())
        recorder, model = begin(setting, stack)
        weights = recorder.allocated
        stack.enter_context(_waiting(recorder))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        class Recorded(MeteredTrainer):
            """The trainer, whose steps are told apart."""

            def take_step(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
                if self.state.global_step:
                    traces.append(recorder.trace)
                if len(traces) == STEPS:
                    raise _EnoughError
                recorder.restart()
                loss = super().take_step(model, item)
                passes.append(Trace(recorder.trace.kernels.copy()))
                return loss

        stack.enter_context(patch.object(fitting, "MeteredTrainer", Recorded))
        stack.enter_context(suppress(_EnoughError))
        _fit(model, setting, folder)
    outside = traces[PLAIN].minus(passes[PLAIN])
    return Step(
        traces[PLAIN], traces[0], weights, logging=traces[LOGGING], outside_passes=(outside.launches, outside.bytes)
    )  # fmt: skip


def _fit(model: Any, setting: Setting, folder: Path) -> None:
    lengths = setting.lengths
    train = TrainConfig(
        batch_size=2 * len(lengths), micro_batch=len(lengths), max_length=max(lengths), max_steps=PLANNED,
        epochs=PLANNED, gradient_checkpointing=setting.checkpointing, packing=setting.packing, logging_steps=STEPS,
        validations=1, warmup_steps_unmetered=1,
    )  # fmt: skip
    config = Config(
        run_name="walk",
        precision=setting.precision,
        method=setting.method,
        train=train,
        tracker=TrackerConfig("none", []),
    )
    sets = EncodedSet(Encoded([TOKEN] * length, 1, cut=False) for length in (*lengths, *lengths) * (STEPS + 1))
    run = RunDir(folder)
    run.write(Record("walk", "walk", "running", setting.method.name, "made", "fake", 0, config={}))
    keeping = fitting.Keeping(Checkpoints(run.checkpoints_path, "walk"), StopRequest())
    loaded = LoadedModel(
        model, load_tokenizer(TOKENIZER), Device("cuda", "none", setting.precision), Parameters(0, 0), None
    )
    fitting.fit(loaded, fitting.TrainingSets(sets, sets), config, run, keeping)


@contextmanager
def _runtime() -> Iterator[None]:
    """Let torch, accelerate and transformers see a GPU."""
    values = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": "none",
        "memory_allocated": 0, "memory_reserved": 0, "max_memory_allocated": 0, "max_memory_reserved": 0,
        "reset_peak_memory_stats": None, "empty_cache": None, "manual_seed": None, "manual_seed_all": None,
        "set_device": None, "is_initialized": True, "init": None, "_lazy_init": None,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, _value=value, **__: _value))
        # The model is there already, and its fake weights cannot be replaced.
        stack.enter_context(patch.object(torch.nn.Module, "to", lambda module, *_, **__: module))
        # Fake tensors go through kernels for many tensors at once, as others do.
        for owner in (many, optimizer):
            kinds = [*owner._foreach_supported_types, FakeTensor]
            stack.enter_context(patch.object(owner, "_foreach_supported_types", kinds))
        # Fake tensors have no GPU to count on.
        stack.enter_context(patch.object(FakeTensorMode, "avoid_device_init", True))
        yield


@contextmanager
def _waiting(recorder: Recorder) -> Iterator[None]:
    """Record where the host waits for the whole GPU."""

    def wait(*_: object) -> None:
        recorder.trace.waits[f"synchronize at {site()}"] += 1

    with patch.object(torch.cuda, "synchronize", wait):
        yield
