"""How the command line reaches a server: its files in DATA, a boto3 client, signed reads under `/-/`. Runs in the user's process."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from runomics.settings import default_data

if TYPE_CHECKING:
    from types_boto3_omics import OmicsClient

CONNECT_SECONDS = 2.0


class NoServer(Exception):
    """No server runs on this DATA, or its files cannot be read. The message says what to do."""


class RequestFailed(Exception):
    """The server refused a read under `/-/`, or went away."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """DATA/endpoint.json: where the server that owns DATA listens."""

    url: str
    pid: int
    region: str


@dataclass(frozen=True, slots=True)
class Keys:
    """DATA/credentials: the access key made on first start."""

    account: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """A running server and the key to talk to it."""

    data: Path
    endpoint: Endpoint
    keys: Keys

    def client(self) -> OmicsClient:
        """A boto3 client of the omics API on this server."""
        client: OmicsClient = boto3.client(
            "omics",
            endpoint_url=self.endpoint.url,
            region_name=self.endpoint.region,
            aws_access_key_id=self.keys.access_key_id,
            aws_secret_access_key=self.keys.secret_access_key,
            config=Config(inject_host_prefix=False, retries={"mode": "standard", "max_attempts": 4}),
        )
        return client

    def read(self, path: str, **query: str | int) -> Any:
        """The JSON document at `path` below the server, asked for with a signed GET.

        Raises:
            RequestFailed: another answer than 200, or none.
        """
        url = self.endpoint.url.rstrip("/") + quote(path)
        if query:
            url += "?" + urlencode(query)
        status, text = self._send(AWSRequest(method="GET", url=url))
        if status != 200:
            raise RequestFailed(f"{url}: {status} {text.strip()[:300]}", status)
        return json.loads(text)

    def manage(self, method: str, path: str, document: Mapping[str, str] | None = None) -> Any:
        """What the server answers to a signed request of the operator's; `path` is percent-encoded and below `/-/`.

        Raises:
            RequestFailed: the server refused; its own words.
        """
        body = json.dumps(document).encode() if document else b""
        status, text = self._send(AWSRequest(method=method, url=f"{self.endpoint.url.rstrip('/')}/-/{path}", data=body))
        answer = json.loads(text)
        if status != 200:
            raise RequestFailed(str(answer.get("message", text)), status)
        return answer

    def _send(self, request: AWSRequest) -> tuple[int, str]:
        """Status and text of the answer to a request, signed."""
        credentials = Credentials(self.keys.access_key_id, self.keys.secret_access_key)
        SigV4Auth(credentials, "omics", self.endpoint.region).add_auth(request)
        try:
            response = URLLib3Session(timeout=30).send(request.prepare())
        except BotoCoreError as error:
            raise RequestFailed(f"{request.url}: {error}") from None
        return response.status_code, response.text


def read_endpoint(data: Path) -> Endpoint | None:
    """What DATA/endpoint.json says, whether or not that server still runs; None when there is none.

    Raises:
        NoServer: the file is there and cannot be read.
    """
    path = data / "endpoint.json"
    try:
        document = json.loads(path.read_bytes())
        return Endpoint(url=document["url"], pid=int(document["pid"]), region=document["region"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoServer(
            f"{path} cannot be read ({_why(error)}): run as the user of the server, or start it again"
        ) from None


def read_keys(data: Path, account: str | None = None) -> Keys:
    """DATA/credentials, or the key that is kept for another account in DATA/credentials.d.

    Raises:
        NoServer: it is missing or cannot be read.
    """
    keys = _read_keys(data / "credentials")
    if account is None or account == keys.account:
        return keys
    path = data / "credentials.d" / f"{account}.json"
    if not account.isdecimal() or not path.is_file():
        raise NoServer(
            f"no key of account {account} is kept in {path.parent}; make one with: runomics keys create --account {account}"
        )
    return _read_keys(path)


def _read_keys(path: Path) -> Keys:
    try:
        document = json.loads(path.read_bytes())
        return Keys(document["account"], document["access_key_id"], document["secret_access_key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoServer(f"{path} cannot be read ({_why(error)}): run as the user of the server") from None


def is_listening(endpoint: Endpoint) -> bool:
    """Whether that server process lives and its port takes connections."""
    if not is_alive(endpoint.pid):
        return False
    address = urlsplit(endpoint.url)
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or 80), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists and has not ended (a zombie has)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def connect(data: Path, account: str | None = None) -> Connection:
    """The server that runs on `data`, with the operator's key or the one that is kept for `account`.

    Raises:
        NoServer: none does, or no key of the account is kept.
    """
    endpoint = read_endpoint(data)
    if endpoint is None:
        raise NoServer(f"no server runs on {data}; start one with: runomics serve --data {data}")
    if not is_listening(endpoint):
        raise NoServer(
            f"the server of {data} (process {endpoint.pid}, {endpoint.url}) is gone; start it again with: "
            f"runomics serve --data {data}"
        )
    return Connection(data, endpoint, read_keys(data, account))


def environment(connection: Connection) -> dict[str, str]:
    """The variables that turn an AWS SDK or the AWS CLI towards this server."""
    return {
        "AWS_ENDPOINT_URL_OMICS": connection.endpoint.url,
        "AWS_ACCESS_KEY_ID": connection.keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": connection.keys.secret_access_key,
        "AWS_DEFAULT_REGION": connection.endpoint.region,
        "AWS_REGION": connection.endpoint.region,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def export_lines(variables: Mapping[str, str]) -> str:
    """Lines that a shell takes."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def data_given(given: Path | None) -> Path:
    """The DATA directory that is meant: the one given, else RUNOMICS_DATA, else as `serve` has it."""
    return Path(os.path.abspath((given or Path(os.environ.get("RUNOMICS_DATA") or default_data())).expanduser()))


def merged_environment(connection: Connection) -> dict[str, str]:
    """This process' environment, turned towards the server: other credentials in it would win over the keys."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("AWS_PROFILE", "AWS_SESSION_TOKEN")}
    return inherited | environment(connection)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not the expected JSON"
