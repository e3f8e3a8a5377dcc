"""A Glue catalog and S3 on this machine: moto's server, with the one check of real Glue that moto leaves out.

Belongs here: the server and the settings that reach it. Does not belong here: what runs on it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.exceptions import JsonRESTError
from moto.glue.responses import GlueResponse
from moto.server import ThreadedMotoServer

from chart_platform.settings import Settings

REGION = "eu-central-1"


class AnswerLost(JsonRESTError):
    """What botocore takes for a fault of the service, and repeats the call."""

    code = 500


@dataclass
class Glue:
    """The server. ``before_update`` and ``after_update`` are called once each, around the next update of a table."""

    endpoint: str = ""
    refused: int = 0
    checks_versions: bool = True
    before_update: Callable[[], None] | None = None
    after_update: Callable[[], None] | None = None

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION)

    def lose_answer(self) -> None:
        """For ``after_update``: the update happened, but its caller is not told."""
        raise AnswerLost("InternalServiceException", "the answer is lost")


@pytest.fixture(scope="session")
def aws_keys() -> Iterator[None]:
    """Keys for every AWS client of this process and of the commands it starts, so that none asks for real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def glue_server(aws_keys: None) -> Iterator[Glue]:  # noqa: ARG001
    """A Glue and S3 server. As the real Glue does, it refuses an update that names a version that is not the newest."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    seen = Glue()
    lock = threading.Lock()
    plain_update = GlueResponse.update_table

    def update_table(self: GlueResponse) -> Any:
        before, seen.before_update = seen.before_update, None
        if before is not None:
            before()
        with lock:
            database, given = self.parameters["DatabaseName"], self.parameters.get("VersionId")
            newest = self.glue_backend.get_table(database, self.parameters["TableInput"]["Name"]).as_dict()["VersionId"]
            if seen.checks_versions and given is not None and given != newest:
                seen.refused += 1
                raise JsonRESTError("ConcurrentModificationException", f"version {given} is not the newest, {newest}")
            answer = plain_update(self)
        after, seen.after_update = seen.after_update, None
        if after is not None:
            after()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GlueResponse, "update_table", update_table)
        server.start()
        host, port = server.get_host_and_port()
        seen.endpoint = f"http://{host}:{port}"
        yield seen
        server.stop()


@pytest.fixture
def glue(glue_server: Glue, caplog: pytest.LogCaptureFixture) -> Glue:
    """The server, strict and quiet again."""
    caplog.set_level("WARNING", logger="werkzeug")
    glue_server.checks_versions = True
    glue_server.before_update = glue_server.after_update = None
    return glue_server


@pytest.fixture
def aws_settings(glue: Glue, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Gives what settings say of AWS, with a bucket and a catalog prefix of their own."""

    def make() -> dict[str, Any]:
        name = uuid.uuid4().hex[:12]
        glue.client("s3").create_bucket(Bucket=f"lake-{name}", CreateBucketConfiguration={"LocationConstraint": REGION})
        return {
            "home": tmp_path,
            "catalog_type": "glue",
            "warehouse": f"s3://lake-{name}/warehouse",
            "namespace_prefix": f"t{name}_",
            "aws_region": REGION,
            "glue_endpoint": glue.endpoint,
            "s3_endpoint": glue.endpoint,
        }

    return make


@pytest.fixture
def lake_settings(aws_settings: Callable[..., dict[str, Any]]) -> Settings:
    return Settings(**aws_settings())
