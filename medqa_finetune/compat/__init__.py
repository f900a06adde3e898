"""What the project uses of its dependencies beyond what they promise, one file a dependency.

Private names, looks at signatures, subclasses of internals, and messages read by their wording stand here and nowhere
else, so that a release that changes one of them is met in one place. Each function has a test in `tests/compat` that
fails by name when that happens. A public call, where there is one, is used directly and has no place here.
"""

from medqa_finetune.compat.quiet import silence_missing_kernels

# Here, since any file of this folder may be the first to import peft, and with it bitsandbytes.
silence_missing_kernels()
