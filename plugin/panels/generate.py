"""Imagery over an extent, on a date, from a text: the form of ``Generate``."""

from typing import Dict, List, Optional, Tuple

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRectangle
from qgis.gui import QgsDoubleSpinBox, QgsMapCanvas
from qgis.PyQt.QtWidgets import QWidget

from ...engine.contract import (
    COARSE_FACTORS,
    CONTENT,
    DEFAULT_GFLOPS,
    FRAMES_LIMIT,
    Control,
    ErrorCode,
    Estimate,
    Failure,
    Generate,
    ModelCard,
    Regions,
    coarse_factors,
    estimate,
    is_one_texture,
    target_paths,
    windows_over,
)
from ..jobs import Draft, generate_title
from ..maps.grid import Place, crs_of, place
from ..maps.shrinking import is_nearly_whole, shrunk
from ..maps.sources import require_kept
from ..report import Problem, tr
from ..widgets.about import gsd_range
from ..widgets.cloudcover import CloudCoverInput
from ..widgets.coarse import CoarseInput
from ..widgets.controls import ControlsInput
from ..widgets.crs import CrsInput
from ..widgets.dates import DateInput
from ..widgets.extent import ExtentInput
from ..widgets.numbers import metres
from ..widgets.prompt import PromptInput
from ..widgets.regions import RegionsInput
from ..widgets.shrink import ShrinkInput
from ..widgets.toldgsd import ToldGsdInput
from ..widgets.trajectory import TrajectoryInput
from .base import Panel, no_model, out_of_reach, too_large


class GeneratePanel(Panel):
    """The form of ``Generate``."""

    task = "Generate"
    key = "generate/form"

    def __init__(self, canvas: Optional[QgsMapCanvas] = None, parent: Optional[QWidget] = None) -> None:
        """Make an empty form.

        Args:
            canvas: map to take the extent from and to draw it on.
            parent: as usual.
        """
        super().__init__(parent)
        self._placed: Tuple[object, object] = (None, None)
        self.extent = ExtentInput(canvas)
        self.shrink = ShrinkInput()
        self._shrunk: Optional[Tuple[QgsRectangle, QgsCoordinateReferenceSystem, Place]] = None
        self.date = DateInput()
        self.prompt = PromptInput()
        self.negative = PromptInput(lines=2, use="negative_prompt")
        self.gsd = QgsDoubleSpinBox()
        self.gsd.setObjectName("gsd")
        self.gsd.setDecimals(2)
        self.gsd.setSuffix(tr(" m"))
        self.crs = CrsInput()
        self.cloud_cover = CloudCoverInput()
        self.told_gsd = ToldGsdInput()
        self.coarse = CoarseInput()
        self.regions = RegionsInput()
        self.controls = ControlsInput()
        self.trajectory = TrajectoryInput()
        self._lay_out()
        self.samples.valueChanged.connect(self.trajectory.follow_samples)  # before any announcement of it
        self._follow(
            *(self.extent, self.date, self.prompt, self.negative, self.cloud_cover, self.told_gsd),
            *(self.coarse, self.regions, self.controls),
        )
        self.shrink.asked.connect(self._shrink)
        self.gsd.valueChanged.connect(self._announce)
        self.crs.crsChanged.connect(self._announce)
        self.trajectory.valueChanged.connect(self._announce)
        self.sampling.steps.valueChanged.connect(self.trajectory.follow_steps)

    def _lay_out(self) -> None:
        self.fields.add(tr("E&xtent"), self.extent, self.extent.edit, tr("Where the picture should be"))
        self.fields.add("", self.shrink, self.shrink.button)
        self.shrink.button.setAccessibleName("")  # its own text
        self.fields.set_shown(self.shrink, False)
        self.fields.add(tr("&Prompt"), self.prompt, self.prompt.edit, tr("What the picture should show"))
        self.fields.add(tr("&Date"), self.date, self.date.edit, tr("When the picture should have been taken"))
        self.fields.add(tr("&Resolution"), self.gsd, tip=tr("Metres on the ground of one pixel"))
        self._add_samples()
        self._add_seed_and_output()
        self.more.add(tr("Avo&id"), self.negative, self.negative.edit, tr("What the picture should not show"))
        tip = tr("How much of the picture should be under clouds")
        self.more.add(tr("Clo&uds"), self.cloud_cover, self.cloud_cover.number, tip)
        tip = tr("Metres on the ground of one pixel, as the model is told; the picture's own pixels stay as they are")
        self.more.add(tr("Resolution t&old"), self.told_gsd, self.told_gsd.kind, tip)
        tip = tr(
            "Draws the extent in coarser pixels first, and the picture from that: what is larger than the model's "
            "window hangs together, for a little more work"
        )
        self.more.add(tr("Coarse &level\nfirst"), self.coarse, self.coarse.choice, tip)
        self.more.add(tr("&CRS"), self.crs, self.crs.focusProxy(), tr("Coordinate reference system of the result"))
        kept = tr("Pictures on the way from noise, as a group of layers that the Temporal Controller plays")
        self.more.add(tr("&Keep the steps"), self.trajectory, tip=kept)
        self._stack()
        for group in (self.regions, self.controls):
            self.layout().insertWidget(self.layout().indexOf(self.advanced), group)

    @classmethod
    def title(cls) -> str:
        """Name of the task, on the dock's tab."""
        return tr("Generate")

    def problems(self) -> List[Failure]:
        """Why no job can start with what the form holds, the first to solve first; empty when one can."""
        card = self.model.card
        if card is None:
            return [no_model(self.task)]
        wording = [*self._prompt_problems(), *self.negative.problems()]
        ground = self._ground_problems(card)
        guided = []
        if not self._lacks_place():
            guided = [*self.regions.problems(self._place()), *self.controls.problems(self._place())]
        return [*ground, *wording, *guided, *self.output.problems()]

    def _prompt_problems(self) -> List[Failure]:
        if self.regions.is_alone:  # then it is not used
            return []
        found = self.prompt.problems()
        if found and self.regions.is_given and found[0].code is ErrorCode.PROMPT_NOT_UNDERSTOOD:
            message = tr("Say what lies outside the polygons.")
            hint = tr("Write it into the prompt, or check Draw only inside.")
            return [Failure(ErrorCode.PROMPT_NOT_UNDERSTOOD, message, hint)]
        return found

    def _ground_problems(self, card: ModelCard) -> List[Failure]:
        reach = out_of_reach(card, self.gsd.value(), tr("Choose {finest} to {coarsest}."))
        return [*self.extent.problems(), *self._place_problems(), *reach]

    def draft(self) -> Draft:
        """What the form asks for.

        Raises:
            Problem: where ``problems`` would not be empty.
        """
        found = self.problems()
        if found:
            raise Problem.of(found[0])
        where, output = self._place(), self.output.value()
        guides, regions = self.controls.exports(where), self.regions.export(where)
        request = self._request(
            where,
            self.seed.next(),
            "" if self.regions.is_alone else self.prompt.value(),
            self.negative.value(),
            tuple(export.control for export in guides),
            None if regions is None else regions.regions,
        )
        exports = guides if regions is None else (*guides, regions)
        for export in exports:
            require_kept(export.files, target_paths(request, output))
        return Draft(request, generate_title(request, self.model.card.name), exports=exports, output=output)

    def estimate(self, gflops: float = DEFAULT_GFLOPS) -> Optional[Estimate]:
        """What the job would take at a rate of so many GFLOP/s; None while it cannot be told, whatever the prompt."""
        card = self.model.card
        if card is None or self._ground_problems(card):
            return None
        request = self._request(self._place(), self.seed.value(), "", "")
        meeting = self.regions.crowd(self._place())
        texts = 1.0 if meeting is None else meeting.mean
        return estimate(request, card, bands=len(card.bands), gflops=gflops, texts=texts)

    @property
    def is_least(self) -> bool:
        """Whether more texts may meet than were found in time."""
        return not self._lacks_place() and self.regions.is_part(self._place())

    def held(self) -> Dict[str, object]:
        """What is worth keeping from one session of QGIS to the next."""
        return {
            **super().held(),
            "prompt": self.prompt.edit.toPlainText(),
            "negative_prompt": self.negative.edit.toPlainText(),
            "date": self.date.value() or "",
            "gsd": self.gsd.value(),
            "trajectory": self.trajectory.value(),
            "cloud_cover": self.cloud_cover.value(),
            "told_gsd": self.told_gsd.value(),
            "coarse": self.coarse.held(),
            "regions": self.regions.held(),
            "controls": self.controls.held(),
        }

    def hold(self, values: Dict[str, object]) -> None:
        """Show what an earlier session kept; takes no offence at what is missing or of another type."""
        super().hold(values)
        self.prompt.set_text(str(values.get("prompt", "")))
        self.negative.set_text(str(values.get("negative_prompt", "")))
        self.date.set_value(str(values.get("date", "")))
        is_same_model = self.model.card is not None and self.model.card.id == values.get("model")
        if is_same_model and isinstance(values.get("gsd"), float):
            self.gsd.setValue(values["gsd"])
        self.trajectory.hold(values.get("trajectory"))
        self.cloud_cover.set_value(values.get("cloud_cover"))
        self.told_gsd.set_value(values.get("told_gsd"))
        self.coarse.hold(values.get("coarse"))
        self.regions.hold(values.get("regions"))
        self.controls.hold(values.get("controls"))

    def _request(
        self,
        where: Place,
        seed: int,
        prompt: str,
        negative: str,
        controls: Tuple[Control, ...] = (),
        regions: Optional[Regions] = None,
    ) -> Generate:
        uses = self.model.card.uses
        return Generate(
            model=self.model.card.id,
            grid=where.grid,
            lattice=where.lattice,
            gsd=where.gsd,
            prompt=prompt,
            negative_prompt=negative,
            date=self.date.value(),
            longitude=where.longitude,
            latitude=where.latitude,
            sampling=self.sampling.value(seed, self.samples.value()),
            trajectory=self.trajectory.value(),
            cloud_cover=self.cloud_cover.value() if "cloud_cover" in uses else None,
            told_gsd=self.told_gsd.value() if "gsd" in uses else None,
            controls=controls,
            regions=regions,
            coarse=self.coarse.value(),
        )

    def _place(self) -> Place:
        """The grids of the picture; computed once for each place and resolution.

        Raises:
            Problem: where there are none.
        """
        extent, crs, target = self.extent.extent(), self.extent.crs(), self._target()
        asked = (extent.toString(17), crs.toWkt(), self.gsd.value(), "" if target is None else target.toWkt())
        if self._placed[0] != asked:
            try:
                found = place(extent, crs, self.gsd.value(), target)
            except Problem as problem:
                found = problem
            self._placed = (asked, found)
        if isinstance(self._placed[1], Problem):
            raise Problem.of(self._placed[1].failure)
        return self._placed[1]

    def _target(self) -> Optional[QgsCoordinateReferenceSystem]:
        """The CRS that was asked for, None for one that fits the place."""
        target = self.crs.crs()
        return target if target.isValid() else None

    def _place_problems(self) -> List[Failure]:
        if self.extent.extent().isNull():
            return []
        try:
            where = self._place()
        except Problem as problem:
            return [problem.failure]
        return too_large(where.lattice) or too_large(where.grid)

    def _lacks_place(self) -> bool:
        """Whether there is no place yet where something can be drawn."""
        return bool(self.extent.problems() or self._place_problems())

    def _show_card(self, card: ModelCard) -> None:
        unused = tr("Not used by this model.")
        self.prompt.set_card(card)
        self.negative.set_card(card)
        self.fields.set_used(self.prompt, self.prompt.is_used, unused)
        self.more.set_used(self.negative, self.negative.is_used, unused)
        dated = tr("Not used by this model; it only dates the layer.")
        self.fields.set_used(self.date, "date" in card.uses, dated, enabled=True)
        self.more.set_used(self.cloud_cover, "cloud_cover" in card.uses, unused)
        self.more.set_shown(self.told_gsd, "gsd" in card.uses)
        self.regions.set_card(card)
        self.controls.set_card(card)
        if self.gsd.clearValue() != card.gsd[0]:
            self.gsd.setRange(0.01, 1e5)
            self.gsd.setClearValue(card.gsd[0])
            self.gsd.setValue(card.gsd[0])

    def _write_notes(self) -> None:
        count = self.trajectory.value()
        played = tr("Played by the Temporal Controller as an animation of {} pictures, a day each.").format(count)
        if self.trajectory.is_bound_by_samples():
            played += " " + tr("More can be kept of fewer samples: a job keeps at most {}.").format(FRAMES_LIMIT)
        self.more.note(self.trajectory, played if count else "")
        card = self.model.card
        if card is None:
            return
        trained = tr("Trained for {range}.").format(range=gsd_range(card))
        if not card.gsd[0] <= self.gsd.value() <= card.gsd[1] and card.reaches(self.gsd.value()):
            trained += " " + tr("The picture will be resampled.")
        self.fields.note(self.gsd, trained)
        if self.prompt.is_used:
            self.fields.note(self.prompt, self._about_prompt())
        self.told_gsd.suggest(self.gsd.value())
        lacks_place = self._lacks_place()
        self._offer_coarser(card, None if lacks_place else self._place())
        self.regions.show_summary(None if lacks_place else self._place())
        self.controls.show_pictures(None if lacks_place else self._place())
        self._offer_less(None if lacks_place else self._place())
        if lacks_place:
            self.fields.note(self.extent, "")
            self.more.note(self.crs, "")
            return
        where = self._place()
        height, width = (side * where.gsd for side in where.lattice.shape)
        text = tr("{width} \u00d7 {height}").format(width=metres(width), height=metres(height))
        if "place" not in card.uses:
            text += ". " + tr("The place itself is not used by this model.")
        if self._is_one_texture(where):
            text = (
                text.rstrip(".")
                + ". "
                + tr(
                    "One text over so large an extent gives one texture; give regions or guiding layers for structure."
                )
            )
            if self.coarse.factors and self.coarse.factors[-1] > self.coarse.value():
                text += " " + tr("A coarser level first gives structure, too.")
        self.fields.note(self.extent, text)
        grid_crs = crs_of(where.grid.crs)
        is_project = grid_crs == QgsProject.instance().crs()
        name = grid_crs.userFriendlyIdentifier() or grid_crs.description()
        self.more.note(self.crs, tr("{crs}, the project\u2019s").format(crs=name) if is_project else name)

    def _about_prompt(self) -> str:
        if self.regions.is_alone:
            return tr("Not used: only the polygons are drawn, each from its own text.")
        outside = tr("Drawn outside the polygons.") if self.regions.is_given else ""
        return f"{outside} {self.prompt.remark()}".strip()

    def _is_one_texture(self, where: Place) -> bool:
        """Whether one text is all that says what is where, over far more ground than the model sees at once."""
        is_guided = self.regions.is_given or any(guide.kind != CONTENT for guide in self.controls.guides())
        return is_one_texture(where.lattice.shape, self.model.card, is_guided, self.coarse.value())

    def _offer_coarser(self, card: ModelCard, where: Optional[Place]) -> None:
        """Offer the coarser levels that the model can draw first of this place, and say what stands in the way."""
        told = self.told_gsd.value() if "gsd" in card.uses else None
        gsd = told or self.gsd.value()
        if told == 0:  # then both levels would be the same to it
            found = ()
        elif where is None:
            found = tuple(factor for factor in COARSE_FACTORS if card.takes_coarse(gsd, factor))
        else:
            found = coarse_factors(gsd, where.lattice.shape, card)
        self.coarse.set_factors(found)
        self.more.set_shown(self.coarse, bool(found))
        hindrance = ""
        if self.trajectory.value():
            hindrance = tr("Off while the steps are kept.")
        elif self.controls.guides():
            hindrance = tr("Off while layers guide.")
        elif self.sampling.steps.value() < 2:
            hindrance = tr("Needs two steps or more.")
        self.more.set_used(self.coarse, not hindrance, hindrance)
        if self.coarse.value() > 1:
            size = metres(gsd * self.coarse.value())
            self.more.note(self.coarse, tr("Drawn first in pixels of {size}.").format(size=size))

    def _offer_less(self, where: Optional[Place]) -> None:
        """Offer a smaller extent where that would be drawn as one picture."""
        card = self.model.card
        is_near = where is not None and is_nearly_whole(where, card)
        self._shrunk = shrunk(where, card, self._target()) if is_near else None
        self.fields.set_shown(self.shrink, self._shrunk is not None)
        if self._shrunk is not None:
            self.shrink.offer(self._shrunk[2].lattice.shape, windows_over(where.lattice.shape, card))

    def _shrink(self) -> None:
        if self._shrunk is not None:
            extent, crs, _ = self._shrunk
            self.extent.set_extent(extent, crs)
