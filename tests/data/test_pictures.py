"""What reaches a network is the picture that a viewer shows; what cannot be shown is refused."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from layouts import pixels, refused
from picture_files import (
    RAMP,
    oriented,
    other_profile,
    packed_12_bits,
    pgm_16,
    png,
    saved,
    see_through,
    several_frames,
    srgb_profile,
    tiff,
)
from PIL import Image

from rfray.data.pictures import Shown, no_warnings, shown
from rfray.data.treatment import Treatment, Treatments, treatment_findings

RED_GREEN_BLUE = pixels(20, 30, 3)


def read(content: bytes, background: str | None = None) -> tuple[np.ndarray, Shown]:
    picture = shown(content, "a.png", background)
    assert picture.image.mode == "RGB"
    return np.asarray(picture.image), picture


def grey(values) -> np.ndarray:
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=2)


PLAIN = {
    "PNG": saved(RED_GREEN_BLUE, "PNG"),
    "BMP": saved(RED_GREEN_BLUE, "BMP"),
    "PPM": saved(RED_GREEN_BLUE, "PPM"),
    "TIFF": saved(RED_GREEN_BLUE, "TIFF"),
    "TIFF, compressed": saved(RED_GREEN_BLUE, "TIFF", compression="tiff_lzw"),
    "WebP": saved(RED_GREEN_BLUE, "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_picture_is_read_as_it_is(kind):
    array, picture = read(PLAIN[kind])
    assert (array == RED_GREEN_BLUE).all()
    assert (picture.treatments, picture.manner) == (frozenset(), "")


def test_grey_becomes_three_equal_channels_and_a_palette_its_colours():
    assert (read(saved(RED_GREEN_BLUE[..., 0], "PNG"))[0] == grey(RED_GREEN_BLUE[..., 0])).all()
    palette = Image.fromarray(RED_GREEN_BLUE).quantize(50)
    array, picture = read(saved(palette, "PNG"))
    assert (array == np.asarray(palette.convert("RGB"))).all()
    assert not picture.treatments
    black_and_white = Image.fromarray(RED_GREEN_BLUE[..., 0] > 100)
    assert (read(saved(black_and_white, "PNG"))[0] == grey(black_and_white) * 255).all()


DEEP_GREY = {
    "PNG": saved(RAMP, "PNG"),
    "TIFF, little-endian": tiff(RAMP),
    "TIFF, big-endian": tiff(RAMP, order=">"),
    "TIFF, compressed": saved(RAMP, "TIFF", compression="tiff_deflate"),
    "pixmap": pgm_16(RAMP),
}


@pytest.mark.parametrize("kind", DEEP_GREY)
def test_grey_of_16_bits_is_scaled_and_rounded(kind):
    array, picture = read(DEEP_GREY[kind])
    assert (array == grey(np.rint(RAMP / 257))).all()
    assert array.mean() == 127.5
    assert picture.treatments == {Treatment.SCALED}
    assert picture.manner  # they were clipped before: other pixels, another fingerprint


def test_a_tiff_that_counts_from_white_to_black_is_shown_so():
    array, _ = read(tiff(RAMP, photometric=0))
    assert (array == grey(np.rint((65535 - RAMP.astype(int)) / 257))).all()


def test_white_is_the_highest_value_that_the_file_can_hold():
    twelve = (RAMP[:64] % 4096).reshape(128, 128)
    array, picture = read(tiff(twelve, bits=12))
    assert (array == grey(np.rint(twelve / 4095 * 255))).all()
    assert picture.treatments == {Treatment.SCALED}
    array, picture = read(pgm_16(twelve, white=4095))
    assert (array == grey(np.rint(twelve / 4095 * 255))).all()
    assert picture.treatments == {Treatment.SCALED}
    assert packed_12_bits(np.array([[0x123, 0x456]])) == b"\x12\x34\x56"


DEEP_COLOURS = np.random.default_rng(5).integers(0, 65536, (20, 30, 3), dtype=np.uint16)


def test_colours_of_16_bits_are_read_by_their_high_byte_and_it_is_said():
    array, picture = read(png(DEEP_COLOURS.astype(">u2").tobytes(), 30, 20, 16, 2))
    assert (array == DEEP_COLOURS >> 8).all()
    assert picture.treatments == {Treatment.SCALED}
    assert picture.manner == ""  # as they always were
    pixmap = b"P6 30 20 65535\n" + DEEP_COLOURS.astype(">u2").tobytes()
    array, picture = read(pixmap)
    assert (array == np.rint(DEEP_COLOURS / 257)).all()
    assert picture.treatments == {Treatment.SCALED}


UNKNOWN_RANGE = {
    "floating-point numbers": tiff(
        np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10), sample_format=3
    ),
    "integers of 32 bits": tiff(np.arange(100, dtype=np.uint32).reshape(10, 10)),
    "signed integers of 32 bits": tiff(
        np.arange(100, dtype=np.int32).reshape(10, 10), sample_format=2
    ),
    "signed integers of 16 bits": tiff(
        np.arange(100, dtype=np.int16).reshape(10, 10), sample_format=2
    ),
    "signed integers of 8 bits": tiff(
        np.arange(100, dtype=np.int8).reshape(10, 10), sample_format=2
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN_RANGE)
def test_values_of_an_unknown_range_are_refused_with_how_to_convert_them(kind):
    with refused(rf"^a\.png: its pixels are {kind}, and it is not known .*\(.*\.astype\('uint8'\)"):
        shown(UNKNOWN_RANGE[kind], "a.png")


def test_the_way_to_convert_that_is_told_works(tmp_path):
    a = np.linspace(0, 1, 100).reshape(10, 10)
    low, high = 0, 1
    Image.fromarray((255 * (a - low) / (high - low)).clip(0, 255).round().astype("uint8")).save(
        tmp_path / "new.png"
    )
    array, _ = read((tmp_path / "new.png").read_bytes())
    assert (array == grey(np.rint(a * 255))).all()


# By the EXIF standard, Cipa DC-008: which side of the scene the stored rows and columns start from.
VIEWED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.swapaxes(np.rot90(stored, 2), 0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
LOSSLESS = {
    "PNG": ("PNG", {}),
    "TIFF": ("TIFF", {}),
    "TIFF, compressed": ("TIFF", {"compression": "tiff_lzw"}),
    "WebP": ("WEBP", {"lossless": True}),
}


@pytest.mark.parametrize("orientation", VIEWED)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_picture_is_turned_as_its_exif_says(kind, orientation):
    ending, options = LOSSLESS[kind]
    array, picture = read(oriented(RED_GREEN_BLUE, orientation, ending, **options))
    assert np.array_equal(array, VIEWED[orientation](RED_GREEN_BLUE))
    assert (Treatment.TURNED in picture.treatments) == (orientation > 1)


@pytest.mark.parametrize("orientation", VIEWED)
def test_a_photograph_is_turned_as_its_exif_says(orientation):
    stored = np.asarray(Image.open(io.BytesIO(saved(RED_GREEN_BLUE, "JPEG"))))
    array, picture = read(oriented(RED_GREEN_BLUE, orientation, "JPEG"))
    assert np.array_equal(array, VIEWED[orientation](stored))
    assert bool(picture.manner) == (orientation > 1)


@pytest.mark.parametrize("ending", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_turned_too(ending):
    array, picture = read(oriented(RAMP[:100], 6, ending))
    assert np.array_equal(array, np.rot90(grey(np.rint(RAMP[:100] / 257)), -1))
    assert picture.treatments == {Treatment.SCALED, Treatment.TURNED}


def test_the_other_order_of_bytes_is_turned_too():
    deep = Image.frombytes("I;16B", (256, 100), RAMP[:100].astype(">u2").tobytes())
    array, _ = read(oriented(deep, 8, "TIFF"))
    assert np.array_equal(array, np.rot90(grey(np.rint(RAMP[:100] / 257)), 1))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"", b"Exif"]
)
def test_exif_that_nobody_can_read_turns_nothing(exif):
    with warnings.catch_warnings(), no_warnings():
        array, picture = read(saved(RED_GREEN_BLUE, "JPEG", exif=exif))
    assert array.shape == RED_GREEN_BLUE.shape
    assert not picture.treatments


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    array, picture = read(oriented(RED_GREEN_BLUE, orientation, "PNG"))
    assert np.array_equal(array, RED_GREEN_BLUE)
    assert not picture.treatments


TOP_HALF = np.arange(20)[:, None] < 10
"""Where `see_through` is transparent."""


def palette_with_transparent_entries() -> bytes:
    """Two colours, of which the first is transparent, where `see_through` is."""
    picture = Image.fromarray(np.where(np.repeat(TOP_HALF, 20, axis=1), 0, 1).astype(np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    return saved(picture, "PNG", transparency=bytes([0, 255]))


def colour_key() -> bytes:
    array = np.where(TOP_HALF[..., None], (10, 20, 30), (40, 50, 60)).astype(np.uint8)
    array = np.broadcast_to(array, (20, 20, 3)).copy()
    return saved(array, "PNG", transparency=(10, 20, 30))


def grey_key(bits: int) -> bytes:
    """Half black, half white, and white is transparent."""
    white = 2**bits - 1
    values = np.where(np.repeat(TOP_HALF, 32, axis=1), white, 0)
    if bits == 16:
        samples = values.astype(">u2").tobytes()
    else:
        bit_rows = ((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(20, -1)
        samples = np.packbits(bit_rows.astype(bool), axis=1).tobytes()
    return png(samples, 32, 20, bits, 0, tRNS=white.to_bytes(2, "big"))


def deep_colour_key() -> bytes:
    array = np.where(TOP_HALF[..., None], (1000, 2000, 3000), (40000, 50, 60))
    array = np.broadcast_to(array, (20, 20, 3)).astype(">u2")
    key = np.array([1000, 2000, 3000], dtype=">u2").tobytes()
    return png(array.tobytes(), 20, 20, 16, 2, tRNS=key)


TRANSPARENT = {
    "an alpha channel": saved(see_through(), "PNG"),
    "an alpha channel in a TIFF": saved(see_through(), "TIFF"),
    "an alpha channel in a WebP": saved(see_through(), "WEBP", lossless=True, exact=True),
    "grey with an alpha channel": saved(see_through().convert("LA"), "PNG"),
    "palette with a transparent entry": palette_with_transparent_entries(),
    "a transparent colour": colour_key(),
    "a transparent colour of 16 bits": deep_colour_key(),
    **{f"transparent white of {bits} bits": grey_key(bits) for bits in (1, 2, 4, 8, 16)},
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_a_picture_with_transparent_parts_is_refused(kind):
    with refused(
        r"^a\.png: it has transparent parts.*\(give one, such as 'data: \{background: whi"
    ):
        shown(TRANSPARENT[kind], "a.png")


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_a_picture_with_transparent_parts_is_laid_on_the_colour_that_is_named(kind):
    array, picture = read(TRANSPARENT[kind], "#204060")
    assert (array[:10] == (0x20, 0x40, 0x60)).all()
    assert not (array[10:] == (0x20, 0x40, 0x60)).all(-1).any()
    assert Treatment.LAID in picture.treatments
    assert "laid on #204060" in picture.manner


def test_what_is_half_transparent_is_mixed():
    rgba = np.full((20, 20, 4), (200, 100, 0, 51), dtype=np.uint8)  # a fifth
    array, _ = read(saved(rgba, "PNG"), "white")
    assert (array == (244, 224, 204)).all()


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "tRNS", "16 bits"])
def test_alpha_that_is_opaque_everywhere_is_dropped_without_ado(kind):
    colours = Image.fromarray(RED_GREEN_BLUE)
    expected = RED_GREEN_BLUE
    if kind == "RGBA":
        content = saved(colours.convert("RGBA"), "PNG")
    elif kind == "LA":
        content = saved(colours.convert("LA"), "PNG")
        expected = grey(colours.convert("L"))
    elif kind == "P":
        palette = colours.quantize(16)
        content = saved(palette, "PNG", transparency=bytes([255] * 16))
        expected = np.asarray(palette.convert("RGB"))
    elif kind == "tRNS":
        content = saved(RED_GREEN_BLUE // 2, "PNG", transparency=(255, 255, 255))
        expected = RED_GREEN_BLUE // 2
    else:
        opaque = np.full((20, 30, 1), 65535)
        samples = np.concatenate([DEEP_COLOURS, opaque], axis=2).astype(">u2").tobytes()
        content, expected = png(samples, 30, 20, 16, 6), DEEP_COLOURS >> 8
    array, picture = read(content)
    assert (array == expected).all()
    assert picture.treatments <= {Treatment.SCALED}
    assert picture.manner == ""


@pytest.mark.parametrize("ending", ["PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read(ending):
    array, picture = read(several_frames(ending))
    assert (array == pixels(20, 20, 3, seed=1)).all()
    assert picture.treatments == {Treatment.FIRST_FRAME}
    assert picture.manner == ""


@pytest.mark.parametrize("ending", ["GIF", "MPO"])
def test_frames_of_other_formats_in_a_file_of_any_name_count_too(ending):
    assert read(several_frames(ending))[1].treatments == {Treatment.FIRST_FRAME}


def test_cmyk_is_converted_without_a_profile_and_it_is_said():
    cmyk = np.zeros((8, 8, 4), dtype=np.uint8)
    cmyk[..., 0] = 255  # cyan
    array, picture = read(saved(Image.fromarray(cmyk, "CMYK"), "TIFF"))
    assert (array == (0, 255, 255)).all()
    assert picture.treatments == {Treatment.CMYK}


@pytest.mark.parametrize("ending", ["PNG", "TIFF", "JPEG"])
def test_a_colour_profile_is_told_of_where_it_shows_other_colours(ending):
    plain, _ = read(saved(RED_GREEN_BLUE, ending))
    array, picture = read(saved(RED_GREEN_BLUE, ending, icc_profile=other_profile()))
    assert (array == plain).all()
    assert picture.treatments == {Treatment.PROFILE}
    for profile in (srgb_profile(), b"rubbish"):
        assert not read(saved(RED_GREEN_BLUE, ending, icc_profile=profile))[1].treatments


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(ending, options, keep):
    content = saved(pixels(64, 64, 3), ending, **options)
    with refused(r"^a\.png: truncated, or not a picture \(replace it\)"):
        shown(content[: int(len(content) * keep)], "a.png")


def test_a_picture_of_more_pixels_than_pillow_reads_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    with refused(r"^a\.png: the picture has more than 0 megapixels \(scale it down\)"):
        shown(PLAIN["PNG"], "a.png")


def test_nothing_that_pillow_warns_of_reaches_the_screen(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # of 600
    with pytest.warns(Image.DecompressionBombWarning):
        shown(PLAIN["PNG"], "a.png")
    with warnings.catch_warnings(record=True) as warned, no_warnings():
        assert (read(PLAIN["PNG"])[0] == RED_GREEN_BLUE).all()
    assert warned == []


def test_what_was_done_is_said_with_the_number():
    had = Treatments({Treatment.TURNED: 1, Treatment.LAID: 1234})
    assert treatment_findings(had, "#ffffff") == (
        "1 picture is turned as its EXIF orientation says",
        "1,234 pictures with transparent parts are put on #ffffff",
    )
    assert treatment_findings(Treatments(), None) == ()
