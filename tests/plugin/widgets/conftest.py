"""Figures in these tests are written as in English."""

import pytest
from qgis.PyQt.QtCore import QLocale


@pytest.fixture(autouse=True)
def english():
    before = QLocale()
    QLocale.setDefault(QLocale(QLocale.Language.English, QLocale.Country.UnitedStates))
    yield
    QLocale.setDefault(before)
