"""What a scenario in the real QGIS Desktop needs: waiting without blocking, clicks, pictures, a clock for stalls."""

import json
import os
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional

from qgis.PyQt.QtCore import QObject, Qt, QTimer
from qgis.PyQt.QtGui import QGuiApplication
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QMessageBox, QScrollArea, QWidget


class Failed(Exception):
    """The scenario cannot go on."""


@dataclass(frozen=True)
class Wait:
    """What a scenario yields: go on when ``ready`` says so, fail after ``seconds``."""

    what: str
    ready: Callable[[], Any]
    seconds: float = 60.0


def pause(seconds: float) -> Wait:
    """Let QGIS work for a while."""
    end = time.monotonic() + seconds
    return Wait("a pause", lambda: time.monotonic() >= end, seconds + 60)


class Stalls(QObject):
    """The longest time that the main thread did not come back to its event loop: gaps between ticks of a timer.

    Other programs on a busy machine make gaps too, so the share that was the thread's own work is kept beside.
    """

    TICK_MS = 20

    def __init__(self, parent: Optional[QObject] = None) -> None:
        super().__init__(parent)
        self.gaps_ms: List[float] = []
        self.own_ms: List[float] = []
        self._last = (0.0, 0.0)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(self.TICK_MS)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin to watch."""
        self._last = (time.perf_counter(), time.thread_time())
        self._timer.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what the scenario itself does in here."""
        watching = self._timer.isActive()
        self.stop()
        yield
        if watching:
            self.start()

    def _tick(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.gaps_ms.append((now[0] - self._last[0]) * 1000)
        self.own_ms.append((now[1] - self._last[1]) * 1000)
        self._last = now


class Stage(QObject):
    """Runs a scenario, a generator of ``Wait``, between the turns of QGIS's event loop."""

    def __init__(self, out: str, leave: Callable[["Stage"], None]) -> None:
        super().__init__()
        self.out = out
        self.report: Dict[str, Any] = {"problems": []}
        self.stalls = Stalls(self)
        self._leave = leave
        self._scenario: Iterator[Wait] = iter(())
        self._wait = pause(0)
        self._deadline = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(50)
        self._timer.timeout.connect(self._turn)

    def play(self, scenario: Iterator[Wait]) -> None:
        """Begin, and return at once."""
        self._scenario = scenario
        self._set(pause(0.5))
        self._timer.start()

    def problem(self, text: str) -> None:
        """Note something that is wrong; the scenario goes on."""
        self.report["problems"].append(text)

    def shoot(self, name: str, area: Optional[QWidget] = None) -> None:
        """Save a picture of the screen, or of one widget, as ``name``.png."""
        with self.stalls.paused():
            screen = QGuiApplication.primaryScreen()
            picture = screen.grabWindow(0) if area is None else area.grab()
            picture.save(os.path.join(self.out, f"{name}.png"))

    def click(self, widget: QWidget) -> None:
        """Click a widget as a person does: it must be there, enabled and in view."""
        self._show(widget)
        if not widget.isVisible() or not widget.isEnabled():
            raise Failed(f"{widget.objectName() or type(widget).__name__} cannot be clicked")
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)

    def type(self, widget: QWidget, text: str) -> None:
        """Replace the text of an input by typing."""
        self.click(widget)
        QTest.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClick(widget, Qt.Key.Key_Delete)
        QTest.keyClicks(widget, text)

    def _show(self, widget: QWidget) -> None:
        above = widget.parentWidget()
        while above is not None:
            if isinstance(above, QScrollArea):
                above.ensureWidgetVisible(widget)
            above = above.parentWidget()
        QApplication.processEvents()

    def _set(self, wait: Wait) -> None:
        self._wait = wait
        self._deadline = time.monotonic() + wait.seconds

    def _turn(self) -> None:
        box = QApplication.activeModalWidget()
        try:
            if isinstance(box, QMessageBox):
                raise Failed(f"a box stands in the way: {box.text()}")
            if not self._wait.ready():
                if time.monotonic() > self._deadline:
                    raise Failed(f"waited {self._wait.seconds:.0f} s for {self._wait.what}")
                return
            self._set(next(self._scenario))
        except StopIteration:
            self._end()
        except Exception as error:
            expected = isinstance(error, Failed)
            self.problem(str(error) if expected else traceback.format_exc())
            self.shoot("problem")
            self._end()

    def _end(self) -> None:
        self._timer.stop()
        self.stalls.stop()
        path = os.path.join(self.out, "report.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(self.report, file, indent=1, ensure_ascii=False)
        os.replace(path + ".part", path)
        self._leave(self)
