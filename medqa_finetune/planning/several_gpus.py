"""What a plan says of cells that train on several GPUs each: shares, memory, what they exchange, GPU-hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import NOT_SHARDED, Config
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.gpus import visible_gpus
from medqa_finetune.launch.validate import check_all
from medqa_finetune.memory import in_units
from medqa_finetune.methods.registry import model_method
from medqa_finetune.precision import WIDTH
from medqa_finetune.preflight import CELL_KEY, check_processes

# The option of `plan`.
TYPED_KEY = "gpus"
# Gathering weights forward and backward, and dividing their gradients.
EXCHANGES_OF_A_PASS = 3
# Adding up gradients around a ring: divided sums first, then all of them everywhere.
EXCHANGES_OF_A_STEP = 2


def exchanged_bytes(size: ModelSize, config: Config, passes: int, processes: int) -> int:
    """Return the bytes that each process sends to others in an optimizer step, by algorithms around a ring.

    Args:
        size: Size of the model.
        config: Settings of a cell that trains.
        passes: Forward passes of each process in a step.
        processes: Number of processes.
    """
    trained = model_method(config.method).trainable_parameters(size) * WIDTH["fp32"]
    times = EXCHANGES_OF_A_STEP if config.train.sharding == NOT_SHARDED else EXCHANGES_OF_A_PASS * passes
    return round(times * trained * (processes - 1) / processes)


@dataclass(frozen=True)
class AskedGpus:
    """What a command says of the GPUs of a cell.

    Attributes:
        of_launcher: `hydra.launcher.gpus_per_cell`; 1 where a launcher has none.
        typed: The option `gpus`; None without it.
        card: Short name of a card that is not here; None for this machine.
    """

    of_launcher: int = 1
    typed: int | None = None
    card: str | None = None


def gpus_of_a_cell(configs: Sequence[Config], asked: AskedGpus, *, probe: bool) -> int:
    """Return how many GPUs train each cell; 1 also for a launcher that finds none on this machine.

    Args:
        configs: Settings of the cells.
        asked: What the command says.
        probe: Whether times are measured.

    Raises:
        ConfigError: options contradict each other, this machine has fewer, or cells cannot be trained so.
    """
    key, count = (CELL_KEY, asked.of_launcher) if asked.typed is None else (TYPED_KEY, asked.typed)
    if asked.typed is not None and asked.of_launcher not in (1, asked.typed):
        problem = f"{CELL_KEY}={asked.of_launcher} asks for another number"
        raise ConfigError(Fault("conflict", problem, key=key, got=count, hint="Leave out one of the two."))
    if count > 1 and asked.card is None:
        here = len(visible_gpus())
        # As the launcher does: without GPUs, one process trains a cell.
        count = count if here or asked.typed is not None else 1
        if count > 1 and here < count:
            hint = "gpu=CARD plans for cards that are not here."
            raise ConfigError(Fault("out-of-range", f"this machine has {here} GPUs", key=key, got=count, hint=hint))
    count = max(1, count)
    if count > 1 and probe:
        problem = f"measures one process, and {key}={count} asks for the times of several"
        raise ConfigError(Fault("conflict", problem, key="plan.probe", got=True, hint="Leave out one of the two."))
    check_all(configs, lambda config: check_processes(config, count, key))
    return count


def describe_several(rows: Sequence[Mapping[str, Any]], gpus: int) -> list[str]:
    """Return what several GPUs of a cell mean for its steps, memory and costs; nothing for one.

    Args:
        rows: The cells of a plan, each with `batch_size` (None without training), `exchanged_bytes` and `seconds`.
        gpus: GPUs of each cell.
    """
    if gpus == 1:
        return []
    sizes = sorted({row["batch_size"] for row in rows if row["batch_size"] is not None})
    sent = sorted({row["exchanged_bytes"] for row in rows if row["exchanged_bytes"]})
    span = say(" to ").join(dict.fromkeys(map(in_units, (sent[0], sent[-1])))) if sent else ""
    hours = gpus * sum(row["seconds"] for row in rows) / 3600
    trained = [
        say(
            "Training and validation are divided over {count} GPUs, {each} of a step's {batch} examples on each; "
            "memory is that of each. Evaluations take one of them.",
            count=gpus,
            each=say(" or ").join(_share(size, gpus) for size in sizes),
            batch=say(" or ").join(map(str, sizes)),
        ),
        say(
            "In a step each GPU sends {amount} to the others; the time of that is not estimated, and not included.",
            amount=span,
        ),
    ]
    return [*(trained if sizes else []), say("{hours} GPU-hours in all.", hours=f"{hours:.3g}")]


def _share(size: int, gpus: int) -> str:
    least, rest = divmod(size, gpus)
    return f"{least}–{least + 1}" if rest else str(least)
