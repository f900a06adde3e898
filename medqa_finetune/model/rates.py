"""Rates of a device: matrix products, measured and from data sheets, and memory bandwidth."""

import math
import time
from functools import cache
from typing import NamedTuple, cast

import torch

from medqa_finetune.model.cards import card_named
from medqa_finetune.precision import Precision, dtype_of

# Matrices grow until the next size would exceed this time; the rate has long been flat by then.
SECONDS = 0.8
SIZES = (512, 1024, 2048, 4096, 8192)
REPETITIONS = 4
# Larger than any cache.
COPIED_BYTES = 2**28


class Rates(NamedTuple):
    """Rates of matrix products in FLOP/s.

    Attributes:
        measured: Measured on this device, in the precision of the run.
        datasheet: From NVIDIA's data sheet; None for a device that is not in `model/cards.py`.
    """

    measured: float
    datasheet: float | None


def find_rates(device: str, name: str, precision: str) -> Rates:
    """Measure a device (`cpu` or `cuda`) and look up its data sheet; `name` is torch's name of the GPU."""
    return Rates(measure_matrix_rate(device, precision), datasheet_rate(name, precision))


def datasheet_rate(name: str, precision: str) -> float | None:
    """Return a GPU's rate according to its data sheet, in FLOP/s; None if unknown."""
    card = card_named(name)
    return None if card is None else card.datasheet_flops(precision)


@cache
def measure_matrix_rate(device: str, precision: str) -> float:
    """Return the highest FLOP/s of square matrix products; takes about a second, once per process."""
    end = time.perf_counter() + SECONDS
    best = 0.0
    for size in SIZES:
        left, right = (torch.rand(size, size, device=device).to(dtype_of(cast(Precision, precision))) for _ in range(2))
        product = torch.empty_like(left)
        # The first product of a size includes kernel set-up.
        seconds = [_seconds(left, right, product) for _ in range(REPETITIONS)]
        best = max(best, 2 * size**3 / min(seconds))
        if time.perf_counter() + 8 * min(seconds) * REPETITIONS > end:
            break
    return best


def _seconds(left: torch.Tensor, right: torch.Tensor, product: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.mm(left, right, out=product)
    if product.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


@cache
def measure_copy_rate(device: str) -> float:
    """Return the memory bandwidth in bytes/s, reads and writes both counted.

    It bounds the speed of generation, which reads every weight for each token and computes little with it.
    """
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        target.copy_(source)
        if source.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * COPIED_BYTES / best
