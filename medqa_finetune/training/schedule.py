"""The learning rate of every optimizer step."""

import warnings

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler


def schedule_of(name: str, optimizer: Optimizer, warmup_steps: int, steps: int) -> LambdaLR:
    """Return one of transformers' schedules, without a step of rate 0.

    With warm-up, transformers' own schedules begin with the rate 0, so that the first step trains nothing. Here step k
    of w has the rate k / w of the peak, from k = 1: the schedule of a run that is one step longer, without its first
    step. So the last step of a schedule that falls to 0 has a rate above 0 as well.

    Args:
        name: `train.scheduler`.
        optimizer: The optimizer, with its peak rates.
        warmup_steps: Steps up to the one that has the peak rate; 0 and 1 are the same.
        steps: Steps of the whole run.
    """
    # Of an optimizer of its own, since creating a schedule sets the optimizer's rates.
    alone = torch.optim.SGD([torch.zeros(1)], lr=float(optimizer.defaults["lr"]))
    skipped = int(warmup_steps > 0)
    whole = get_scheduler(name, alone, num_warmup_steps=warmup_steps, num_training_steps=steps + skipped)
    if not isinstance(whole, LambdaLR):
        raise TypeError(f"{name} is no function of the step")
    factor = whole.lr_lambdas[0]
    return LambdaLR(optimizer, lambda step: factor(step + skipped))


def keep_to_steps(schedule: LRScheduler, step: int) -> None:
    """Let a schedule follow all optimizer steps, those that trained nothing included, so that it ends at its end.

    In fp16 Trainer does not advance it where it sees that the scaler has skipped a step. With fused optimizers it sees
    none: the schedule would depend on the optimizer's kernel.
    """
    with warnings.catch_warnings():
        # Where the first step was skipped, the optimizer has not run before the schedule.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        while schedule.last_epoch < step:
            schedule.step()
