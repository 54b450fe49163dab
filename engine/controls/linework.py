"""Straight lines and edges in a picture, white on black; the only importer of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Shortest line that is drawn, in pixels: shorter ones are the texture of trees and fields.
SHORTEST = 16
#: Gradients (0 to 255) from which an edge goes on, and from which it begins. Source: the Canny annotator of ControlNet,
#: lllyasviel/ControlNet, gradio_canny2image.py, and the sliders of CRS-Diff's demonstration.
CANNY = (100, 200)
#: Pixels around a gap that are left black: the rim of the data is no line on the ground.
RIM = 2
#: What the maps depend on, besides their input: part of the name under which they are kept.
VERSION = f"1 {cv2.__version__}"


def straight_lines(picture: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Straight line segments, one pixel wide, as the annotator draws that CRS-Diff's first map comes from.

    That annotator is M-LSD (Gu et al. 2022, "Towards Light-weight and Real-time Line Segment Detection"), a network
    whose weights come with no library; these are found by LSD (Grompone von Gioi et al. 2010, "LSD: a fast line segment
    detector with a false detection control"), which needs none and finds more of them.

    Args:
        picture: (1 or 3, h, w).
        valid: (h, w), True where the picture holds data.

    Returns:
        (h, w), 255 on lines.
    """
    gray = _interleaved(_filled(picture, valid))
    if gray.ndim == 3:
        gray = np.asarray(cv2.cvtColor(gray, cv2.COLOR_RGB2GRAY), np.uint8)
    lines = np.zeros(gray.shape, np.uint8)
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(gray)[0]
    for x0, y0, x1, y1 in np.empty((0, 4)) if found is None else found[:, 0]:
        if np.hypot(x1 - x0, y1 - y0) >= SHORTEST:
            cv2.line(lines, (int(x0), int(y0)), (int(x1), int(y1)), 255, 1)
    return _without_rims(lines, valid)


def edges(picture: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Edges, one pixel wide (Canny 1986, "A Computational Approach to Edge Detection"); arguments as above."""
    found = cv2.Canny(_interleaved(_filled(picture, valid)), *CANNY)
    return _without_rims(np.asarray(found, np.uint8), valid)


def _interleaved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(1 or 3, h, w) -> (h, w) or (h, w, 3), as OpenCV takes it."""
    return np.ascontiguousarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))


def _filled(picture: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture with each pixel of a gap like the nearest one that holds data."""
    if valid.all() or not valid.any():
        return picture
    _, nearest = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colors = np.zeros((len(picture), int(nearest.max()) + 1), np.uint8)
    colors[:, nearest[valid]] = picture[:, valid]
    return colors[:, nearest]


def _without_rims(lines: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    around = np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
    known = cv2.erode(valid.astype(np.uint8), around, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.where(known > 0, lines, 0).astype(np.uint8)
