"""Runs of algorithms: what is left of them once they are over, and how their results are dressed."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

pytest.importorskip("qgis.core", reason="QGIS's own Python is needed")
from afterimage.engine.contract import GeoBox, Output, Provenance, Result, Role, target_paths
from afterimage.plugin.jobs import read_job
from afterimage.plugin.processing import base
from afterimage.plugin.processing.provider import AfterimageProvider
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingFeedback,
)

from .conftest import SPAIN

pytestmark = pytest.mark.usefixtures("environment")


def run(algorithm, parameters, context):
    """What came of it and what was said, as Processing runs it."""
    said = []

    class Feedback(QgsProcessingFeedback):
        def reportError(self, error, fatalError=False):  # noqa: N802, N803
            said.append(error)

    return (*algorithm.create().run(parameters, context, Feedback()), said)


@pytest.fixture
def finished(monkeypatch, tmp_path):
    """Jobs that end at once, with the results that they name."""
    monkeypatch.setattr("afterimage.plugin.settings.jobs_folder", lambda: str(tmp_path / "jobs"))

    def run_job(folder, feedback):
        job = read_job(folder)
        grid = GeoBox("EPSG:32633", (5.0, 0.0, 500000.0, 0.0, -5.0, 5000000.0), (60, 80))
        made = Provenance("SuperResolve", "m", {}, "", "", "", "", "", None, 1, "", 1, 1.0, (), grid, "0", "")
        paths = target_paths(job.request, job.output, job.spread_output, job.mean_output)
        outputs = [Output(path, Role.SAMPLE, k, grid, ("1",), "uint8") for k, path in enumerate(paths, 1)]
        return Result(tuple(outputs), made, (), 0.1)

    monkeypatch.setattr(base, "run_job", run_job)


@pytest.fixture
def prepared(super_resolve, context, picture, tmp_path, monkeypatch, finished):
    """A run that is about to begin, and asks whether what it is to write is kept by anybody."""
    kept = []

    class Export:
        files = ()

        def write(self, folder, cancelled):
            pass

    checked = base.AfterimageAlgorithm._checked_draft

    def with_export(self, *asked):
        export = Export()
        kept.append(weakref.ref(export))
        return replace(checked(self, *asked), exports=(export,))

    monkeypatch.setattr(base.AfterimageAlgorithm, "_checked_draft", with_export)
    asked = {"INPUT": picture, "FACTOR": 2, "OUTPUT": str(tmp_path / "finer.tif")}
    algorithm = super_resolve.create()
    assert algorithm.prepare(asked, context, QgsProcessingFeedback())

    def is_kept():
        gc.collect()
        return kept[-1]() is not None

    assert is_kept()
    return algorithm, asked, is_kept


def test_a_run_that_never_began_keeps_no_layer_when_the_plugin_ends(prepared):
    algorithm, _, is_kept = prepared
    registry, provider = QgsApplication.processingRegistry(), AfterimageProvider()
    assert registry.addProvider(provider) and registry.removeProvider("afterimage")
    assert not is_kept() and algorithm is not None


def test_a_run_keeps_no_layer_once_it_is_over(prepared, context):
    algorithm, asked, is_kept = prepared
    algorithm.runPrepared(asked, context, QgsProcessingFeedback())
    assert not is_kept()


def test_a_finished_job_is_one_even_where_its_end_cannot_be_recorded(
    super_resolve, context, picture, tmp_path, monkeypatch, finished
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("afterimage.plugin.jobs.write_outcome", full)
    asked = {"INPUT": picture, "FACTOR": 2, "OUTPUT": str(tmp_path / "finer.tif")}
    results, is_well, said = run(super_resolve, asked, context)
    assert is_well and results["OUTPUT"] == str(tmp_path / "finer.tif") and said == []
    monkeypatch.setattr("afterimage.plugin.jobs.mark_prepared", full)
    _, is_well, said = run(super_resolve, asked, context)
    assert not is_well and len(said) == 1 and said[0].startswith("SOURCE_UNREADABLE: ")


@pytest.mark.parametrize("spelled", ["finer.tif", "./sub/../finer.tif", "whole"])
def test_results_are_dressed_however_their_destination_is_spelled(
    super_resolve, context, picture, tmp_path, monkeypatch, finished, spelled
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    output = str(tmp_path / "finer.tif") if spelled == "whole" else spelled
    details = QgsProcessingContext.LayerDetails("plain", context.project(), "OUTPUT")
    context.addLayerToLoadOnCompletion(output, details)
    results, is_well, _ = run(super_resolve, {"INPUT": picture, "FACTOR": 2, "SAMPLES": 2, "OUTPUT": output}, context)
    assert is_well and results["OUTPUT"] == output
    assert set(context.layersToLoadOnCompletion()) == {output, str(tmp_path / "finer_2.tif")}
    for key in context.layersToLoadOnCompletion():
        assert context.layerToLoadOnCompletionDetails(key).postProcessor() is not None


@pytest.mark.parametrize("is_loaded", [True, False])
def test_the_mean_goes_to_its_own_destination_and_is_loaded_where_that_is_asked(
    super_resolve, context, picture, tmp_path, monkeypatch, finished, is_loaded
):
    run_job, seen = base.run_job, []

    def drawn(folder, feedback):
        made = run_job(folder, feedback)
        seen.append(read_job(folder))
        sample, mean, spread = made.outputs[0], *made.outputs[2:]
        mean, spread = replace(mean, role=Role.MEAN, sample=0), replace(spread, role=Role.SPREAD, sample=0)
        return replace(made, outputs=(sample, made.outputs[1], mean, spread))

    monkeypatch.setattr(base, "run_job", drawn)
    output, mean, spread = (str(tmp_path / name) for name in ("finer.tif", "expected.tif", "spread.tif"))
    for path in (output, mean) if is_loaded else (output,):
        context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails("plain", context.project(), ""))
    asked = {"INPUT": picture, "FACTOR": 2, "SAMPLES": 2, "MODEL": "tiny-superresolve"}
    results, is_well, said = run(super_resolve, {**asked, "OUTPUT": output, "MEAN": mean, "SPREAD": spread}, context)
    assert is_well and said == [] and (results["MEAN"], results["SPREAD"]) == (mean, spread)
    (job,) = seen
    assert job.request.mean and job.mean_output == mean and job.title and job.title != mean
    assert results["OUTPUTS"] == [output, str(tmp_path / "finer_2.tif")]
    loaded = {output, str(tmp_path / "finer_2.tif"), *([mean] if is_loaded else [])}
    assert set(context.layersToLoadOnCompletion()) == loaded
    if is_loaded:
        assert context.layerToLoadOnCompletionDetails(mean).postProcessor() is not None


def test_the_way_from_noise_is_loaded_with_the_result_and_listed_apart(
    generate, context, tmp_path, monkeypatch, finished
):
    run_job = base.run_job

    def drawn(folder, feedback):
        made = run_job(folder, feedback)
        first, *way = made.outputs
        days = ("1999-12-30", "1999-12-31", "2000-01-01")
        way = [replace(one, role=Role.TRAJECTORY, sample=1, frame=n, date=days[n - 1]) for n, one in enumerate(way, 1)]
        return replace(made, outputs=(first, *way))

    monkeypatch.setattr(base, "run_job", drawn)
    output = str(tmp_path / "drawn.tif")
    context.addLayerToLoadOnCompletion(output, QgsProcessingContext.LayerDetails("plain", context.project(), "OUTPUT"))
    asked = dict(EXTENT=SPAIN, PROMPT="forest", RESOLUTION=10, MODEL="tiny-generate", STEPS=6, TRAJECTORY=3)
    results, is_well, said = run(generate, {**asked, "OUTPUT": output}, context)
    frames = [str(tmp_path / f"drawn_frame_{number}.tif") for number in (1, 2, 3)]
    assert is_well and said == [] and results["OUTPUTS"] == [output] and results["FRAMES"] == frames
    assert set(context.layersToLoadOnCompletion()) == {output, *frames}
    for frame in frames:
        details = context.layerToLoadOnCompletionDetails(frame)
        assert details.postProcessor() is not None and "step picture" in details.name
