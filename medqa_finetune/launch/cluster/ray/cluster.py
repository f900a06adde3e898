"""A Ray cluster: connects to it, checks that cells can run on it, and runs functions on it."""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medqa_finetune.compat.ray import answers, resolved_address
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cluster.cells import tell
from medqa_finetune.launch.cluster.queue import End
from medqa_finetune.launch.cluster.ray.settings import AUTO, RayLauncherConfig, bytes_of
from medqa_finetune.launch.cluster.ray.task import missing_paths

KEY = "hydra/launcher"
ADDRESS_KEY = "hydra.launcher.address"
# Seconds for a node's answer, the start of a worker included.
ANSWER_SECONDS = 120.0
MOST_WORDS = 300


class TaskLostError(Exception):
    """A task ended without a result.

    Attributes:
        end: How it ended, as far as Ray knows.
    """

    def __init__(self, end: End, words: str) -> None:
        super().__init__(" ".join(words.split())[:MOST_WORDS])
        self.end = end


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        id: Its id.
        host: Its name and address.
        resources: What it has: `CPU`, `GPU`, `memory` in bytes.
        is_head: Whether jobs' drivers run there.
    """

    id: str
    host: str
    resources: dict[str, float]
    is_head: bool


def check_installed() -> None:
    """Check that Ray is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("ray") is None:
        hint = "Run `pip install 'medqa-finetune[ray]'`, in the version of the cluster; without Ray, leave it out."
        raise ConfigError(Fault("not-installed", "ray is not installed", key=KEY, got="ray", hint=hint))


@contextmanager
def connected(settings: RayLauncherConfig, variables: Mapping[str, str]) -> "Iterator[RayCluster]":
    """Connect to a cluster within the block; where none runs here, one is started if the launcher waits, and said.

    Args:
        settings: Settings of the launcher.
        variables: Environment variables of all tasks. The driver of a job gives none: they are the job's already.

    Raises:
        ConfigError: there is no cluster, or this Python cannot connect to it.
    """
    import ray

    address = _address(settings)
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        tell(say("no Ray cluster is running here; starting one on this machine, until this command ends"))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(
            address=address or "local",
            runtime_env={"env_vars": dict(variables)} if variables else None,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=None if address else False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        words = " ".join(str(error).split())[:MOST_WORDS]
        hint = "Type the command on a node of the cluster, with its versions of Python and Ray."
        problem = f"Ray refuses the connection: {words}"
        raise ConfigError(Fault("cluster-refused", problem, key=ADDRESS_KEY, got=settings.address, hint=hint)) from None
    finally:
        # Ray puts one of its own in its place, which would end this process without a checkpoint.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        yield RayCluster(settings, str(context.address_info["gcs_address"]), str(context.dashboard_url or ""))
    finally:
        ray.shutdown()


def _address(settings: RayLauncherConfig) -> str | None:
    """Return the address of a cluster that answers; None where one may be started here."""
    found = resolved_address(settings.address)
    if found is not None and answers(found):
        return found
    is_auto = settings.address == AUTO and "RAY_ADDRESS" not in os.environ
    if is_auto and settings.wait:
        return None
    if is_auto:
        problem, got = "no Ray cluster is running here, in which jobs could be left", settings.address
        hint = "Start one by `ray start --head`, give HOST:PORT, or hydra.launcher.wait=true."
    else:
        problem, got = "no Ray cluster answers there", found or settings.address
        hint = "`ray status` on its head node shows the address; leave it out for one on this machine."
    raise ConfigError(Fault("not-answering", problem, key=ADDRESS_KEY, got=got, hint=hint))


class RayCluster:
    """The cluster that this process is connected to.

    Args:
        settings: Settings of the launcher.
        address: Its address, `HOST:PORT`.
        dashboard: Address of its dashboard; empty without one.
    """

    def __init__(self, settings: RayLauncherConfig, address: str, dashboard: str) -> None:
        self.dashboard = f"http://{dashboard}" if dashboard else ""
        self._settings = settings
        self._head = address.rpartition(":")[0]
        self._resources: dict[str, Any] = {"num_cpus": settings.cpus_per_cell, "num_gpus": settings.gpus_per_cell}
        if settings.memory is not None:
            self._resources["memory"] = bytes_of(settings.memory)

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        import ray

        return [
            Node(
                str(each["NodeID"]),
                f"{each['NodeManagerHostname']} ({each['NodeManagerAddress']})",
                {str(name): float(amount) for name, amount in each["Resources"].items()},
                str(each["NodeManagerAddress"]) == self._head,
            )
            for each in ray.nodes()
            if each["Alive"]
        ]

    def start(self, function: Callable[..., str], *arguments: object) -> Any:
        """Start a task with the resources of a cell, which waits in Ray's queue until a node has them; return it."""
        import ray

        return ray.remote(function).options(max_retries=0, **self._resources).remote(*arguments)

    def ended(self, tasks: Sequence[Any], seconds: float) -> list[Any]:
        """Return the tasks that have ended, after waiting for the first of them for at most some seconds."""
        import ray

        return list(ray.wait(list(tasks), num_returns=1, timeout=seconds)[0]) if tasks else []

    def result(self, task: Any) -> str:
        """Return the result of a task that has ended.

        Raises:
            TaskLostError: it has none.
        """
        import ray
        from ray import exceptions

        try:
            return str(ray.get(task))
        except exceptions.TaskCancelledError as error:
            raise TaskLostError(End.CANCELLED, str(error)) from None
        except exceptions.OutOfMemoryError as error:
            raise TaskLostError(End.OUT_OF_MEMORY, str(error)) from None
        except (exceptions.RayTaskError, exceptions.RuntimeEnvSetupError, exceptions.TaskUnschedulableError) as error:
            raise TaskLostError(End.BY_ITSELF, str(error)) from None
        except exceptions.RayError as error:
            raise TaskLostError(End.NODE_LOST, str(error)) from None

    def cancel(self, task: Any) -> None:
        """Take a task out of Ray's queue, or tell it to stop in its own time."""
        import ray

        ray.cancel(task, force=False)

    def check(self, outputs: Path) -> None:
        """Check that some node can run a cell, and that all which can see this machine's files.

        Args:
            outputs: Folder in which cells work; it exists.

        Raises:
            ConfigError: with every fault.
        """
        nodes = self.nodes()
        if faults := list(self._lacking(nodes)):
            raise ConfigError(*faults)
        fit = [each for each in nodes if self._fits(each) or (each.is_head and not self._settings.wait)]
        with _token(outputs) as token:
            # Its name is new: no file system has it in a cache.
            faults = list(_not_shared(fit, [str(token), *command_paths()], outputs))
        if faults:
            raise ConfigError(*faults)

    def _needs(self) -> dict[str, tuple[str, float]]:
        memory = self._resources.get("memory", 0)
        return {
            "gpus_per_cell": ("GPU", self._settings.gpus_per_cell),
            "cpus_per_cell": ("CPU", self._settings.cpus_per_cell),
            "memory": ("memory", memory),
        }

    def _fits(self, node: Node) -> bool:
        return all(node.resources.get(name, 0) >= amount for name, amount in self._needs().values())

    def _lacking(self, nodes: Sequence[Node]) -> Iterator[Fault]:
        """Yield what no node has; a task that asks for it would wait for ever."""
        if any(map(self._fits, nodes)):
            return
        several = True
        hint = "Give less, or first start a node that has it; gpus_per_cell=0 runs cells on CPUs."
        for key, (name, amount) in self._needs().items():
            most = max((node.resources.get(name, 0) for node in nodes), default=0)
            if most < amount:
                several = False
                got = getattr(self._settings, key)
                shown = f"{most / (1 << 30):.1f}G" if key == "memory" else f"{most:g}"
                problem = f"no node of the cluster has as much: {shown} is the most"
                yield Fault("out-of-range", problem, key=f"hydra.launcher.{key}", got=got, hint=hint)
        if several:
            problem = "no node of the cluster has gpus_per_cell, cpus_per_cell and memory together"
            yield Fault("out-of-range", problem, key=KEY, got="ray", hint=hint)


def command_paths() -> list[str]:
    """Return what a cell's command line needs under the same path on every node: Python, and the working directory."""
    return [sys.executable, str(Path.cwd())]


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Put a small file with a new name into a folder while the block runs."""
    path = folder / f".seen-by-all-{secrets.token_hex(8)}"
    path.write_text("Whether a node of the cluster sees this folder.\n", encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _not_shared(nodes: Sequence[Node], paths: Sequence[str], outputs: Path) -> Iterator[Fault]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(missing_paths)
    looks = {
        look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(list(paths)): node
        for node in nodes
    }
    ray.wait(list(looks), num_returns=len(looks), timeout=ANSWER_SECONDS)
    for task, node in looks.items():
        key = "outputs"
        hint = "Put it on a file system that all nodes have under the same path."
        try:
            missing = str(ray.get(task, timeout=1)).splitlines()
        except ray.exceptions.NodeDiedError:
            continue  # gone since: no cell will run there
        except ray.exceptions.RayError as error:
            words = " ".join(str(error).split())[-MOST_WORDS:]
            yield Fault("not-answering", f"the node {node.host} does not answer: {words}", key=KEY, got="ray")
            continue
        if paths[0] in missing:
            problem = f"the node {node.host} does not see this folder"
            yield Fault("not-shared", problem, key=key, got=str(outputs), hint=hint)
        for path in missing:
            if path != paths[0]:
                problem = f"the node {node.host} has no {path}, which cells need"
                yield Fault("not-shared", problem, key=KEY, got="ray", hint=hint)
