"""The options of the command line: those of version 0.1 stay, and every setting of training has one."""

from typing import Literal, get_args, get_origin

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

import playscale
from playscale.cli.app import app
from playscale.cli.options import options_of
from playscale.config import FrozenModel, Reinforcement, TrainConfig, Training

# As in version 0.1, which scripts rely on: "!" is a required option, "=" a default that is not empty.
FLAGS = {
    "collect": "--game=nethack --games=64 --max-steps=5000 --out! --seed --workers",
    "prepare": "--game=nethack --out! --workers",
    "evaluate":
        "--corpus --device=auto --episodes=100 --experiment --game --max-steps=100000 --out! --seed --temperature=1.0 "
        "--tracking-uri --workers",
    "fit":
        "--expert-return --forecast --forecast-at --gpu --max-return --out! --seed --target-return --tracking-uri "
        "--utilisation=0.3",
    "reproduce": "--out=out/reproduce --reference --seed",
    "compile": "--image --out=pipelines/compiled --pods",
    "bench": "--games --json --peer --rounds=5 --seconds=2.0",
    "train bc":
        "--batch --budgets! --compile --cooldown --core=lstm --corpus! --dev-samples=8192 --device=auto --experiment "
        "--learning-rate --out! --precision=auto --seed --size! --tracking-uri --unroll",
    "train impala":
        "--actors --batch --budgets --compile --cooldown --core --device=auto --discount=0.999 --entropy-cost=0.0005 "
        "--experiment --game=nethack --learning-rate --max-steps=5000 --optimizer=adam --out! --precision=auto "
        "--reward-clip=3.0 --reward-scale=running --seed --size --start=teacher --steps --teacher --teacher-cost=1.0 "
        "--teacher-half-life=1000000.0 --tracking-uri --unroll --value-warmup --workers",
    "study run": "--image --out --runner=subprocess --tracking-uri",
    "study submit":
        "--endpoint! --experiment --image --namespace --out --pods --service-account=playscale-pipeline "
        "--tracking-uri --wait",
}  # fmt: skip
EMPTY = (None, "", False, [], ())


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def options(command):
    """{flag: parameter}."""
    return {p.opts[0]: p for p in COMMANDS[command].params if p.opts[0].startswith("--") and p.name != "help"}


def test_every_command_of_version_0_1_is_there():
    assert set(COMMANDS) >= set(FLAGS)


@pytest.mark.parametrize(("command", "flag"), [(name, flag) for name, row in FLAGS.items() for flag in row.split()])
def test_every_flag_of_version_0_1_is_there_with_its_default(command, flag):
    name, _, default = flag.rstrip("!").partition("=")
    option = options(command)[name]
    assert option.required == flag.endswith("!")
    if not option.required:
        assert str(option.default) == default or (not default and not option.default)


@pytest.mark.parametrize(
    ("command", "models", "without"),
    [
        ("train bc", (Training, TrainConfig), {"method", "rl"}),
        ("train impala", (Training, TrainConfig, Reinforcement), {"method", "rl", "dev_samples"}),
    ],
)
def test_every_setting_of_training_is_an_option_with_its_default_and_choices(command, models, without):
    given = options(command)
    page = CliRunner().invoke(app, [*command.split(), "--help"]).stdout
    for model in models:
        for name, field in model.model_fields.items():
            flag = f"--{name.replace('_', '-')}"
            if name in without:
                assert flag not in given
                continue
            option = given[flag]
            assert option.help
            if get_origin(field.annotation) is Literal:
                assert f"{flag} <{'|'.join(get_args(field.annotation))}>" in page
            if not field.is_required() and name not in {"game", "core"}:  # of impala: the default task, the teacher's
                assert option.default == field.default or option.default in EMPTY


class Settings(FrozenModel):
    number: int = Field(default=2, ge=1, le=3, description="A number.")
    fast: bool = Field(default=False, description="Be fast.")
    kind: Literal["a", "b"] = Field(default="a", description="A kind.")
    name: str = Field(description="A name.")
    hidden: int = Field(default=0, description="Not an option.")


def run(*arguments):
    seen = {}
    small = typer.Typer(pretty_exceptions_enable=False)

    @small.command()
    @options_of(Settings, exclude=["hidden"])
    def command(own: int = 5, **settings):
        seen.update(settings, own=own)

    return CliRunner().invoke(small, arguments), seen


def test_fields_become_options():
    assert run("--name", "x")[1] == {"own": 5, "number": 2, "fast": False, "kind": "a", "name": "x"}
    seen = run("--name", "x", "--number", "3", "--fast", "--kind", "b", "--own", "1")[1]
    assert seen == {"own": 1, "number": 3, "fast": True, "kind": "b", "name": "x"}


@pytest.mark.parametrize(
    "bad", [(), ("--number", "4"), ("--number", "0"), ("--kind", "c"), ("--no-fast",), ("--hidden", "1")]
)
def test_bounds_and_choices_are_checked(bad):
    arguments = bad and ("--name", "x", *bad)
    assert run(*arguments)[0].exit_code == 2


def test_version_option_prints_the_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"playscale {playscale.__version__}\n"


def test_every_command_and_option_is_described_with_an_example():
    assert all("Example:\n  playscale " in command.help for command in COMMANDS.values())
    for name, command in COMMANDS.items():
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
            assert parameter.help.endswith("."), (name, parameter.name)
