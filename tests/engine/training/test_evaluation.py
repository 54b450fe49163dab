"""The command that measures: figures go to the card and to the page, and a glance writes nothing."""

import logging

import pytest
from afterimage.engine.contract import Measure, ModelCard, loads
from afterimage.engine.training import evaluation
from afterimage.engine.training.evaluation import evaluate


@pytest.fixture
def words(plain_data, tmp_path):
    """Arguments that all calls share."""
    (tmp_path / "tiny-generate").mkdir()
    places = ("--data", plain_data, "--work", tmp_path / "work", "--models", tmp_path)
    return ["tiny-generate", *map(str, places), "--threads", "1"]


def test_figures_go_to_the_card_and_to_the_page(words, tmp_path, monkeypatch):
    asked = {}

    def measure(model, data, work, draws, judge_seed):
        asked.update(draws=draws, judge_seed=judge_seed)
        return (Measure("recognised as asked", "15 images", 91.2, "%"),)

    monkeypatch.setattr(evaluation, "measure_generate", measure)
    assert evaluate([*words, "--table", str(tmp_path / "models.md")]) == 0
    assert asked == {"draws": 3, "judge_seed": evaluation.REPORTING}
    card = loads(ModelCard, (tmp_path / "tiny-generate" / "card.json").read_bytes())
    assert card.measures[0].value == 91.2
    assert "| recognised as asked | 15 images | 91.2 % |  |" in (tmp_path / "models.md").read_text()


def test_a_glance_takes_other_settings_and_writes_no_card(words, short_courses, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        settings = ("--per-class", "2", "--steps", "2", "--guidance", "1", "--window", "128")
        assert evaluate([*words, "--quick", *settings]) == 0
    assert "recognised as asked, 6 generated images" in caplog.text
    assert not list(tmp_path.rglob("card.json"))
    assert [path.name for path in (tmp_path / "work").iterdir()] == [f"judge-eurosat-{evaluation.CHOOSING}.safetensors"]


@pytest.mark.parametrize("option", [["--steps", "4"], ["--guidance", "0"], ["--window", "128"]])
def test_settings_other_than_the_cards_are_for_a_glance_only(words, option, capsys):
    with pytest.raises(SystemExit):
        evaluate([*words, *option])
    assert "go with --quick" in capsys.readouterr().err


def test_super_resolution_is_not_glanced_at(words, capsys):
    with pytest.raises(SystemExit):
        evaluate(["tiny-superresolve", *words[1:], "--quick"])
    assert "draw from text" in capsys.readouterr().err
