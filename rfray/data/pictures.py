"""Picture files as arrays."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


def opened(content: bytes, name: str) -> Image.Image:
    """A picture file in red, green and blue; grey becomes three equal channels.

    Args:
        content: The file.
        name: What to call it in a message.

    Raises:
        UserError: It is no picture, or a truncated one.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError("truncated, or no picture", where=name, do="replace it") from error


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


def square(picture: Image.Image, name: str, size: int, *, do: str = "") -> NDArray[np.uint8]:
    """A picture of `size` × `size` pixels as uint8 (size, size, 3).

    Args:
        picture: In red, green and blue.
        name: What to call it in a message.
        size: The height and width that it must have.
        do: What to do about another one.

    Raises:
        UserError: The picture has another size.
    """
    import numpy as np

    if picture.size != (size, size):
        width, height = picture.size
        raise UserError(
            f"the picture is {width}×{height} pixels, expected {size}×{size}", where=name, do=do
        )
    return np.asarray(picture)
