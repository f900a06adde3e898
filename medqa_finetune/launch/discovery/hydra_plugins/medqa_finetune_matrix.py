"""Exposes the launcher and sweepers in Hydra's plugin namespace; see `register_plugins`."""

from medqa_finetune.launch import launcher, sweeper


class LocalLauncher(launcher.LocalLauncher):
    """`hydra/launcher=local`."""


class MatrixSweeper(sweeper.MatrixSweeper):
    """`hydra/sweeper=matrix`."""


class CallingSweeper(sweeper.CallingSweeper):
    """`hydra/sweeper=calling`."""
