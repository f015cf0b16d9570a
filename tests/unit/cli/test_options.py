"""The options of the command line: those of version 0.1 stay, and every setting of training has one."""

from typing import Literal, get_args, get_origin

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

import playscale
from playscale.cli.app import app
from playscale.cli.laws import _goals, _pairs, column_names, of_methods
from playscale.cli.options import budget_list, options_of
from playscale.config import FrozenModel, Reinforcement, TrainConfig, Training
from playscale.points import Point

# As in version 0.1, which scripts rely on: "!" is a required option, "=" a default that is not empty.
FLAGS = {
    "collect": "--game=nethack --games=64 --max-steps=5000 --out! --seed --workers",
    "prepare": "--game=nethack --out! --workers",
    "evaluate":
        "--corpus --device=auto --episodes=100 --experiment --game --max-steps=100000 --out! --seed --temperature=1.0 "
        "--tracking-uri --workers",
    "fit":
        "--expert-return --forecast --forecast-at --gpu --max-return --out --seed --target-return --tracking-uri "
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
        ("train bc", (Training, TrainConfig), {"method", "rl", "vary", "varied"}),
        ("train impala", (Training, TrainConfig, Reinforcement), {"method", "rl", "dev_samples", "vary", "varied"}),
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


def minimal(command):
    """Return the arguments and options without which a command does nothing."""
    given = [p.name for p in COMMANDS[command].params if p.param_type_name == "argument" and p.required]
    given += [part for name, option in options(command).items() if option.required for part in (name, "9000")]
    return [*command.split(), *given, *(["--size", "9k", "--steps", "90000"] if command == "train impala" else [])]


FLOATS = [
    (name, flag)
    for name in COMMANDS
    for flag, option in options(name).items()
    if option.type_descriptor.annotation is float
]
OUTPUTS = [name for name in COMMANDS if "--out" in options(name)]


@pytest.mark.parametrize(("command", "flag"), FLOATS)
def test_a_number_that_is_none_is_refused_with_the_options_name(command, flag, main_here):
    code, stderr = main_here(*minimal(command), flag, "nan")
    assert code == 2
    assert flag in stderr
    assert stderr.count("\n") == 1


def test_an_empty_table_is_refused(main_here):
    code, stderr = main_here("fit", "", "--out", "o")
    assert code == 2
    assert "'points': empty; give a value" in stderr


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_empty_output_is_refused(command, main_here):
    code, stderr = main_here(*minimal(command), "--out", "")
    assert code == 2
    assert "'--out': empty" in stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params=1,000,000,samples=2,000,000", "'000' in"),
        ("params=,samples=5", "'params=' in"),
        ("params=1,samples=2,params=3", "params is given twice"),
        ("params=1,samples=nan", "'nan' is not a number"),
        ("params=1,samples=2,", "'' in"),
        ("params=1", "params=N,samples=D"),
        ("", "--forecast-at: empty; give NAME=VALUE"),
    ],
)
def test_what_is_left_over_of_a_forecast_is_refused(text, said):
    with pytest.raises(ValueError, match="--forecast-at: ") as error:
        _pairs([text])
    assert said in str(error.value)


def test_options_are_given_once():
    assert _pairs(["params=1,samples=2", " params = 1 , samples=3"]) == [(1, 2), (1, 3)]
    with pytest.raises(ValueError, match="--forecast-at: .* is given twice"):
        _pairs(["params=1,samples=2", "samples=2,params=1.0"])
    with pytest.raises(ValueError, match="--target-return: human is given twice"):
        _goals(["human=1", "human=2"])
    with pytest.raises(ValueError, match=r"--forecast: 1e\+13 is given twice"):
        budget_list("1e13,1e13", "--forecast")


@pytest.mark.parametrize("text", ["human=127,356", "human=1=2", "=5", "human=", "human=nan", "human", "", " "])
def test_a_target_return_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="--target-return: ") as error:
        _goals([text])
    assert (text.rpartition("=")[2].strip() == "") == ("--target-return: empty; give a number" in str(error.value))
    assert _goals(["human = 127356", "-3"]) == [("human", 127356), ("", -3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dev_loss", "NAME=VALUE"),
        ("dev_loss=a,dev_loss=b", "dev_loss is given twice"),
        ("loss=a", "ours are game, method"),
        ("dev_loss=params", "dev_loss=params, but params has a use of its own; give params=NAME, too"),
        ("dev_loss=x,params=x", "x is given for dev_loss and for params"),
    ],
)
def test_columns_that_are_no_pairs_of_names_are_refused(text, said):
    assert column_names("") == {}
    assert column_names("dev_loss=params,params=dev_loss") == {"dev_loss": "params", "params": "dev_loss"}
    assert column_names("dev_loss=eval/loss, params=n_params") == {"dev_loss": "eval/loss", "params": "n_params"}
    with pytest.raises(ValueError, match="--columns: ") as error:
        column_names(text)
    assert said in str(error.value)


def test_methods_of_a_table_are_chosen_by_name():
    rows = [Point(method=m, game=g, flops=1, params=1, samples=1) for m, g in (("a", "x"), ("b", "x"), ("b", "y"))]
    assert of_methods(rows, []) == rows
    assert of_methods(rows, ["b in y", "a"]) == [rows[2], rows[0]]
    with pytest.raises(ValueError, match="--method: no 'b'; the table has 'a', 'b in x', 'b in y'"):
        of_methods(rows, ["b"])
    with pytest.raises(ValueError, match="--method: a is given twice"):
        of_methods(rows, ["a", "a"])


def test_version_option_prints_the_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"playscale {playscale.__version__}\n"


def test_every_command_and_option_is_described_with_an_example():
    assert all("Example:\n  playscale " in command.help for command in COMMANDS.values())
    for name, command in COMMANDS.items():
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
            assert parameter.help.endswith("."), (name, parameter.name)
