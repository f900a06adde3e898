"""Silences warnings of libraries at import; nothing is imported here."""

import logging

# This module looks for optional kernels at import, even if nothing is quantized.
KERNEL_LOGGER = "bitsandbytes.backends.cpu.ops"


def silence_missing_kernels() -> None:
    """Silence bitsandbytes' warning at import that optional CPU kernels are not installed."""
    logging.getLogger(KERNEL_LOGGER).setLevel(logging.ERROR)
