"""What every process but rank 0 does where several train one cell: it loads the same, trains with rank 0, and ends.

It writes and prints nothing, but for what nobody else can say.
"""

import logging
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.data.prepare import CACHE_NAME
from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED
from medqa_finetune.objectives import task_of
from medqa_finetune.precision import dtype_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.run_state.claim import record_loss_of_first
from medqa_finetune.runtime import collect_no_more, keep_freed_memory, settle_before_torch
from medqa_finetune.stopping import EXIT_OFFSET, SIGNALS, Interrupted, stop_with_parent, stoppable
from medqa_finetune.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from medqa_finetune.training.group import Group


def main() -> None:
    """Entry point of a process that rank 0 has started; exit codes as of a training."""
    stop_with_parent()
    code = follow()
    collect_no_more()
    sys.exit(code)


def follow() -> int:
    """Train with rank 0, if that trains anything; return the exit code."""
    logging.getLogger().handlers[:] = [logging.NullHandler()]
    logging.captureWarnings(True)
    # A process that waits in torch for another one hears no handler of Python: until training, a signal ends it.
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    settle_before_torch()
    try:
        _follow()
    except Interrupted as error:
        return EXIT_OFFSET + error.number
    except Exception:  # rank 0 has been told, and says it
        return EXIT_RUN_FAILED
    return EXIT_DONE


def _follow() -> None:
    from medqa_finetune.training.group import join

    group = join()
    try:
        _train_along(group)
    except Exception as error:
        group.report(error)
        raise


def _train_along(group: "Group") -> None:
    from medqa_finetune.model.fp32_blocks import compute_in_fp32
    from medqa_finetune.model.load import choose_device, load_model, set_threads
    from medqa_finetune.training.fit import Keeping, fit_along

    told: Any = group.share(None)
    if told is None:
        group.leave()
        return
    config, model = told
    run = RunDir(config.run_path)
    if group.rank == 1:
        group.watch(partial(record_loss_of_first, run, group.peers[0].pid))
    else:
        group.watch(lambda lost: None)
    keep_freed_memory()
    set_threads(config.threads, None, group.size)
    device = choose_device(config.precision, group.size)
    task = task_of(config)
    splits = task.prepare(config, model, Path(config.outputs) / CACHE_NAME)
    template = config.model.chat_template
    loaded = load_model(model, config.method, device, config.seed, chat=config.chats, template=template)
    encoder = task.encoder(loaded.tokenizer, config, splits.manifest.counts)
    told = group.share(None)
    config, blocks, identity = told
    compute_in_fp32(loaded.model, blocks, dtype_of(device.precision))
    sets = task.training_sets(encoder, splits, config)
    with stoppable() as stop:
        fit_along(loaded, sets, run, Keeping(Checkpoints(run.checkpoints_path, identity), stop, group=group))


if __name__ == "__main__":
    main()
