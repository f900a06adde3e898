"""TensorBoard: event files in the run folder, and a row of its HPARAMS table for every evaluation."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medqa_finetune.compat.tensorboard import write_row
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.tracking.base import SEED, Row

if TYPE_CHECKING:
    from transformers import TrainerCallback


@contextmanager
def open_tensorboard(row: Row) -> Iterator["TensorBoard"]:
    """Open TensorBoard for a row; it writes files alone."""
    with ExitStack() as held:
        yield TensorBoard(row, held)


@dataclass
class TensorBoard:
    """The event files of one run."""

    row: Row
    _held: ExitStack

    def curves(self, resumed_from: int | None) -> "TrainerCallback":
        """Return transformers' callback; points after the resumed step are dropped from the curves."""
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback  # type: ignore[attr-defined]

        purge = None if resumed_from is None else resumed_from + 1
        folder = RunDir(self.row.folder).tensorboard_path
        writer = self._held.enter_context(SummaryWriter(str(folder), purge_step=purge))
        callback: TrainerCallback = TensorBoardCallback(writer)  # type: ignore[no-untyped-call]
        return callback

    def report(self, row: Row) -> None:
        """Write the row into a folder of its own, whose scalars are the columns of the table.

        Rows of one cell are one row there, with the means of their results, so the seed is no column.
        """
        settings = {key: value for key, value in row.settings.items() if key != SEED}
        folder = RunDir(row.folder).tensorboard_path / row.evaluation
        write_row(folder, row.cell, settings, row.results, row.step)
