"""A prefix of an S3 bucket, and how it is known that what lies there is what was stored."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from playscale.storage.files import atomic_file

ATTEMPTS = 5  # of a request to S3 that fails for a reason that may pass, with growing pauses between them
TIMEOUT = 30.0  # seconds without a byte
PART = 8 << 20  # bytes of a large object that go in one request


@dataclass(frozen=True)
class Checksums:
    """What tells whether an object is a file's bytes."""

    size: int
    sha256: str
    etags: tuple[str, str]  # as servers make them: MD5 of the whole, or of the MD5s of its parts

    @classmethod
    def of(cls, stream: IO[bytes]) -> Checksums:
        size, sha256, md5, parts = 0, hashlib.sha256(), _md5(b""), []
        while part := stream.read(PART):
            size += len(part)
            sha256.update(part)
            md5.update(part)
            parts.append(_md5(part).digest())
        return cls(size, sha256.hexdigest(), (md5.hexdigest(), f"{_md5(b''.join(parts)).hexdigest()}-{len(parts)}"))

    def agree(self, head: Mapping[str, Any]) -> bool:
        """With what the server says of an object: its size, its SHA-256 if it is ours, its ETag if that is an MD5."""
        kept = {name.lower(): value for name, value in head.get("Metadata", {}).items()}  # some servers write Sha256
        known, etag = kept.get("sha256"), head["ETag"].strip('"')
        encrypted = "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head
        others_parts = "-" in etag and etag.rpartition("-")[2] != self.etags[1].rpartition("-")[2]
        return (
            head.get("ContentLength", self.size) == self.size
            and known in {None, self.sha256}
            and (encrypted or others_parts or etag in self.etags)
        )


def _md5(data: bytes) -> Any:
    return hashlib.md5(data, usedforsecurity=False)


class S3Storage:
    """A prefix of an S3 bucket.

    Endpoint, region and credentials come from where boto3 takes them (AWS_ENDPOINT_URL, AWS_PROFILE, the instance's
    role and so on). An object appears when it is whole. What the server says of its bytes (ETag) is compared with what
    was sent, and its SHA-256 lies beside it as metadata, which is compared with what comes back.
    """

    def __init__(self, uri: str) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not self.bucket:
            raise ValueError(f"{uri}: not of the form s3://BUCKET/PREFIX")
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    def sizes(self) -> dict[str, int]:
        return self._list(Delimiter="/")

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
        self.store(file, name)
        file.unlink()

    def walk(self, below: str = "") -> dict[str, int]:
        """Name and size (bytes) of every file whose name begins with `below`, in folders too."""
        return self._list(below)

    def _list(self, below: str = "", **options: str) -> dict[str, int]:
        with self._errors(below):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix + below, **options
            )
            objects = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(self._prefix): entry["Size"] for entry in objects}

    def store(self, file: Path, name: str) -> None:
        """Upload a file, a large one in parts side by side. OSError: S3 cannot be reached, or keeps damaging it."""
        # A small one may grow meanwhile, as a curve does: what is sent is what was read.
        data = file.read_bytes() if file.stat().st_size <= PART else None
        with file.open("rb") if data is None else io.BytesIO(data) as stream:
            sums = Checksums.of(stream)
        where = {"Bucket": self.bucket, "Key": self._prefix + name}
        meta = {"Metadata": {"sha256": sums.sha256}}
        for _ in range(ATTEMPTS):
            with self._errors(name):
                if data is None:
                    self._client.upload_file(str(file), *where.values(), ExtraArgs=meta, Config=self._parts)
                    stored = self._client.head_object(**where)
                else:
                    stored = self._client.put_object(**where, **meta, Body=data)
            if sums.agree(stored):
                return
        raise OSError(f"{self.where(name)}: {ATTEMPTS} times, what arrived was not what was sent")

    def fetch(self, name: str, file: Path) -> None:
        """Download a file, a large one in parts side by side; it gets the object's time of change.

        ValueError: missing. OSError: S3 cannot be reached, or keeps sending something else than was stored.
        """
        where = {"Bucket": self.bucket, "Key": self._prefix + name}
        file.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            with self._errors(name), atomic_file(file) as aside:
                self._client.download_fileobj(*where.values(), aside, Config=self._parts)
                stored = self._client.head_object(**where)
            with file.open("rb") as arrived:
                if Checksums.of(arrived).agree(stored):
                    os.utime(file, (stored["LastModified"].timestamp(),) * 2)
                    return
            file.unlink()
        raise OSError(f"{self.where(name)}: {ATTEMPTS} times, what came was not what was stored")

    def remove(self, name: str) -> None:
        with self._errors(name):
            self._client.delete_object(Bucket=self.bucket, Key=self._prefix + name)

    def where(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._prefix}{name}"

    @cached_property
    def _parts(self) -> Any:
        from boto3.s3.transfer import TransferConfig

        return TransferConfig(multipart_threshold=PART + 1, multipart_chunksize=PART)

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
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise OSError(f"{self.where(name)}: {code}: {text}") from error
            missing = code in {"NoSuchKey", "NoSuchBucket", "404"}
            raise ValueError(f"{self.where(name)}: {'missing' if missing else 'refused'} ({code}: {text})") from error
        except (BotoCoreError, Boto3Error) as error:
            raise OSError(f"{self.where(name)}: {error}") from error
