"""Pictures with transparent parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfray.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

_PNG_BITS = 24  # the position, in a PNG file, of the number of bits per channel
# Pillow scales the grey levels of a PNG of 2 or 4 bits to 8, but not its transparent one.
_SCALED_BY = {2: 85, 4: 17}


def parted(picture: Image.Image, content: bytes) -> tuple[Image.Image, Image.Image | None]:
    """A picture of 8 bits in red, green and blue, and its opacity in grey if it has any.

    Args:
        picture: The picture.
        content: The file that it was read from.
    """
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
