"""A spec is checked whole when it is read, in bounded time; an error is one line with the key's line."""

import pytest

from playscale.study.spec import parse_spec

GOOD = "name: q\nsource: {corpus: c}\nsizes: [10k]\nbudgets: [1e9, 2e9]\n"
LEVELS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
LATE = {
    "evaluate: {temperature: .inf}": "line 5: evaluate.temperature: must be a finite number, not inf",
    "training: {device: foo}": "line 5: training.device: device 'foo' is unknown",
    "training: {learning_rate: .inf}": "line 5: training.learning_rate: must be a finite number",
    "training:\n  save_seconds: .nan": "line 6: training.save_seconds: must be",
    "method: impala\nrl: {actors: 1e9}": "line 6: rl.actors: must be at most 4096",
    "seeds: [-1]": "line 5: seeds.0: must be at least 0, not -1",
    "seeds: [0, 18446744073709551616]": "line 5: seeds.1: must be at most 9223372036854775807",
    "evaluate: {seed: 9223372036854775808}": "line 5: evaluate.seed: must be at most",
    "forecast: [1e308]": "line 5: forecast.0: 1e+308 is not a compute budget",
    "core: gru": "line 5: core: must be 'lstm' or 'transformer', not 'gru'",
    "sizes: [20k]": "sizes is given twice",
    "max_return: 2024-02-31": "not valid YAML",
    f"seeds: [{'9' * 5000}]": "not valid YAML",
    "forecast: &a [*a]": "line 5: stands for more than 100,000 values",
    LEVELS: "stands for more than 100,000 values",
    f"forecast: {'[' * 5000}{']' * 5000}": "nested too deeply",
}


@pytest.mark.parametrize("text", LATE, ids=lambda text: text[:30])
def test_spec_with_values_out_of_range_is_refused_with_its_line(text):
    with pytest.raises(ValueError, match=r"^spec[^\n]*$") as caught:
        parse_spec(GOOD + text)
    assert LATE[text] in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_name_that_yaml_reads_as_a_number_is_named_with_its_line():
    with pytest.raises(ValueError, match=r"^spec, line 1: name: must be text \(in YAML: put it in quotes\), not 2024$"):
        parse_spec(GOOD.replace("name: q", "name: 2024"))


def test_an_alias_stands_for_its_values():
    assert parse_spec(GOOD.replace("[1e9, 2e9]", "&b [1e9, 2e9]") + "forecast: *b\n").forecast == (1e9, 2e9)
