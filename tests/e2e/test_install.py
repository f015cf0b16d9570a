"""A wheel in a virtual environment: what it puts into site-packages, and what works without the extras."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
POINTS = ROOT / "studies" / "example" / "points.csv"
EXTRAS = {
    "train": "torch nle gymnasium safetensors zstandard",
    "tracking": "mlflow prometheus_client requests sqlalchemy",
    "kubeflow": "kfp docker",
    "s3": "boto3 botocore",
}
BLOCK = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}.split():
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent)
"""


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A virtual environment with the wheel of this checkout alone; its site-packages."""
    folder = tmp_path_factory.mktemp("install")
    for name in ("playscale", "components", "pipelines", "benchmarks"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, folder / "source"], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    return site


@pytest.fixture(scope="module")
def analysis_only(venv, tmp_path_factory):
    """Run the installed `playscale ...` with the dependencies of this environment, but for those of the extras."""
    folder = tmp_path_factory.mktemp("analysis")
    (folder / "sitecustomize.py").write_text(BLOCK.format(blocked=" ".join(EXTRAS.values())))
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(folder)}

    def run(*arguments):
        (venv / "borrowed.pth").write_text("\n".join(borrowed))
        command = [venv.parents[2] / "bin" / "playscale", *map(str, arguments)]
        try:
            return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        finally:
            (venv / "borrowed.pth").unlink()

    return run


def test_site_packages_holds_playscale_and_names_that_begin_with_it(venv):
    names = {path.name for path in venv.iterdir() if path.suffix != ".dist-info"}
    assert names == {"playscale", "playscale_benchmarks", "playscale_components", "playscale_pipelines"}
    installed = {str(path.relative_to(venv)) for path in venv.rglob("*")}
    for folder in ("report", "py.typed", "games/nethack/game.py"):
        assert f"playscale/{folder}" in installed
    for path in (ROOT / "playscale" / "report").glob("*.[chj]*s"):
        assert f"playscale/report/{path.name}" in installed
    assert "playscale_components/train/component.py" in installed


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("fit", POINTS, "--out", "laws", "--forecast", "1e13"),
        ("reproduce", POINTS, "--out", "reproduced"),
    ],
)
def test_analysis_works_without_the_extras(analysis_only, arguments):
    result = analysis_only(*arguments)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("train bc --corpus corpus --size 10k --budgets 1e9 --out run", "train needs the extra train: {train}"),
        ("train impala --size 10k --steps 1000 --out run", "train needs the extra train: {train}"),
        ("collect --out games", "collect needs the extra train: {train}"),
        ("prepare games --out corpus", "prepare needs the extra train: {train}"),
        (f"study run {ROOT}/studies/smoke.yaml --out out", "study needs the extra kubeflow: {kubeflow}"),
        (f"study run {ROOT}/studies/smoke.yaml --runner docker", "study needs the extra kubeflow: {kubeflow}"),
        (
            f"study submit {ROOT}/studies/smoke.yaml --endpoint http://localhost:1",
            "study needs the extra kubeflow: {kubeflow}",
        ),
        ("compile --out compiled", "compile needs the extra kubeflow: {kubeflow}"),
        ("bench fit", "bench needs the extra train: {train}"),
        ("fit mlflow:smoke --out laws", "fit needs the extra tracking: {tracking}"),
        ("fit s3://bucket/points.csv --out laws", "fit needs the extra s3: {s3}"),
    ],
)
def test_command_without_its_extra_names_it_in_one_line(analysis_only, command, needs):
    result = analysis_only(*command.split())
    install = {extra: f"pip install 'playscale[{extra}]'" for extra in EXTRAS}
    assert result.returncode == 2
    assert result.stderr == f"playscale: {needs.format(**install)}\n"
