"""Where named files lie that are read in parts: a directory, or a prefix in S3."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from playscale.storage import local_path, read_range

ATTEMPTS = 5  # of a request to S3 that fails for a reason that may pass, with growing pauses between them
TIMEOUT = 30.0  # seconds without a byte


class Place(Protocol):
    """A directory of files, or what serves as one."""

    def sizes(self) -> dict[str, int]:
        """Name and size (bytes) of the files there; empty when there is no such place."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset` of a file; ValueError when it is missing or too short."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Move a local file there. Under its name there is the whole of it or what was there before."""
        ...

    def where(self, name: str) -> str:
        """The file's path or URI, for messages."""
        ...


def open_place(uri: str | Path) -> Place:
    """The place at a local path, file:// URI or s3://BUCKET/PREFIX; ValueError for anything else."""
    return Bucket(str(uri)) if is_s3(uri) else Folder(local_path(uri))


def is_s3(uri: str | Path) -> bool:
    return str(uri).startswith("s3://")


class Folder:
    """A local directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()}

    def read(self, name: str, offset: int, size: int) -> bytes:
        return read_range(self.path / name, offset, size)

    def put(self, file: Path, name: str) -> None:
        shutil.move(file, self.path / name)

    def where(self, name: str) -> str:
        return str(self.path / name)


class Bucket:
    """A prefix of an S3 bucket.

    Endpoint, region and credentials come from where boto3 takes them (AWS_ENDPOINT_URL, AWS_PROFILE, the instance's
    role and so on). Uploads carry a CRC-32 that the server checks; an object appears when it is whole.
    """

    def __init__(self, uri: str) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not self.bucket:
            raise ValueError(f"{uri}: not of the form s3://BUCKET/PREFIX")
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    def sizes(self) -> dict[str, int]:
        with self._errors(""):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix, Delimiter="/"
            )
            objects = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(self._prefix): entry["Size"] for entry in objects}

    def read(self, name: str, offset: int, size: int) -> bytes:
        with self._errors(name):
            data = self._get(name, f"bytes={offset}-{offset + size - 1}")
        if len(data) != size:
            raise ValueError(f"{self.where(name)}: ends too early ({len(data)} of {size} bytes at {offset})")
        return data

    def _get(self, name: str, part: str) -> bytes:
        """boto3 asks again when a request fails, but not when the answer breaks off: that is done here."""
        from botocore.exceptions import BotoCoreError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._prefix + name, Range=part)
                return bytes(answer["Body"].read())
            except BotoCoreError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("not reached")

    def put(self, file: Path, name: str) -> None:
        with self._errors(name):
            self._client.upload_file(str(file), self.bucket, self._prefix + name)
            stored = self._client.head_object(Bucket=self.bucket, Key=self._prefix + name)["ContentLength"]
        if stored != file.stat().st_size:
            raise OSError(f"{self.where(name)}: {stored} bytes arrived of {file.stat().st_size}")
        file.unlink()

    def where(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._prefix}{name}"

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            # Some servers answer a part of an object with the checksum of the whole. What is read in parts has
            # checksums of its own in it.
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", config=config)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """What S3 refuses is the user's matter (ValueError), an S3 that cannot be reached is an OSError."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            missing = code in {"NoSuchKey", "NoSuchBucket", "404"}
            raise ValueError(f"{self.where(name)}: {'missing' if missing else 'refused'} ({code}: {text})") from error
        except (BotoCoreError, Boto3Error) as error:
            raise OSError(f"{self.where(name)}: {error}") from error
