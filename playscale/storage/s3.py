"""Files below a prefix of an S3 bucket, with checksums that show whether an object is the file that was uploaded."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from playscale.storage.files import atomic_file

ATTEMPTS = 5  # at a request to S3 that fails for a temporary reason, with growing pauses
TIMEOUT = 30.0  # seconds without a byte
PART = 8 << 20  # bytes of a large object that are transferred in one request
UNSUPPORTED = frozenset({501})  # answers of 500 and above that stay the same when a request is repeated
CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"


@dataclass(frozen=True)
class Checksums:
    """Size and checksums of a file, to compare with what a server says of an object."""

    size: int
    sha256: str
    etags: tuple[str, str]  # as servers compute them: MD5 of the whole, or of the MD5s of its parts

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
        """Compare with an object's head: its size, its SHA-256 if we uploaded it, its ETag if that is an MD5."""
        metadata = {key.lower(): value for key, value in head.get("Metadata", {}).items()}  # some servers write Sha256
        sha256, etag = metadata.get("sha256"), head["ETag"].strip('"')
        encrypted = "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head
        other_parts = "-" in etag and etag.rpartition("-")[2] != self.etags[1].rpartition("-")[2]
        return (
            head.get("ContentLength", self.size) == self.size
            and sha256 in {None, self.sha256}
            and (encrypted or other_parts or etag in self.etags)
        )


def _md5(data: bytes) -> Any:
    return hashlib.md5(data, usedforsecurity=False)


class S3Storage:
    """A prefix of an S3 bucket.

    Endpoint, region and credentials are configured as for boto3 (AWS_ENDPOINT_URL, AWS_PROFILE, the role of the machine
    and so on). An object appears when it is complete. After an upload the server's checksum (ETag) is compared with the
    file's; the file's SHA-256 is stored as metadata of the object and compared after a download.
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
            data, _ = self._get(name, Range=f"bytes={offset}-{offset + size - 1}")
        if len(data) != size:
            raise ValueError(f"{self.where(name)}: ends too early ({len(data)} of {size} bytes at {offset})")
        return data

    def read_whole(self, name: str) -> bytes:
        """Read a file that fits in memory; OSError: what comes differs from what was stored."""
        for _ in range(ATTEMPTS):
            with self._errors(name):
                data, head = self._get(name)
            if Checksums.of(io.BytesIO(data)).agree(head):
                return data
        raise OSError(f"{self.where(name)}: {ATTEMPTS} times, what came was not what was stored")

    def _get(self, name: str, **options: str) -> tuple[bytes, Mapping[str, Any]]:
        """Read an object or part of it. boto3 retries a request that fails; a body that breaks off is retried here."""
        from botocore.exceptions import BotoCoreError

        def get() -> tuple[bytes, Mapping[str, Any]]:
            response = self._client.get_object(Bucket=self.bucket, Key=self._prefix + name, **options)
            return bytes(response["Body"].read()), response

        broken = retry_if_exception_type(BotoCoreError)
        attempts = stop_after_attempt(ATTEMPTS)
        return Retrying(retry=broken, stop=attempts, wait=wait_exponential(multiplier=0.2), reraise=True)(get)

    def put(self, file: Path, name: str) -> None:
        self.upload(file, name)
        file.unlink()

    def check_writable(self) -> None:
        """Store a small object and remove it, so that a refusal is known before hours of work.

        ValueError: S3 refuses one of both. OSError: it cannot be reached.
        """
        key = {"Bucket": self.bucket, "Key": f"{self._prefix}.playscale-{secrets.token_hex(8)}"}
        with self._errors("", writes=True):
            self._client.put_object(**key, Body=b"written to see if it can be")
            self._client.delete_object(**key)

    def walk(self, prefix: str = "") -> dict[str, int]:
        """Return name and size (bytes) of every file whose name begins with `prefix`, those in folders included.

        Names are keys without the storage's prefix: they may be anything, see `path_below`.
        """
        return self._list(prefix)

    def changed(self, prefix: str = "", *, deep: bool = True) -> dict[str, float]:
        """Return name and unix time of change of every file whose name begins with `prefix`.

        Without `deep`, those in folders are left out.
        """
        found = self._entries(prefix, **({} if deep else {"Delimiter": "/"}))
        return {name: entry["LastModified"].timestamp() for name, entry in found.items()}

    def _list(self, prefix: str = "", **options: str) -> dict[str, int]:
        return {name: entry["Size"] for name, entry in self._entries(prefix, **options).items()}

    def _entries(self, prefix: str, **options: str) -> dict[str, Mapping[str, Any]]:
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix + prefix, **options
            )
            objects = [entry for page in pages for entry in page.get("Contents", [])]
        files = (entry for entry in objects if not entry["Key"].endswith("/"))  # "a/" is how consoles mark a folder
        return {entry["Key"].removeprefix(self._prefix): entry for entry in files}

    def upload(self, file: Path, name: str) -> None:
        """Upload a file, a large one in parallel parts.

        OSError: S3 cannot be reached, or what it holds afterwards differs from the file.
        """
        # A small file may grow meanwhile, as a learning curve does: what was read once is both sent and compared.
        data = file.read_bytes() if file.stat().st_size <= PART else None
        with file.open("rb") if data is None else io.BytesIO(data) as stream:
            sums = Checksums.of(stream)
        key = {"Bucket": self.bucket, "Key": self._prefix + name}
        extra = {"Metadata": {"sha256": sums.sha256}}
        for _ in range(ATTEMPTS):
            with self._errors(name, writes=True):
                if data is not None:
                    head = self._client.put_object(**key, **extra, Body=data)
                elif self._upload_parts(file, key, extra):
                    head = self._client.head_object(**key)
                else:
                    continue
            if sums.agree(head):
                return
        raise OSError(f"{self.where(name)}: {ATTEMPTS} times, what arrived was not what was sent")

    def _upload_parts(self, file: Path, key: Mapping[str, str], extra: Mapping[str, Any]) -> bool:
        """Upload a file in parallel parts; False: the server does not know this upload any more.

        That is so where it joined the parts but its answer was lost and boto3 asked again, and where a rule of the
        bucket removes unfinished uploads. A new upload gets through.
        """
        from boto3.exceptions import S3UploadFailedError

        try:
            self._client.upload_file(str(file), key["Bucket"], key["Key"], ExtraArgs=extra, Config=self._transfer)
        except S3UploadFailedError as error:
            if not isinstance(error.__context__, self._client.exceptions.NoSuchUpload):
                raise
            return False
        return True

    def download(self, name: str, file: Path) -> None:
        """Download a file, a large one in parallel parts, and give it the object's time of change.

        ValueError: it is missing. OSError: S3 cannot be reached, or what arrives differs from what was uploaded.
        """
        key = {"Bucket": self.bucket, "Key": self._prefix + name}
        for _ in range(ATTEMPTS):
            with self._errors(name), atomic_file(file) as aside:
                self._client.download_fileobj(*key.values(), aside, Config=self._transfer)
                head = self._client.head_object(**key)
            with file.open("rb") as stream:
                if Checksums.of(stream).agree(head):
                    os.utime(file, (head["LastModified"].timestamp(),) * 2)
                    return
            file.unlink()
        raise OSError(f"{self.where(name)}: {ATTEMPTS} times, what came was not what was stored")

    def remove(self, name: str) -> None:
        with self._errors(name):
            self._client.delete_object(Bucket=self.bucket, Key=self._prefix + name)

    def where(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._prefix}{name}"

    @cached_property
    def _transfer(self) -> Any:
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
            # Some servers send the checksum of the whole with a part of an object. Files that are read in parts have
            # checksums inside.
            response_checksum_validation="when_required",
        )
        logging.getLogger("botocore").setLevel(logging.WARNING)  # says at each client where it found credentials
        try:
            return boto3.session.Session().client("s3", config=config)
        except ValueError as error:  # Invalid endpoint
            raise ValueError(f"{self.where('')}: {error}; it must begin with http:// or https://") from error

    @contextmanager
    def _errors(self, name: str, *, writes: bool = False) -> Iterator[None]:
        """Raise ValueError for what S3 refuses, which the user can mend, and OSError when it cannot be reached."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            # boto3 wraps the refusal of a part of a large file in an error of its own
            refusal = error.__context__ if isinstance(error, Boto3Error) else error
            if not isinstance(refusal, ClientError):
                raise OSError(f"{self.where(name)}: {error}") from error
            raise self._refused(name, refusal.response, writes) from error

    def _refused(self, name: str, response: Mapping[str, Any], writes: bool) -> ValueError | OSError:
        """Return the error that an answer of S3 stands for."""
        code, text = response["Error"]["Code"], response["Error"].get("Message", "")
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 and status not in UNSUPPORTED:
            return OSError(f"{self.where(name)}: {code}: {text}")
        missing = code in {"NoSuchKey", "NoSuchBucket", "404"}
        sums = self._client.meta.config.request_checksum_calculation != "when_required"
        maybe_sums = sums and writes and status in {400, 411, *UNSUPPORTED} and "Token" not in code
        hint = f"; a server that cannot take boto3's checksums needs {CHECKSUMS}=when_required" if maybe_sums else ""
        return ValueError(f"{self.where(name)}: {'missing' if missing else 'refused'} ({code}: {text}){hint}")
