"""Tokenizer, base model, and what of it is trained."""

import logging

# bitsandbytes says at import that optional kernels are missing, whether or not anything is quantized. Said here, since
# this runs before any module of this folder can import it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
