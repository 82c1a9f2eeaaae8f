"""The family's tables for README.md: rows, columns, spread, markers."""

import pytest
from test_family_viz import TABLE, results

from labor_lib.__main__ import main
from labor_lib.lab.family_report import markdown_table


def test_a_column_for_every_number_of_labels():
    assert markdown_table(TABLE).splitlines() == [
        "| method | no target labels | 1 a class | 3 a class | seeds |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| source only (ERM) | 45.0 ± 7.1 |  |  | 2 |",
        "| CCSA |  | 62.0 ± 2.8 | 72.0 ± 2.8 | 2 |",
    ]


def test_the_ceiling_stands_under_all_labels():
    rows = [("source_only", 0, 0, 45.0), ("ccsa", 1, 0, 62.0), ("target", 0, 0, 98.0)]
    assert markdown_table(results(rows)).splitlines() == [
        "| method | no target labels | 1 a class | all | seeds |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| source only (ERM) | 45.0 |  |  | 1 |",
        "| CCSA |  | 62.0 |  | 1 |",
        "| all target labels |  |  | 98.0 | 1 |",
    ]


def test_a_column_for_every_domain_left_out_and_their_mean():
    rows = [("sagnet", 0, 0, 30.0, "a"), ("sagnet", 0, 0, 50.0, "b"),
            ("source_only", 0, 0, 20.0, "a"), ("source_only", 0, 0, 40.0, "b")]  # fmt: skip
    assert markdown_table(results(rows)).splitlines() == [
        "| method | a | b | mean | seeds |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| source only (ERM) | 20.0 | 40.0 | 30.0 | 1 |",
        "| SagNet | 30.0 | 50.0 | 40.0 | 1 |",
    ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of two methods and few steps."""
    from dataclasses import replace

    from labor_lib.family_config import SETTINGS

    config = SETTINGS["fonts"]
    tiny = replace(config.training, steps=2, finetune_steps=1, batch_size=4)
    monkeypatch.setitem(SETTINGS, "fonts", replace(config, training=tiny))
    out = tmp_path / "fonts"
    command = ["family", "--shift", "fonts", "--methods", "source_only,finetune", "--few", "1"]
    assert main([*command, "--out", str(out), "--device", "cpu"]) == 0
    return out


def test_the_command_puts_a_table_between_the_markers(run, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results:fonts -->\nold\n<!-- /results:fonts -->\nz\n")
    assert main(["readme", str(run), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("a\n<!-- results:fonts -->\n| method | no target labels | 1 a class |")
    assert text.endswith("<!-- /results:fonts -->\nz\n")
    assert "old" not in text
    command = "family --shift fonts --methods source_only,finetune --few 1 --seeds 0"
    assert f"`python -m labor_lib {command}`" in text


def test_a_readme_without_markers_is_refused(run, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    assert main(["readme", str(run), "--readme", str(readme)]) == 2
    assert "write the lines '<!-- results:fonts -->'" in capsys.readouterr().err
