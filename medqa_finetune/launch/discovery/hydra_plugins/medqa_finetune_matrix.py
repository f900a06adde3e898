"""Exposes the launcher and sweepers in Hydra's plugin namespace; see `register_plugins`."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from medqa_finetune.config.compose import composes_ours
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.launch import launcher, sweeper, tuning
from medqa_finetune.launch.cluster import launcher as cluster
from medqa_finetune.launch.cluster.ray import launcher as ray


class LocalLauncher(launcher.LocalLauncher):
    """`hydra/launcher=local`."""


class SlurmLauncher(cluster.SlurmLauncher):
    """`hydra/launcher=slurm`."""


class RayLauncher(ray.RayLauncher):
    """`hydra/launcher=ray`."""


class MatrixSweeper(sweeper.MatrixSweeper):
    """`hydra/sweeper=matrix`."""


class TuningSweeper(tuning.TuningSweeper):
    """`hydra/sweeper=tuning`."""


class ConfFolder(SearchPathPlugin):
    """Our groups, also where `--config-path` puts a folder of the user's own in place of ours."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add `conf/` behind the folder of the primary configuration."""
        if not composes_ours():
            return
        paths = [element.path for element in search_path.get_path()]
        ours = str(conf_folder())
        if ours not in paths and f"file://{ours}" not in paths:
            search_path.append("medqa_finetune", f"file://{ours}")
