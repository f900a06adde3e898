"""Starts and stops a real Ray cluster of several nodes on this machine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

# Ray takes 127.0.0.1 for the machine's address in a network; nodes are told apart by their addresses.
ADDRESS = "127.0.0.{number}"


def missing() -> str:
    """Return why no cluster can be started here; empty where it can."""
    return "" if find_spec("ray") is not None else "ray is not installed (pip install -e '.[ray]')"


class Server:
    """A cluster: a head without cores, and nodes with one each.

    Attributes:
        address: Its address, `HOST:PORT`.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "node_ip_address": ADDRESS.format(number=2), "include_dashboard": True}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        self._count = 0
        self.address = str(self._cluster.address)

    def add_node(self) -> None:
        """Add a node."""
        self._count += 1
        address = ADDRESS.format(number=2 + self._count)
        self._nodes.append(self._cluster.add_node(node_ip_address=address, num_cpus=1))

    def remove_node(self) -> None:
        """Stop the oldest node, tasks and all."""
        self._cluster.remove_node(self._nodes.pop(0))

    def stop(self) -> None:
        """Stop all nodes."""
        self._cluster.shutdown()


@contextmanager
def server() -> Iterator[tuple[Server, Mapping[str, str]]]:
    """Run a cluster of a head and one node within the block; yields it, and environment variables of its clients."""
    own = Server()
    try:
        own.add_node()
        yield own, {"RAY_ADDRESS": own.address}
    finally:
        own.stop()
