"""Silences warnings of libraries at import; nothing is imported here."""

import logging

# bitsandbytes' module that looks for optional kernels, whether or not anything is quantized.
KERNEL_LOGGER = "bitsandbytes.backends.cpu.ops"


def silence_missing_kernels() -> None:
    """Keep bitsandbytes from warning at import that optional kernels for CPUs are not installed."""
    logging.getLogger(KERNEL_LOGGER).setLevel(logging.ERROR)
