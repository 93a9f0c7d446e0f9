"""The background colour of pictures with transparent parts, if a study names one."""

import os

_VARIABLE = "RFRAY_BACKGROUND"


def colour_problem(name: str) -> str | None:
    """What is wrong with the name of a background colour, and what to do; None if nothing is."""
    from PIL import ImageColor

    try:
        bands = ImageColor.getrgb(name)
    except ValueError:
        return f"'{name}' is not a colour (write one such as white or '#808080')"
    if len(bands) > 3:
        return f"'{name}' is itself transparent (write a colour such as white or '#808080')"
    return None


def use_background(name: str | None) -> None:
    """Set the background colour for this process and those that it starts.

    Args:
        name: A colour as `PIL.ImageColor` reads it; None refuses pictures with transparent parts.
    """
    if name is None:
        os.environ.pop(_VARIABLE, None)
        return
    from PIL import ImageColor

    os.environ[_VARIABLE] = "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(name))


def background_in_use() -> str | None:
    """The background colour as `#rrggbb`; None if there is none."""
    return os.environ.get(_VARIABLE)
