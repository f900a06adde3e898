"""Dropout from few random numbers: where to drop is drawn, not for every element whether."""

import math

import numpy as np
import torch

# Above this probability a byte for every element takes less memory than the places of those dropped.
FEW = 0.125


def draw_dropped(size: int, probability: float, device: torch.device) -> torch.Tensor:
    """Draw which of `size` elements are dropped, each with this probability and independent of all others.

    On a CPU the gaps between dropped elements are drawn: they have a geometric distribution, here the rounded
    exponential one, so that a probability of 0.05 needs a twentieth of the random numbers. The numbers are 32-bit
    floats: the probability is exact to 1e-6. They come from a generator whose seed is drawn from torch's, so that
    torch's random state decides them.

    Returns:
        Their places, int64, ascending; or, on other devices and for high probabilities, bool of shape (size,).
    """
    if device.type != "cpu" or not 0 < probability <= FEW:
        return torch.empty(size, dtype=torch.bool, device=device).bernoulli_(probability)
    seed = int(torch.randint(2**62, ()))
    generator = np.random.Generator(np.random.SFC64(seed))
    mean = size * probability
    count = math.ceil(mean + 6 * math.sqrt(mean) + 16)
    parts, end = [], -1
    while end < size:
        gaps = generator.standard_exponential(count, dtype=np.float32)
        gaps *= np.float32(-1 / math.log1p(-probability))
        places = gaps.astype(np.int64)
        places += 1
        np.cumsum(places, out=places)
        places += end
        end = int(places[-1])
        parts.append(places)
    drawn = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return torch.from_numpy(drawn[: int(np.searchsorted(drawn, size))].copy())


def drop_(values: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Set dropped elements of a contiguous tensor to zero, in place, and return it; the others are not scaled."""
    flat = values.view(-1)
    if dropped.dtype is torch.bool:
        flat.masked_fill_(dropped, 0)
    else:
        flat.index_fill_(0, dropped, 0)
    return values
