"""Networks that an operator defines: a real server in a network namespace of its own, between tasks and a neighbour with two ranges."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runomics.node import linux
from server import wait_until

pytestmark = [pytest.mark.needs("root", "bwrap", "nftables"), pytest.mark.slow]

ALLOWED, FORBIDDEN, PORT = "10.77.1.2", "10.77.2.2", 8000
NETWORKS = f"""
[networks.lab]
mode = "bridge"
allow = ["10.77.1.0/24"]
dns = ["{ALLOWED}"]
subnet_ids = ["subnet-1ab"]

[networks.shared]
mode = "host"
"""
LISTEN = (
    "import socket, threading\n"
    f"for port in ({PORT}, 53):\n"
    "    listener = socket.create_server(('', port), backlog=50)\n"
    "    def serve(listener=listener):\n"
    "        while True: listener.accept()[0].sendall(b'hello\\n')\n"
    "    threading.Thread(target=serve).start()\n"
    "print('listening', flush=True)\n"
)


def task(*commands: str) -> str:
    script = "\n".join(commands)
    return (
        f"version 1.0\ntask t {{ command <<<\n{script}\n>>> output {{ Array[String] said = read_lines(stdout()) }} }}\n"
        "workflow main { call t output { Array[String] said = t.said } }\n"
    )


def reach(name: str, address: str, port: int = PORT) -> str:
    return (
        f"if timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port} && read line <&3'; then echo {name}; fi 2>/dev/null"
    )


@pytest.fixture(scope="module")
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """The test's own network namespace, which is the host's to the server, and a second one with two addresses that listen."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNET)
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'read ready; exec python3 -c "$0"', LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        own = os.readlink("/proc/self/ns/net")
        assert wait_until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, 10)
        outside = f"link set lo up\nlink add out type veth peer name in netns {process.pid}\n"
        outside += "addr add 10.77.0.1/16 dev out\nlink set out up\n"
        inside = f"link set lo up\nlink set in up\naddr add {ALLOWED}/16 dev in\naddr add {FORBIDDEN}/16 dev in\n"
        subprocess.run(["ip", "-batch", "-"], input=outside, text=True, check=True)
        subprocess.run(
            ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "-batch", "-"], input=inside, text=True, check=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"listening\n"
        yield process
    finally:
        with process:
            process.kill()
        linux.set_namespace(home, linux.CLONE_NEWNET)
        os.close(home)


@pytest.fixture(scope="module")
def net_site(neighbour: object, site_on: Callable[[Path], Any]) -> Any:
    data = Path(tempfile.mkdtemp(prefix="ro-e2e-"))
    (data / "runomics.toml").write_text(NETWORKS)
    return site_on(data)


def configure(site: Any, name: str, **vpc_config: Any) -> str:
    """Make a configuration; the status it comes to."""
    site.client.create_configuration(name=name, runConfigurations={"vpcConfig": vpc_config})

    def status() -> str:
        found: str = site.client.get_configuration(name=name)["status"]
        return found

    assert wait_until(lambda: status() != "CREATING", 10, every_seconds=0.02)
    return status()


def said(site: Any, text: str, **more: Any) -> list[str]:
    run = site.end_of(site.start(site.register(text), **more))
    assert run["status"] == "COMPLETED", run
    lines: list[str] = site.outputs(run)["main.said"]
    return lines


def links() -> list[str]:
    listed = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return [line.split(":")[1].split("@")[0].strip() for line in listed.splitlines()]


LOOK = (
    reach("allowed", ALLOWED),
    reach("resolver", ALLOWED, 53),
    reach("forbidden", FORBIDDEN),
    reach("gateway", "10.77.0.1"),
    "ls /sys/class/net 2>/dev/null; awk -F: 'NR > 2 {print $1}' /proc/net/dev",
)


@pytest.mark.source("guide")
def test_a_restricted_run_has_no_interface_but_loopback(net_site: Any) -> None:
    assert [line.strip() for line in said(net_site, task(*LOOK))][-1:] == ["lo"]
    assert set(said(net_site, task(*LOOK))) & {"allowed", "resolver", "forbidden", "gateway"} == set()


@pytest.mark.source("assumed")
def test_a_bridge_reaches_what_it_allows_and_nothing_else(net_site: Any) -> None:
    assert configure(net_site, "net", subnetIds=["subnet-1ab"]) == "ACTIVE"
    vpc = {"networkingMode": "VPC", "configurationName": "net"}
    server = f"http://127.0.0.1:{net_site.server.port}"
    found = said(
        net_site,
        task(
            *LOOK,
            reach("service", "127.0.0.1", net_site.server.port),
            reach("bridge", "10.212.0.1"),
            "cat /etc/resolv.conf",
        ),
        **vpc,
    )
    assert [line.strip() for line in found] == ["allowed", "resolver", "lo", "eth0", f"nameserver {ALLOWED}"], server
    # A task's end of the cable goes with the task, the bridge with the server.
    assert [name[:2] for name in links() if name.startswith("ro")] == ["ro"]
    net_site.server.stop()
    assert [name for name in links() if name.startswith("ro")] == []
    assert subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout == ""
    net_site.server.start()


@pytest.mark.source("assumed")
def test_two_tasks_on_a_bridge_have_addresses_of_their_own_and_do_not_reach_each_other(net_site: Any) -> None:
    configure(net_site, "pair", subnetIds=["subnet-1ab"])
    text = (
        "version 1.0\ntask t { input { Int i } command <<<\n"
        "exec 2>/dev/null; python3 -m http.server 8000 >/dev/null & server=$!\n"
        "address=$(ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1)\n"
        "echo $address > /mnt/workflow/address.~{i}\n"
        "for n in $(seq 100); do [ -s /mnt/workflow/address.$((1 - ~{i})) ] && break; sleep 0.1; done\n"
        "other=$(cat /mnt/workflow/address.$((1 - ~{i})))\n"
        'echo $address; [ "$other" != "$address" ] && echo different\n'
        'if timeout 2 bash -c "exec 3<>/dev/tcp/$other/8000"; then echo reached; fi\n'
        "echo done > /mnt/workflow/done.~{i}\n"
        "for n in $(seq 100); do [ -s /mnt/workflow/done.$((1 - ~{i})) ] && break; sleep 0.1; done; kill $server\n"
        ">>> runtime { cpu: 1 } output { Array[String] said = read_lines(stdout()) } }\n"
        "workflow main { scatter (i in [0, 1]) { call t { input: i = i } } output { Array[String] said = flatten(t.said) } }\n"
    )
    found = said(net_site, text, networkingMode="VPC", configurationName="pair")
    assert [found.count("different"), found.count("reached"), len(set(found) - {"different"})] == [2, 0, 2]


@pytest.mark.source("assumed")
def test_the_hosts_own_network_is_what_its_mode_says(net_site: Any) -> None:
    assert configure(net_site, "shared", subnetIds=["subnet-0"]) == "ACTIVE"
    found = said(net_site, task(*LOOK), networkingMode="VPC", configurationName="shared")
    assert found[:3] == ["allowed", "resolver", "forbidden"]


@pytest.mark.source("assumed")
def test_an_unknown_network_fails_the_configuration_and_one_that_cannot_be_made_the_run(net_site: Any) -> None:
    client = net_site.client
    assert configure(net_site, "nowhere", subnetIds=["subnet-bad"]) == "FAILED"
    workflow = net_site.register(task("true"))
    with pytest.raises(client.exceptions.ConflictException, match=r"No network of this server .*subnet-bad"):
        net_site.start(workflow, networkingMode="VPC", configurationName="nowhere")
    configure(net_site, "again", subnetIds=["subnet-1ab"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    try:
        run = net_site.end_of(net_site.start(workflow, networkingMode="VPC", configurationName="again"))
    finally:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    assert (run["status"], run["failureReason"]) == ("FAILED", "NETWORK_CONFIGURATION_FAILED")
    assert "Network lab cannot be made on this host: net.ipv4.ip_forward is off." in run["statusMessage"]
