import pytest
from afterimage.plugin.widgets import numbers
from qgis.PyQt.QtCore import QLocale


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1 s"),
        (8.2, "8 s"),
        (41, "40 s"),
        (54, "55 s"),
        (56, "1 min"),
        (179, "3 min"),
        (3580, "1 h"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400 * 4, "4 days"),
        (86400 * 4000, "4,000 days"),
    ],
)
def test_durations_are_as_precise_as_an_estimate(seconds, text):
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "1 MB"), (12.3, "12 MB"), (999, "999 MB"), (1400, "1.4 GB"), (12000, "12 GB")]
)
def test_sizes(value, text):
    assert numbers.megabytes(value) == text


@pytest.mark.parametrize(("value", "text"), [(20, "1 kB"), (524_619, "525 kB"), (1_059_962, "1 MB"), (2.3e9, "2.3 GB")])
def test_sizes_of_files(value, text):
    assert numbers.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25 m"), (10.0, "10 m"), (2.5, "2.5 m"), (8.86, "8.86 m"), (2400, "2.4 km")]
)
def test_lengths(value, text):
    assert numbers.metres(value) == text


def test_counts_have_separators_of_the_person_s_locale():
    assert numbers.count(1234567) == "1,234,567"
    QLocale.setDefault(QLocale(QLocale.Language.German, QLocale.Country.Germany))
    assert numbers.count(1234567) == "1.234.567"
    assert numbers.decimal(2.5) == "2,5"
