"""The files of a study that say how far it is, in a directory or in S3: read, never written, and not locked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from playscale.progress import TaskProgress
from playscale.storage.files import local_path, path_below, read_json
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3
from playscale.storage.sync import scratch_folder
from playscale.study.context import FORECASTS, REFERENCES
from playscale.study.study_process import RECORD, read_process

LEDGER = "ledger.jsonl"
FORECAST_TASKS = ("progress/forecast.json", "progress/score.json")
"""Progress of a forecast's own steps, where they run in a cluster's pods."""
SMALL = (
    "plan.json", "spec.yaml", "points.csv", "fit.json", RECORD, "progress/*.json", "train/*/points.csv",
    "train/*/curve.csv", "evaluate/*/points.csv", f"evaluate/{REFERENCES}/references.json", LEDGER,
    f"{FORECASTS}/{RECORD}", f"{FORECASTS}/progress/*.json", f"{FORECASTS}/*/progress/*.json",
)  # fmt: skip
"""Files that are read."""
KNOWN_BY_NAME = (
    "report.html", "pipeline.log", "train/*/checkpoints/*/checkpoint.json", "train/*/resume*/*/checkpoint.json",
    "evaluate/*/*/evaluation.json", f"{FORECASTS}/*/plan.json", f"{FORECASTS}/*/train/*/curve.csv",
    f"{FORECASTS}/*/evaluate/*/*/evaluation.json",
)  # fmt: skip
"""Files of which it is enough that they are there."""
FOLDERS = ("progress/", "train/", "evaluate/", f"{FORECASTS}/")
SIGNS = ("plan.json", RECORD, "progress/collect.json", f"{FORECASTS}/{RECORD}")  # of each study there is one at least


@dataclass
class StudyFiles:
    """The files that a study has left.

    Attributes:
        place: The study's directory, or s3://BUCKET/PREFIX.
        folder: Where the files that are read lie on this machine.
        beside: The directory on this machine in which `study run` keeps the progress of a study in S3; None otherwise.
        changed: Unix time of change by name, of those and of others that are known by their names.
    """

    place: str
    folder: Path
    beside: Path | None = None
    changed: Mapping[str, float] = field(default_factory=dict)

    def matching(self, pattern: str) -> list[str]:
        """Return the names that match, in which * matches slashes, too."""
        return [name for name in self.changed if fnmatchcase(name, pattern)]

    def last_change(self, *, of_forecasts: bool) -> float | None:
        """Return the unix time of the last change to what forecasts leave, or to all else; None where there is none."""
        return max((at for name, at in self.changed.items() if _of_forecasts(name) == of_forecasts), default=None)

    def tasks(self, *, of_forecasts: bool) -> list[TaskProgress]:
        """Return the tasks so far, those of forecasts or all others, in the order they started."""
        tasks = []
        for name in self.matching("*progress/*.json"):
            if _of_forecasts(name) == of_forecasts:
                with suppress(FileNotFoundError):  # a study that begins removes them
                    tasks.append(TaskProgress(**read_json(self.folder / name)))
        return sorted(tasks, key=lambda task: task.started)

    def look(self) -> None:
        """Find what is there now. OSError: S3 cannot be reached. ValueError: it refuses."""
        if not is_s3(self.place):
            self.changed = dict(_local_files(self.folder))
            return
        storage, before = S3Storage(self.place), self.changed
        found = storage.changed(deep=False)
        for prefix in FOLDERS:
            found |= storage.changed(prefix)
        patterns = (*SMALL, *KNOWN_BY_NAME)
        self.changed = {n: at for n, at in found.items() if any(fnmatchcase(n, pattern) for pattern in patterns)}
        for name in [name for pattern in SMALL for name in self.matching(pattern)]:
            file = path_below(self.folder, name)
            if before.get(name) != self.changed[name] or not file.is_file():
                _download(storage, name, file)
        for name in before.keys() - self.changed.keys():
            path_below(self.folder, name).unlink(missing_ok=True)
        self._look_beside()

    def _look_beside(self) -> None:
        """Add the progress that is kept on this machine."""
        found = dict(_local_files(self.beside)) if self.beside else {}
        for name in (name for name in found if name.startswith(("progress/", f"{FORECASTS}/progress/"))):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed meanwhile
                shutil.copyfile(self.beside / name, self.folder / name)  # type: ignore[operator]
                self.changed = {**self.changed, name: found[name]}


@contextmanager
def study_files(place: str) -> Iterator[StudyFiles]:
    """Yield the files of a study, not yet looked at. What is read from S3 lies in a scratch folder meanwhile."""
    if is_s3(place):
        with scratch_folder() as scratch:
            yield StudyFiles(place.rstrip("/"), scratch)
        return
    folder = local_path(place)
    process = read_process(folder) or read_process(folder / FORECASTS)
    if process is not None and is_s3(process.out):
        with study_files(process.out) as files:
            files.beside = folder
            yield files
    else:
        yield StudyFiles(place.rstrip("/") or "/", folder)


def _of_forecasts(name: str) -> bool:
    return name.startswith(f"{FORECASTS}/") or name in {LEDGER, *FORECAST_TASKS}


def _download(storage: S3Storage, name: str, file: Path) -> None:
    """Download a file, unless it was removed meanwhile."""
    try:
        storage.download(name, file)
    except ValueError:
        if name in storage.walk(name):
            raise


def _local_files(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield name and time of change of a directory's files that say how far a study is."""
    for pattern in (*SMALL, *KNOWN_BY_NAME):
        for path in folder.glob(pattern):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                with suppress(FileNotFoundError):  # removed meanwhile, as an old save is
                    yield path.relative_to(folder).as_posix(), path.stat().st_mtime
