"""A command reads a damaged file: no traceback, no other exit code than 0, 1 and 2, no hang, no silent wrong number.

After exit code 0 the results are compared: with those of the undamaged files where the damage can be known as such
(it has a checksum, or is refused as impossible), with an independent reading of the damaged file where a person could
have written it (tables and specs).
"""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .commands import OUT, PATIENCE, PLAY, POLICY, ROOT, Bench, Outcome
from .damage import MARKUP, damage, remove
from .processes import temporary_files
from .snapshot import differences, snapshot
from .warm import Fork

MEMORY = 3 * 2**30  # bytes; a command on these files takes 0.7 GB with all that is imported
HANGS = 240.0  # seconds; a command on these files takes one or two
LEAVE = 20.0  # seconds in which worker processes must be gone
MOST_SHOWN = 4

Check = Callable[["Reader", Path, Any], list[str]]


@dataclass(frozen=True)
class Reader:
    """A command that reads files which are damaged.

    Attributes:
        setup: Puts the undamaged files into an empty folder; called once, then the folder is copied.
        arguments: The command line.
        files: Patterns of the files that are damaged.
        check: Returns what is wrong with the results after exit code 0, given the folder and the undamaged results.
        unchecked: Patterns of files that are kept as they are: logs and recordings, which carry no checksum, and
            weights that the command does not read.
        dry: A study's spec is read, and written to spec.json.
        share: Of all cases, by weight.
    """

    setup: Callable[[Inputs, Path], None]
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    check: Check
    unchecked: tuple[str, ...] = ()
    dry: bool = False
    share: int = 1


def same(reader: Reader, folder: Path, undamaged: Any) -> list[str]:
    """The results are those of the undamaged files, but for files that carry no checksum."""
    kept = [path.relative_to(folder / OUT).as_posix() for pattern in reader.unchecked for path in folder.glob(pattern)]
    here, there = (
        {k: v for k, v in s.items() if k not in kept} for s in (snapshot(folder / OUT, str(folder)), undamaged)
    )
    return differences(here, there)


def same_games(_: Reader, folder: Path, undamaged: Any) -> list[str]:
    """Each game of the corpus has the content of the undamaged one; others that are there are among the rejected."""
    here = json.loads((folder / OUT / "corpus.json").read_text())
    known, games = (_games(manifest) for manifest in (undamaged["corpus.json"], here))
    lost = len(list(folder.glob("games/*/*.ttyrec3.bz2"))) - len(games) - len(here["rejected"])
    wrong = [
        f"{key}: checksum {games[key]}, not {known[key]}"
        for key in games.keys() & known.keys()
        if games[key] != known[key]
    ]
    unknown = [f"{key}: no such game" for key in games.keys() - known.keys()]
    return wrong + unknown + ([f"{lost} games left out without a reason"] if lost > 0 else [])


def _games(manifest: Any) -> dict[str, str]:
    fields = manifest["games"]["fields"]
    rows = [dict(zip(fields, row, strict=True)) for row in manifest["games"]["rows"]]
    return {row["key"]: row["checksum"] for row in rows}


def as_written(_: Reader, folder: Path, undamaged: Any) -> list[str]:
    """The points that were fitted are those of the table, read here a second time."""
    del undamaged
    try:
        text = (folder / "points.csv").read_bytes().decode("utf-8-sig")
        rows = [
            _numbers(row)
            for row in {str(row): row for row in csv.DictReader(text.splitlines())}.values()  # equal rows count once
            if any(v for v in row.values() if isinstance(v, str))
        ]
    except (ValueError, csv.Error) as error:
        return [f"a table was accepted that is none: {error}"]
    (path,) = [*folder.glob("out/fit.json"), *folder.glob("out/points/fit.json")]
    fitted = json.loads(path.read_text())
    methods = fitted.get("methods")
    points = [p for one in methods.values() for p in one["points"]] if methods else fitted["points"]
    if methods and fitted.get("failed"):
        points = rows  # the points of methods without a fit are not in it
    here = sorted(map(str, (_numbers(point) for point in points)))
    wrong = [f"{len(here)} points of {len(rows)} rows"] if len(here) != len(rows) else []
    wrong += (
        [f"{a}, not {b}" for a, b in zip(here, sorted(map(str, rows)), strict=False) if a != b][:1]
        if points is not rows
        else []
    )
    return wrong + [
        f"markup of the data in {page.name}" for page in folder.glob("out/**/*.html") if MARKUP in page.read_text()
    ]


def _numbers(row: Any) -> dict[str, Any]:
    """Return the numbers of a row; ValueError for one that is none, or that no measurement can have."""
    numbers: dict[str, Any] = {"split": row.get("split") or "fit"}
    for name in ("flops", "params", "samples", "dev_loss", "dev_loss_se", "return_mean", "return_se"):
        value = row.get(name)
        numbers[name] = None if value in (None, "") else float(value)
        if value not in (None, "") and not math.isfinite(float(value)):
            raise ValueError(f"{name} {value}")
    if any(not (numbers[name] or 0) > 0 for name in ("flops", "params", "samples")):
        raise ValueError("flops, params or samples are missing or not positive")
    return numbers


def spec_as_written(_: Reader, folder: Path, undamaged: Any) -> list[str]:
    """Every value of the spec is as the file says, and no number is beyond all bounds."""
    del undamaged
    read = json.loads((folder / "spec.json").read_text())
    try:
        written = yaml.safe_load((folder / "study.yaml").read_bytes())
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        return [f"a spec was accepted that is no YAML: {type(error).__name__}"]
    lines = (folder / "study.yaml").read_text().splitlines()
    top = [line.split(":")[0] for line in lines if line[:1].isalpha()]
    twice = [f"key {key} twice, one value ignored" for key in {key for key in top if top.count(key) > 1}]
    beyond = [
        f"{place} is {value}" for place, value in _leaves(read) if isinstance(value, float) and not abs(value) < 1e100
    ]
    return twice + beyond + _unlike(written, read["spec"], "")


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{place}.{key}")
    else:
        yield place, value


def _unlike(written: Any, read: Any, place: str) -> list[str]:
    """Return the places where what was read is not what is written."""
    if isinstance(written, dict) and isinstance(read, dict):
        unknown = [f"{place}.{key} is ignored" for key in written.keys() - read.keys()]
        return unknown + [
            line for key in written.keys() & read.keys() for line in _unlike(written[key], read[key], f"{place}.{key}")
        ]
    if isinstance(read, list) and not isinstance(written, list | dict):
        written = [written]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [line for a, b in zip(written, read, strict=True) for line in _unlike(a, b, place)]
    if isinstance(written, bool) == isinstance(read, bool) and (written == read or _amount(written) == _amount(read)):
        return []
    return [f"{place}: {written!r} is read as {read!r}"]


def _amount(value: Any) -> Any:
    """Return a number that may be written as text, with a unit; else the text."""
    text = str(value).strip().lower()
    for unit, factor in (("k", 1e3), ("m", 1e6), ("b", 1e9)):
        if text.endswith(unit) and text[:-1].replace(".", "", 1).isdecimal():
            return float(text[:-1]) * factor
    try:
        return float(text)
    except ValueError:
        return text


def anything(_: Reader, folder: Path, undamaged: Any) -> list[str]:
    """Whatever was written is what the input asks for: there is nothing to compare with."""
    del folder, undamaged
    return []


def same_rows(_: Reader, folder: Path, undamaged: Any) -> list[str]:
    """The rows of points.csv have the runs, budgets and samples of the undamaged ones (IMPALA plays new games)."""
    known = ("game", "method", "run", "seed", "size", "flops", "params", "samples", "split")
    here = csv.DictReader((folder / OUT / "points.csv").read_text().splitlines())
    there = csv.DictReader(undamaged["points.csv"].splitlines())
    return differences(*([{name: row[name] for name in known} for row in rows] for rows in (here, there)))


# --- The readers -----------------------------------------------------------------------------------------------------

SHORT = (*POLICY, "--dev-samples", "128")
TEACHER = ("--teacher", "clone/checkpoints/1.5e+08", "--batch", "4", "--unroll", "8", "--budgets", "2e7")
PODS = "gpus: 1\nmemory: 4G\ncpu: '2'\n"


class Inputs:
    """What the readers start from, made when first needed."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._locks = {name: threading.Lock() for name in READERS}
        self._undamaged: dict[str, Any] = {}

    def base(self, name: str) -> tuple[Path, Any]:
        """Return the folder with a reader's undamaged files, and the results of its command on them."""
        reader = READERS[name]
        folder = self.bench.folder / "readers" / name.replace(" ", "-").replace(":", "")
        with self._locks[name]:
            if name not in self._undamaged:
                shutil.rmtree(folder, ignore_errors=True)
                for made in (folder / "base", folder / "tmp"):
                    made.mkdir(parents=True)
                reader.setup(self, folder / "base")
                shutil.copytree(folder / "base", folder / "run")
                self.must(reader.arguments, folder / "run", dry=reader.dry)
                self._undamaged[name] = snapshot(folder / "run" / OUT, str(folder / "run"))
        return folder / "base", self._undamaged[name]

    def must(self, arguments: tuple[str, ...], folder: Path, *, dry: bool = False) -> None:
        """Run a command in a folder. RuntimeError: it fails."""
        started = self.bench.warm.start(self.bench.line(arguments), folder, folder.parent / "tmp", dry=dry)
        if code := started.wait(PATIENCE):
            raise RuntimeError(f"{' '.join(arguments)} fails undamaged ({code}):\n{started.errors()[-3000:]}")


def _table(inputs: Inputs, folder: Path) -> None:
    """A table of 3 budgets and 3 sizes."""
    rows = ["game,method,run,seed,size,flops,params,samples,dev_loss,dev_loss_se,return_mean,return_se,episodes,split"]
    for budget in (1e9, 4e9, 16e9):
        for params in (10_000, 20_000, 40_000):
            best = 20_000 * (budget / 4e9) ** 0.5
            loss = 1 + (1e9 / budget) ** 0.2 + 0.1 * math.log(params / best) ** 2
            cell = f"{budget:g},{params},{budget / 6 / params:.0f},{loss:.6f},0.01,{100 / loss:.4f},1.5,100"
            rows.append(
                f"recall,bc,bc-lstm-{params}-s0,0,{params // 1000}k,{cell},{'held-out' if budget > 1e10 else 'fit'}"
            )
    (folder / "points.csv").write_text("\n".join(rows) + "\n")


def _spec(inputs: Inputs, folder: Path) -> None:
    spec = yaml.safe_load((inputs.bench.inputs / "study.yaml").read_text())
    spec |= {
        "method": ["bc", "impala"],
        "seeds": [0, 1],
        "rl": {"actors": 1, "discount": 0.9},
        "target_returns": {"human": 50.0},
    }
    spec["training"] |= {"learning_rate": 0.001, "cooldown": 0.1, "device": "cpu"}
    spec["evaluate"] |= {"temperature": 1.0, "seed": 5}
    spec["hardware"] = {"gpu": "h100", "utilisation": 0.3}
    (folder / "study.yaml").write_text(yaml.safe_dump(spec))


def _pods(_: Inputs, folder: Path) -> None:
    shutil.copyfile(ROOT / "studies" / "pods" / "gpu-spot.yaml", folder / "pods.yaml")


def _corpus(inputs: Inputs, folder: Path) -> None:
    shutil.copytree(inputs.bench.inputs / "corpus", folder / "corpus")


def _clone(inputs: Inputs, folder: Path) -> None:
    shutil.copytree(inputs.bench.inputs / "clone", folder / "clone")


def _recordings(inputs: Inputs, folder: Path) -> None:
    inputs.must(("collect", "--games", "3", "--max-steps", "40", "--workers", "1", "--out", "games"), folder)
    (folder / "games" / "collect.json").unlink()
    (folder / "games" / ".lock").unlink()


def _collection(inputs: Inputs, folder: Path) -> None:
    inputs.must((*COLLECT[:-4], "--games", "3", "--out", OUT), folder)


def _half_trained(inputs: Inputs, folder: Path) -> None:
    _corpus(inputs, folder)
    inputs.must((*HALF, "--budgets", "2e7"), folder)


def _half_played(inputs: Inputs, folder: Path) -> None:
    inputs.must((*PLAY, "--budgets", "2e7", "--out", OUT), folder)


def _evaluated(inputs: Inputs, folder: Path) -> None:
    _clone(inputs, folder)
    inputs.must(SCORE, folder)


def _logged(inputs: Inputs, folder: Path) -> None:
    _table(inputs, folder)
    from playscale.points import read_points
    from playscale.tracking.mlflow_tracker import MlflowExperiment

    experiment = MlflowExperiment("kept", f"sqlite:///{folder}/mlflow.db")
    for point in read_points(folder / "points.csv"):
        experiment.log_point(point)


HALF = ("train", "bc", "--corpus", "corpus", *SHORT, "--out", OUT)
COLLECT = ("collect", "--game", "recall", "--workers", "1", "--games", "6", "--out", OUT)
SCORE = (
    "evaluate",
    "clone/checkpoints/1.5e+08",
    "--episodes",
    "3",
    "--max-steps",
    "30",
    "--workers",
    "1",
    "--out",
    OUT,
)
STORE = "sqlite:///mlflow.db"
RUN_FILES = (
    "out/run.json",
    "out/resume/*/*",
    "out/resume/*/checkpoint.json",
    "out/checkpoints/*/*",
    "out/points.csv",
    "out/curve.csv",
)
READERS = {
    "table: fit": Reader(
        _table, ("fit", "points.csv", "--forecast", "1e12", "--out", OUT), ("points.csv",), as_written, share=6
    ),
    "table: reproduce": Reader(_table, ("reproduce", "points.csv", "--out", OUT), ("points.csv",), as_written, share=3),
    "spec: study run": Reader(
        _spec, ("study", "run", "study.yaml", "--out", OUT), ("study.yaml",), spec_as_written, dry=True, share=9
    ),
    "pods: compile": Reader(_pods, ("compile", "--pods", "pods.yaml", "--out", OUT), ("pods.yaml",), anything, share=3),
    "corpus: train bc": Reader(_corpus, (*HALF, "--budgets", "2e7"), ("corpus/corpus.json", "corpus/*"), same, share=8),
    "recordings: prepare": Reader(
        _recordings, ("prepare", "games", "--workers", "1", "--out", OUT), ("games/*/*",), same_games, share=5
    ),
    "collection: collect": Reader(
        _collection, COLLECT, ("out/collect.json", "out/*/*"), same, ("out/game-*/*",), share=3
    ),
    "checkpoint: evaluate": Reader(
        _clone,
        SCORE,
        ("clone/checkpoints/1.5e+08/checkpoint.json", "clone/checkpoints/1.5e+08/*"),
        same,
        share=8,
    ),
    "teacher: train impala": Reader(
        _clone,
        ("train", "impala", "--game", "recall", *TEACHER, "--actors", "1", "--max-steps", "40", "--out", OUT),
        ("clone/checkpoints/1.5e+08/*",),
        same_rows,
        share=2,
    ),
    "run: train bc": Reader(
        _half_trained,
        (*HALF, "--budgets", "2e7,4e7"),
        RUN_FILES,
        same,
        ("out/curve.csv", "out/checkpoints/2e+07/policy.safetensors"),
        share=9,
    ),
    "run: train impala": Reader(
        _half_played, (*PLAY, "--budgets", "2e7,4e7", "--out", OUT), RUN_FILES, same_rows, share=2
    ),
    "evaluation: evaluate": Reader(
        _evaluated,
        SCORE,
        ("out/*/evaluation.json", "out/**/*.json", "out/points.csv"),
        same,
        ("out/*/recordings/*/*",),
        share=5,
    ),
    "store: fit mlflow:": Reader(
        _logged, ("fit", "mlflow:kept", "--tracking-uri", STORE, "--out", OUT), ("mlflow.db",), anything, share=2
    ),
}


@dataclass(frozen=True)
class InputCase:
    """A damaged file for a reader; `seed` decides which file and how it is damaged."""

    case: str
    reader: str
    seed: str


def input_cases(seed: int, count: int) -> Iterator[InputCase]:
    """Draw cases; every reader gets its share."""
    turns = [name for name, reader in READERS.items() for _ in range(reader.share)]
    random.Random(f"{seed}/order").shuffle(turns)
    for number in range(count):
        yield InputCase(f"inputs:{number}", turns[number % len(turns)], f"{seed}/inputs/{number}")


def run_case(inputs: Inputs, case: InputCase) -> Outcome:
    """Damage a file, run the command that reads it, and return what is wrong."""
    reader = READERS[case.reader]
    base, undamaged = inputs.base(case.reader)
    folder = inputs.bench.folder / case.case.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    run, temporary = folder / "run", folder / "tmp"
    shutil.copytree(base, run, symlinks=True)
    temporary.mkdir()
    draw = random.Random(case.seed)
    path = draw.choice(sorted(path for path in run.glob(draw.choice(reader.files)) if path.is_file()))
    what = f"{path.relative_to(run)}: {damage(path, draw)}"
    unsealed = draw.random() < 0.3 and _unseal(path)
    what += ", without its checksum" if unsealed else ""
    before = {each.relative_to(run) for each in run.rglob("*")}
    started = inputs.bench.warm.start(inputs.bench.line(reader.arguments), run, temporary, dry=reader.dry)
    code = started.wait(HANGS)
    faults = [*_faults(code, started), *_leftovers(run, temporary, before)]
    if code == 0 and not unsealed:
        faults += reader.check(reader, run, undamaged)[:MOST_SHOWN]
    elif reader.check in (as_written, same_games) and (run / OUT).exists():
        faults.append("half an output is left")
    if code and "exchanged" not in what and not _names(path, started.errors()):
        faults.append(f"the message names no file: {started.errors()[-200:].strip()}")
    if not faults:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(case.case, case.reader, what, f"exit {code}", tuple(faults))


def _unseal(path: Path) -> bool:
    """Take the checksum out of a damaged document, as if an earlier version or a hostile author had written it."""
    with suppress(ValueError, OSError, AttributeError):
        document = json.loads(path.read_bytes())
        if document.pop("checksum", None):
            path.write_text(json.dumps(document))
            return True
    return False


def _faults(code: int | None, started: Fork) -> Iterator[str]:
    """Yield what is wrong with the end of a command."""
    errors = started.errors()
    if code is None:
        yield f"hangs for {HANGS:.0f} s"
        started.kill_all()
        started.wait(PATIENCE)
    elif code not in (0, 1, 2):
        yield f"exit code {code}: {errors[-200:]}"
    elif code and sum(line.startswith("playscale: ") for line in errors.split("\n")) != 1:
        yield f"exit code {code} without its one line: {errors[-200:]}"
    if "Traceback (most recent call last)" in errors:
        yield f"traceback: {errors.strip().splitlines()[-1][:200]}"
    if left := started.left_after(LEAVE):
        yield f"processes left: {'; '.join(left)}"
        started.kill_all()
    if started.peak > MEMORY:
        yield f"{started.peak / 2**30:.1f} GB of memory"


def _names(path: Path, text: str) -> bool:
    """Return whether a message names a file or its directory."""
    return path.name in text or path.parent.name in text


def _leftovers(run: Path, temporary: Path, before: set[Path]) -> Iterator[str]:
    """Yield the temporary files that are left, and what was written outside the output."""
    yield from (f"temporary file left: {name}" for name in temporary_files(temporary))
    for path in run.rglob("*"):
        name = path.relative_to(run)
        if path.name.endswith(".partial"):
            yield f"temporary file left: {name}"
        elif name not in before and name.parts[0] not in (
            OUT,
            "spec.json",
            "mlflow.db",
            "mlflow.db-shm",
            "mlflow.db-wal",
        ):
            yield f"written outside the output: {name}"
    for outside in ("escaped", "../escaped"):
        if (run.parent / outside).exists():
            remove(run.parent / outside)
            yield "a file was written outside the folder"
