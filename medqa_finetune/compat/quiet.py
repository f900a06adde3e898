"""What libraries say at import that is no news, silenced before they are imported; nothing is loaded here."""

import logging

# bitsandbytes' module that looks for optional kernels, whether or not anything is quantized.
KERNEL_LOGGER = "bitsandbytes.backends.cpu.ops"


def silence_missing_kernels() -> None:
    """Keep bitsandbytes from warning at import that optional kernels for CPUs are not installed."""
    logging.getLogger(KERNEL_LOGGER).setLevel(logging.ERROR)
