"""Ray: which cluster an address means, before Ray waits minutes for one that does not answer."""

import socket

ANSWER_SECONDS = 10.0


def resolved_address(address: str) -> str | None:
    """Return the address `HOST:PORT` that `ray.init` would connect to; None if no cluster is found.

    Args:
        address: An address, or `auto`: that of RAY_ADDRESS, or of the cluster that this machine belongs to.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die(address))
    except ConnectionError:
        return None


def answers(address: str) -> bool:
    """Return whether something listens at an address `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False
