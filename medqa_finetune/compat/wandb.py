"""Weights & Biases: its mode before a run is opened."""


def mode() -> str:
    """Return the mode that `wandb.init` would take from its environment and files, `online` or `offline` for instance.

    `wandb.setup` is documented, what it returns is not.
    """
    import wandb

    return str(wandb.setup().settings.mode)
