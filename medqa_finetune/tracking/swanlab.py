"""SwanLab: one experiment for every row; its curves are transformers' integration."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medqa_finetune.tracking.base import PROJECT, Row

if TYPE_CHECKING:
    from transformers import TrainerCallback


@contextmanager
def open_swanlab(row: Row) -> Iterator["SwanLab"]:
    """Begin or continue the experiment of a row; it ends as crashed where the block raises."""
    run = _begun(row)
    try:
        yield SwanLab(run)
    except BaseException as error:
        run.finish(state="crashed", error=type(error).__name__)
        raise
    run.finish()


def _begun(row: Row) -> Any:
    import swanlab

    try:
        return swanlab.init(
            project=os.environ.get("SWANLAB_PROJECT", PROJECT),
            name=row.name,
            group=row.cell,
            id=row.id,
            resume="allow",
            log_dir=os.environ.get("SWANLAB_LOG_DIR", str(row.folder / "swanlab")),
            config=dict(row.settings),
            # Without a key it would prompt for one, and an unattended training would wait for ever.
            settings=swanlab.Settings(interactive=False),
        )
    except Exception as error:
        if os.environ.get("SWANLAB_MODE", "online") != "online":
            raise
        raise RuntimeError(f"run `swanlab login` or set SWANLAB_MODE=offline; {error}") from error


@dataclass
class SwanLab:
    """An open experiment."""

    run: Any

    def curves(self, resumed_from: int | None) -> "TrainerCallback":
        """Return transformers' callback."""
        from transformers.integrations import SwanLabCallback  # type: ignore[attr-defined]

        callback: TrainerCallback = SwanLabCallback()  # type: ignore[no-untyped-call]
        return callback

    def report(self, row: Row) -> None:
        """Update the configuration of the experiment, and log the results."""
        self.run.config.update(dict(row.settings))
        self.run.log(dict(row.results), step=row.step)
