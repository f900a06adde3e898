"""Tokenizer, base model, and what of it is trained."""

from medqa_finetune.compat.quiet import silence_missing_kernels

# Here, since this runs before any module of this folder can import bitsandbytes.
silence_missing_kernels()
