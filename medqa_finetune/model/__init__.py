"""Loads tokenizer and base model, estimates memory, and tries beforehand what a run needs."""

from medqa_finetune.compat.quiet import silence_missing_kernels

# This must run before any module of this folder imports bitsandbytes.
silence_missing_kernels()
