"""Whether a picture's colour profile changes the colours that a viewer shows."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL import Image

# Versions of sRGB differ by up to this much, of 255, because of rounding.
_SAME_WITHIN = 4


def changes_colours(picture: Image.Image) -> bool:
    """Whether a picture has a profile that gives other colours than sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode == "CMYK":
        return False
    grey = picture.mode.startswith(("1", "L", "I"))
    return _changes(profile, "L" if grey else "RGB")


@lru_cache(maxsize=256)
def _changes(profile: bytes, mode: str) -> bool:
    import numpy as np
    from PIL import Image, ImageCms

    steps = np.arange(0, 256, 15, dtype=np.uint8)
    levels = np.stack(np.meshgrid(*[steps] * len(mode)), axis=-1).reshape(len(steps), -1, len(mode))
    numbers = Image.fromarray(levels.squeeze(-1) if mode == "L" else levels)
    try:
        seen = ImageCms.profileToProfile(
            numbers,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False  # a viewer cannot apply it
    with_profile, without = (
        np.asarray(one).astype(int) for one in (cast("Image.Image", seen), numbers.convert("RGB"))
    )
    return bool(np.abs(with_profile - without).max() > _SAME_WITHIN)
