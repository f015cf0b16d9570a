"""What the backup's Jobs run beside pg_dump and pg_restore: `store` a dump in the bucket, or `fetch` one from there.

Dumps are named by the time of the backup, so that the last name is the latest. After a dump is stored, all but the
KEEP latest are deleted. Every failure ends in one line.
"""

import os
import sys
import time

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

FILE = os.environ.get("DUMP", "/backup/dump")
BUCKET, FOLDER = os.environ["BUCKET"], os.environ["FOLDER"]  # FOLDER ends in a slash
s3 = boto3.client("s3")


def dumps():
    """The keys of all dumps, oldest first."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=FOLDER)
    return sorted(o["Key"] for page in pages for o in page.get("Contents", []) if o["Key"].endswith(".dump"))


def store():
    key = FOLDER + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + ".dump"
    s3.upload_file(FILE, BUCKET, key)
    if s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] != os.path.getsize(FILE):  # noqa: PTH202
        raise ValueError(f"s3://{BUCKET}/{key} is not of the dump's size")
    old = dumps()[: -int(os.environ["KEEP"])]
    for one in old:
        s3.delete_object(Bucket=BUCKET, Key=one)
    return f"stored s3://{BUCKET}/{key}, {os.path.getsize(FILE)} bytes; {len(old)} older ones deleted"  # noqa: PTH202


def fetch():
    found = dumps()
    key = FOLDER + os.environ["RESTORE"] if os.environ.get("RESTORE") else found[-1] if found else ""
    if key not in found:
        raise ValueError(f"no such dump: s3://{BUCKET}/{key or FOLDER}")
    s3.download_file(BUCKET, key, FILE)
    return f"fetched s3://{BUCKET}/{key}"


try:
    print({"store": store, "fetch": fetch}[sys.argv[1]]())
except (Boto3Error, BotoCoreError, ClientError, OSError, ValueError) as error:
    sys.exit(f"{sys.argv[1]}: {' '.join(str(error).split())}")
