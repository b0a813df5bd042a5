"""The snapshot of the host's /etc that tasks without an image see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runomics.node import host_etc


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    path = tmp_path / "etc"
    for name in ("ssl/certs", "ssl/private", "java-17-openjdk/management", "alternatives"):
        (path / name).mkdir(parents=True)
    (path / "passwd").write_text("root:x:0:0\n")
    (path / "shadow").write_text("secret")
    (path / "ssl" / "private" / "key").write_text("secret")
    (path / "ssl" / "certs" / "ca.pem").write_text("certificate")
    password = path / "java-17-openjdk" / "management" / "jmxremote.password"
    password.write_text("secret")
    password.chmod(0o600)
    (path / "java-17-openjdk" / "net.properties").write_text("a=b")
    (path / "alternatives" / "awk").symlink_to("/usr/bin/mawk")
    (path / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (path / "timezone").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("Etc/UTC\n")
    return path


def content(path: str) -> dict[str, str]:
    top = Path(path)
    return {
        str(each.relative_to(top)): os.readlink(each) if each.is_symlink() else each.read_text()
        for each in top.rglob("*")
        if each.is_symlink() or each.is_file()
    }


def test_it_holds_what_programs_read_and_nothing_that_only_root_may(tmp_path: Path, etc: Path) -> None:
    path = host_etc.snapshot(str(tmp_path / "snapshots"), "127.0.0.1 task\n", host_etc.look(str(etc)), etc=str(etc))
    found = content(path)
    assert found == {
        "passwd": "root:x:0:0\n",
        "hosts": "127.0.0.1 task\n",
        "ssl/certs/ca.pem": "certificate",
        "java-17-openjdk/net.properties": "a=b",
        "alternatives/awk": "/usr/bin/mawk",
        "localtime": "/usr/share/zoneinfo/Etc/UTC",
        "timezone": "Etc/UTC\n",
    }


def test_it_is_made_once_and_again_when_the_host_changes(tmp_path: Path, etc: Path) -> None:
    def snapshot() -> str:
        return host_etc.snapshot(str(tmp_path / "snapshots"), "", host_etc.look(str(etc)), etc=str(etc))

    first = snapshot()
    assert snapshot() == first
    (etc / "passwd").write_text("root:x:0:0\nme:x:1:1\n")
    second = snapshot()
    assert (second != first, content(first)["passwd"], content(second)["passwd"]) == (
        True,
        "root:x:0:0\n",
        "root:x:0:0\nme:x:1:1\n",
    )


def test_other_hosts_files_are_other_snapshots(tmp_path: Path, etc: Path) -> None:
    looks = host_etc.look(str(etc))
    paths = {host_etc.snapshot(str(tmp_path / "snapshots"), hosts, looks, etc=str(etc)) for hosts in ("a", "b", "a")}
    assert len(paths) == 2


def test_only_with_network_it_tells_how_names_are_found(tmp_path: Path, etc: Path) -> None:
    (etc / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    place, looks = str(tmp_path / "snapshots"), host_etc.look(str(etc))
    found = [content(host_etc.snapshot(place, "", looks, network=on, etc=str(etc))) for on in (False, True)]
    assert [names.get("resolv.conf") for names in found] == [None, "nameserver 10.0.0.1\n"]


def test_a_look_is_used_for_a_second_and_then_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([{"passwd": (1, "first")}, {"passwd": (2, "second")}])
    monkeypatch.setattr(host_etc, "look", lambda: next(states))
    monkeypatch.setattr(host_etc, "_last", None)
    seen = [host_etc.recent_look(now)["passwd"][1] for now in (10.0, 10.9, 11.1)]
    assert seen == ["first", "first", "second"]
