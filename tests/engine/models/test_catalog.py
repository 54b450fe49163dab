"""The catalogue lists models without loading any, and loads those it lists."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from afterimage.engine.contract import Window
from afterimage.engine.diffusion import noise
from afterimage.engine.diffusion.loop import sample, set_timesteps
from afterimage.engine.errors import PromptNotUnderstood, UnknownModel, UnknownScheduler, WeightsMissing
from afterimage.engine.models import catalog
from afterimage.engine.models.base import Given, Scene
from afterimage.engine.settings import MODELS_FOLDER, Settings

SETTINGS = Settings(device="cpu", threads=1)


def scene(prompt="forest", negative="", **changes):
    return Scene(prompt, negative, 10.0, **changes)


def test_cards_are_listed_without_torch(root):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import launch; from pathlib import Path;"
        "launch.register(Path(sys.argv[1]).parent);"
        "from afterimage.engine.models import catalog; from afterimage.engine.settings import Settings;"
        "assert catalog.cards(Settings()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(root / "engine")], check=True, timeout=60)


def test_random_models_cannot_be_picked():
    tiny = {card.id: card for card in catalog.cards(SETTINGS) if card.id.startswith("tiny-")}
    assert set(tiny) == {"tiny-generate", "tiny-superresolve", "tiny-ddpm"}
    assert not any(card.pickable for card in tiny.values())


def test_an_unknown_model_is_refused():
    with pytest.raises(UnknownModel):
        catalog.load("nothing", SETTINGS)


def test_a_damaged_card_is_left_out_and_a_family_of_later_versions_is_listed_but_not_run(tmp_path, caplog):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{")
    ids = {card.id for card in catalog.cards(Settings(models=tmp_path))}
    assert ids == {"tiny-generate", "tiny-superresolve", "tiny-ddpm"}
    assert "broken" in caplog.text


def test_a_card_without_weights_is_missing_them(tmp_path):
    from afterimage.engine.training.publish import write_card

    folder = tmp_path / "m"
    folder.mkdir()
    card = next(c for c in catalog.cards(SETTINGS) if c.id == "tiny-generate")
    write_card(dataclasses.replace(card, id="other"), folder)
    with pytest.raises(WeightsMissing):
        catalog.load("other", Settings(device="cpu", threads=1, models=tmp_path))


def generate_ids():
    return [card.id for card in catalog.cards(SETTINGS) if "Generate" in card.tasks]


def super_resolve_ids():
    return [card.id for card in catalog.cards(SETTINGS) if "SuperResolve" in card.tasks]


@pytest.mark.parametrize("model_id", generate_ids())
def test_a_generate_model_does_what_its_protocol_says(model_id):
    model = catalog.load(model_id, SETTINGS)
    predict = model.predictor(model.told(scene()), 1.0, Given())
    x = torch.randn(2, model.channels, model.window, model.window, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, again = predict(x, torch.tensor(500)), predict(x, torch.tensor(500))
        pixels = model.decode(x)
    assert first.shape == x.shape and torch.equal(first, again)
    assert torch.isfinite(first).all()
    assert pixels.shape == (2, len(model.card.bands), model.window * model.scale, model.window * model.scale)
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.std() > 0
    if "prompt" not in model.card.uses:
        return
    assert not torch.allclose(first, model.predictor(model.told(scene()), 0.0, Given())(x, torch.tensor(500)))
    assert torch.equal(model.told(scene(negative="river"))[1], model.told(scene("a river"))[0])
    for words in (scene("a spaceship"), scene(""), scene(negative="a spaceship")):
        with pytest.raises(PromptNotUnderstood):
            model.told(words)


@pytest.mark.parametrize("model_id", generate_ids())
def test_what_the_card_calls_unused_does_not_change_the_picture(model_id):
    model = catalog.load(model_id, SETTINGS)
    plain = model.told(scene())
    for name, changes in (("date", {"date": "2020-05-01"}), ("place", {"longitude": 8.0, "latitude": 50.0})):
        told = model.told(scene(**changes))
        changed = plain is not None and not torch.equal(plain[0], told[0])
        assert changed == (name in model.card.uses)


@pytest.mark.parametrize("model_id", generate_ids() + super_resolve_ids())
def test_every_scheduler_of_the_card_brings_a_perfect_denoiser_to_its_point(model_id):
    model = catalog.load(model_id, SETTINGS)
    point = torch.full((1, 3, 4, 4), 0.7)
    for name in model.card.schedulers:
        scheduler = model.scheduler(name)

        def predict(x, t, scheduler=scheduler, kind=scheduler.config.prediction_type):
            """The velocity of a point, v = (sqrt(abar) x - x0) / sqrt(1 - abar), or its noise."""
            alpha = scheduler.alphas_cumprod[t]
            if scheduler.config.get("use_karras_sigmas"):  # a step's own level, which lies between two of training
                alpha = 1 / (1 + scheduler.sigmas[scheduler.step_index or 0] ** 2)
            signal, sigma = alpha**0.5, (1 - alpha) ** 0.5
            return (signal * x - point) / sigma if kind == "v_prediction" else (x - signal * point) / sigma

        drawn = sample(predict, scheduler, 12, lambda stream: noise.field(1, stream, Window(0, 0, 4, 4), 3)[None])
        assert torch.allclose(drawn, point, atol=2e-3), name
    with pytest.raises(UnknownScheduler):
        model.scheduler("Euler ancestral of yesterday")


@pytest.mark.parametrize("model_id", super_resolve_ids())
def test_a_super_resolution_model_does_what_its_protocol_says(model_id):
    model = catalog.load(model_id, SETTINGS)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, model.window, model.window, generator=generator)
    for factor in model.card.factors:
        lr = torch.rand(2, 3, model.window // factor, model.window // factor, generator=generator)
        enlarged = model.enlarge(lr, factor)
        assert enlarged.shape == x.shape
        with torch.inference_mode():
            first = model.predict(x, torch.tensor(500), enlarged, factor)
            assert torch.equal(first, model.predict(x, torch.tensor(500), enlarged, factor))
        assert model.card.gives_mean and first.shape == (2, 6, *x.shape[2:]) and torch.isfinite(first).all()


@pytest.mark.parametrize("model_id", ["eurosat-generate", "ucmerced-generate"])
def test_a_shipped_card_says_in_which_share_of_its_steps_guidance_counts(model_id):
    model = catalog.load(model_id, Settings(device="cpu", threads=1, models=MODELS_FOLDER))
    scheduler = model.scheduler(model.card.schedulers[0])
    set_timesteps(scheduler, model.card.steps)
    counts = [model.guides(t) for t in scheduler.timesteps]
    assert sum(counts) / len(counts) == pytest.approx(model.card.guided, abs=5e-4)
    assert any(counts) and not counts[0] and not counts[-1]


def test_shipped_weights_fit_in_twenty_megabytes_and_are_safetensors():
    files = [path for path in MODELS_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
