"""Runs inside a process with torch: counts steps in addition to files, and corrupts losses or predictions."""

import dataclasses
import importlib.metadata
import itertools
import os
import socket
import time
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import safetensors.torch
import torch
import transformers
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.tensorboard import SummaryWriter

from medqa_finetune import cell
from medqa_finetune.config import identity
from medqa_finetune.data import embedded
from medqa_finetune.evaluation import generate
from medqa_finetune.launch import compose
from medqa_finetune.record import environment
from scripts.trials.actions import ACTIONS
from scripts.trials.inject import Recorder

_masked = False


def count_steps(recorder: Recorder) -> None:
    """Count micro-batches, optimizer steps, prediction batches and saved tensors of this process."""
    _before(transformers.Trainer, "training_step", lambda *_: recorder.note("step"))
    _before(generate, "decode_greedily", lambda *_: recorder.note("generate"))
    _before(torch, "save", lambda _, target, *__: recorder.note("save", str(target)))
    _before(safetensors.torch, "serialize_file", lambda _, target, *__: recorder.note("save", str(target)))
    register_optimizer_step_pre_hook(lambda *_: recorder.note("update"))
    fetch = transformers.Trainer.get_batch_samples

    def get_batch_samples(self: Any, pairs: Iterator[Any], *arguments: Any, **options: Any) -> Any:
        recorder.note("batch")
        return fetch(self, _maybe_masked(pairs), *arguments, **options)

    transformers.Trainer.get_batch_samples = get_batch_samples  # type: ignore[method-assign, assignment]


def _before(owner: Any, name: str, note: Any) -> None:
    original = getattr(owner, name)

    def noted(*arguments: Any, **options: Any) -> Any:
        note(*arguments)
        return original(*arguments, **options)

    setattr(owner, name, noted)


def _maybe_masked(pairs: Iterator[Any]) -> Iterator[Any]:
    for step in pairs:
        if not _masked:
            yield step
            continue
        nowhere = {name: torch.empty(0, dtype=torch.long) for name in ("positions", "targets")}
        batches = [batch | nowhere for batch in step["batches"]]
        yield step | {"batches": batches, "work": dataclasses.replace(step["work"], answer_tokens=0)}


def mask_labels(argument: str) -> None:
    """Mask all answer tokens in later batches, so that the mean loss is NaN."""
    global _masked  # noqa: PLW0603 (one process, one run)
    _masked = True


def spoil_loss(value: str) -> None:
    """Multiply the next cross-entropy by `nan` or `inf`."""
    original = torch.nn.functional.cross_entropy

    def spoilt(*arguments: Any, **options: Any) -> torch.Tensor:
        torch.nn.functional.cross_entropy = original
        return original(*arguments, **options) * float(value)

    torch.nn.functional.cross_entropy = spoilt


def slow_down(seconds: str) -> None:
    """Delay every generated token by `seconds`, and never end a prediction."""
    original = torch.nn.Module.__call__

    def slow(self: Any, *arguments: Any, **options: Any) -> Any:
        output = original(self, *arguments, **options)
        if isinstance(self, transformers.PreTrainedModel) and hasattr(output, "logits") and not self.training:
            time.sleep(float(seconds))
        return output

    torch.nn.Module.__call__ = slow  # type: ignore[method-assign]


def hang(seconds: str) -> None:
    """Make the next generation hang."""
    time.sleep(float(seconds))


def spoil_writer(count: str) -> None:
    """Make TensorBoard's writer thread fail with a full disk at the n-th record."""
    _fail_at(RecordWriter, "write", int(count))


def spoil_point(count: str) -> None:
    """Raise an error at the n-th point passed to TensorBoard."""
    _fail_at(SummaryWriter, "add_scalar", int(count))


def _fail_at(owner: Any, name: str, count: int) -> None:
    calls = itertools.count(1)

    def fail(*_: Any) -> None:
        if next(calls) >= count:
            raise OSError(28, "No space left on device")

    _before(owner, name, fail)


def forget_offline(argument: str) -> None:
    """Make the hub's client ignore HF_HUB_OFFLINE=1."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    huggingface_hub.constants.HF_HUB_OFFLINE = False


def pretend_version(argument: str) -> None:
    """Make a library report another version: `NAME VERSION`."""
    name, claimed = argument.split()
    real = importlib.metadata.version
    # By name, since that module does not export it.
    vars(environment)["version"] = lambda package: claimed if package == name else real(package)


def change_defaults(folder: str) -> None:
    """Replace the shipped defaults by those in another folder."""
    vars(compose)["conf_folder"] = lambda: Path(folder)


def change_corpus(argument: str) -> None:
    """Change the bytes of the embedded corpus."""
    embedded.embedded_sha256 = lambda: "0" * 64


def change_code(argument: str) -> None:
    """Make the code report another version of its results."""
    raised = identity.RESULTS_VERSION + 1
    vars(identity)["RESULTS_VERSION"] = vars(cell)["RESULTS_VERSION"] = raised
    # A dataclass keeps a default where it was defined; an explicit version, that of trained weights, still wins.
    type.__setattr__(cell.Cell, "__init__", partialmethod(cell.Cell.__init__, results_version=raised))


def lose_patience(seconds: str) -> None:
    """Detect a hanging token after less than ten seconds."""
    generate.HANG_SECONDS = float(seconds)


def cut_network(argument: str) -> None:
    """Make every network connection fail as without a network."""

    def unreachable(*arguments: Any, **options: Any) -> Any:
        raise OSError(101, "Network is unreachable")

    socket.socket.connect = unreachable  # type: ignore[method-assign]
    socket.getaddrinfo = unreachable
    socket.create_connection = unreachable


ACTIONS |= {
    "mask": mask_labels,
    "spoil": spoil_loss,
    "slow": slow_down,
    "hang": hang,
    "unplug": cut_network,
    "online": forget_offline,
    "version": pretend_version,
    "defaults": change_defaults,
    "corpus": change_corpus,
    "code": change_code,
    "writer": spoil_writer,
    "point": spoil_point,
    "impatient": lose_patience,
}
