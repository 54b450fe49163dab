from afterimage.plugin import compat
from qgis.PyQt.QtCore import QPoint, QPointF, QThreadPool


class OnQt5:
    def pos(self):
        return QPoint(3, 4)


class OnQt6:
    def position(self):
        return QPointF(3.2, 3.9)


def test_a_mouse_event_has_a_place_on_either_qt():
    assert compat.event_position(OnQt5()) == compat.event_position(OnQt6()) == QPoint(3, 4)


def test_tasks_have_a_pool(qgis_app):
    assert isinstance(compat.task_thread_pool(), QThreadPool)
