"""Pixels that Pillow does not show as a viewer does: deep, transparent, or of another colour space.

Pictures with values of an unknown range, and transparent ones without a background, are refused.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from rfray.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

# TIFF 6.0, by the numbers of its tags.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0
_SIGNED = 2

_CONVERT = (
    "scale them yourself, as in Image.fromarray((255 * (a - low) / (high - low)).clip(0, 255)"
    ".round().astype('uint8')).save('new.png')"
)


def more_than_8_bits(picture: Image.Image) -> bool:
    """Whether a channel is stored with more than 8 bits; Pillow may give only 8 of them."""
    for tile in getattr(picture, "tile", ()):
        if tile.codec_name.startswith("ppm"):  # its last argument is the value of white
            return isinstance(tile.args, tuple) and tile.args[-1] > 255
        return ";16" in str(tile.args) or ";12" in str(tile.args)
    return False


def white_of_grey(picture: Image.Image, name: str) -> int | None:
    """The value of white in a grey picture of more than 8 bits; None for any other picture.

    Raises:
        UserError: The values are signed, floating-point, or integers of 32 bits.
    """
    if picture.mode.startswith("I;16"):
        bits = _tag(picture, _BITS_PER_SAMPLE) or (16,)
        return int(2 ** bits[0] - 1)
    if picture.mode == "I" and picture.format in ("PPM", "PNG"):
        return 65535  # Pillow scales a pixmap to this value of white
    if picture.mode in ("I", "F") or _SIGNED in _tag(picture, _SAMPLE_FORMAT):
        raise UserError(
            f"its pixels are {_kind(picture)}, and it is not known which value is black and which "
            "is white",
            where=name,
            do=_CONVERT,
        )
    return None


def from_deep_grey(picture: Image.Image, white: int) -> tuple[Image.Image, Image.Image | None]:
    """A grey picture of more than 8 bits in red, green and blue, and its opacity if it has any.

    Values from 0 to `white` are scaled to 0 to 255 and rounded: for 16 bits, value / 257. In a TIFF
    white may be 0; Pillow corrects this for up to 8 bits only.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(picture).astype(np.uint32)
    upwards = white - values if _WHITE_IS_ZERO in _tag(picture, _PHOTOMETRIC) else values
    scaled = ((upwards * 255 + white // 2) // white).astype(np.uint8)
    image = Image.fromarray(scaled).convert("RGB")
    transparent = picture.info.get("transparency")
    if transparent is None:
        return image, None
    return image, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _kind(picture: Image.Image) -> str:
    if picture.mode == "F":
        return "floating-point numbers"
    (bits, *_) = _tag(picture, _BITS_PER_SAMPLE) or (32,)
    signed = "signed " if _SIGNED in _tag(picture, _SAMPLE_FORMAT) else ""
    return f"{signed}integers of {bits} bits"


def _tag(picture: Image.Image, number: int) -> tuple[int, ...]:
    """The values of a TIFF's tag; empty if there is no such tag, or for another format."""
    value = getattr(picture, "tag_v2", {}).get(number, ())
    return value if isinstance(value, tuple) else (value,)


_PNG_BITS = 24  # the position, in a PNG file, of the number of bits per channel
# Pillow scales the grey levels of a PNG of 2 or 4 bits to 8, but not its transparent one.
_SCALED_BY = {2: 85, 4: 17}


def parted(picture: Image.Image, content: bytes) -> tuple[Image.Image, Image.Image | None]:
    """The picture in a file, 8 bits in red, green and blue, and its opacity in grey if any."""
    _scale_transparent_colour(picture, content)
    if not picture.has_transparency_data:
        return picture.convert("RGB"), None
    picture = picture.convert("LA") if picture.mode == "La" else picture
    with_alpha = picture.convert("RGBA")
    return with_alpha.convert("RGB"), with_alpha.getchannel("A")


def laid_on(
    background: str | None, image: Image.Image, alpha: Image.Image, name: str
) -> Image.Image:
    """A picture on a background colour.

    Args:
        background: The colour; None refuses.
        image: The picture in red, green and blue.
        alpha: Its opacity in grey, of the same size.
        name: Its name in messages.

    Raises:
        UserError: There is no background.
    """
    from PIL import Image

    if background is None:
        raise UserError(
            "it has transparent parts, and no background colour is given",
            where=name,
            do="give one, such as 'data: {background: white}', or save it without transparency",
        )
    return Image.composite(image, Image.new("RGB", image.size, background), alpha)


def _scale_transparent_colour(picture: Image.Image, content: bytes) -> None:
    """Make a PNG's transparent colour comparable with the pixels that Pillow has scaled."""
    colour = picture.info.get("transparency")
    if picture.format != "PNG" or colour is None:
        return
    bits = content[_PNG_BITS]
    if picture.mode == "L":
        picture.info["transparency"] = colour * _SCALED_BY.get(bits, 1)
    elif picture.mode == "RGB" and bits == 16:
        picture.info["transparency"] = tuple(value >> 8 for value in colour)


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
