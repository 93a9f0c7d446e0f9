"""What is done to pictures so that they are as a viewer shows them, and how it is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum


class Treatment(Enum):
    """Something that is done to a picture; its value says it of one picture and of several."""

    SCALED = (
        "picture of more than 8 bits a channel is scaled to 8",
        "pictures of more than 8 bits a channel are scaled to 8",
    )
    TURNED = (
        "picture is turned as its EXIF orientation says",
        "pictures are turned as their EXIF orientation says",
    )
    LAID = (
        "picture with transparent parts is laid on {background}",
        "pictures with transparent parts are laid on {background}",
    )
    FIRST_FRAME = (
        "file holds several frames, of which the first is read",
        "files hold several frames, of which the first is read",
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
"""How many pictures had each treatment."""


def treatment_findings(
    treatments: Mapping[Treatment, int], background: str | None
) -> tuple[str, ...]:
    """A sentence for each treatment that a picture had, with the number of those that had it.

    Args:
        treatments: How many pictures had each.
        background: The colour that pictures were laid on; None if none was.
    """
    return tuple(
        f"{count:,} {treatment.value[count > 1]}".format(background=background)
        for treatment in Treatment
        if (count := treatments.get(treatment, 0))
    )
