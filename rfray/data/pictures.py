"""Picture files as arrays: the pixels that a viewer shows, or a refusal."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfray.data.colour_profile import changes_colours
from rfray.data.pixel_depth import from_deep_grey, more_than_8_bits, white_of_grey
from rfray.data.transparency import laid_on, parted
from rfray.data.treatment import Treatment
from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class Shown:
    """A picture as a viewer shows it.

    Attributes:
        image: In red, green and blue.
        treatments: What was done to it.
        manner: In what its pixels differ from Pillow's plain conversion to red, green and blue,
            which is what the fingerprint of a file's bytes stands for; empty for most pictures.
    """

    image: Image.Image
    treatments: frozenset[Treatment] = frozenset()
    manner: str = ""


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keep Pillow's warnings off the screen; for the thread that reads, not one of its helpers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def shown(content: bytes, name: str, background: str | None = None) -> Shown:
    """A picture file as a viewer shows it: its first frame, upright, opaque, in 8 bits a channel.

    Grey becomes three equal channels. Grey of more than 8 bits is scaled and rounded; of colours in
    16 bits the high byte is taken, the only one that Pillow gives. No colour profile is applied.

    Args:
        content: The file.
        name: What to call it in a message.
        background: The colour to lay it on where it is transparent; None refuses it then.

    Raises:
        UserError: It is no picture, a truncated one, one with more pixels than Pillow reads, one
            with values of an unknown range, or one with transparent parts and no background.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return _shown(picture, content, name, background)
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"the picture has more than {most / 1e6:.0f} megapixels", where=name, do="scale it down"
        ) from error
    except Exception as error:  # each format has errors of its own; none is dropped
        raise UserError("truncated, or no picture", where=name, do="replace it") from error


def _shown(picture: Image.Image, content: bytes, name: str, background: str | None) -> Shown:
    treatments, manner = _seen_before_loading(picture), []
    white = white_of_grey(picture, name)
    picture.load()
    if white is None:
        image, alpha = parted(picture, content)
    else:
        image, alpha = from_deep_grey(picture, white)
        treatments.add(Treatment.SCALED)
        manner.append("scaled to 8 bits")
    if alpha is not None and alpha.getextrema()[0] != 255:
        image = laid_on(background, image, alpha, name)
        treatments.add(Treatment.LAID)
        manner.append(f"laid on {background}")
    orientation = _orientation(picture)
    if orientation is not None:
        image = _turned(image, orientation)
        treatments.add(Treatment.TURNED)
        manner.append("turned")
    return Shown(image, frozenset(treatments), ", ".join(manner))


def _seen_before_loading(picture: Image.Image) -> set[Treatment]:
    facts = {
        Treatment.FIRST_FRAME: getattr(picture, "n_frames", 1) > 1,
        Treatment.SCALED: more_than_8_bits(picture),
        Treatment.CMYK: picture.mode == "CMYK",
        Treatment.PROFILE: changes_colours(picture),
        # Pillow turns a TIFF by itself as it loads it, and forgets that it has.
        Treatment.TURNED: picture.format == "TIFF" and _orientation(picture) is not None,
    }
    return {treatment for treatment, holds in facts.items() if holds}


def _orientation(picture: Image.Image) -> int | None:
    """How EXIF says to turn it, 2 to 8; None if not at all, or in EXIF that no viewer can read."""
    from PIL import ExifTags

    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error):
        return None
    return orientation if orientation in range(2, 9) else None


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    from PIL import ExifTags, ImageOps

    image.info = {}  # the rest of its EXIF, which Pillow might fail to write anew
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def fitted(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """The centre of a picture whose shorter side is scaled to `size`: uint8 (size, size, 3).

    Bilinear, with antialiasing where it shrinks, as torchvision's Resize and CenterCrop do it, but
    in one step (Pillow's `ImageOps.fit`). A picture of that size is left as it is.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=Image.Resampling.BILINEAR)
    return np.asarray(picture)


def other_size(where: str, width: int, height: int, size: int, do: str = "") -> UserError:
    """What to raise of a picture of another size than `size` × `size`; `do` is what to do."""
    return UserError(
        f"the picture is {width}×{height} pixels, expected {size}×{size}", where=where, do=do
    )
