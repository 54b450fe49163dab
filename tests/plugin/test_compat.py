import enum

from afterimage.plugin import compat
from qgis.PyQt.QtCore import Qt, QThreadPool


def test_tasks_have_a_pool(qgis_app):
    assert isinstance(compat.task_thread_pool(), QThreadPool)


def test_a_flag_has_a_number_whatever_kind_of_enum_it_is():
    kinds = [enum.Flag("Plain", {"AlignCenter": 0x84}), enum.IntFlag("Whole", {"AlignCenter": 0x84}), Qt.AlignmentFlag]
    for kind in kinds:
        assert type(compat.number(kind.AlignCenter)) is int
        assert compat.number(kind.AlignCenter) == 0x84
