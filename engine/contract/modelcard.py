"""What a model can do, as data: forms are filled from cards, and requests are checked against them."""

from dataclasses import dataclass, field
from typing import Dict, Tuple


@dataclass(frozen=True)
class Measure:
    """One measured figure: what was measured, on what, and how much.

    Attributes:
        name: for example "PSNR, 4x".
        on: data and split, for example "UC Merced test (105 images)".
        value: the figure.
        unit: "dB", "%", "" ...
        reference: what to compare it with, in words ("bicubic: 27.1 dB"), or "".
    """

    name: str
    on: str
    value: float
    unit: str = ""
    reference: str = ""


@dataclass(frozen=True)
class ModelCard:
    """A model.

    Attributes:
        id: stable name that requests and scripts use.
        name: what the dock shows.
        summary: one or two sentences for the person who chooses.
        family: the file in ``engine/models`` that loads it.
        version: of the weights, "1.0.0".
        tasks: names of request types that it can do ("Generate", "SuperResolve").
        bands: names of the bands that it draws, in order ("red", "green", "blue").
        gsd: (finest, coarsest) metres per output pixel that it was trained on. Up to a factor of 2 beyond is met by
            resampling (Generate) or done with a warning (SuperResolve).
        window: side of the model's window in output pixels.
        stride: distance between windows in output pixels.
        phases: (window, stride) in output pixels of each part of the denoising steps, which are as long as each other.
            Between two of them neighbouring windows are blended, so that they agree on what covers more ground than one
            window (Goslin 2025, "InfiniteDiffusion"); large windows settle what is coarse, small ones what is fine.
            Empty for one part with ``window`` and ``stride``; an extent that is one window never has more.
        halo: output pixels around a region that must be drawn too, because the region's own depend on them.
        factors: refinement factors, for SuperResolve.
        schedulers: names that ``Sampling.scheduler`` may take, the default first.
        steps: default number of denoising steps.
        guidance_scale: default; 1 where the model has no guidance.
        guided: share of these steps, 0..1, in which guidance asks the network once more: less than 1 where a model has
            it at some noise levels only.
        uses: inputs that change the picture, out of "prompt", "negative_prompt", "gsd", "date", "place", "cloud_cover",
            "control_strength" (of every kind of layer), "content_strength" (of content alone), and, for Edit, "mask"
            (it draws inside polygons by itself; of others, what they draw is cut out along the polygons), "strength"
            (it can start from the source under noise), "image_guidance" and "margin".
            The forms show the others as "not used by this model".
        controls: kinds of layers that may guide a Generate, out of ``requests.CONTROLS``.
        required: those of them that must be given.
        palettes: kind of control -> what it shows -> its colour, "#rrggbb", as the model was trained on.
        frames: dated rasters that a Forecast may start from, at most.
        gives_mean: whether a SuperResolve can ask for the mean of all that the model would draw, and is told how far
            the truth may lie from it.
        source_bands: names of the bands that a SuperResolve must be given, in order ("B1", "B2" ...); empty for any.
        image_guidance_scale: default of an Edit that is shown its source.
        whole: whether an extent of at most one window is drawn as one picture, not as a part of the endless lattice.
        tokens: most tokens of a prompt that are read, start and end included; 0 for no such limit.
        vocabulary: what it can draw, for models that know a closed list.
        licence: of the weights and of what they produce.
        origin: where the weights came from: a repository and its commit, or "imported".
        attribution: credit lines.
        citation: papers.
        training_data: one line a data set: name, split, licence.
        limitations: what it is not good at, in plain words.
        measures: how good it is, measured.
        parameters: number of weights.
        memory_mb: resident memory of the engine with this model on a CPU.
        gpu_mb: memory on a GPU in each way that there is to run it there, the best way first; empty for models that
            have one way and take little.
        gflop_per_window_step: work of one network call on one window (both branches of guidance counted by the caller).
        gflop_decode_per_megapixel: work to decode a million output pixels.
        weights: file below the model's folder -> sha256; of a published model every file but the card and its origin.
        pickable: whether a person may pick it; False for random weights that only tests use.
    """

    id: str
    name: str
    summary: str
    family: str
    version: str
    tasks: Tuple[str, ...]
    bands: Tuple[str, ...]
    gsd: Tuple[float, float]
    window: int
    stride: int
    schedulers: Tuple[str, ...]
    steps: int
    guidance_scale: float = 1.0
    guided: float = 1.0
    halo: int = 0
    phases: Tuple[Tuple[int, int], ...] = ()
    factors: Tuple[int, ...] = ()
    uses: Tuple[str, ...] = ()
    vocabulary: Tuple[str, ...] = ()
    controls: Tuple[str, ...] = ()
    required: Tuple[str, ...] = ()
    palettes: Dict[str, Dict[str, str]] = field(default_factory=dict)
    frames: int = 0
    gives_mean: bool = False
    source_bands: Tuple[str, ...] = ()
    image_guidance_scale: float = 1.5
    whole: bool = False
    tokens: int = 0
    licence: str = ""
    origin: str = ""
    attribution: str = ""
    citation: str = ""
    training_data: Tuple[str, ...] = ()
    limitations: str = ""
    measures: Tuple[Measure, ...] = ()
    parameters: int = 0
    memory_mb: int = 0
    gpu_mb: Tuple[int, ...] = ()
    gflop_per_window_step: float = 0.0
    gflop_decode_per_megapixel: float = 0.0
    weights: Dict[str, str] = field(default_factory=dict)
    pickable: bool = True

    #: How far beyond the trained range a ground resolution may lie.
    GSD_REACH = 2.0

    def __post_init__(self) -> None:
        """Check the figures that forms and plans divide by."""
        if not 0 < self.gsd[0] <= self.gsd[1]:
            raise ValueError("gsd must be (finest, coarsest), above 0")
        if not 0 < self.stride <= self.window:
            raise ValueError("stride must be from 1 to window")
        if not all(0 < stride <= window for window, stride in self.phases):
            raise ValueError("the stride of a phase must be from 1 to its window")
        if not 0 <= self.guided <= 1:
            raise ValueError("guided must be from 0 to 1")
        if not self.schedulers:
            raise ValueError("a model needs a scheduler")

    def reaches(self, gsd: float) -> bool:
        """Whether a ground resolution (metres per pixel) is in the trained range or within a factor of 2 of it."""
        return self.gsd[0] / self.GSD_REACH <= gsd * (1 + 1e-9) and gsd <= self.gsd[1] * self.GSD_REACH * (1 + 1e-9)

    def takes_coarse(self, gsd: float, factor: int) -> bool:
        """Whether a picture at a ground resolution can start from one of pixels ``factor`` times as large.

        The model must be told the resolution of both, it must have been trained on both, and it must be able to start
        from pixels. Below its finest resolution, that is what it draws.
        """
        is_told = "gsd" in self.uses and "strength" in self.uses
        return factor == 1 or (is_told and max(gsd, self.gsd[0]) * factor <= self.gsd[1] * (1 + 1e-9))

    @property
    def windows(self) -> Tuple[Tuple[int, int], ...]:
        """(window, stride) in output pixels of each part of the steps, where an extent is more than one window."""
        return self.phases or ((self.window, self.stride),)

    @property
    def reach(self) -> int:
        """Output pixels around a region that windows which decide it may cover."""
        return sum(window for window, _ in self.windows) + self.halo

    def knows_strength(self, kind: str) -> bool:
        """Whether a layer that guides can count more or less, by its kind out of ``requests.CONTROLS``."""
        return "control_strength" in self.uses or f"{kind}_strength" in self.uses

    def draws_whole(self, shape: Tuple[int, int]) -> bool:
        """Whether a picture of (height, width) pixels is drawn as one window in its middle."""
        return self.whole and max(shape) <= self.window
