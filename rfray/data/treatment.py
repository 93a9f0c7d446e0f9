"""What is done to pictures so that they are as a viewer shows them, and the sentences about it."""

from collections import Counter
from collections.abc import Mapping
from enum import Enum


class Treatment(Enum):
    """A change to a picture; its value is the sentence for one picture and for several."""

    SCALED = (
        "picture of more than 8 bits per channel is scaled to 8",
        "pictures of more than 8 bits per channel are scaled to 8",
    )
    TURNED = (
        "picture is turned as its EXIF orientation says",
        "pictures are turned as their EXIF orientation says",
    )
    LAID = (
        "picture with transparent parts is put on {background}",
        "pictures with transparent parts are put on {background}",
    )
    FIRST_FRAME = (
        "file has several frames, of which only the first is read",
        "files have several frames, of which only the first is read",
    )
    CMYK = (
        "picture in CMYK is converted without a colour profile",
        "pictures in CMYK are converted without a colour profile",
    )
    PROFILE = (
        "picture has a colour profile that changes its colours in viewers; it is not applied",
        "pictures have colour profiles that change their colours in viewers; none is applied",
    )


Treatments = Counter[Treatment]
"""Number of pictures with each treatment."""


def treatment_findings(
    treatments: Mapping[Treatment, int], background: str | None
) -> tuple[str, ...]:
    """A sentence for each treatment, with the number of pictures that had it.

    Args:
        treatments: Number of pictures with each treatment.
        background: The background colour; None if there was none.
    """
    return tuple(
        f"{count:,} {treatment.value[count > 1]}".format(background=background)
        for treatment in Treatment
        if (count := treatments.get(treatment, 0))
    )
