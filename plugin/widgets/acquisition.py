"""What is known of a picture, in the inputs for its date and its cloud cover."""

from ..maps.acquisition import Acquisition
from .cloudcover import CloudCoverInput
from .dates import DateInput


def show_known(date: DateInput, clouds: CloudCoverInput, known: Acquisition, before: Acquisition) -> Acquisition:
    """Show what is known of a picture; what the person wrote stays. Announces nothing.

    Args:
        date: input of the day on which the picture was taken.
        clouds: input of its cloud cover.
        known: what the layer says now.
        before: what this returned the last time; where an input holds something else, a person wrote that.

    Returns:
        What the layer says, as the inputs hold it: the cloud cover in whole percents.
    """
    for part in (date, clouds):
        part.blockSignals(True)
    if date.value() == before.date:
        date.set_value(known.date)
    if clouds.value() == before.cloud_cover:
        clouds.set_value(known.cloud_cover)
    for part in (date, clouds):
        part.blockSignals(False)
    return Acquisition(known.date, None if known.cloud_cover is None else float(round(known.cloud_cover)))
