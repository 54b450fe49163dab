"""Every message survives the wire, and the wire is what it was: one pinned sample of each."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path

import pytest
from afterimage.engine import contract
from afterimage.engine.contract import (
    Affine,
    Cancel,
    Cancelled,
    Control,
    Edit,
    ErrorCode,
    Failed,
    Failure,
    Fetching,
    Files,
    Forecast,
    Generate,
    GeoBox,
    Input,
    Installed,
    Job,
    Mask,
    Measure,
    ModelCard,
    Offer,
    Offers,
    Output,
    Previewed,
    Progressed,
    Provenance,
    Ready,
    Refused,
    Regions,
    RemoteFile,
    Removed,
    Result,
    Role,
    Sampling,
    Shutdown,
    Source,
    Started,
    Submit,
    Succeeded,
    SuperResolve,
    WireError,
    dumps,
    loads,
)

DATA = Path(__file__).resolve().parent.parent / "data" / "wire"

UTM: Affine = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
GRID = GeoBox("EPSG:32633", UTM, (512, 768))
LONLAT = GeoBox("EPSG:4326", (0.0001, 0.0, 15.0, 0.0, -0.0001, 45.2), (500, 600))
GENERATE = Generate(
    model="afterimage-generate",
    grid=LONLAT,
    lattice=GRID,
    gsd=10.0,
    prompt="Wälder, 森林 and a “river”",
    sampling=Sampling(2**63 - 1, 24, "DPM++ 2M", 4.5, 3),
    negative_prompt="clouds",
    date="2024-06-01",
    longitude=15.03,
    latitude=45.17,
    trajectory=8,
    cloud_cover=5.0,
    told_gsd=0.0,
    controls=(Control("depth", Source("inputs/depth.tif", "Elevation"), "depth", 0.5),),
    regions=Regions("inputs/regions.geojson", "Zoning 2040", True),
)
SUPER_RESOLVE = SuperResolve(
    model="afterimage-superresolve",
    source=Source("inputs/source.tif", "Orthophoto 2020", (4, 3, 2), "2020-02-29"),
    factor=4,
    gsd=10.0,
    sampling=Sampling(0, 8, "DDIM", samples=2),
    spread=True,
    prompt="fields",
    mean=True,
)
EDIT = Edit(
    model="afterimage-generate",
    source=Source("inputs/source.tif", "Orthophoto 2020"),
    gsd=10.0,
    prompt="forest",
    sampling=Sampling(5, 16, "DPM++ 2M", 2.0),
    mask=Mask("inputs/mask.geojson", "Parcels"),
    strength=0.75,
    negative_prompt="clouds",
    date="2024-06-01",
    image_guidance_scale=2.0,
    margin=64,
    cloud_cover=0.0,
    told_gsd=12.0,
)
FORECAST = Forecast(
    model="diffusionsat-temporal",
    sources=(
        Source("inputs/source_1.tif", "Orthophoto 2016", date="2016-09-11", gsd=1.0, cloud_cover=0.0),
        Source("inputs/source_2.tif", "Sentinel-2", (4, 3, 2), "2018-11-20", 10.0),
    ),
    gsd=1.0,
    date="2018-10-20",
    sampling=Sampling(5, 50, "DDIM"),
    prompt="houses",
    cloud_cover=0.0,
)
JOB = Job("20240601-120000-1", GENERATE, "/home/a b/é.tif", title="Forest at the river")
CARD = ModelCard(
    id="afterimage-generate",
    name="Afterimage Generate",
    summary="Draws Sentinel-2 true colour.",
    family="eo_latent",
    version="1.0.0",
    tasks=("Generate",),
    bands=("red", "green", "blue"),
    gsd=(10.0, 10.0),
    window=256,
    stride=192,
    phases=((256, 192), (128, 96)),
    schedulers=("DPM++ 2M", "DDIM"),
    steps=24,
    guidance_scale=3.0,
    uses=("prompt",),
    vocabulary=("Forest", "River"),
    controls=("land_use",),
    palettes={"land_use": {"forest": "#00ff00"}},
    licence="CC-BY-4.0",
    measures=(Measure("PSNR, 4x", "UC Merced test (105 images)", 28.5, "dB", "bicubic: 27.1 dB"),),
    parameters=1_000_000,
    memory_mb=600,
    gpu_mb=(2100, 1500),
    gflop_per_window_step=1.5,
    weights={"unet/diffusion_pytorch_model.safetensors": "ab" * 32},
)
PROVENANCE = Provenance(
    task="Generate",
    model="afterimage-generate",
    weights={"unet/diffusion_pytorch_model.safetensors": "ab" * 32},
    licence="CC-BY-4.0",
    attribution="Copernicus",
    job=dumps(JOB),
    prompt=GENERATE.prompt,
    negative_prompt="clouds",
    date="2024-06-01",
    seed=7,
    scheduler="DPM++ 2M",
    steps=24,
    guidance_scale=4.5,
    inputs=(Input("Orthophoto 2020", "cd" * 32, GRID),),
    grid=LONLAT,
    engine_version="0.1.0",
    created="2026-11-22T14:00:00Z",
    pins={"device": "cpu"},
)
RESULT = Result(
    (
        Output("/home/a b/é.tif", Role.SAMPLE, 1, LONLAT, ("red", "green", "blue"), "uint8", "2024-06-01"),
        Output("/home/a b/é_mean.tif", Role.MEAN, 0, LONLAT, ("red", "green", "blue"), "uint8", "2024-06-01"),
        Output("/home/a b/é_spread.tif", Role.SPREAD, 0, LONLAT, ("spread of red",), "float32"),
        Output("/home/a b/é_frame_1.tif", Role.TRAJECTORY, 1, LONLAT, ("red",), "uint8", "2024-05-31", 1),
    ),
    PROVENANCE,
    ("Not used by this model: the date.",),
    12.5,
)
FAILURE = Failure(ErrorCode.DISK_FULL, "The disk is full.", "Free some space.", "Traceback ...", True)
OFFER = Offer(CARD, "huggingface", "lcybuaa/Text2Earth", "", "Academic use only.", 4_000_000_000, ("base",))

SAMPLES = {
    "submit": Submit("a", "/jobs/a"),
    "cancel": Cancel("a"),
    "shutdown": Shutdown(),
    "ready": Ready(contract.PROTOCOL, "0.1.0", "cpu", (CARD,), 12_000),
    "started": Started("a"),
    "progressed": Progressed("a", "drawing", 0.25, 12.5),
    "progressed_unknown": Progressed("a", "loading model"),
    "previewed": Previewed("a", "/jobs/a/previews/preview_00000.tif"),
    "succeeded": Succeeded("a", RESULT),
    "failed": Failed("a", FAILURE),
    "cancelled": Cancelled("a"),
    "generate": GENERATE,
    "super_resolve": SUPER_RESOLVE,
    "edit": EDIT,
    "forecast": FORECAST,
    "offers": Offers((OFFER,)),
    "files": Files("t2e", "29049fa", (RemoteFile("unet/config.json", 1755, 0),), 10**12),
    "fetching": Fetching("t2e", "fetching", "unet/config.json", 100, 1755),
    "installed": Installed(CARD),
    "removed": Removed("t2e"),
    "refused": Refused(FAILURE, "t2e"),
    "job": JOB,
    "model_card": CARD,
}
#: What is new since the samples were pinned raises PROTOCOL and is pinned anew, by hand.
REGENERATE = False


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_survives_the_wire(name):
    message = SAMPLES[name]
    line = dumps(message)
    assert "\n" not in line
    assert loads(type(message), line) == message
    assert loads(type(message), line.encode("utf-8")) == message


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_looks_as_it_was_pinned(name):
    path = DATA / f"{name}.json"
    if REGENERATE:
        path.write_text(json.dumps(json.loads(dumps(SAMPLES[name])), indent=1, ensure_ascii=False) + "\n", "utf-8")
    pinned = json.loads(path.read_text("utf-8"))
    assert json.loads(dumps(SAMPLES[name])) == pinned, "a change of the wire raises PROTOCOL and its sample"
    assert loads(type(SAMPLES[name]), json.dumps(pinned)) == SAMPLES[name]


def test_every_message_and_request_has_a_sample():
    wanted = {
        kind.__name__
        for union in (contract.Command, contract.Event, contract.Request, contract.Notice)
        for kind in typing.get_args(union)
    }
    assert wanted <= {type(message).__name__ for message in SAMPLES.values()}
    assert {path.stem for path in DATA.glob("*.json")} == set(SAMPLES)


def test_commands_and_events_are_told_apart_by_their_type():
    for message in SAMPLES.values():
        for union in (contract.Command, contract.Event):
            if type(message) in typing.get_args(union):
                assert loads(union, dumps(message)) == message
    with pytest.raises(WireError, match="unknown type 'Started'"):
        loads(contract.Command, dumps(Started("a")))


def test_fields_of_a_newer_version_are_passed_over():
    assert loads(contract.Command, '{"type":"Cancel","job":"a","why":"tired"}') == Cancel("a")


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"text"', "unknown type None"),
        ("[]", "unknown type None"),
        ('{"type":"Submit","job":"a"}', "folder is missing"),
        ('{"type":"Submit","job":1,"folder":"b"}', r"\$.job: expected str, found int"),
        ('{"type":"Submit","job":null,"folder":"b"}', r"\$.job"),
        ('{"type":"Exec","job":"a"}', "unknown type 'Exec'"),
    ],
)
def test_what_is_no_message_is_refused_with_the_place(line, where):
    with pytest.raises(WireError, match=where):
        loads(contract.Command, line)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("grid", "shape"), [0, 5], r"\$.request.grid: shape must be"),
        (("grid", "transform"), [1, 0, 0, 0, 0, 0], "invertible"),
        (("grid", "transform"), [1, 0, 0, 0, -1], "expected 6 items"),
        (("sampling", "steps"), 0, "steps must be"),
        (("sampling", "steps"), 1.5, "expected int"),
        (("sampling", "steps"), True, "expected int"),
        (("sampling", "seed"), -1, "seed must be"),
        (("sampling", "samples"), 10**9, "samples must be"),
        (("date",), "01.06.2024", "YYYY-MM-DD"),
        (("gsd",), 0, "gsd must be"),
        (("gsd",), 10**400, "finite number"),
        (("prompt",), None, "expected str"),
        (("trajectory",), 25, "trajectory must be"),
        (("cloud_cover",), 101, "cloud_cover must be"),
        (("told_gsd",), -1, "told_gsd must be"),
        (("coarse",), 3, "coarse must be 1 for no coarser level, or one of 2, 4, 8"),
        (("coarse_strength",), 0, "coarse_strength must be"),
        (("coarse_strength",), 1, "coarse_strength must be"),
        (("coarse",), 2, "layers that guide do not go together"),
        (("controls", 0, "kind"), "weather", "a control is one of"),
        (("controls", 0, "strength"), 3, "strength must be"),
        (("controls", 0, "derive"), "dreams", "derive must be"),
        (("sampling", "samples"), 26, "trajectory times samples must be at most 200"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_the_place(path, value, where):
    data = json.loads(dumps(JOB))
    inner = data["request"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(WireError, match=where):
        loads(Job, json.dumps(data))


COARSE = dataclasses.replace(GENERATE, coarse=4, coarse_strength=0.5, controls=(), trajectory=0, told_gsd=None)


def test_a_coarser_level_survives_the_wire_and_older_requests_have_none():
    assert loads(Generate, dumps(COARSE)) == COARSE
    older = json.loads(dumps(GENERATE))
    del older["coarse"], older["coarse_strength"]
    assert loads(Generate, json.dumps(older)) == GENERATE and GENERATE.coarse == 1


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"trajectory": 2}, "steps cannot be kept"),
        ({"told_gsd": 0.0}, "told the resolution"),
        ({"sampling": Sampling(1, 1, "DDIM")}, "at least 2 steps"),
    ],
)
def test_what_does_not_go_with_a_coarser_level_is_refused(changes, where):
    with pytest.raises(ValueError, match=where):
        dataclasses.replace(COARSE, **changes)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("sources",), [], "1 to 16 sources"),
        (("sources", 0, "date"), None, "sources without a date: Orthophoto 2016"),
        (("sources", 1, "gsd"), None, "each source needs its gsd"),
        (("sources", 1, "gsd"), 0, "gsd must be"),
        (("date",), "2016-09-11", "date must be another one"),
        (("date",), None, "expected str"),
    ],
)
def test_a_forecast_that_cannot_be_is_refused(path, value, where):
    data = json.loads(dumps(FORECAST))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(WireError, match=where):
        loads(Forecast, json.dumps(data))


def test_the_date_of_a_coarser_source_can_be_asked_for():
    """What the public weights were made for: the detail of a Sentinel-2 scene of that very date."""
    asked = dataclasses.replace(FORECAST, date="2018-11-20")
    assert loads(Forecast, dumps(asked)) == asked


def test_as_many_pictures_as_a_job_may_keep_are_no_error():
    sampling = dataclasses.replace(GENERATE.sampling, samples=contract.FRAMES_LIMIT // GENERATE.trajectory)
    asked = dataclasses.replace(GENERATE, sampling=sampling)
    assert asked.trajectory * asked.sampling.samples == contract.FRAMES_LIMIT
    assert loads(Job, dumps(Job("j", asked))).request == asked


def test_numbers_that_are_none_are_refused():
    for word in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(WireError):
            loads(contract.Event, f'{{"type":"Progressed","job":"a","stage":"s","fraction":{word}}}')
    with pytest.raises(ValueError):
        dumps(Progressed("a", "s", float("nan")))


def test_a_line_that_is_too_long_is_not_parsed(monkeypatch):
    from afterimage.engine.contract import wire

    monkeypatch.setattr(wire, "LINE_LIMIT", 100)
    with pytest.raises(WireError, match="at most 100"):
        loads(contract.Command, '{"type":"Cancel","job":"' + "a" * 100 + '"}')


def test_every_error_code_is_its_own_name():
    assert all(code.value == code.name for code in ErrorCode)


def test_messages_are_values():
    for message in SAMPLES.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            message.job = "other"
