"""Captures the kernels of a step as a CUDA graph."""

from collections.abc import Callable

import torch

# Runs before the capture, in which libraries choose their kernels and allocate what they need.
WARM_UP_RUNS = 2


def captured(compute: Callable[[], object], step: Callable[[], None]) -> Callable[[], None]:
    """Return a function that replays a step on the same memory; the step itself is recorded, not run.

    Args:
        compute: The part of the step that may be run any number of times, for warming up.
        step: The step: no copy to the host, no wait, and all that it reads and writes outlives it.

    Raises:
        RuntimeError: the step does something that cannot be captured.
    """
    side_stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(WARM_UP_RUNS):
            compute()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
