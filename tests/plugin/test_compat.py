from afterimage.plugin import compat
from qgis.PyQt.QtCore import QThreadPool


def test_tasks_have_a_pool(qgis_app):
    assert isinstance(compat.task_thread_pool(), QThreadPool)
