"""MLflow: one run for every row; its curves are transformers' integration."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from medqa_finetune.stopping import Interrupted
from medqa_finetune.tracking.base import PROJECT, Row

if TYPE_CHECKING:
    from transformers import TrainerCallback

# Tags of an MLflow run: by the first it is found again, by the second those of a cell are.
ID_TAG = "medqa_finetune.run"
CELL_TAG = "medqa_finetune.cell"
# Most parameters that its server takes in one request.
PARAMETERS_AT_ONCE = 100


@contextmanager
def open_mlflow(row: Row) -> Iterator["MLflow"]:
    """Begin or continue the run of a row; it ends as failed or killed where the block raises."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # no network calls
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # no line for every table that it creates
        # The row's settings alone: transformers adds some 280 whose keys differ by method, a dozen of them None.
        "MLFLOW_MAX_LOG_PARAMS": "0",
        "MLFLOW_FLATTEN_PARAMS": "true",  # where a user raises that, no warnings about long ones
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import mlflow

    with FileLock(row.outputs / ".mlflow.lock"):  # cells that start at the same time would all create the store
        _choose_experiment(row.outputs.resolve())
        earlier = mlflow.search_runs(filter_string=f"tags.`{ID_TAG}` = '{row.id}'", max_results=1, output_format="list")
        mlflow.start_run(
            run_id=earlier[0].info.run_id if earlier else None,
            run_name=row.name,
            tags={ID_TAG: row.id, CELL_TAG: row.cell},
        )
    status = "FAILED"
    try:
        opened = MLflow()
        opened.describe(row)
        yield opened
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def _choose_experiment(outputs: Path) -> None:
    """Select MLflow's store: from the environment, or one below `outputs` for all runs."""
    import mlflow

    files = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{outputs / 'mlflow.db'}")
        files = (outputs / "mlartifacts").as_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, files)
    mlflow.set_experiment(name)


class MLflow:
    """The active run."""

    def curves(self, resumed_from: int | None) -> "TrainerCallback":
        """Return transformers' callback."""
        from transformers.integrations import MLflowCallback  # type: ignore[attr-defined]

        callback: TrainerCallback = MLflowCallback()  # type: ignore[no-untyped-call]
        return callback

    def describe(self, row: Row) -> None:
        """Log the settings that the run does not have yet; MLflow allows no other value for one that it has."""
        import mlflow

        run = mlflow.active_run()
        known = {} if run is None else mlflow.get_run(run.info.run_id).data.params
        new = [(_allowed(key), value) for key, value in row.settings.items() if _allowed(key) not in known]
        for start in range(0, len(new), PARAMETERS_AT_ONCE):
            mlflow.log_params(dict(new[start : start + PARAMETERS_AT_ONCE]))

    def report(self, row: Row) -> None:
        """Log settings and results."""
        import mlflow

        self.describe(row)
        mlflow.log_metrics({_allowed(key): value for key, value in row.results.items()}, step=row.step)


def _allowed(name: str) -> str:
    """Return a name with the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "-", name)
