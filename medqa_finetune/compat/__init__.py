"""Uses of dependencies beyond their documented interfaces, one file per dependency.

Private names, inspected signatures, subclasses of internals, and parsed messages are here and nowhere else, so that a
release that changes one of them needs changes in one place. Each function has a test in `tests/compat` that then fails.
Public interfaces are used directly, not through this folder.
"""

from medqa_finetune.compat.quiet import silence_missing_kernels

# Here, since any file of this folder may be the first to import peft, which imports bitsandbytes.
silence_missing_kernels()
