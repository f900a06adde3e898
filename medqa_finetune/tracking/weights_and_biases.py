"""Weights & Biases: one run for every row; its curves are transformers' integration."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medqa_finetune.compat.wandb import mode
from medqa_finetune.tracking.base import PROJECT, Row

if TYPE_CHECKING:
    from transformers import TrainerCallback


@contextmanager
def open_wandb(row: Row) -> Iterator["WeightsAndBiases"]:
    """Begin or continue the run of a row; it ends as failed where the block raises."""
    # Its error reports are network calls that the user did not request.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # Without a key it would prompt for one, and an unattended training would wait for ever.
    if mode() in ("online", "shared") and not wandb.login(prompt=False):
        raise RuntimeError("not logged in; run `wandb login` or set WANDB_MODE=offline")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=row.name,
        group=row.cell,
        id=row.id,
        resume="allow",
        dir=str(row.folder),
        config=dict(row.settings),
        allow_val_change=True,
    )
    failed = 1
    try:
        yield WeightsAndBiases(run)
        failed = 0
    finally:
        run.finish(exit_code=failed)


@dataclass
class WeightsAndBiases:
    """An open run."""

    run: Any

    def curves(self, resumed_from: int | None) -> "TrainerCallback":
        """Return transformers' callback."""
        from transformers.integrations import WandbCallback  # type: ignore[attr-defined]

        callback: TrainerCallback = WandbCallback()  # type: ignore[no-untyped-call]
        return callback

    def report(self, row: Row) -> None:
        """Update the configuration of the run and its summary."""
        self.run.config.update(dict(row.settings), allow_val_change=True)
        self.run.summary.update(dict(row.results))
