"""Every setting of the service, with its type, unit, default and one line of meaning. Read once by `serve` and by the CLI.

A value comes from, first wins: the flag `--name-with-dashes`, the environment variable `RUNOMICS_NAME`, the file `DATA/runomics.toml`,
the default. Neither typer nor rich is imported here: `serve` starts from this module.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "RUNOMICS_"
TABLES = frozenset({"image_map", "networks"})
"""Settings that are tables of `runomics.toml`: no flag and no variable holds them."""

FOREIGN_VARIABLES = ("RUNOMICS_TEST_",)
"""Variables with our prefix that belong to the test suite, not to the service."""

LISTEN = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})$")


DATABASE_SCHEMES = ("postgresql://", "postgres://")
SECRETS = ("database", "s3_secret_access_key")
"""Settings whose value is never shown."""


NETWORK_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class SettingsError(Exception):
    """The settings cannot be used. The message names each wrong setting, where it came from and what it accepts."""


class Address(NamedTuple):
    """Where the service listens. Port 0 lets the kernel choose."""

    host: str
    port: int


def default_data() -> Path:
    """/var/lib/runomics for root, else runomics below $XDG_DATA_HOME (~/.local/share)."""
    if os.geteuid() == 0:
        return Path("/var/lib/runomics")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "runomics"


class NetworkTable(BaseModel):
    """One table of `networks`, as it is written (domain.network.Network says what each member means)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["host", "bridge"]
    allow: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    subnet: str | None = None
    accounts: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()


class Settings(BaseSettings):
    """One server's settings, checked and frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    # ---- where
    data: Path = Field(
        default_factory=default_data,
        description="Directory of everything the server keeps. Default: `/var/lib/runomics` for root, else "
        "`$XDG_DATA_HOME/runomics`.",
    )
    database: SecretStr | None = Field(
        None,
        description="URL of a PostgreSQL database, `postgresql://user@host/name`, for this server alone. Default: a file of SQLite "
        "in `data`.",
    )
    database_connections: int = Field(
        16, ge=4, description="Connections to `database` at most; one more is held by the server's lock."
    )
    listen: str = Field("127.0.0.1:8080", description="Address and port of the API; port 0 takes a free one.")
    region: str = Field(
        "us-east-1",
        pattern=r"^[a-z]{2,3}(-[a-z]+)+-\d+$",
        description="The one AWS Region this server answers for; requests signed for another are refused.",
    )
    account: str = Field("123456789012", pattern=r"^\d{12}$", description="The account made on first start.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level that the server's own log shows."
    )

    # ---- requests
    max_body_bytes: int = Field(8 * 1024**2, ge=64 * 1024, description="Larger request bodies are refused unread.")
    token_days: int = Field(30, ge=1, description="Days for which a repeated `requestId` gets the first answer again.")

    audit_log: bool = Field(
        True, description="Write a line for every call to `data`/audit.log: who, what, which resource, which outcome."
    )
    audit_log_max_bytes: int = Field(
        64 * 1024**2, ge=64 * 1024, description="Size in bytes at which the audit log is put aside and begun anew."
    )
    audit_log_files: int = Field(10, ge=1, description="Audit logs kept, the current one included; the oldest goes.")

    request_rates: Literal["off", "aws"] = Field(
        "off",
        description="Requests a second of one account: `aws` refuses what is over AWS's documented rates with "
        "ThrottlingException, `off` refuses nothing.",
    )

    metrics_token: SecretStr | None = Field(
        None,
        description="What a Prometheus server shows as bearer token to read `/metrics`. Without it `/metrics` answers only where `listen` "
        "is loopback.",
    )

    # ---- quotas of one account
    max_stored_runs: int = Field(
        1_000_000,
        ge=1,
        description="Runs kept, ended or not. When they are as many, a new run with retentionMode REMOVE takes the place of the "
        "oldest ended one of that mode, and any other is refused.",
    )
    max_workflows: int = Field(10_000, ge=1, description="Workflows kept; more are refused.")
    max_versions_per_workflow: int = Field(1_000, ge=1, description="Versions of one workflow; more are refused.")
    max_shares_per_workflow: int = Field(
        1_000, ge=1, description="Accounts that one workflow is shared with; more are refused."
    )
    max_run_groups: int = Field(10_000, ge=1, description="Run groups kept; more are refused.")
    max_run_caches: int = Field(10_000, ge=1, description="Run caches kept; more are refused.")
    max_configurations: int = Field(1_000, ge=1, description="Configurations kept; more are refused.")

    # ---- events
    event_days: int = Field(
        7,
        ge=1,
        description="Days for which a webhook is tried again for an event that it does not take; then it is given up.",
    )

    # ---- workflows
    ready2run_directory: Path | None = Field(
        None,
        description="Folder with the Ready2Run workflows that every account may run, read at start. Without it there are none.",
    )

    git_connections_file: Path | None = Field(
        None,
        description="TOML file that says to which Git repositories the connections of `definitionRepository` lead. Without it there "
        "are none.",
    )
    git_seconds: float = Field(60.0, gt=0, description="Seconds that fetching a definition from a repository may take.")
    git_max_bytes: int = Field(
        1024**3, ge=1024**2, description="Bytes that may be fetched from a repository for one definition."
    )

    # ---- run storage
    storage_backend: Literal["auto", "xfs-image", "directory"] = Field(
        "auto",
        description="How run storage is made: `xfs-image` limits STATIC exactly and needs root and loop devices; `directory` "
        "measures, and ends a run that is over its size; `auto` takes the best that works here.",
    )
    default_storage_type: Literal["STATIC", "DYNAMIC"] = Field(
        "STATIC", description="Storage type of a run when request, version and workflow name none."
    )
    default_static_capacity_gib: int = Field(
        1200, ge=1, le=100_000, description="Size in GiB of STATIC storage when nobody names one."
    )
    storage_reserve_gib: int = Field(
        10,
        ge=0,
        description="GiB of the disk under `data` that runs never get; the larger of this and `storage_reserve_percent` counts.",
    )
    storage_reserve_percent: int = Field(
        5, ge=0, le=90, description="Percent of the disk under `data` that runs never get."
    )

    # ---- objects
    s3_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]+/?$",
        description="URL of the S3 service that `s3://` means. Without it a bucket is a folder below `data`/objects.",
    )
    s3_access_key_id: str | None = Field(None, description="Key id for `s3_endpoint`.")
    s3_secret_access_key: SecretStr | None = Field(None, description="Secret key for `s3_endpoint`.")
    roles_file: Path | None = Field(
        None,
        description="TOML or JSON file of the roles that runs may have and the buckets of each. Without it any role of the "
        "account stands for all of its buckets.",
    )
    cache_max_bytes: int = Field(
        100 * 1024**3,
        ge=0,
        description="Inputs kept by content for later runs, in bytes; the least recently used go first.",
    )

    # ---- tasks and the host
    host_cpus: float | None = Field(
        None, gt=0, description="CPUs that tasks share; may exceed the real number. Default: all."
    )
    host_memory_gib: float | None = Field(
        None, gt=0, description="GiB of memory that tasks share. Default: what the host has, less 2."
    )
    oversize_tasks: Literal["clamp", "fail"] = Field(
        "clamp",
        description="A task that asks for more than the host has: `clamp` gives it all there is and says so in the run's log.",
    )
    unknown_images: Literal["fail", "host"] = Field(
        "fail",
        description="A container image that cannot be had: `fail` the task, or run it on the `host`'s own tools, sandboxed.",
    )
    strict_images: bool = Field(
        False, description="Accept only images of private Amazon ECR registries, as HealthOmics does."
    )
    default_image: str | None = Field(
        None, description="Image of tasks that name none. Without it they run on the `host`'s own tools, sandboxed."
    )
    image_map: Mapping[str, str] = Field(
        default_factory=dict,
        description="Where images are really pulled from, in `runomics.toml` alone, as a table `[image_map]` of beginnings of names: "
        '`"team/" = "localhost:5000/"` is about any ECR registry, `"registry.example.org/" = …` about that one. The prefixes that AWS uses '
        'for pull-through caches (`quay/`, `ecr-public/`, `docker-hub/`, …) lead to the registries behind them; `"quay/" = ""` '
        "leaves one as it is.",
    )
    registry_auth_file: Path | None = Field(
        None,
        description="File of logins to registries, as `podman login --authfile` and docker's config.json have it. Default: what skopeo "
        "finds for the server's user.",
    )
    insecure_registries: str = Field(
        "",
        description="Registries that are spoken to without TLS, or without checking their certificate: HOST:PORT, commas between.",
    )
    container_runtime: Literal["auto", "bwrap", "crun"] = Field(
        "auto",
        description="What tasks in images run in: `bwrap`, `crun` (root only), or `auto`, which is crun for images with a user of their "
        "own where it is installed, and bwrap for all others.",
    )
    image_directory: Path | None = Field(
        None, description="Where pulled images are kept. Default: `data`/images; it must be a file system with xattrs."
    )
    image_max_bytes: int = Field(
        100 * 1024**3,
        ge=0,
        description="Bytes of images kept; over that, those unused for `image_days` go, oldest first.",
    )
    image_days: float = Field(
        7.0, ge=0, description="Days that an image is kept after its last use, whatever `image_max_bytes`."
    )
    max_image_gib: float = Field(
        45.0, gt=0, description="GiB that an image may unpack to; a task with a larger one fails."
    )
    image_pull_seconds: float = Field(3600.0, gt=0, description="Seconds that one try to pull an image may take.")
    task_concurrency: int = Field(500, ge=1, description="Tasks one run may have open at once.")
    task_retries: int = Field(
        2, ge=0, le=10, description="Times a task is tried again after a loss that is not its own fault."
    )
    grace_seconds: float = Field(2.0, ge=0, description="Seconds between asking a task to end and killing it.")
    log_max_bytes_per_task: int = Field(
        256 * 1024**2, ge=4096, description="Bytes of output kept for one task; the rest is cut with a note."
    )
    require_sandbox: bool | None = Field(
        None,
        description="Run nothing where a layer of isolation is missing (namespaces, the filter of system calls, cgroups, run storage "
        "with hard limits): the server says which and the cure, and does not start. Default: true unless `listen` is loopback.",
    )
    networks: Mapping[str, NetworkTable] = Field(
        default_factory=dict,
        description="Networks for runs with networkingMode VPC, in `runomics.toml` alone, as tables `[networks.NAME]`: "
        "`mode` (`host`, or `bridge` with what it reaches: `allow`, `dns`, `subnet`), `accounts`, and the `subnet_ids` and "
        "`security_group_ids` of the configurations that mean it. The page on networks explains them.",
    )
    sandbox_uid_base: int = Field(
        1_879_100_000,
        ge=65_536,
        le=4_294_000_000,
        description="First of 65,536 user ids that sandboxes get when the server is root; nobody else may use them.",
    )

    # ---- runs
    max_active_runs: int = Field(
        100, ge=1, description="Runs of all accounts together that may be active at once; others wait."
    )
    max_active_static_runs: int | None = Field(
        None,
        ge=1,
        description="Runs with STATIC storage that one account may have active at once; others wait. Default: as many as "
        "`max_active_runs` allows.",
    )
    max_active_dynamic_runs: int | None = Field(
        None,
        ge=1,
        description="Runs with DYNAMIC storage that one account may have active at once; others wait. Default: as many as "
        "`max_active_runs` allows.",
    )
    run_timeout_seconds: int = Field(
        604_800, ge=1, description="Seconds after which an executing run fails, its finished outputs exported."
    )
    min_running_seconds: float = Field(
        0.0, ge=0, description="Seconds a run shows RUNNING at least, for clients that wait for that state first."
    )
    on_engine_loss: Literal["restart", "fail"] = Field(
        "restart",
        description="A run whose engine is lost with its host: `restart` it where it was, or `fail` it.",
    )

    @field_validator("data", "roles_file", "ready2run_directory", "git_connections_file", mode="after")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else Path(os.path.abspath(path.expanduser()))

    @field_validator("database")
    @classmethod
    def _database_url(cls, database: SecretStr | None) -> SecretStr | None:
        if database is not None and not database.get_secret_value().startswith(DATABASE_SCHEMES):
            raise ValueError("must be a URL that begins with postgresql://")
        return database

    @field_validator("registry_auth_file", "image_directory")
    @classmethod
    def _image_paths(cls, path: Path | None) -> Path | None:
        return cls._absolute(path)

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        matched = LISTEN.match(listen)
        if matched is None or int(matched["port"]) > 65_535:
            raise ValueError("must be HOST:PORT, for example 127.0.0.1:8080 or [::1]:0")
        return listen

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key belong together")
        return self

    @property
    def database_url(self) -> str | None:
        """`database` in clear, for the store alone."""
        return None if self.database is None else self.database.get_secret_value()

    @field_validator("networks")
    @classmethod
    def _networks(cls, networks: Mapping[str, NetworkTable]) -> Mapping[str, NetworkTable]:
        for name in networks:
            if not NETWORK_NAME.match(name):
                raise ValueError(f"{name!r} is no name for a network: letters, digits, dots, dashes and underscores")
        return networks

    @property
    def requires_sandbox(self) -> bool:
        """`require_sandbox`, or whether somebody else than this host's users can reach the server."""
        if self.require_sandbox is not None:
            return self.require_sandbox
        return not self.is_local

    @property
    def is_local(self) -> bool:
        """Whether only this host's users can reach the server."""
        host = self.address.host
        return host in ("localhost", "::1") or host.startswith("127.")

    @property
    def address(self) -> Address:
        """`listen`, taken apart; an IPv6 host comes without its brackets."""
        host, _, port = self.listen.rpartition(":")
        return Address(host.strip("[]"), int(port))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, `DATA/runomics.toml`; no dotenv file and no secrets directory."""
        flags = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        data = Path(flags.get("data") or os.environ.get(PREFIX + "DATA") or default_data()).expanduser()
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, data / "runomics.toml"))


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force, `flags` (setting name → value; None = not given) before everything else.

    Raises:
        SettingsError: a value is wrong, a name in the environment or in the file is unknown, or the file is not TOML.
    """
    _refuse_unknown_variables()
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem, given) for problem in error.errors())) from None
    except (ValueError, OSError) as error:
        raise SettingsError(f"runomics.toml cannot be read: {error}") from None


def flag_of(name: str) -> str:
    """`host_cpus` → `--host-cpus`."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """`host_cpus` → `RUNOMICS_HOST_CPUS`."""
    return PREFIX + name.upper()


def type_text(field: FieldInfo) -> str:
    """A setting's type in the words of the documentation: `integer`, `text`, `clamp or fail`."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    plain = [part for part in get_args(annotation) if part is not type(None)] or [annotation]
    if get_origin(annotation) is Mapping:
        return "tables"
    words: dict[Any, str] = {int: "integer", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}
    return words.get(plain[0], "text")


def parse_flags(arguments: Sequence[str], program: str = "runomics serve") -> Settings:
    """The settings after a command line in which every setting is a flag. `--help` prints them and exits.

    Raises:
        SettingsError: as `load`.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Start the service. Every setting may also stand in the environment (RUNOMICS_NAME) or in DATA/runomics.toml.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        if name in TABLES:
            continue
        text = (field.description or "").replace("%", "%%").replace("`", "")
        parser.add_argument(flag_of(name), dest=name, metavar=name.split("_")[-1].upper(), help=text)
    return load(vars(parser.parse_args(arguments)))


def _refuse_unknown_variables() -> None:
    known = {variable_of(name) for name in Settings.model_fields if name not in TABLES}
    for variable in os.environ:
        if not variable.startswith(PREFIX) or variable.startswith(FOREIGN_VARIABLES) or variable in known:
            continue
        near = difflib.get_close_matches(variable, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{variable} in the environment is no setting{hint}")


def _explain(problem: Any, given: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    if name in TABLES:
        return f"{'.'.join(str(part) for part in problem['loc'])} in runomics.toml: {message}"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, 1)
        return f"{name} in runomics.toml is no setting" + (f"; did you mean {near[0]}?" if near else "")
    if name in given:
        origin = flag_of(name)
    elif variable_of(name) in os.environ:
        origin = variable_of(name)
    else:
        origin = f"{name} in runomics.toml"
    value = "" if name in SECRETS else f" {str(problem['input'])!r}"
    return f"{origin}{value}: {message}"
