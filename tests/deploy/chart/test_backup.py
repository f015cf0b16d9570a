"""The Jobs of the backup, as rendered, on a real Postgres and an S3 server: dumped, lost, restored."""

import os
import subprocess
import sys

import boto3
import mlflow_server
import pytest
import s3_server
import sqlalchemy
from rendered import GIVEN, containers, find, merged, render

BACKUP = merged(GIVEN, {"postgres": {"backup": {"enabled": True, "keep": 2}}})
TOOLS = mlflow_server.postgres_tools()
BUCKET = "playscale"

pytestmark = pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL on this machine")


class Database:
    """A Postgres and a bucket, on which containers of the CronJobs are run as processes."""

    def __init__(self, uri, endpoint, folder):
        self.engine, self.endpoint, self.folder = sqlalchemy.create_engine(uri), endpoint, folder
        url = self.engine.url
        self.own = {"PGHOST": url.host, "PGPORT": str(url.port), "PGUSER": url.username, "PGDATABASE": url.database}
        self.own |= s3_server.environment(endpoint) | {"DUMP": str(folder / "dump")}

    def sql(self, text):
        with self.engine.begin() as connection:
            return connection.execute(sqlalchemy.text(text))

    def run(self, name, values=BACKUP):
        """Run the containers of a CronJob, one after the other; what they said, or the first failure."""
        pod = find(render(values), "CronJob", f"playscale-{name}")["spec"]["jobTemplate"]["spec"]["template"]
        said = ""
        for container in containers(pod):
            given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
            environment = given | self.own | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
            first, *rest = [word.replace("/backup/", f"{self.folder}/") for word in container["command"]]
            command = [sys.executable if first == "python3" else first, *rest]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode:
                return done.stderr
            said += done.stdout
        return said

    def dumps(self):
        keys = {"aws_access_key_id": s3_server.ACCESS, "aws_secret_access_key": s3_server.SECRET}
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)
        found = client.list_objects_v2(Bucket=BUCKET, Prefix="backups/mlflow/").get("Contents", [])
        return [one["Key"].rpartition("/")[2] for one in found]

    def put(self, name):
        path = self.folder.parent / "buckets" / BUCKET / "backups/mlflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not a dump")


@pytest.fixture
def database(tmp_path):
    (tmp_path / "buckets" / BUCKET).mkdir(parents=True)
    (tmp_path / "work").mkdir()
    with mlflow_server.postgres() as uri, s3_server.serve(tmp_path / "buckets") as endpoint:
        yield Database(uri, endpoint, tmp_path / "work")


def test_a_lost_database_is_restored(database):
    database.sql("CREATE SCHEMA auth")
    database.sql("CREATE TABLE auth.users (name text PRIMARY KEY)")
    database.sql("INSERT INTO auth.users VALUES ('admin')")
    database.sql("CREATE TABLE runs (id int PRIMARY KEY)")
    database.sql("INSERT INTO runs SELECT generate_series(1, 1000)")
    assert "stored s3://playscale/backups/mlflow/" in database.run("backup")
    database.sql("DROP SCHEMA auth CASCADE")
    database.sql("DELETE FROM runs WHERE id > 10")  # rows that are there already are replaced, not doubled
    assert "fetched s3://" in database.run("restore")
    assert database.sql("SELECT count(*) FROM runs").scalar() == 1000
    assert database.sql("SELECT name FROM auth.users").scalar() == "admin"


def test_only_the_latest_dumps_are_kept(database):
    for name in ("20250101T000000Z.dump", "20250102T000000Z.dump", "notes.txt"):
        database.put(name)
    assert "1 older ones deleted" in database.run("backup")
    left = database.dumps()
    assert len(left) == 3
    assert {"20250102T000000Z.dump", "notes.txt"} < set(left)


def test_a_dump_that_is_not_there_or_damaged_changes_nothing(database):
    database.sql("CREATE TABLE runs (id int)")
    assert database.run("restore").strip() == "fetch: no such dump: s3://playscale/backups/mlflow/"
    database.put("20250101T000000Z.dump")
    named = merged(BACKUP, {"postgres": {"backup": {"restore": "20240101T000000Z.dump"}}})
    assert "no such dump: s3://playscale/backups/mlflow/20240101T000000Z.dump" in database.run("restore", named)
    assert "pg_restore" in database.run("restore")
    assert database.sql("SELECT count(*) FROM runs").scalar() == 0


def test_a_server_that_is_away_stores_nothing(database):
    database.own["PGPORT"] = str(s3_server.free_port())
    assert "Connection refused" in database.run("backup")
    assert database.dumps() == []
