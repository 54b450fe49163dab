import pytest
from afterimage.engine.contract import ErrorCode
from afterimage.plugin import settings
from afterimage.plugin.cards import cards, folders, installed
from afterimage.plugin.link.channel import ProcessChannel
from afterimage.plugin.report import Problem
from afterimage.plugin.session import Session
from afterimage.plugin.store import Store, imported_id
from qgis.core import QgsSettings


@pytest.fixture
def store(qgis_app, shop):
    store = Store()
    store.failures = []
    store.failed.connect(lambda _, failure: store.failures.append(failure))
    yield store
    store.stop()


@pytest.fixture
def session(qgis_app, shop, fake_python, tmp_path):
    session = Session(root=str(tmp_path / "jobs"), open_channel=lambda: ProcessChannel(fake_python))
    yield session
    session.stop()
    QgsSettings().remove("afterimage")


def fetched(qtbot, store, *ids):
    with qtbot.waitSignal(store.installed, timeout=20000, check_params_cb=lambda card: card.id == ids[-1]):
        store.get(*[store.offer(id) for id in ids])


def test_the_offers_are_known_without_an_engine(store, monkeypatch):
    monkeypatch.setenv(settings.PYTHON_VARIABLE, "/nowhere/python")
    assert [offer.card.id for offer in store.offers] == ["painter-two", "prophet", "sketcher"]
    assert {offer.state for offer in store.offers} == {"available"}
    assert store.transfer is None and not store.is_busy


def test_what_an_offer_needs_comes_before_it(store, qtbot):
    assert [offer.card.id for offer in store.lacking("prophet")] == ["sketcher", "prophet"]
    fetched(qtbot, store, "sketcher")
    assert [offer.card.id for offer in store.lacking("prophet")] == ["prophet"]
    assert store.lacking("nothing") == ()


def test_a_fetch_shows_how_far_it_is_and_ends_installed(store, qtbot, shop):
    seen = []
    store.transfer_changed.connect(lambda: seen.append(store.transfer))
    fetched(qtbot, store, "sketcher")
    stages = [transfer.stage for transfer in seen if transfer is not None]
    assert stages[0] == "starting" and stages[-1] == "installing" and "converting" in stages
    assert [each.total for each in seen if each is not None][-1] == 95_002_000
    qtbot.waitUntil(lambda: store.transfer is None and not store.is_busy)
    assert store.offer("sketcher").state == "installed" and store.failures == []
    assert store.held("sketcher") >= 2_000_000


def test_two_fetches_run_one_after_the_other(store, qtbot):
    store.get(store.offer("sketcher"), store.offer("prophet"))
    assert store.transfer.model == "sketcher" and [each.model for each in store.waiting] == ["prophet"]
    store.get(store.offer("sketcher"))  # it is on its way already
    assert len(store.waiting) == 1
    qtbot.waitUntil(lambda: store.offer("prophet").state == "installed", timeout=20000)
    assert store.offer("sketcher").state == "installed"


def test_a_cancel_keeps_what_is_here_and_a_later_fetch_goes_on(store, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "slow")
    store.get(store.offer("sketcher"), store.offer("prophet"))
    qtbot.waitUntil(lambda: store.transfer.done > 3_000_000, timeout=20000)
    store.cancel()
    assert store.transfer.stage == "stopping" and store.waiting == ()
    qtbot.waitUntil(lambda: not store.is_busy, timeout=5000)
    assert store.offer("sketcher").state == "partial" and store.failures == []
    monkeypatch.setenv("FAKE_STORE", "")
    begun = []
    store.transfer_changed.connect(lambda: store.transfer and store.transfer.done and begun.append(store.transfer.done))
    fetched(qtbot, store, "sketcher")
    assert begun[0] >= 3_000_000


def test_a_failure_ends_what_waits_for_it(store, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "offline")
    with qtbot.waitSignal(store.failed, timeout=20000) as failed:
        store.get(store.offer("sketcher"), store.offer("prophet"))
    assert failed.args[0] == "sketcher" and failed.args[1].code is ErrorCode.DOWNLOAD_FAILED
    assert store.waiting == () and not store.is_busy


def test_the_terms_are_accepted_as_they_were_shown(store, qtbot, shop):
    shown = store.offer("sketcher")
    path = shop.parent / "catalogue" / "sketcher.json"
    path.write_text(path.read_text().replace("research only", "anything"))
    with qtbot.waitSignal(store.failed, timeout=20000) as failed:
        store.get(shown)
    assert failed.args[1].code is ErrorCode.LICENCE_NOT_ACCEPTED


def test_a_list_that_nobody_waits_for_any_more_is_not_told(store, qtbot, monkeypatch):
    told = []
    store.listed.connect(lambda id, files, failure: told.append(id))
    store.list_files("sketcher")
    store.list_files("prophet")
    qtbot.waitUntil(lambda: told != [], timeout=20000)
    qtbot.wait(300)
    assert told == ["prophet"]


def test_an_import_says_what_the_person_said(store, qtbot, tmp_path):
    with qtbot.waitSignal(store.installed, timeout=20000) as ended:
        store.import_model("/disk/last.ckpt", "mine", "Mine", ("--control", "roads"))
        assert store.transfer.is_import and store.is_busy
    assert (ended.args[0].id, ended.args[0].name) == ("mine", "Mine")
    assert ended.args[0].summary.endswith("--control roads")


def test_nothing_runs_on_after_the_end(store, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_STORE", "slow")
    store.get(store.offer("sketcher"))
    qtbot.waitUntil(lambda: store.transfer.done > 0, timeout=20000)
    process = store._working._channel._process
    store.stop()
    assert process.state() == process.ProcessState.NotRunning


@pytest.mark.parametrize(
    ("name", "id"),
    [("Text2Earth v1.0", "text2earth-v1-0"), ("Übung 1", "bung-1"), ("…", "model"), ("taken", "taken-3")],
)
def test_an_id_is_made_of_a_name(name, id):
    assert imported_id(name, ("taken", "taken-2")) == id


def test_the_session_offers_a_model_as_soon_as_it_is_here(session, qtbot, shop):
    before = [card.id for card in session.cards]
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        session.store.get(session.store.offer("prophet"))
    assert [card.id for card in session.cards] == [*before, "prophet"]
    assert [card.id for card in cards("Forecast")] == ["prophet"] and folders()["prophet"] == shop / "prophet"
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        session.remove_model("prophet")
    assert [card.id for card in session.cards] == before and cards("Forecast") == ()


def test_a_model_that_a_job_needs_stays(session, qtbot, draft):
    job = session.submit(draft("slow"))
    with pytest.raises(Problem) as refused:
        session.remove_model("m")
    assert "slow" in refused.value.failure.message and not session.store.is_busy
    session.cancel(job)
    qtbot.waitUntil(lambda: session.job(job).is_over, timeout=20000)
    with qtbot.waitSignal(session.store.removed, timeout=20000):
        session.remove_model("m")


def test_another_folder_of_models_is_told_to_the_engine(session, qtbot, shop, tmp_path):
    with qtbot.waitSignal(session.cards_changed, timeout=20000):
        session.store.get(session.store.offer("sketcher"))
    session.start_engine()
    qtbot.waitUntil(lambda: session.engine_state == "ready", timeout=20000)
    other = tmp_path / "other"
    session.set_models_folder(str(other))
    assert session.engine_state == "stopped"  # the next job starts it, with the new folder
    assert session.store.folder == str(other) and "sketcher" not in [card.id for card in installed()]
    assert session.store.offer("sketcher").state == "available"
    session.set_models_folder(str(shop))
    assert settings.read("models/folder") == "" and session.store.offer("sketcher").state == "installed"
