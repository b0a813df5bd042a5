"""What the runner of this host knows of bridges: whether it can make them, and the removal of those that no task is on. In the server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

TOOLS = ("ip", "nft")
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
NETWORKS = "networks"
"""Below DATA: a directory for each network, in which supervisors keep their addresses."""


def problem() -> str | None:
    """Why supervisors of this process could not make a bridge, and the cure; None when nothing speaks against it."""
    if os.geteuid() != 0:
        return "bridges need root. Run the server as root, or give the network mode host."
    missing = [tool for tool in TOOLS if shutil.which(tool, path=TOOL_PATH) is None]
    if missing:
        return (
            f"{' and '.join(missing)} not installed. Install iproute2 and nftables (apt-get install iproute2 nftables)."
        )
    if FORWARDING.read_text().strip() != "1":
        return "net.ipv4.ip_forward is off. Set it with sysctl -w net.ipv4.ip_forward=1, for good in /etc/sysctl.d."
    return None
