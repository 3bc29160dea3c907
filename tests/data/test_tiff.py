import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.data.arrays import load_arrays, prepare
from imasks.data.check import check_folder
from imasks.data.checksum import checksum
from imasks.data.files import UnreadableFile, read_image, read_mask, write_png
from imasks.data.folder import cut_off, open_dataset, scan
from imasks.data.prepare import plan_preparation
from imasks.data.scaffold import guess_task
from imasks.data.source import open_image
from imasks.data.tiff import count_images
from imasks.errors import UserError

RNG = np.random.default_rng(0)


def noise(shape, dtype=np.uint8):
    return RNG.integers(0, 200, shape).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    pages=st.integers(1, 4),
    channels=st.integers(1, 6),
    shape=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    layout=st.sampled_from(["contig", "separate", "ome", "imagej"]),
    compression=st.sampled_from([None, "deflate", "lzw"]),
    tile=st.sampled_from([None, (16, 32)]),
    rows=st.sampled_from([None, 1, 7]),
    order=st.sampled_from(["<", ">"]),
    ask=st.tuples(st.integers(0, 69), st.integers(1, 70)),
)
def test_any_dtype_channels_and_pages_come_back(
    dtype, pages, channels, shape, layout, compression, tile, rows, order, ask
):
    pixels = noise((pages, *shape, channels), dtype)
    options = {"compression": compression, "photometric": "minisblack"}
    if layout == "imagej":
        options |= {"imagej": True, "metadata": {"axes": "ZCYX"}}
        stored = np.moveaxis(pixels, 3, 1)
    elif layout == "ome":
        options |= {"ome": True, "metadata": {"axes": "TCYX"}, "tile": tile, "byteorder": order}
        stored = np.moveaxis(pixels, 3, 1)
    else:
        options |= {"tile": tile, "byteorder": order}
        stored = pixels if channels > 1 else pixels[..., 0]
        if channels > 1:
            options["planarconfig"] = layout
            stored = np.moveaxis(pixels, 3, 1) if layout == "separate" else pixels
    if tile is None and layout != "imagej":
        options["rowsperstrip"] = rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ä b.tif"
        tifffile.imwrite(path, stored, **options)
        assert count_images(path, "images") == pages
        for page in range(pages):
            image = read_image(path, page=page)
            assert image.dtype == dtype
            np.testing.assert_array_equal(image, pixels[page])
            with open_image(path, page=page) as source:
                assert source.shape == image.shape
                assert source.dtype == image.dtype
                height = shape[0]
                start = min(ask[0], height - 1)
                stop = min(start + ask[1], height)
                for first, last in ((start, stop), ((start + stop) // 2, height)):
                    if first < last:
                        np.testing.assert_array_equal(source.rows(first, last), image[first:last])
        together = read_image(path, pages="channels")
        assert together.shape == (*shape, pages * channels)
        if pages == 1:
            np.testing.assert_array_equal(read_image(path), pixels[0])


def test_pages_are_images_or_channels(tmp_path):
    path, pixels = tmp_path / "a.tif", noise((3, 9, 8), np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None)
    assert count_images(path, "images") == 3
    assert count_images(path, "channels") == 1
    np.testing.assert_array_equal(read_image(path, pages="channels"), np.moveaxis(pixels, 0, 2))
    np.testing.assert_array_equal(read_mask(path, page=2), pixels[2])
    for page, reason in ((None, "several images where one"), (3, "holds no page 4")):
        with pytest.raises(UnreadableFile, match=reason):
            read_image(path, page=page)


def test_pages_of_several_sizes(tmp_path):
    path, sizes = tmp_path / "a.tif", [(9, 8), (5, 8), (9, 8)]
    with tifffile.TiffWriter(path) as file:
        for size in sizes:
            file.write(noise(size), photometric="minisblack")
    assert [read_image(path, page=page).shape for page in range(3)] == [(*s, 1) for s in sizes]
    with pytest.raises(UnreadableFile, match="several series"):
        read_image(path, pages="channels")


def test_a_fourth_sample_is_a_channel_unless_it_is_transparency(tmp_path):
    path, pixels = tmp_path / "a.tif", noise((9, 8, 4))
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(path), pixels)
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read_image(path), pixels[..., :3])


@pytest.mark.parametrize("kind", ["ycbcr", "rgb", "minisblack"])
def test_rows_of_tiled_jpeg_as_slide_scanners_write_it(tmp_path, kind):
    y, x = np.mgrid[:90, :70].astype(np.uint8)
    smooth = np.stack([y * 2, x * 3, y + x], axis=-1)
    pixels = smooth[..., 0] if kind == "minisblack" else smooth
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric=kind, tile=(32, 32), compression="jpeg")
    whole = read_image(path)
    if kind != "ycbcr":  # whose values are written as they are given, and read as RGB
        assert np.abs(whole.astype(int) - pixels.reshape(whole.shape)).mean() < 4
    with open_image(path) as source:
        assert source.shape == whole.shape
        np.testing.assert_array_equal(source.rows(20, 70), whole[20:70])


def test_infinite_values_are_found_in_the_rows_that_hold_them(tmp_path):
    pixels = np.zeros((20, 8), np.float32)
    pixels[15] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(UnreadableFile, match="not finite"):
        read_top_and_bottom(tmp_path / "a.tif")


def read_top_and_bottom(path):
    with open_image(path) as source:
        assert (source.rows(0, 15) == 0).all()
        source.rows(10, 20)


def test_errors_of_others_are_not_the_files(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 8)))
    with pytest.raises(ZeroDivisionError), open_image(tmp_path / "a.tif"):
        print(1 / 0)


def stacks(root: Path, *, pages: str | None = None, counts=(4, 3), masks=(4, 3)) -> Path:
    """Labeled stacks a and b, unlabeled stack c of five pages."""
    line = "" if pages is None else f'\npages = "{pages}"'
    for place in ("labeled/images", "labeled/masks", "unlabeled/images"):
        (root / place).mkdir(parents=True)
    (root / "dataset.toml").write_text(f'task = "binary"\nclasses = ["x"]{line}')
    for name, count, masked in zip("ab", counts, masks, strict=True):
        grey = {"photometric": "minisblack"}
        tifffile.imwrite(root / f"labeled/images/{name}.tif", noise((count, 32, 32)), **grey)
        mask = np.arange(masked, dtype=np.uint8)[:, None, None].repeat(32, 1).repeat(32, 2) % 2
        tifffile.imwrite(root / f"labeled/masks/{name}.tif", mask.squeeze(), **grey)
    tifffile.imwrite(root / "unlabeled/images/c.tif", noise((5, 32, 32)), photometric="minisblack")
    return root


def test_a_stack_is_as_many_pairs_as_it_has_pages(tmp_path):
    folder = stacks(tmp_path / "d")
    data = open_dataset(folder)
    assert len(data.splits["unlabeled"]) == 5
    # the pages of one stack never stand in two splits
    (there,) = {s.image.stem for s in data.splits["labeled"]}
    assert there == "b"
    assert {s.image.stem for s in data.splits["val"]} == {"a"}
    assert [s.name for s in data.splits["labeled"]] == [f"b_page{n}" for n in (1, 2, 3)]
    assert check_folder(folder).splits["labeled"].images == 7
    prep = plan_preparation(data, size=(32, 32))
    assert prepare(data, prep, tmp_path / "out")["skipped"] == []
    arrays = load_arrays(tmp_path / "out", "labeled")
    for page in range(3):
        image = read_image(folder / "labeled/images/b.tif", page=page)
        np.testing.assert_array_equal(arrays.images[page], image)
        assert (arrays.labels[page] == page % 2).all()
    assert guess_task(folder / "labeled/masks").task == "binary"
    assert len(checksum(data, tmp_path / "cache.json")) == 32


def test_of_a_single_stack_the_last_pages_validate(tmp_path):
    samples = scan(folder := stacks(tmp_path / "d"), open_dataset(folder).card)[0]["unlabeled"]
    rest, cut = cut_off(samples, 0.4)
    assert [s.page for s in rest] == [0, 1, 2]
    assert [s.page for s in cut] == [3, 4]


def test_pages_as_channels_have_one_mask(tmp_path):
    folder = stacks(tmp_path / "d", pages="channels", counts=(5, 5), masks=(1, 1))
    data = open_dataset(folder)
    prep = plan_preparation(data, size=(32, 32))
    assert (prep.channels, prep.pages) == (5, "channels")
    assert prep.from_json(prep.to_json()) == prep
    assert prepare(data, prep, tmp_path / "out")["counts"]["unlabeled"] == 1
    assert load_arrays(tmp_path / "out", "labeled").images.shape == (1, 32, 32, 5)
    assert check_folder(folder).splits["labeled"].kinds == {"uint8 5 channels": 2}


def test_stacks_with_other_masks_are_refused(tmp_path):
    folder = stacks(tmp_path / "d", masks=(4, 2))
    with pytest.raises(UserError, match=r"stack of 3 pages has masks of 2.*b\.tif.*channels"):
        open_dataset(folder)
    assert not check_folder(folder).ok


def test_the_ending_of_ome_tiff_is_one(tmp_path):
    folder = stacks(tmp_path / "d", counts=(1, 1), masks=(1, 1))
    for name in "ab":
        path = folder / f"labeled/images/{name}.tif"
        path.rename(path.with_suffix(".OME.tif"))
    assert sorted(s.name for s in scan(folder, open_dataset(folder).card)[0]["labeled"]) == [
        "a",
        "b",
    ]


def test_a_page_and_an_image_of_one_name(tmp_path):
    folder = stacks(tmp_path / "d")
    write_png(folder / "unlabeled/images/c_page2.png", noise((32, 32)))
    with pytest.raises(UserError, match=r"both called so.*c_page2"):
        open_dataset(folder)


def test_labeled_images_of_other_channels(tmp_path):
    folder = stacks(tmp_path / "d", pages="channels", counts=(5, 4), masks=(1, 1))
    assert any("other channels than most" in each.what for each in check_folder(folder).findings)
    tifffile.imwrite(folder / "labeled/images/c.tif", noise((2, 32, 32)), photometric="minisblack")
    write_png(folder / "labeled/masks/c.png", noise((32, 32)) % 2)
    with pytest.raises(UserError, match=r"differ in their channels.*same channels"):
        plan_preparation(open_dataset(folder))


def test_levels_of_every_channel(tmp_path):
    for split in ("labeled", "val"):
        for place in ("images", "masks"):
            (tmp_path / split / place).mkdir(parents=True)
        pixels = noise((40, 40, 4), np.float32) * [1, 10, 100, 1e-6]
        pixels = pixels.astype(np.float32)
        tifffile.imwrite(
            tmp_path / split / "images/a.tif",
            np.moveaxis(pixels, 2, 0),
            ome=True,
            metadata={"axes": "CYX"},
        )
        write_png(tmp_path / split / "masks/a.png", np.ones((40, 40), np.uint8))
    (tmp_path / "dataset.toml").write_text('task = "binary"\nclasses = ["x"]')
    data = open_dataset(tmp_path)
    prep = plan_preparation(data, size=(32, 32))
    assert [high for _, high in prep.levels] == pytest.approx([199, 1990, 19900, 199e-6], rel=0.03)
    prepare(data, prep, tmp_path / "out")
    images = load_arrays(tmp_path / "out", "labeled").images
    assert images.shape == (1, 32, 32, 4)
    assert (images.mean((0, 1, 2)) > 100).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_crops_are_drawn_by_the_recorded_seed(tmp_path, seed):
    folder = stacks(tmp_path / "d", counts=(1, 1), masks=(1, 1))
    for name in "ab":
        write_png(folder / f"labeled/masks/{name}.png", noise((90, 90)) % 2)
        (folder / f"labeled/masks/{name}.tif").unlink()
        tifffile.imwrite(folder / f"labeled/images/{name}.tif", noise((90, 90)))
    text = (folder / "dataset.toml").read_text()
    data = open_dataset(folder)
    with pytest.raises(UserError, match="cut into tiles"):
        plan_preparation(data, size=(32, 32), crops=2)
    (folder / "dataset.toml").write_text(f'{text}\nfit = "tile"')
    data = open_dataset(folder)
    every = plan_preparation(data, size=(32, 32))
    some = plan_preparation(data, size=(32, 32), crops=4, crop_seed=seed)
    assert some.to_json()["crop_seed"] == seed
    for prep, name in ((every, "every"), (some, "some"), (some, "again")):
        prepare(data, prep, tmp_path / name)
    every, some, again = (load_arrays(tmp_path / n, "labeled") for n in ("every", "some", "again"))
    np.testing.assert_array_equal(some.images, again.images)
    assert (len(every.images), len(some.images)) == (9, 4)
    places = [int((every.images == one).all((1, 2, 3)).argmax()) for one in some.images]
    assert places == sorted(set(places))
    assert (places == [0, 1, 2, 3]) is False
    assert len(load_arrays(tmp_path / "some", "val").images) == 9
