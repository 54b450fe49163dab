"""What an analyst can ask for: one frozen dataclass a task, and the job that carries it.

A request is complete: whatever changes the picture stands in it. Where the result goes does not change the picture and
stands in the ``Job``.
"""

import datetime
import re
import unicodedata
from dataclasses import dataclass
from typing import Optional, Tuple, Union

from .geobox import GeoBox

#: Longest prompt that is accepted, in characters after normalisation.
PROMPT_LIMIT = 4000
#: Most different texts that the regions of a job may have: each takes memory and work of its own.
TEXTS_LIMIT = 32
#: Most samples a job may ask for.
SAMPLES_LIMIT = 64
STEPS_LIMIT = 1000
#: Most pictures that are kept of one sample on its way from noise.
TRAJECTORY_LIMIT = 100
#: Most pictures that are kept of all samples of a job together: each becomes a layer, which QGIS adds in about 20 ms.
FRAMES_LIMIT = 200
#: Pixels are smaller than so many metres on the ground.
GSD_LIMIT = 1e6
#: Most dated rasters that a forecast may start from; a model's card says how many it takes.
SOURCES_LIMIT = 16
#: Most pixels that an edit may draw beyond its raster.
MARGIN_LIMIT = 4096
#: Least and greatest refinement that may be asked for; a model's card says which it knows.
FACTORS = (2, 16)
#: How many times coarser the level may be that a Generate draws first.
COARSE_FACTORS = (2, 4, 8)
#: A source whose pixels are so many times coarser than a forecast's does not show what it would.
FINER = 1.5
#: Layers that can guide a picture, by what they show. A card lists those that its model takes.
CONTROLS = ("roads", "land_use", "lines", "edges", "sketch", "depth", "map", "content")
#: The one of them that is a picture as a whole, wherever it was taken; the others are maps of the place.
CONTENT = "content"
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def clean_prompt(text: str) -> str:
    """The text as it is used and recorded: composed (NFC), without control, direction-override or unpaired characters.

    Raises:
        ValueError: for a text longer than ``PROMPT_LIMIT`` characters, checked before any work on it.
    """
    if len(text) > PROMPT_LIMIT:
        raise ValueError(f"the prompt has {len(text)} characters, at most {PROMPT_LIMIT} are read")
    kept = (
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") else (" " if char in "\n\r\t" else "")
        for char in text
    )
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


@dataclass(frozen=True)
class Source:
    """A raster in the job folder that the plugin wrote there from a layer.

    Attributes:
        path: relative to the job folder, a plain GeoTIFF with CRS, transform and nodata or mask in the file.
        name: the layer's name in the project.
        bands: 1-based bands to use, in order; empty for all data bands.
        date: ISO 8601 date of the picture, if it is known.
        gsd: metres on the ground of one of its pixels, where a task starts from rasters of several resolutions.
        cloud_cover: percent of it that is clouded, 0 to 100, if it is known.
    """

    path: str
    name: str = ""
    bands: Tuple[int, ...] = ()
    date: Optional[str] = None
    gsd: Optional[float] = None
    cloud_cover: Optional[float] = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_date(self.date)
        _check_cloud_cover(self.cloud_cover)
        if self.gsd is not None and not 0 < self.gsd < GSD_LIMIT:
            raise ValueError("gsd must be metres per pixel, above 0")


@dataclass(frozen=True)
class Mask:
    """Polygons in the job folder that the plugin wrote there from a layer or from what was drawn.

    Attributes:
        path: relative to the job folder: a GeoJSON FeatureCollection of Polygon and MultiPolygon geometries whose
            coordinates are in the CRS of the request's source, not in degrees.
        name: the layer's name in the project, "" for a drawn polygon.
    """

    path: str
    name: str = ""


@dataclass(frozen=True)
class Regions:
    """Polygons in the job folder, each drawn from a text of its own: a land-use plan, a scenario.

    Attributes:
        path: relative to the job folder: a GeoJSON FeatureCollection of Polygon and MultiPolygon geometries whose
            coordinates are in the CRS of the request's lattice, not in degrees. The property "prompt" of each feature
            says what is there; where polygons overlap, the later one counts.
        name: the layer's name in the project.
        only: draw nothing outside the polygons: no data there, and no work.
    """

    path: str
    name: str = ""
    only: bool = False


@dataclass(frozen=True)
class Control:
    """A raster in the job folder that guides where things are drawn.

    Attributes:
        kind: what it shows, one of ``CONTROLS``.
        source: three bands of colours as the model was trained on, or what ``derive`` makes them from. For "content"
            a picture of any place: the model is told what the whole of it shows, and not where.
        derive: how the engine makes the control of the raster: "" takes it as it is; "lines", "edges" and "depth" find
            straight lines, edges, or heights as nearness in it.
        strength: how much it counts, 0 to 2; models that know no strength of this control refuse others than 1.
    """

    kind: str
    source: Source
    derive: str = ""
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Check the names and the range."""
        if self.kind not in CONTROLS:
            raise ValueError(f"a control is one of {', '.join(CONTROLS)}")
        if self.derive not in ("", "lines", "edges", "depth"):
            raise ValueError("derive must be empty, lines, edges or depth")
        if not 0 <= self.strength <= 2:
            raise ValueError("strength must be from 0 to 2")


@dataclass(frozen=True)
class Sampling:
    """How the noise is turned into a picture.

    Attributes:
        seed: 0 to 2**63 - 1; sample k of a job uses seed + k - 1.
        steps: denoising steps, 1 to 1000.
        scheduler: one of the card's schedulers.
        guidance_scale: classifier-free guidance; 1 turns it off.
        samples: how many independent samples, 1 to 64.
    """

    seed: int
    steps: int
    scheduler: str
    guidance_scale: float = 1.0
    samples: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.seed < 2**63:
            raise ValueError("seed must be from 0 to 2**63 - 1")
        if not 1 <= self.steps <= STEPS_LIMIT:
            raise ValueError(f"steps must be from 1 to {STEPS_LIMIT}")
        if not 1 <= self.samples <= SAMPLES_LIMIT:
            raise ValueError(f"samples must be from 1 to {SAMPLES_LIMIT}")
        if not 0 <= self.guidance_scale <= 50:
            raise ValueError("guidance_scale must be from 0 to 50")


def _check_date(date: Optional[str]) -> None:
    if date is None:
        return
    if not _DATE.fullmatch(date):
        raise ValueError("date must be written YYYY-MM-DD")
    datetime.date.fromisoformat(date)  # a ValueError of its own for the 31st of February


def _check_cloud_cover(cloud_cover: Optional[float]) -> None:
    if cloud_cover is not None and not 0 <= cloud_cover <= 100:
        raise ValueError("cloud_cover must be from 0 to 100 percent")


def _check_told_gsd(told_gsd: Optional[float]) -> None:
    if told_gsd is not None and not 0 <= told_gsd < GSD_LIMIT:
        raise ValueError("told_gsd must be metres per pixel, or 0 for unknown")


@dataclass(frozen=True)
class Generate:
    """Imagery over an extent, on a date, from a text.

    Attributes:
        model: id of a model card.
        grid: the grid of the result.
        lattice: the metric grid that the model draws on, covering ``grid``. The same as ``grid`` where that is metric;
            otherwise the picture is drawn on the lattice and warped to ``grid`` once, at the end.
        gsd: metres on the ground of one lattice pixel.
        prompt: what to draw.
        negative_prompt: what to stay away from.
        date: ISO 8601 date that the picture should show.
        longitude: of the extent's centre, degrees east, -180 to 180.
        latitude: of the extent's centre, degrees north.
        sampling: how.
        trajectory: how many pictures to keep of each sample on its way from noise, 0 for none, at most as many as
            there are steps, and at most ``FRAMES_LIMIT`` over all samples. The last of them is the result.
        cloud_cover: percent of the picture that is clouded, 0 to 100; None leaves it unknown.
        told_gsd: metres per pixel that the model is told in place of ``gsd``; 0 leaves the resolution unknown to it.
        controls: what guides the picture, at most one of a kind.
        regions: polygons with texts of their own; ``prompt`` is drawn elsewhere, and may be empty with
            ``regions.only``.
        coarse: how many times coarser the level is that is drawn first and that the picture then starts from, out of
            ``COARSE_FACTORS``; 1 for none. Not with controls, which would have to be shown to it too, nor with a
            trajectory, nor with a resolution that the model is not told.
        coarse_strength: how far to leave that level: the share of the steps that draw the picture from it, enlarged
            and under as much noise as the schedule holds there (SDEdit, Meng et al. 2022: t0), above 0 and below 1.
    """

    model: str
    grid: GeoBox
    lattice: GeoBox
    gsd: float
    prompt: str
    sampling: Sampling
    negative_prompt: str = ""
    date: Optional[str] = None
    longitude: Optional[float] = None
    latitude: Optional[float] = None
    trajectory: int = 0
    cloud_cover: Optional[float] = None
    told_gsd: Optional[float] = None
    controls: Tuple[Control, ...] = ()
    regions: Optional[Regions] = None
    coarse: int = 1
    coarse_strength: float = 0.7

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        _check_date(self.date)
        _check_cloud_cover(self.cloud_cover)
        _check_told_gsd(self.told_gsd)
        self._check_coarse()
        if len({control.kind for control in self.controls}) < len(self.controls):
            raise ValueError("there is more than one control of a kind")
        if not 0 < self.gsd < GSD_LIMIT:
            raise ValueError("gsd must be metres per pixel, above 0")
        if not 0 <= self.trajectory <= min(self.sampling.steps, TRAJECTORY_LIMIT):
            raise ValueError(f"trajectory must be from 0 to the steps, at most {TRAJECTORY_LIMIT}")
        if self.sampling.samples * self.trajectory > FRAMES_LIMIT:
            raise ValueError(f"trajectory times samples must be at most {FRAMES_LIMIT}: keep fewer pictures of each")

    def _check_coarse(self) -> None:
        if self.coarse not in (1, *COARSE_FACTORS):
            raise ValueError(f"coarse must be 1 for no coarser level, or one of {', '.join(map(str, COARSE_FACTORS))}")
        if not 0 < self.coarse_strength < 1:
            raise ValueError("coarse_strength must be above 0 and below 1")
        if self.coarse == 1:
            return
        if self.controls:
            raise ValueError("layers that guide do not go together with a coarser level first: leave one of them out")
        if self.trajectory:
            raise ValueError("steps cannot be kept with a coarser level first: set trajectory to 0, or coarse to 1")
        if self.told_gsd == 0:
            raise ValueError("a coarser level first needs a model that is told the resolution: told_gsd must not be 0")
        if self.sampling.steps < 2:
            raise ValueError("a coarser level first needs at least 2 steps")


@dataclass(frozen=True)
class SuperResolve:
    """A raster, ``factor`` times finer, on its own grid refined by that factor.

    Attributes:
        model: id of a model card.
        source: the raster.
        factor: 2 to 16; the card lists those that the model knows.
        gsd: metres on the ground of one source pixel.
        sampling: how; guidance_scale counts where the card has "prompt" among its inputs.
        spread: also write how far the truth may lie from the mean, pixel by pixel: the standard deviation that the
            model tells (``ModelCard.gives_mean``), of others that over the samples, of which they need 2.
        prompt: what is there, for models that are told.
        negative_prompt: what to stay away from.
        mean: also write the mean of all that the model would draw, for models that give it. It is drawn by itself:
            neither seed nor steps, scheduler or number of samples change it.
    """

    model: str
    source: Source
    factor: int
    gsd: float
    sampling: Sampling
    spread: bool = False
    prompt: str = ""
    negative_prompt: str = ""
    mean: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if not FACTORS[0] <= self.factor <= FACTORS[1]:
            raise ValueError(f"factor must be from {FACTORS[0]} to {FACTORS[1]}")
        if not 0 < self.gsd < GSD_LIMIT:
            raise ValueError("gsd must be metres per pixel, above 0")


@dataclass(frozen=True)
class Edit:
    """A raster, on its own grid, with the ground inside polygons turned into something else, or changed as a whole.

    Pixels outside the polygons keep their exact numbers.

    Attributes:
        model: id of a model card.
        source: the raster.
        gsd: metres on the ground of one source pixel.
        prompt: what is there afterwards.
        sampling: how.
        mask: where to change; None for the whole raster.
        strength: how far to leave the source: 1 draws anew, less starts from the source with so much noise (SDEdit,
            Meng et al. 2022: t0), above 0.
        negative_prompt: what to stay away from.
        date: ISO 8601 date that the result should show.
        image_guidance_scale: how much a model that is shown the source keeps of it, 1 to 20.
        margin: pixels to draw beyond the raster on each of its sides, 0 to 4096.
        cloud_cover: percent of the result that is clouded, 0 to 100; None leaves it unknown.
        told_gsd: metres per pixel that the model is told in place of ``gsd``; 0 leaves the resolution unknown to it.
    """

    model: str
    source: Source
    gsd: float
    prompt: str
    sampling: Sampling
    mask: Optional[Mask] = None
    strength: float = 1.0
    negative_prompt: str = ""
    date: Optional[str] = None
    image_guidance_scale: float = 1.5
    margin: int = 0
    cloud_cover: Optional[float] = None
    told_gsd: Optional[float] = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        _check_date(self.date)
        _check_cloud_cover(self.cloud_cover)
        _check_told_gsd(self.told_gsd)
        if not 0 < self.gsd < GSD_LIMIT:
            raise ValueError("gsd must be metres per pixel, above 0")
        if not 0 < self.strength <= 1:
            raise ValueError("strength must be above 0 and at most 1")
        if not 1 <= self.image_guidance_scale <= 20:
            raise ValueError("image_guidance_scale must be from 1 to 20")
        if not 0 <= self.margin <= MARGIN_LIMIT:
            raise ValueError(f"margin must be from 0 to {MARGIN_LIMIT} pixels")


@dataclass(frozen=True)
class Forecast:
    """A place on another date, before or after those of the rasters that it is known from.

    The result lies on the grid of the first source; the others are resampled to it.

    Attributes:
        model: id of a model card.
        sources: dated rasters of the place, each with its own ``gsd``.
        gsd: metres on the ground of one pixel of the first source.
        date: ISO 8601 date that the result should show; that of a source only where the source is coarser, as with a
            Sentinel-2 scene of the date whose detail is wanted.
        sampling: how.
        prompt: what is there on that date.
        negative_prompt: what to stay away from.
        cloud_cover: percent of the result that is clouded, 0 to 100; None leaves it unknown.
    """

    model: str
    sources: Tuple[Source, ...]
    gsd: float
    date: str
    sampling: Sampling
    prompt: str = ""
    negative_prompt: str = ""
    cloud_cover: Optional[float] = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        _check_date(self.date)
        _check_cloud_cover(self.cloud_cover)
        if not 1 <= len(self.sources) <= SOURCES_LIMIT:
            raise ValueError(f"there must be 1 to {SOURCES_LIMIT} sources")
        undated = [source.name or source.path for source in self.sources if source.date is None]
        if undated:
            raise ValueError(f"sources without a date: {', '.join(undated)}")
        if any(source.gsd is None for source in self.sources):
            raise ValueError("each source needs its gsd")
        if any(is_seen(source, self.gsd, self.date) for source in self.sources):
            raise ValueError("date must be another one than those of sources as fine as the result")
        if not 0 < self.gsd < GSD_LIMIT:
            raise ValueError("gsd must be metres per pixel, above 0")


def is_seen(source: Source, gsd: float, date: str) -> bool:
    """Whether a source shows what a forecast is asked for: that date in pixels as fine as the result's, or nearly.

    Args:
        source: with its ``gsd``.
        gsd: metres on the ground of one pixel of the result.
        date: ISO 8601 date of the result.
    """
    return source.date == date and source.gsd is not None and source.gsd < FINER * gsd


Request = Union[Generate, SuperResolve, Edit, Forecast]


@dataclass(frozen=True)
class Job:
    """One request and where its result goes: the content of ``request.json`` in a job folder.

    Attributes:
        id: name of the job, unique in the plugin's job folder.
        request: what is asked.
        output: absolute path of the first sample; others stand beside it with a number in the name. Empty for
            ``outputs/result.tif`` in the job folder.
        spread_output: absolute path of the spread; empty for a name beside ``output``.
        mean_output: absolute path of the mean; empty for a name beside ``output``.
        title: what the job list calls it.
    """

    id: str
    request: Request
    output: str = ""
    spread_output: str = ""
    mean_output: str = ""
    title: str = ""
