"""Weights & Biases: its mode before a run is opened."""


def mode() -> str:
    """Return the mode that `wandb.init` would take from its environment and files, for instance `online` or `offline`.

    `wandb.setup` is documented; its result is not.
    """
    import wandb

    return str(wandb.setup().settings.mode)
