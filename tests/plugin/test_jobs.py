import json
import os
from dataclasses import replace

import pytest
from afterimage.engine.contract import (
    Cancelled,
    Control,
    Edit,
    ErrorCode,
    Failed,
    Failure,
    Forecast,
    JobState,
    Mask,
    Previewed,
    Progressed,
    Source,
    Started,
    WireError,
)
from afterimage.plugin import jobs

RECORD = jobs.JobRecord("a", "A", "Generate", "/jobs/a")
LOST = Failure(ErrorCode.ENGINE_LOST, "Lost.", "Retry.", resumable=True)


def play(*events, record=RECORD):
    for event in events:
        record = jobs.apply(record, event)
    return record


def test_the_events_of_a_run_give_the_state():
    record = play(Started("a"), Progressed("a", "tiles", 0.25, 30.0), Previewed("a", "/p.tif"))
    assert (record.state, record.stage, record.fraction, record.seconds_left) == (JobState.RUNNING, "tiles", 0.25, 30.0)
    assert record.preview == "/p.tif"
    assert play(Cancelled("a"), record=record).state is JobState.CANCELLED
    failed = play(Failed("a", LOST), record=record)
    assert (failed.state, failed.failure) == (JobState.FAILED, LOST)


def test_a_fraction_only_rises_and_survives_not_being_told():
    record = play(Progressed("a", "tiles", 0.5), Progressed("a", "tiles", 0.4), Progressed("a", "writing"))
    assert record.fraction == 0.5


def test_events_of_others_and_after_the_end_change_nothing():
    assert play(Started("b")) == RECORD
    over = play(Cancelled("a"))
    assert play(Started("a"), Progressed("a", "tiles", 0.5), Failed("a", LOST), record=over) == over


def test_a_queued_job_keeps_its_name_and_nothing_else():
    record = play(Started("a"), Progressed("a", "tiles", 0.5), Failed("a", LOST))
    assert jobs.queued(record) == RECORD


def test_a_folder_holds_the_whole_job(tmp_path, draft):
    id, folder = jobs.create_folder(str(tmp_path), draft("A forest", output="/x/y.tif"))
    job = jobs.read_job(folder)
    assert (job.id, job.title, job.output, job.request) == (id, "A forest", "/x/y.tif", draft().request)
    assert os.listdir(folder) == ["request.json"]
    assert jobs.create_folder(str(tmp_path), draft())[0] != id


def test_an_interrupted_job_is_resumable_when_its_sources_are_complete(tmp_path, draft):
    id, folder = jobs.create_folder(str(tmp_path), draft("A forest"))
    record = jobs.read_folder(folder)
    assert (record.id, record.title, record.task, record.folder) == (id, "A forest", "Generate", folder)
    assert record.state is JobState.FAILED and not record.failure.resumable
    jobs.mark_prepared(folder)
    assert jobs.read_folder(folder).failure.resumable
    assert record.created.endswith("+00:00")


def test_the_outcome_survives_and_can_be_forgotten(tmp_path, draft):
    id, folder = jobs.create_folder(str(tmp_path), draft())
    jobs.write_outcome(folder, Failed(id, LOST))
    assert jobs.read_folder(folder).failure == LOST
    jobs.write_outcome(folder, Cancelled(id))
    assert jobs.read_folder(folder).state is JobState.CANCELLED
    jobs.forget_outcome(folder)
    jobs.forget_outcome(folder)
    assert jobs.read_folder(folder).state is JobState.FAILED


def test_damaged_files_are_told(tmp_path, draft):
    _, folder = jobs.create_folder(str(tmp_path), draft())
    (tmp_path / os.path.basename(folder) / "outcome.json").write_text('{"type": "Succee')
    assert jobs.read_folder(folder).failure.code is ErrorCode.JOB_FOLDER_DAMAGED
    (tmp_path / os.path.basename(folder) / "request.json").write_text(json.dumps({"type": "Job", "id": 3}))
    with pytest.raises(WireError):
        jobs.read_folder(folder)


def test_a_copied_folder_with_another_name_keeps_a_time(tmp_path, draft):
    _, folder = jobs.create_folder(str(tmp_path), draft())
    assert jobs.created("from-a-friend", folder)[:2] == "20"
    assert jobs.created("99999999-999999-x", folder)[:2] == "20"


def test_removing_keeps_results(tmp_path, draft):
    _, folder = jobs.create_folder(str(tmp_path), draft())
    os.makedirs(os.path.join(folder, "tiles"))
    os.makedirs(os.path.join(folder, "outputs"))
    jobs.remove_folder(folder)
    assert not os.path.exists(folder)
    _, folder = jobs.create_folder(str(tmp_path), draft())
    os.makedirs(os.path.join(folder, "outputs"))
    open(os.path.join(folder, "outputs", "result.tif"), "w").close()
    jobs.remove_folder(folder)
    assert os.listdir(folder) == ["outputs"]
    jobs.remove_folder(folder)
    assert os.listdir(folder) == ["outputs"]


def test_what_a_request_reads_is_listed_once_each(request_):
    roads = Control("roads", Source("inputs/control_roads.tif"))
    lines = Control("lines", Source("inputs/control_lines.tif"))
    assert jobs.input_paths(request_) == ()
    assert jobs.input_paths(replace(request_, controls=(roads, lines))) == (
        "inputs/control_roads.tif",
        "inputs/control_lines.tif",
    )
    dated = [Source(f"inputs/{year}.tif", date=f"{year}-01-01", gsd=1.0) for year in (2020, 2021)]
    forecast = Forecast("m", (*dated, dated[0]), 1.0, "2022-01-01", request_.sampling)
    assert jobs.input_paths(forecast) == ("inputs/2020.tif", "inputs/2021.tif")
    edit = Edit("m", Source("inputs/source.tif"), 1.0, "forest", request_.sampling, Mask("inputs/mask.geojson"))
    assert jobs.input_paths(edit) == ("inputs/source.tif", "inputs/mask.geojson")
