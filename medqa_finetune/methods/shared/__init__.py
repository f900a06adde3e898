"""What several methods share: names of modules, adapters of peft, files of trained weights."""

from medqa_finetune.compat.quiet import silence_missing_kernels

# Here, since this runs before any module of this folder can import bitsandbytes, by way of peft.
silence_missing_kernels()
