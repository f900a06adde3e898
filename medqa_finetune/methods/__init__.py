"""Methods: how predictions are got from a base model, one file a method.

Each file of this folder defines one method as a class that describes itself: settings, sizes, costs, weights, exports.
A file that is put here is found; another package adds methods by the entry point group `medqa_finetune.methods`, whose
names are values of `method.trains`. `settings.py`, `base.py` and `registry.py` are no methods, nor is what lies in
`shared/`.

Settings are checked before torch is loaded, so methods import torch, peft and what needs them inside their functions.
"""
