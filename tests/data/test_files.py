import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from imasks.data.files import (
    UnreadableFile,
    atomic,
    is_lossy,
    ordered,
    read_image,
    read_mask,
    write_png,
    write_text,
)

RNG = np.random.default_rng(0)
SIZE = (11, 7)
GREY8 = RNG.integers(0, 256, SIZE, np.uint8)
RGB8 = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
GREY16 = RNG.integers(0, 65536, SIZE, np.uint16)
RGB16 = RNG.integers(0, 65536, (*SIZE, 3), np.uint16)
ALPHA8 = RNG.integers(0, 256, (*SIZE, 1), np.uint8)
ALPHA16 = RNG.integers(0, 65536, (*SIZE, 1), np.uint16)


def _join(pixels, alpha):
    return np.concatenate([pixels.reshape(*SIZE, -1), alpha], axis=2)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("pixels", [GREY8, RGB8], ids=["grey", "rgb"])
def test_lossless_8_bit(tmp_path, suffix, pixels):
    path = tmp_path / f"Bild mit Umlaut ä.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    if suffix == "webp":  # the format has no grey
        pixels = np.broadcast_to(pixels.reshape(*SIZE, -1), (*SIZE, 3))
    np.testing.assert_array_equal(image, pixels.reshape(*SIZE, -1))
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_dropped(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    opaque = np.full_like(ALPHA8, 200)  # WebP may forget colours where nothing shows
    Image.fromarray(_join(RGB8, opaque)).save(
        path, **({"lossless": True} if suffix == "webp" else {})
    )
    np.testing.assert_array_equal(read_image(path), RGB8)


def test_grey_with_alpha(tmp_path):
    Image.fromarray(_join(GREY8, ALPHA8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], GREY8)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), GREY8)


@pytest.mark.parametrize("pixels", [GREY16, RGB16], ids=["grey", "rgb"])
@pytest.mark.parametrize("alpha", [False, True])
def test_png_of_16_bits_keeps_its_depth(tmp_path, pixels, alpha):
    stored = _join(pixels, ALPHA16) if alpha else pixels
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(stored))
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, pixels.reshape(*SIZE, -1))


@pytest.mark.parametrize("pixels", [GREY8, RGB8, GREY16, RGB16], ids=["g8", "c8", "g16", "c16"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_tiff(tmp_path, pixels, compression, options):
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, pixels, compression=compression, photometric=kind, **options)
    image = read_image(path)
    assert image.dtype == pixels.dtype
    np.testing.assert_array_equal(image, pixels.reshape(*SIZE, -1))


def test_tiff_planes_alpha_palette_and_inverted(tmp_path):
    path = tmp_path / "a.tif"
    planes = np.moveaxis(RGB8, 2, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), RGB8)
    tifffile.imwrite(path, _join(RGB16, ALPHA16), photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path), RGB16)
    tifffile.imwrite(path, GREY16, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path)[..., 0], 65535 - GREY16)
    colors = RNG.integers(0, 256, (256, 3), np.uint8)
    colormap = colors.T.astype(np.uint16) * 257
    tifffile.imwrite(path, GREY8, photometric="palette", colormap=colormap)
    np.testing.assert_array_equal(read_image(path), colors[GREY8])
    np.testing.assert_array_equal(read_mask(path), GREY8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.float16])
def test_other_tiff_numbers_become_float32(tmp_path, dtype):
    pixels = (GREY8.astype(dtype) - 100) * 3
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], pixels.astype(np.float32))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_bit(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    bits = GREY8 > 127
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_image(path)[..., 0], bits * 255)
    np.testing.assert_array_equal(read_mask(path), bits)
    assert read_mask(path).dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_palette(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    ids = GREY8 % 5
    colors = [(9, 0, 0), (0, 255, 0), (1, 2, 3), (4, 5, 6), (255, 0, 255)]
    write_png(tmp_path / "p.png", ids, palette=colors)
    Image.open(tmp_path / "p.png").save(path)
    np.testing.assert_array_equal(read_mask(path), ids)
    np.testing.assert_array_equal(read_image(path), np.array(colors, np.uint8)[ids])


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(GREY8 % 2)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\0\xff")
    assert read_image(tmp_path / "a.png").reshape(-1, 3).max(0).tolist() == [10, 20, 30]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), GREY8 % 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB8).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), upright)
    tifffile.imwrite(
        tmp_path / "a.tif", RGB8, photometric="rgb", extratags=[(0x0112, 3, 1, orientation, True)]
    )
    assert read_image(tmp_path / "a.tif").shape == upright.shape


def test_jpeg_and_its_colour_spaces(tmp_path):
    smooth = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    for mode, channels in (("L", 1), ("RGB", 3), ("CMYK", 3)):
        Image.fromarray(smooth).convert(mode).save(tmp_path / "a.jpg", quality=100)
        image = read_image(tmp_path / "a.jpg")
        assert image.shape == (8, 8, channels)
        assert np.abs(image.astype(int) - smooth[..., None]).max() <= 6


def test_the_content_decides_not_the_suffix(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", GREY16)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], GREY16)


def test_masks_of_16_bits_of_equal_channels_and_of_whole_floats(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(GREY16))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), GREY16)
    Image.fromarray(np.repeat(GREY8[..., None], 3, 2)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), GREY8)
    tifffile.imwrite(tmp_path / "c.tif", GREY8.astype(np.float32))
    np.testing.assert_array_equal(read_mask(tmp_path / "c.tif"), GREY8)
    for bad in (GREY8 + 0.5, GREY8 - 1000.0, GREY8 * np.nan):
        tifffile.imwrite(tmp_path / "c.tif", bad.astype(np.float32))
        with pytest.raises(UnreadableFile, match="not integers"):
            read_mask(tmp_path / "c.tif")


def test_colour_coded_mask(tmp_path):
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    with pytest.raises(UnreadableFile, match=r"colour-coded.*class ids"):
        read_mask(tmp_path / "a.png")


def _damaged_files(tmp_path):
    big = RNG.integers(0, 65536, (60, 50, 3), np.uint16)
    contents = {
        "c16.png": imagecodecs.png_encode(big),
        "c8.png": imagecodecs.png_encode(big.astype(np.uint8)),
        "c8.jpg": imagecodecs.jpeg_encode(big.astype(np.uint8)),
        "c8.webp": imagecodecs.webp_encode(big.astype(np.uint8)),
    }
    for name, options in (("raw.tif", {}), ("lzw.tif", {"compression": "lzw"})):
        tifffile.imwrite(tmp_path / name, big, photometric="rgb", **options)
        contents[name] = (tmp_path / name).read_bytes()
    Image.fromarray(big.astype(np.uint8)).save(tmp_path / "c8.bmp")
    contents["c8.bmp"] = (tmp_path / "c8.bmp").read_bytes()
    return contents


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.9])
def test_damaged_files_name_their_path(tmp_path, share):
    for name, content in _damaged_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content[: int(share * len(content))])
        for read in (read_image, read_mask):
            with pytest.raises(UnreadableFile) as caught:
                read(path)
            assert str(path) in str(caught.value)
            assert caught.value.path == path


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    for name in ("text.png", "folder.png", "absent.png"):
        with pytest.raises(UnreadableFile, match=name):
            read_image(tmp_path / name)


def test_several_pages(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 9, 8), np.uint8), photometric="minisblack")
    frames = [Image.fromarray(RGB8), Image.fromarray(255 - RGB8)]
    for suffix in ("png", "webp"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    for suffix in ("tif", "png", "webp"):
        with pytest.raises(UnreadableFile, match="several images where one"):
            read_image(tmp_path / f"a.{suffix}")


def test_unusual_channels_and_values(tmp_path):
    path = tmp_path / "a.tif"
    many = np.zeros((9, 8, 65), np.uint8)
    tifffile.imwrite(path, many, photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnreadableFile, match="shape"):
        read_image(path)
    tifffile.imwrite(path, np.zeros((9, 8, 4), np.uint8), photometric="separated")
    with pytest.raises(UnreadableFile, match="neither grey nor RGB"):
        read_image(path)
    tifffile.imwrite(path, np.full((9, 8), np.nan, np.float32))
    with pytest.raises(UnreadableFile, match="not finite"):
        read_image(path)


def test_a_wrong_checksum_inside_a_png(tmp_path):
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"wrong"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(UnreadableFile):
        read_image(tmp_path / "a.png")


def test_lossy_formats_are_known(tmp_path):
    image = Image.fromarray(RGB8)
    for name, options in {
        "a.jpg": {},
        "b.webp": {},
        "c.webp": {"lossless": True},
        "d.webp": {"lossless": True, "exif": Image.Exif().tobytes()},
        "e.png": {},
    }.items():
        image.save(tmp_path / name, **options)
        assert is_lossy(tmp_path / name) == (name in ("a.jpg", "b.webp"))


@pytest.mark.parametrize("array", [GREY8, GREY8[..., None], RGB8, GREY16])
def test_written_png_reads_back(tmp_path, array):
    write_png(tmp_path / "a.png", array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), array.reshape(*SIZE, -1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_png_refuses_what_it_cannot_hold(tmp_path):
    for array in (RGB16, GREY8.astype(np.float32), GREY8[0]):
        with pytest.raises(ValueError, match="no PNG"):
            write_png(tmp_path / "a.png", array)
    with pytest.raises(ValueError, match="palette"):
        write_png(tmp_path / "a.png", RGB8, palette=[(0, 0, 0)])
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old ü\n")

    def fail():
        with atomic(path) as temp:
            temp.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == "old ü\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_ordered_keeps_order_and_raises():
    assert list(ordered(lambda n: n * n, range(100))) == [n * n for n in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(ordered(lambda n: 1 / n, [1, 0, 2]))


def test_no_more_are_worked_on_than_may_be():
    begun, given = [], []
    for number in ordered(lambda n: begun.append(n) or n, range(20), at_once=3):
        given.append(number)
        assert len(begun) - len(given) < 3
    assert given == list(range(20))
