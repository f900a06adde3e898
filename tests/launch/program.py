"""A small Hydra program of anybody's, run through the launcher in tests: it keeps a record if `record=true`.

Each cell waits `seconds`, then does what `end` says. It is started by its path, as people start theirs.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medqa_finetune.launch.launcher import register_plugins
from medqa_finetune.record.run_dir import RunDir, this_process
from medqa_finetune.record.schema import Failure, Record
from medqa_finetune.stopping import Interrupted, stop_with_parent, stoppable

ConfigStore.instance().store(
    name="config", node={"name": "cell", "record": False, "seconds": 0.0, "end": "well", "overwrite": False}
)


def work(config: DictConfig, folder: Path) -> None:
    """Leave a letter, wait, and end."""
    with (folder / "starts").open("a", encoding="utf-8") as file:
        file.write("x")
    time.sleep(config.seconds)
    if config.end == "badly":
        raise ValueError("bad luck")


def work_with_record(config: DictConfig, folder: Path) -> None:
    """Do the same as an experiment does: locked, recorded, stopped in good order."""
    run = RunDir(folder)
    with run.lock():
        begun = run.read() or Record(config.name, "i", "pending", "lora", "20k", "tiny", 0, {})
        if begun.status == "done":
            return
        run.write(begun.updated(status="running", process=this_process(), failure=None))
        try:
            with stoppable():
                work(config, folder)
        except Interrupted as stop:
            if config.end != "stubbornly":
                run.update(status="interrupted", failure=Failure("signal", str(stop)))
                raise
            time.sleep(60)
        run.update(status="done")


@hydra.main(config_path=None, config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """Run one cell."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(f"cell {config.name} in {folder.name}", flush=True)
    if config.record:
        stop_with_parent()
        work_with_record(config, folder)
    else:
        work(config, folder)


if __name__ == "__main__":
    register_plugins()
    main()
