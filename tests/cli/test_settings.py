"""Settings: where a value comes from, and what is refused with which words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runomics.domain.network import Network, networks_of
from runomics.settings import Settings, SettingsError, default_data, load, parse_flags


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUNOMICS_"):
            monkeypatch.delenv(name)


def test_a_flag_wins_over_the_environment_the_file_and_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    found.append(load({"data": tmp_path}).task_retries)
    (tmp_path / "runomics.toml").write_text("task_retries = 3\n")
    found.append(load({"data": tmp_path}).task_retries)
    monkeypatch.setenv("RUNOMICS_TASK_RETRIES", "4")
    found.append(load({"data": tmp_path}).task_retries)
    found.append(load({"data": tmp_path, "task_retries": "5"}).task_retries)
    assert found == [2, 3, 4, 5]


def test_the_file_is_looked_for_in_the_data_directory_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runomics.toml").write_text("host_cpus = 1.5\n")
    monkeypatch.setenv("RUNOMICS_DATA", str(tmp_path))
    settings = load()
    assert (settings.data, settings.host_cpus) == (tmp_path, 1.5)


def test_flags_of_a_command_line_become_settings(tmp_path: Path) -> None:
    settings = parse_flags(["--data", str(tmp_path), "--listen", "[::1]:0", "--unknown-images", "host"])
    assert (settings.address, settings.unknown_images) == (("::1", 0), "host")


def test_data_is_absolute_wherever_the_server_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"data": "here"}).data == tmp_path / "here"


@pytest.mark.parametrize(("user", "directory"), [(0, "/var/lib/runomics"), (1000, "/somewhere/runomics")])
def test_root_has_one_place_for_all_and_a_plain_user_its_own(
    monkeypatch: pytest.MonkeyPatch, user: int, directory: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert default_data() == Path(directory)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"host_cpus": "-1"}, "--host-cpus '-1': Input should be greater than 0"),
        ({"listen": "8080"}, "--listen '8080': must be HOST:PORT, for example 127.0.0.1:8080 or [::1]:0"),
        (
            {"listen": "localhost:70000"},
            "--listen 'localhost:70000': must be HOST:PORT, for example 127.0.0.1:8080 or [::1]:0",
        ),
        ({"on_engine_loss": "ignore"}, "--on-engine-loss 'ignore': Input should be 'restart' or 'fail'"),
        ({"s3_access_key_id": "k"}, "s3_access_key_id and s3_secret_access_key belong together"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be(tmp_path: Path, flags: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"data": tmp_path, **flags})
    assert str(refused.value) == message


def test_a_misspelt_variable_is_refused_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOMICS_HOST_CPU", "4")
    with pytest.raises(SettingsError) as refused:
        load({"data": tmp_path})
    assert str(refused.value) == "RUNOMICS_HOST_CPU in the environment is no setting; did you mean RUNOMICS_HOST_CPUS?"


def test_variables_of_the_test_suite_are_not_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOMICS_TEST_REQUIRE", "root")
    assert load({"data": tmp_path}) == Settings(data=tmp_path)


def test_a_misspelt_line_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runomics.toml").write_text("host_cpu = 4\n")
    with pytest.raises(SettingsError) as refused:
        load({"data": tmp_path})
    assert str(refused.value) == "host_cpu in runomics.toml is no setting; did you mean host_cpus?"


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runomics.toml").write_text("host_cpus: 4\n")
    with pytest.raises(SettingsError, match=r"^runomics\.toml cannot be read: "):
        load({"data": tmp_path})


def test_a_secret_is_shown_in_no_representation_and_no_message(tmp_path: Path) -> None:
    settings = load({"data": tmp_path, "s3_access_key_id": "AKIA", "s3_secret_access_key": "hidden-word"})
    assert "hidden-word" not in repr(settings)
    with pytest.raises(SettingsError) as refused:
        load({"data": tmp_path, "s3_secret_access_key": ["hidden-word"]})
    assert "hidden-word" not in str(refused.value)


def test_the_url_of_a_database_is_one_of_postgresql_and_shown_nowhere(tmp_path: Path) -> None:
    settings = load({"data": tmp_path, "database": "postgresql://app:hidden-word@db/rows"})
    assert settings.database_url == "postgresql://app:hidden-word@db/rows"
    assert "hidden-word" not in repr(settings)
    with pytest.raises(SettingsError, match="--database: must be a URL that begins with postgresql://") as caught:
        load({"data": tmp_path, "database": "mysql://app:hidden-word@db/rows"})
    assert "hidden-word" not in str(caught.value)


def test_serve_starts_without_the_libraries_of_the_command_line() -> None:
    check = "import sys, runomics.__main__, runomics.settings; print(sorted({'typer', 'rich', 'boto3', 'WDL'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_wrong_setting_ends_serve_with_exit_code_2_and_its_name(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "runomics", "serve", "--data", str(tmp_path), "--grace-seconds", "soon"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("runomics serve: --grace-seconds 'soon': ")


NETWORKS = """
[networks.lab]
mode = "bridge"
allow = ["10.1.0.0/16"]
dns = ["10.1.0.53"]
subnet_ids = ["subnet-1"]

[networks.open]
mode = "host"
accounts = ["123456789012"]
"""


def test_networks_are_tables_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "runomics.toml").write_text(NETWORKS)
    assert networks_of(load({"data": tmp_path}).networks) == (
        Network("lab", "bridge", allow=("10.1.0.0/16",), dns=("10.1.0.53",), subnet_ids=("subnet-1",)),
        Network("open", "host", accounts=("123456789012",)),
    )
    with pytest.raises(SystemExit):
        parse_flags(["--networks", "{}"])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[networks.lab]\nmode = "nat"', "networks.lab.mode in runomics.toml: Input should be 'host' or 'bridge'"),
        ('[networks.lab]\nmode = "host"\nranges = []', "networks.lab.ranges in runomics.toml: Extra inputs"),
        ('[networks."a b"]\nmode = "host"', "networks in runomics.toml: 'a b' is no name for a network"),
    ],
)
def test_a_network_that_cannot_be_is_said_with_its_place(tmp_path: Path, table: str, says: str) -> None:
    (tmp_path / "runomics.toml").write_text(table)
    with pytest.raises(SettingsError, match=re.escape(says)):
        load({"data": tmp_path})


@pytest.mark.parametrize(
    ("listen", "given", "required"),
    [
        ("127.0.0.1:0", None, False),
        ("[::1]:0", None, False),
        ("localhost:0", None, False),
        ("0.0.0.0:0", None, True),
        ("runomics.example:0", None, True),
        ("127.0.0.1:0", "true", True),
        ("0.0.0.0:0", "false", False),
    ],
)
def test_a_server_that_others_reach_requires_the_whole_sandbox_unless_told(
    tmp_path: Path, listen: str, given: str | None, required: bool
) -> None:
    assert load({"data": tmp_path, "listen": listen, "require_sandbox": given}).requires_sandbox is required
