"""Regions: each polygon from its own text, joined, drawn nowhere else where that is asked, or refused with a reason."""

import json

import numpy as np
import pytest
import torch
from afterimage.engine.contract import TEXTS_LIMIT, Control, Generate, GeoBox, Regions, Sampling, Source, Window
from afterimage.engine.diffusion.cache import TileCache
from afterimage.engine.errors import (
    InvalidRequest,
    MaskEmpty,
    MaskUnreadable,
    PromptNotUnderstood,
    PromptTooLong,
)
from afterimage.engine.models.base import Given, Scene
from afterimage.engine.tasks import generate
from afterimage.engine.tasks.regions import NARROWEST, WIDEST, RegionTexts, RegionTold

ROW, COL = 256 * 40 - 20, -256 * 7 - 20
ALL = (-4000, -4000, 4000, 4000)


def grid(row, col, height, width):
    return GeoBox("EPSG:32633", (10.0, 0.0, col * 10.0, 0.0, -10.0, -row * 10.0), (height, width))


BOX = grid(ROW, COL, 60, 50)
#: A window of 16 x 16 latents.
FIRST = Window(0, 0, 128, 128)


def write(folder, *regions, box=BOX):
    """(text, (first row, first col, last row, last col)) each, in pixels of a grid."""
    features = []
    for text, (top, left, bottom, right) in regions:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        ring = [list(box.to_map(*corner)) for corner in corners]
        properties = text if isinstance(text, dict) else {"prompt": text}
        features.append(
            {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        )
    (folder / "regions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")


def request(box=BOX, only=False, **changes):
    values = dict(
        model="stub",
        grid=box,
        lattice=box,
        gsd=10.0,
        prompt="forest",
        sampling=Sampling(5, 8, "DDIM", 2.0),
        regions=Regions("regions.geojson", "plan", only),
    )
    return Generate(**{**values, **changes})


@pytest.fixture
def model(generate_model, card):
    generate_model.card = card(phases=((128, 64), (128, 64)))
    generate_model.told_of = []
    told = generate_model.told
    generate_model.told = lambda scene: generate_model.told_of.append(scene.prompt) or told(scene)
    return generate_model


@pytest.mark.parametrize("others", [[("a river far away", (5000, 5000, 5100, 5100))], []])
def test_a_region_over_all_is_the_plain_text_bit_for_bit(bench, model, others):
    plain = bench.make(generate, request(prompt="long words", regions=None), model)[0]
    write(bench.path, *others, ("long words", ALL))
    made, valid = bench.make(generate, request(prompt="x"), model)
    assert np.array_equal(made, plain) and valid.all()


def test_a_region_of_the_prompt_itself_changes_nothing(bench, model):
    plain = bench.make(generate, request(regions=None), model)[0]
    write(bench.path, ("forest", (10, 10, 30, 30)))
    assert np.array_equal(bench.make(generate, request(), model)[0], plain)


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("halo", [1, None])
def test_crops_and_orders_share_their_pixels(bench, model, only, halo):
    model.decode_halo = halo
    outlines = ("a", (-100, -100, 35, 27.3)), ("longer", (20, 5, 300, 300))
    write(bench.path, *outlines)
    one, valid = bench.make(generate, request(only=only), model)
    turned = bench.make(generate, request(only=only), model, order=lambda chunks: chunks[::-1])[0]
    crop = grid(ROW + 20, COL + 10, 35, 200)
    part, known = bench.make(generate, request(crop, only=only), model)
    assert np.array_equal(one, turned)
    assert np.array_equal(one[:, 20:55, 10:], part[:, :, :40]) and np.array_equal(valid[20:55, 10:], known[:, :40])
    assert valid.all() != only


def test_where_regions_overlap_the_later_counts_and_elsewhere_the_prompt(bench, model):
    write(bench.path, ("a", (0, 0, 40, 40)), ("b", (20, 20, 60, 60)))
    texts = RegionTexts(bench.path, request(), BOX, model.card)
    labels = texts.labels(Window(-1, -1, 62, 62))
    assert texts.texts == ("forest", "a", "b")
    assert (labels[0] == 0).all() and (labels[1:21, 1:41] == 2).all() and (labels[21:61, 21:61] == 3).all()


@pytest.fixture
def shares(bench, model):
    """(regions, how wide borders are) -> the shares in a window of 16 x 16 latents."""

    def make(*regions, width=NARROWEST, window=FIRST, **changes):
        write(bench.path, *regions)
        return RegionTexts(bench.path, request(**changes), BOX, model.card).shares(window, 8, width)

    return make


@pytest.mark.parametrize("width", [3, 8])
def test_shares_add_up_go_over_without_a_step_and_are_one_inside(shares, width):
    halves = ("a", (-800, -800, 800, 60)), ("b", (-800, 60, 800, 800))  # 7.5 latents
    found = shares(*halves, width=width)
    assert set(found) == {1, 2}
    assert torch.allclose(found[1] + found[2], torch.ones(16, 16))
    depth = 7.5 - torch.arange(0.5, 16)  # of the middle of each latent
    assert torch.allclose(found[1], (1 + (torch.pi / 2 * (depth / width).clamp(-1, 1)).sin()).expand(16, 16) / 2)
    assert ((found[1] == 1) == (depth >= width)).all() and ((found[1] == 0) == (depth <= -width)).all()
    windows = [Window(0, col, 128, 128) for col in (-400, 300)]
    assert [list(shares(*halves, width=width, window=window)) for window in windows] == [[1], [2]]


@pytest.mark.parametrize("side", [8, 16, 24, 40, 80])
def test_a_small_region_keeps_its_middle_to_itself(shares, side):
    field, first = ("field", (-800, -800, 800, 800)), 64 - side // 2 // 8 * 8
    found = shares(field, ("pond", (first, first, first + side, first + side)), width=WIDEST)[2]
    middle = found[first // 8 + side // 16, first // 8 + side // 16]
    assert middle > (0.8 if side < 24 else 0.99)
    assert side == 80 or found[0].max() == 0  # beyond its own width it has none, and half at its border
    inside, outside = (found[first // 8 + side // 16, first // 8 - near] for near in (0, 1))
    assert inside + outside == pytest.approx(1, abs=0.02)


def test_shares_are_those_of_the_place_whatever_the_window(shares):
    regions = ("a", (-800, -800, 30, 61)), ("b", (20, 40, 500, 500)), ("c", (50, 60, 70, 75))
    whole = shares(*regions, width=WIDEST)
    part = shares(*regions, width=WIDEST, window=Window(32, 24, 64, 64))
    for text, share in part.items():
        assert torch.equal(share, whole[text][4:12, 3:11])
    assert all(text in part or not share[4:12, 3:11].any() for text, share in whole.items())


def test_what_lies_outside_is_the_nearest_regions_where_nothing_else_is_said(shares):
    regions = ("a", (0, 0, 128, 24)), ("b", (0, 104, 128, 128))
    found = shares(*regions, only=True, prompt="")
    assert set(found) == {0, 1} and (found[0][:, :4] == 1).all() and (found[1][:, 12:] == 1).all()
    assert torch.allclose(found[0], found[1].flip(1), atol=1e-6)


def test_borders_grow_narrower_with_the_noise(bench, model):
    write(bench.path, ("a", (-800, -800, 800, 64)), ("longer", (-800, 64, 800, 800)))
    texts = RegionTexts(bench.path, request(), BOX, model.card)
    told = RegionTold(texts, model, Scene(), 1.0)
    model.answer = lambda x, t, told: told["level"].expand(x.shape)
    predict = told.predictor([FIRST], Given(), lambda: None)
    for t, width in ((999, WIDEST), (1, NARROWEST)):
        level = predict(torch.zeros(1, 4, 16, 16), torch.tensor(t))[0, 0, 0]
        ends = [float(0.1 * len(text)) for text in ("a", "longer")]
        assert ((level > ends[0] + 1e-6) & (level < ends[1] - 1e-6)).sum() == 2 * width


def test_where_guidance_does_not_count_nothing_is_asked_for_it(bench, model):
    write(bench.path, ("a", (-800, -800, 800, 64)), ("longer", (-800, 64, 800, 800)))
    told = RegionTold(RegionTexts(bench.path, request(), BOX, model.card), model, Scene(), 2.0)
    model.batch, model.guides = 1, lambda t: int(t) < 500
    predict = told.predictor([FIRST], Given(), lambda: None)
    for t, rows in ((999, 2), (1, 3)):
        model.calls = 0
        predict(torch.zeros(1, 4, 16, 16), torch.tensor(t))
        assert model.calls == rows


def test_a_text_is_worked_out_once_and_a_window_of_one_region_costs_one_prediction(bench, model):
    box, model.batch = grid(ROW, COL, 60, 50), 1
    bench.make(generate, request(box, regions=None), model)
    plain, model.calls = model.calls, 0
    model.told_of.clear()
    write(bench.path, ("a", (-4000, -4000, 4000, 2000)), ("b", (-4000, 2000, 4000, 4000)), ("a", (0, 0, 5, 5)))
    bench.make(generate, request(box), model)
    assert sorted(model.told_of) == ["a", "b", "forest"] and model.calls == plain
    # guided away from the same, so three rows and no fourth
    write(bench.path, ("a", (-4000, -4000, 4000, 25)), ("longer", (-4000, 25, 4000, 4000)))
    model.calls = 0
    bench.make(generate, request(box), model)
    assert plain < model.calls <= 1.5 * plain
    write(bench.path, ("a", (-4000, -4000, 4000, 25)), ("b", (-4000, 25, 4000, 4000)))
    model.calls = 0
    bench.make(generate, request(box), model)
    assert model.calls == plain  # the model is told the same of both


def test_windows_of_any_texts_fill_each_others_calls(bench, model):
    box, texts = grid(ROW, COL, 300, 300), ("a", "bb", "ccc", "dddd", "eeeee")
    model.batch, asked, rows = 8, set(), RegionTold.rows
    model.predict = lambda x, t, condition: 0.9 * x + 0.2 * x.roll(1, -1) + condition
    answer, calls = model.answer, []
    model.answer = lambda x, t, told: calls.append(len(x)) or answer(x, t, told)
    write(bench.path, *((text, (60 * k, 50 * k, 60 * k + 90, 50 * k + 70)) for k, text in enumerate(texts)), box=box)
    work = bench.plan(generate, request(box), model)
    picture = work.draw.__self__
    with pytest.MonkeyPatch.context() as patch:
        get = TileCache.get
        patch.setattr(TileCache, "get", lambda cache, keys, *rest: asked.update(
            (place, key) for key in keys for place, own in enumerate(picture._caches) if own is cache
        ) or get(cache, keys, *rest))  # fmt: skip
        bench.draw(work)
    # most that each window needs, once, in four steps of each phase
    needed = 4 * sum(
        rows(picture._texts, picture._window(place, key[1]), torch.tensor((999, 499)[place])) for place, key in asked
    )
    assert set(calls) == {8} and 0.8 * needed < sum(calls) < 1.1 * needed


def test_nothing_is_drawn_outside_where_only_regions_are(bench, model):
    box = grid(0, 0, 512, 512)
    write(bench.path, ("a", (10, 20, 40, 60)), box=box)
    work = bench.plan(generate, request(box, only=True, prompt=""), model)
    assert model.told_of == ["a"]
    counted = {}
    for chunk in work.chunks:
        model.calls = 0
        raster = work.draw(chunk, 1, bench.ctx)
        counted[(chunk.row, chunk.col)] = model.calls
        inside = np.zeros((512, 512), bool)
        inside[10:40, 20:60] = True
        rows, cols = chunk.slices()
        assert np.array_equal(raster.valid, inside[rows, cols])
    assert counted[(0, 0)] > 0
    assert [calls for place, calls in counted.items() if place != (0, 0)] == [0, 0, 0]
    # windows of 128 at 64 that touch rows 2 to 48 and columns 12 to 68: 2 x 3, and 3 x 3 of the second phase, which
    # begin 32 further; in both branches, four steps each
    assert counted[(0, 0)] == 4 * sum(-(-2 * windows // model.batch) for windows in (2 * 3, 3 * 3))


def test_with_only_regions_a_prompt_counts_around_them_but_no_pixel_there(bench, model):
    write(bench.path, ("a", (10, 10, 40, 40)))
    made = [bench.make(generate, request(only=True, prompt=text), model) for text in ("", "something else")]
    assert not np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])
    assert not made[0][1].all()


def test_the_file_is_an_input_of_the_result(bench, model):
    import hashlib

    write(bench.path, ("a", ALL))
    (found,) = bench.plan(generate, request(), model).inputs
    assert (found.name, found.grid) == ("plan", BOX)
    assert found.sha256 == hashlib.sha256((bench.path / "regions.geojson").read_bytes()).hexdigest()


def test_each_guiding_window_goes_with_its_own_text(bench, model, card):
    """What is given for windows that are drawn together is taken apart like them."""
    seen, branches = [], model.branches

    def watched(told, scale, given):
        seen.append(given.controls["map"])
        return branches(told, scale, given)

    import rasterio

    model.branches, model.card = watched, card(controls=("map",))
    ramp = np.broadcast_to(np.arange(10, 210, 4, dtype=np.uint8), (3, 60, 50))
    with rasterio.open(
        bench.path / "map.tif", "w", driver="GTiff", height=60, width=50, count=3, dtype="uint8", crs=BOX.crs,
        transform=rasterio.Affine(*BOX.transform),
    ) as file:  # fmt: skip
        file.write(ramp)
    write(bench.path, ("a", (-4000, -4000, 4000, 25)), ("longer", (-4000, 25, 4000, 4000)))
    bench.make(generate, request(controls=(Control("map", Source("map.tif")),)), model)
    assert all(each.shape == (1, 3, 128, 128) for each in seen)
    # the map lies elsewhere in each window that it touches
    assert len({each.numpy().tobytes() for each in seen}) > 4


def refused(bench, model, error, regions=None, content=None, **changes):
    write(bench.path, *(regions or [("a", ALL)]))
    if content is not None:
        (bench.path / "regions.geojson").write_text(content, "utf-8")
    with pytest.raises(error) as told:
        bench.plan(generate, request(**changes), model)
    assert told.value.hint and model.calls == 0 and str(bench.path) not in told.value.message
    return told.value.message


def test_what_is_wrong_is_said_before_any_work(bench, model, monkeypatch):
    assert "Region 2" in refused(bench, model, InvalidRequest, [("a", ALL), ({"name": "x"}, ALL)])
    assert "Region 1" in refused(bench, model, InvalidRequest, [({"prompt": 3}, ALL)])
    assert "empty" in refused(bench, model, InvalidRequest, [(" \n\u202e", ALL)])
    assert "4001" in refused(bench, model, PromptTooLong, [("x" * 4001, ALL)])
    many = [(f"text {n}", ALL) for n in range(TEXTS_LIMIT + 1)]
    assert str(TEXTS_LIMIT) in refused(bench, model, InvalidRequest, many)
    write(bench.path, *many[1:])
    assert len(RegionTexts(bench.path, request(), BOX, model.card).texts) == TEXTS_LIMIT + 1
    refused(bench, model, MaskEmpty, [("a", (900, 900, 950, 950))])
    assert "regions file" in refused(bench, model, MaskUnreadable, content="{}")
    assert "Point" in refused(
        bench,
        model,
        MaskUnreadable,
        content='{"type": "FeatureCollection", "features": [{"geometry": {"type": "Point", "coordinates": [0, 0]}}]}',
    )
    refused(bench, model, MaskUnreadable, regions=None, content="", only=True)

    def told(scene):
        if scene.prompt == "nonsense":
            raise PromptNotUnderstood("The text names nothing.", "It knows: forest.")
        return 0.0, 0.0

    monkeypatch.setattr(model, "told", told)
    assert '"nonsense"' in refused(bench, model, PromptNotUnderstood, [("a", ALL), ("nonsense", ALL)])


def test_a_model_that_is_told_nothing_draws_inside_regions_only(bench, model, card):
    model.card = card(uses=())
    assert "told" in refused(bench, model, InvalidRequest)
    write(bench.path, ("a", (10, 10, 40, 40)), ("b", (0, 0, 10, 10)))
    work = bench.plan(generate, request(only=True), model)
    assert model.told_of == ["forest"] and any("prompt" in notice for notice in work.notices)


def test_a_large_extent_of_one_text_is_said_to_be_one_texture(bench, model):
    def texture(box, **changes):
        return any("texture" in notice for notice in bench.plan(generate, request(box, **changes), model).notices)

    write(bench.path, ("a", ALL), box=grid(0, 0, 1, 1))
    assert texture(grid(0, 0, 600, 600), regions=None) and not texture(grid(0, 0, 500, 500), regions=None)
    assert not texture(grid(0, 0, 600, 600))


def test_what_a_picture_is_made_of_says_not_what_is_where(model):
    box = grid(0, 0, 600, 600)
    content, roads = (Control(kind, Source("inputs/guide.tif")) for kind in ("content", "roads"))

    def texture(*controls):
        asked = request(box, regions=None, controls=controls)
        return any("texture" in notice for notice in generate._notices(asked, model, box, asked.gsd))

    assert texture(content) and not texture(roads) and not texture(content, roads)
