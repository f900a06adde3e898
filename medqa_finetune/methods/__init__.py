"""Methods of obtaining predictions from a base model, one file per method.

Each file defines one method as a class with its settings, sizes, costs, weights and exports. Files in this folder are
found automatically; other packages add methods by the entry point group `medqa_finetune.methods`, whose names are
values of `method.trains`. `settings.py`, `base.py`, `registry.py` and the folder `shared/` are not methods.

Settings are checked before torch is loaded, so methods import torch, peft and modules that need them inside functions.
"""
