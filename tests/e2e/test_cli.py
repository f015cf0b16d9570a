"""Every example in --help runs as it stands, and every bad input is one line and exit code 2."""

import itertools
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from playscale.cli.app import app

ROOT = Path(__file__).parents[2]


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))
CHAIN = [
    ("collect",),
    ("prepare",),
    ("train", "bc"),
    ("train", "impala"),
    ("evaluate",),
    ("fit",),
    ("design",),
    *(("ledger", name) for name in ("show", "score", "void", "export", "import")),
    ("reproduce",),
    ("tracking", "deliver"),
    ("compile",),
    ("bench",),
]  # each feeds the next


def examples(path):
    lines = COMMANDS[path].help.split("Example:\n")[1].splitlines()
    return [line.strip() for line in lines if line.strip().startswith("playscale ")]


def test_help_of_every_command_has_an_example_that_a_test_runs():
    # test_study_run.py runs the study of `run`, and its `forecast`; a slow test of test_submit.py that of `submit`; the
    # others need a study, or one on a server: test_submit.py, test_study_failed_run.py; `watch` needs a terminal:
    # test_kept_games.py
    of_study = ("run", "submit", "logs", "fit", "forecast", "plan", "status", "list")
    assert set(COMMANDS) == {("watch",), *CHAIN, *(("study", name) for name in of_study)}
    assert examples(("study", "run")) == ["playscale study run studies/smoke.yaml --out out/smoke"]
    assert all(examples(path) for path in COMMANDS)


def _expanded(word, folder):
    """Return the paths that a pattern stands for in a shell, else the word."""
    return sorted(map(str, folder.glob(word))) if "*" in word else [word]


@pytest.mark.slow
def test_examples_of_help_run_one_after_the_other(cli, tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    for example in itertools.chain.from_iterable(map(examples, CHAIN)):
        words = (_expanded(word, tmp_path) for word in shlex.split(example)[1:])
        result = cli(*itertools.chain.from_iterable(words), cwd=tmp_path)
        assert not result.returncode, f"{example}\n{result.stderr}"
    made = (
        "games",
        "corpus/corpus.json",
        "train-10k/points.csv",
        "impala-10k/points.csv",
        "kickstart-10k/curve.csv",
        "play/points.csv",
        "score/points.csv",
        "laws/report.html",
        "copy/ledger.jsonl",
        "reproduced/reproduce.html",
        "reproduced/points/fit.json",
        "bench.json",
        "compiled/study.yaml",
        "compiled/forecast.yaml",
    )
    assert all((tmp_path / name).exists() for name in made)


TRAIN = ["train", "bc", "--size", "10k", "--budgets", "1e9", "--out", "o", "--corpus"]
PLAY = ["train", "impala", "--out", "o"]
FIT = ["fit", "p.csv", "--out", "o"]
LOGGED = ["--experiment", "e", "--tracking-uri", "sqlite:///m.db"]
GOOD_HEADER = "flops,params,samples,dev_loss\n"
TABLE = GOOD_HEADER + "".join(
    f"{c},{n},{c / n},{1 + 1 / n}\n" for c, n in itertools.product((1e9, 2e9, 4e9), (1e3, 2e3, 4e3))
)
RETURNS = "".join(f"{row},{'return_mean' if i == 0 else 2 + i}\n" for i, row in enumerate(TABLE.splitlines()))
GAMES = "".join(f"{'game' if i == 0 else 'ab'[i % 2]},{row}\n" for i, row in enumerate(TABLE.splitlines()))
BAD = {
    "spec": (["study", "run", "s.yaml", "--out", "o"], {"s.yaml": "name: q\nsizs: [10k]\n"}, "did you mean 'sizes'?"),
    "no spec": (["study", "run", "none.yaml"], {}, "no such study spec"),
    "no corpus": ([*TRAIN, "none"], {}, "none"),
    "empty corpus": ([*TRAIN, "c"], {"c/x": ""}, "c"),
    "damaged corpus": (
        [*TRAIN, "c"],
        {"c/corpus.json": '{"schema'},
        "c/corpus.json",
    ),
    "no corpus of a study": (
        ["study", "run", "s.yaml", "--out", "o/s"],
        {"s.yaml": "{name: q, sizes: [10k], budgets: [1e9, 2e9], source: {corpus: c}}"},
        "c: no such corpus",
    ),
    "no device of a study": (
        ["study", "run", "s.yaml", "--out", "o/s"],
        {"s.yaml": "{name: q, sizes: [9k], budgets: [1, 2], source: {games: g}, training: {device: 'cuda:9'}}"},
        "device 'cuda:9' is not here",
    ),
    "no corpus of an experiment": ([*TRAIN, "none", *LOGGED], {}, "none"),
    "no checkpoint of an experiment": (["evaluate", "none", "--out", "o/e", *LOGGED], {}, "none"),
    "no games": (["prepare", "none", "--out", "o"], {}, "none"),
    "empty games": (["prepare", "g", "--out", "o"], {"g/readme": "x"}, "g"),
    "unknown game": (["collect", "--game", "nethak", "--games", "1", "--out", "o"], {}, "did you mean 'nethack'?"),
    "unknown task": (["evaluate", "none", "--game", "nethack/skore", "--out", "o"], {}, "known are challenge, score"),
    "no character": (["evaluate", "none", "--game", "nethack/score/val", "--out", "o"], {}, "no character 'val'"),
    "no expert": (["collect", "--game", "nethack/score", "--games", "1", "--out", "o"], {}, "has no expert"),
    "tables without --pool": (["fit", "p.csv", "q.csv", "--out", "o"], {"p.csv": TABLE}, "all of them with --pool"),
    "two tables pooled": (
        ["fit", "p.csv", "q.csv", "--pool", "--out", "o"],
        {"p.csv": TABLE, "q.csv": TABLE},
        "exponents are pooled over at least 3 tables",
    ),
    "no checkpoint": (["evaluate", "none", "--out", "o"], {}, "none"),
    "not a checkpoint": (["evaluate", "k", "--out", "o"], {"k/checkpoint.json": "{}"}, "k"),
    "no size": ([*PLAY, "--steps", "6000"], {}, "--size"),
    "steps and budgets": ([*PLAY, "--size", "10k", "--steps", "6000", "--budgets", "1e9"], {}, "--budgets"),
    "neither steps nor budgets": ([*PLAY, "--size", "10k"], {}, "--steps"),
    "no teacher": ([*PLAY, "--steps", "6000", "--teacher", "none"], {}, "none"),
    "no such task": ([*PLAY, "--size", "10k", "--steps", "6000", "--game", "nethack/skore"], {}, "challenge, score"),
    "no points": (["fit", "none.csv", "--out", "o"], {}, "none.csv"),
    "missing column": (FIT, {"p.csv": "flops,params\n1,2\n"}, "samples, dev_loss"),
    "negative loss": (FIT, {"p.csv": GOOD_HEADER + "1e9,1e4,1e4,-1\n"}, "line 2"),
    "one budget": (FIT, {"p.csv": GOOD_HEADER + "1e9,1e4,1e4,1\n1e9,2e4,5e3,2\n"}, "budget"),
    "forecast": ([*FIT, "--forecast", "much"], {"p.csv": GOOD_HEADER + "1e9,1,1,1\n"}, "--forecast"),
    "forecast-at with commas": (
        [*FIT, "--forecast-at", "params=1,000,000,samples=2,000,000"], {"p.csv": TABLE}, "--forecast-at: '000' in",
    ),
    "budget column": ([*FIT, "--budget-column", ""], {"p.csv": TABLE}, "'--budget-column': empty"),
    "no column": ([*FIT, "--columns", "dev_loss=eval/loss"], {"p.csv": TABLE}, "missing column eval/loss"),
    "return of two games": (
        [*FIT, "--target-return", "human=5"],
        {"p.csv": GAMES},
        "--target-return: a return is of one game, and the table has a, b",
    ),
    "forecast-at": ([*FIT, "--forecast-at", "a=1"], {"p.csv": GOOD_HEADER + "1e9,1,1,1\n"}, "params=N"),
    "experiment": (["fit", "mlflow:no", "--out", "o", "--tracking-uri", "sqlite:///m.db"], {}, "no MLflow experiment"),
    "no name of an experiment": (["fit", "mlflow:", "--out", "o"], {}, "mlflow:EXPERIMENT"),
    "tracking without an experiment": ([*TRAIN, "none", "--tracking-uri", "http://h"], {}, "--experiment NAME"),
    "tracking of nothing": (["tracking", "deliver", "none"], {}, "none: no such directory"),
    "no option": (["fit"], {}, "Missing argument 'points'; see playscale fit --help"),
    "unknown option": (["fit", "p.csv", "--forcast", "1e9"], {}, "--forecast"),
    "no such core": ([*TRAIN, "c", "--core", "gru"], {}, "'lstm', 'transformer'"),
    "size": (["train", "bc", "--size", "9", "--budgets", "1e9", "--corpus", "c", "--out", "o"], {}, "--size: "),
    "learning rate": ([*TRAIN, "c", "--learning-rate", "inf"], {}, "--learning-rate: must be a finite number, not inf"),
    "seed of 64 bits": ([*TRAIN, "c", "--seed", str(2**63)], {}, "'--seed': must be at most"),
    "actors": ([*PLAY, "--size", "10k", "--steps", "6000", "--actors", "1000000000"], {}, "at most 4096"),
    "few steps": ([*PLAY, "--size", "10k", "--steps", "1"], {}, "give at least 3,200"),
    "start without teacher": ([*PLAY, "--size", "10k", "--steps", "6000", "--start", "scratch"], {}, "give --teacher"),
    "device": (["evaluate", "none", "--out", "o", "--device", "meta"], {}, "use auto, cpu, cuda or cuda:N"),
    "device of training": ([*TRAIN, "c", "--device", "mps"], {}, "--device: device 'mps' is unknown"),
    "temperature": (["evaluate", "none", "--out", "o", "--temperature", "nan"], {}, "--temperature"),
    "file in the way": ([*TRAIN, "c", "--out", "f"], {"f": ""}, "f is a file; give a directory"),
    "page in the way": (["reproduce", "a.csv", "--out", "f/o"], {"f": "", "a.csv": TABLE}, "f is a file"),
    "compile to a file": (["compile", "--out", "f"], {"f": ""}, "f is a file"),
    "huge forecast": ([*FIT, "--forecast", "1e308"], {"p.csv": TABLE}, "--forecast: '1e308' is not a compute budget"),
    "huge cell": ([*FIT, "--forecast-at", "params=1e308,samples=1"], {"p.csv": TABLE}, "'1e308' is not a number of"),
    "huge number": (FIT, {"p.csv": GOOD_HEADER + "1e308,1e4,1e4,1\n"}, "p.csv, line 2: column flops: 1e+308"),
    "expert": ([*FIT, "--expert-return", "nan"], {"p.csv": TABLE}, "--expert-return"),
    "target": ([*FIT, "--target-return", "a=-1"], {"p.csv": RETURNS}, "a: a return of -1 has no logarithm"),
    "bootstrap": ([*FIT, "--seed", "-1"], {"p.csv": TABLE}, "'--seed': must be at least 0"),
    "utilisation alone": ([*FIT, "--utilisation", "0.2"], {"p.csv": TABLE}, "give --gpu too"),
    "no gpu": ([*FIT, "--gpu", "h900"], {"p.csv": TABLE}, "h900"),
    "YAML": (["study", "run", "s.yaml"], {"s.yaml": "name: 2024\n"}, "s.yaml, line 1: name: must be text"),
    "no table": (["reproduce", "none.csv", "--out", "o"], {}, "none.csv"),
    "bad second table": (
        ["reproduce", "a.csv", "b.csv", "--out", "o"],
        {"a.csv": TABLE, "b.csv": GOOD_HEADER + "1e9,1e4,1e4,1\n1e9,2e4,5e3,2\n"},
        "b.csv",
    ),
    "bad reference": (
        ["reproduce", "a.csv", "--reference", "r.csv", "--out", "o"],
        {"a.csv": TABLE, "r.csv": "table,target,quantity,exponent\na,dev_loss,parms,0.5\n"},
        "r.csv, line 2",
    ),
    "reference of another": (
        ["reproduce", "a.csv", "--reference", "r.csv", "--out", "o"],
        {"a.csv": TABLE, "r.csv": "table,target,quantity,exponent\nb,dev_loss,params,0.5\n"},
        "no table given has such a name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, main_here, tmp_path):
    arguments, files, says = BAD[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = set(tmp_path.rglob("*"))
    code, stderr = main_here(*arguments)
    assert code == 2, stderr
    assert says in stderr
    assert len([line for line in stderr.splitlines() if line.startswith("playscale: ")]) == 1
    assert set(tmp_path.rglob("*")) == before


def test_a_second_fit_leaves_nothing_of_the_first(main_here, tmp_path):
    (tmp_path / "p.csv").write_text(TABLE)
    for name in ("o/figures/pong_isoflop_dev_loss.png", "o/figures/notes.txt", "o/figures/my_paper.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    code, stderr = main_here(*FIT)
    assert not code, stderr
    names = {path.name for path in (tmp_path / "o" / "figures").iterdir()}
    assert "pong_isoflop_dev_loss.png" not in names
    assert {"notes.txt", "my_paper.png", "isoflop_dev_loss.png"} <= names


def test_bad_input_to_the_installed_command_shows_no_traceback(tmp_path):
    command = [sys.executable, "-m", "playscale.cli", "prepare", "none", "--out", "o"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_fails_is_one_line_and_exit_code_1(main_here, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, stderr = main_here("prepare", "s3://bucket/games", "--out", "o")
    assert code == 1
    assert stderr.startswith("playscale: s3://bucket/games: ")
    assert stderr.count("\n") == 1


def test_a_group_called_alone_shows_its_help(main_here):
    code, stderr = main_here("train")
    assert code == 2
    assert stderr.startswith("Usage: ")


def test_unwritable_output_is_one_line(main_here, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "p.csv").write_text(TABLE)
    code, stderr = main_here("fit", "p.csv", "--out", "file/o")
    assert code == 2
    assert stderr.count("\n") == 1
    assert "file/o" in stderr
