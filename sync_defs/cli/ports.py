"""TCP ports: whether they can be had."""

import ipaddress
import socket

from sync_defs.errors import ConfigurationError


def require_free(host: str, port: int, *, option: str) -> None:
    """Make sure that a server could listen on a port now.

    Raises:
        ConfigurationError: it is in use, or may not be used; names the option that chooses another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose connections are only waiting to be forgotten is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "it cannot be bound"
            raise ConfigurationError(
                f"port {port} on {host} cannot be used ({reason}); stop what uses it, or choose another with {option}",
                code="port_in_use",
            ) from None


def is_loopback(host: str) -> bool:
    """Tell whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
