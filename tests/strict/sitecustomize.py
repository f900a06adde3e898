"""Makes warnings of our own code errors in a process that a test starts, as pytest's settings do in its own.

Python imports this module by its name, where its folder is on PYTHONPATH.
"""

import warnings

warnings.filterwarnings("error", module=r"(medqa_finetune|scripts|__main__)(\.|$)")
# What somebody else's release deprecates fails no test; see `filterwarnings` in pyproject.toml.
for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
    warnings.filterwarnings("ignore", category=category)
