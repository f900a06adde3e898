"""Hydra's basic sweeper without its side effects: nothing is written before every cell has been checked."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from medqa_finetune.errors import RunError


class MatrixSweeper(BasicSweeper):
    """Launches the Cartesian product of all swept values as one batch.

    The basic one makes a folder and a `multirun.yaml` before it checks anything, and two sweeps on the same outputs
    overwrite each other's.
    """

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Compose and launch every cell.

        Raises:
            RunError: at least one cell is not done; says which and why.
        """
        assert self.launcher is not None, "setup() comes first"  # noqa: S101
        assert self.hydra_context is not None, "setup() comes first"  # noqa: S101
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (batch,) = self.split_arguments(overrides, max_batch_size=None)
        self.validate_batch_is_legal(batch)
        results: Sequence[JobReturn] = self.launcher.launch(batch, initial_job_idx=0)
        failed = [result for result in results if result.status != JobStatus.COMPLETED]
        if failed:
            reasons = "\n".join(_reason(result) for result in failed)
            raise RunError(f"{len(failed)} of {len(results)} runs are not done:\n{reasons}")
        return results


def _reason(result: JobReturn) -> str:
    error: Any = result._return_value
    return f"  {' '.join(result.overrides or ())}: {error}"
