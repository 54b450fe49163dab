"""What a layer says about itself: that it is AI-generated, from what, how, and how to make it again."""

from typing import Optional

from qgis.core import QgsBox3d, QgsLayerMetadata, QgsRasterLayer

from ...engine.contract import Edit, Forecast, Job, Output, Provenance, Request, Role, WireError, dumps, loads
from ..report import log, tr
from .temporal import set_layer_date

#: Custom property of a layer that holds its ``Provenance`` as JSON.
PROVENANCE = "afterimage/provenance"
#: Never translated, so that it can be searched for.
MARK = "AI-generated"


def layer_name(title: str, output: Output, samples: int) -> str:
    """Name of a result's layer: first that it is AI-generated, because a narrow layer tree cuts off the end."""
    if output.role is Role.MEAN:
        title = tr("{}, mean").format(title)
    elif output.role is Role.SPREAD:
        title = tr("{}, spread").format(title)
    elif samples > 1:
        title = f"{title} {output.sample}"
    if output.role is Role.TRAJECTORY:
        title = tr("{title}, step picture {number}").format(title=title, number=output.frame)
    return title if MARK.lower() in title.lower() else f"{MARK}: {title}"


def way_name(title: str, output: Output, samples: int) -> str:
    """Name of the group of a sample's pictures on its way from noise."""
    return tr("{}, from noise").format(f"{title} {output.sample}" if samples > 1 else title)


def write_record(layer: QgsRasterLayer, output: Output, provenance: Provenance) -> None:
    """Put the provenance into a layer's metadata, and the date into its temporal range."""
    layer.setMetadata(layer_metadata(layer, output, provenance))
    layer.setCustomProperty(PROVENANCE, dumps(provenance))
    layer.setAbstract(_abstract(output, provenance))
    layer.setAttribution(provenance.attribution)
    if output.date:
        try:
            set_layer_date(layer, output.date)
        except ValueError:  # a request's date is checked by the contract, the date of an output in a result is not
            log(tr("{} is no day of the calendar.").format(output.date))


def layer_metadata(layer: QgsRasterLayer, output: Output, provenance: Provenance) -> QgsLayerMetadata:
    """A result's provenance in QGIS's own metadata fields."""
    metadata = QgsLayerMetadata()
    metadata.setType("dataset")
    metadata.setTitle(layer.name())
    metadata.setIdentifier(output.path)
    metadata.setAbstract(_abstract(output, provenance))
    metadata.setKeywords({"Afterimage": [MARK, "synthetic", provenance.task, provenance.model]})
    metadata.setLicenses([provenance.licence] if provenance.licence else [])
    metadata.setRights([line for line in provenance.attribution.splitlines() if line.strip()])
    metadata.setHistory(_history(output, provenance))
    metadata.setCrs(layer.crs())
    extent = QgsLayerMetadata.SpatialExtent()
    extent.extentCrs = layer.crs()
    extent.bounds = _box(layer)
    whole = QgsLayerMetadata.Extent()
    whole.setSpatialExtents([extent])
    metadata.setExtent(whole)
    return metadata


def _box(layer: QgsRasterLayer) -> QgsBox3d:
    extent = layer.extent()
    return QgsBox3d(extent.xMinimum(), extent.yMinimum(), 0, extent.xMaximum(), extent.yMaximum(), 0)


def _abstract(output: Output, provenance: Provenance) -> str:
    request = _request(provenance)
    edit = request if isinstance(request, Edit) else None
    if output.role is Role.MEAN:
        what = tr(
            "AI-generated: the mean of all that a generative model would draw here, not a measurement. Pixel by pixel "
            "it is nearer to the truth than a sample; it is smoother than the ground."
        )
    elif output.role is Role.SPREAD:
        what = tr("AI-generated: how much samples of a generative model differ in each pixel (standard deviation).")
    elif output.role is Role.TRAJECTORY:
        what = tr(
            "AI-generated: a sample of a generative model on its way from noise, picture {}. Its date orders the "
            "pictures, a day each, and says nothing else."
        ).format(output.frame)
    elif edit is not None and edit.mask is not None and edit.margin:
        what = tr("AI-generated inside polygons and beyond the edge of its source: there, no measurement.")
    elif edit is not None and edit.margin:
        what = tr("AI-generated beyond the edge of its source: there, a sample of a generative model, no measurement.")
    elif edit is not None and edit.mask is not None:
        what = tr("AI-generated inside polygons: there, a sample of a generative model, not a measurement.")
    else:
        what = tr("AI-generated: a sample of a generative model, not a measurement.")
    lines = [what]
    if provenance.prompt:
        lines.append(tr("Prompt: {}").format(provenance.prompt))
    if provenance.negative_prompt:
        lines.append(tr("Negative prompt: {}").format(provenance.negative_prompt))
    if provenance.date:
        lines.append(tr("Date that it is meant to show: {}").format(provenance.date))
    if edit is not None:
        lines.append(tr("Strength: {:g} %").format(100 * edit.strength))
        if edit.margin:
            lines.append(tr("Drawn beyond the source: {} pixels on each side").format(edit.margin))
        if edit.mask is not None:
            where = edit.mask.name or tr("a drawn polygon")
            lines.append(tr("Changed inside: {}. Elsewhere the values are those of the source.").format(where))
        lines.append(tr("Made from: {}").format(edit.source.name))
    elif isinstance(request, Forecast):
        dated = ", ".join(f"{source.name} ({source.date})" for source in request.sources)
        lines.append(tr("Made from: {}").format(dated))
    elif provenance.inputs:
        lines.append(tr("Made from: {}").format(", ".join(source.name for source in provenance.inputs)))
    return "\n".join(lines)


def _request(provenance: Provenance) -> Optional[Request]:
    """What was asked, where that can still be read."""
    try:
        return loads(Job, provenance.job).request
    except WireError:
        return None


def _history(output: Output, provenance: Provenance) -> list:
    if output.role is Role.MEAN:  # the samples' settings do not change it
        settings = (tr("mean over eight orientations"),)
    else:
        guidance = tr("guidance {:g}").format(provenance.guidance_scale)
        steps = tr("{} steps").format(provenance.steps)
        settings = (provenance.scheduler, steps, guidance, tr("seed {}").format(provenance.seed))
    how = ", ".join((provenance.task, provenance.model, *settings))
    history = [
        f"{provenance.created}: {how}",
        tr("Afterimage engine {}").format(provenance.engine_version),
    ]
    history += [f"{name}: {digest}" for name, digest in provenance.weights.items()]
    history += [tr("input {}: sha256 {}").format(source.name, source.sha256) for source in provenance.inputs]
    history += [f"{name}: {value}" for name, value in provenance.pins.items()]
    history.append(tr("The job, to run it again: {}").format(provenance.job))
    return history
