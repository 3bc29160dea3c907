"""The kernels compute what plain PyTorch computes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from imasks.kernels import calls, convolutions, kernels, ops, whole
from imasks.kernels.build import library
from imasks.models._blocks import Stage, project
from imasks.models.unet import UNetConfig, make_unet

pytestmark = pytest.mark.skipif(
    isinstance(library(), str), reason=f"kernels are not compiled here: {kernels()}"
)
LAST = torch.channels_last


@pytest.fixture(scope="module", params=["tiles", "vectors"], autouse=True)
def instructions(request):
    """Convolutions of bfloat16 by either instructions, where the processor has both."""
    if request.param == "tiles" and not calls._tiles():
        pytest.skip("this processor multiplies no tiles")
    cached = (calls.kernel, whole.plan_of)
    with pytest.MonkeyPatch.context() as here:
        here.setattr(calls, "_tiles", lambda: request.param == "tiles")
        for one in cached:
            one.cache_clear()
        yield
    for one in cached:
        one.cache_clear()


def plain(monkeypatch):
    monkeypatch.setattr(ops, "usable", lambda x: False)


def near(one, other, share):
    """Whether two tensors differ by a share of the second's size at most."""
    difference = (one.double() - other.double()).norm()
    return difference <= share * other.double().norm() + 1e-9


def backward(stage, x, weight, *, dtype=None):
    """Return what a stage computes: out, gradients by the input and by the variables, buffers."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = stage(x)
    (out.double() * weight).sum().backward()
    grads = {name: v.grad for name, v in stage.named_parameters()}
    return {"out": out.detach(), "x": x.grad} | grads | dict(stage.named_buffers())


def pair(shapes, *, seed=0):
    """Return two equal stages, the second in float64."""
    torch.manual_seed(seed)
    one = Stage(shapes, momentum=0.1)
    with torch.no_grad():
        one.norm.weight.uniform_(0.5, 1.5)
        one.norm.bias.uniform_(-0.5, 0.5)
        for conv in one.convs:
            conv.bias.uniform_(-0.5, 0.5)
    other = Stage(shapes, momentum=0.1)
    other.load_state_dict(one.state_dict())
    return one.to(memory_format=LAST), other.double()


SHAPES = [
    ([(3, 8, 1)], (2, 16, 16)),
    ([(1, 16, 1)], (2, 9, 7)),
    ([(5, 16, 3)], (2, 8, 9)),
    ([(8, 8, 3), (8, 8, 1)], (3, 7, 13)),
    ([(16, 32, 3), (32, 16, 1)], (2, 6, 10)),
    ([(24, 40, 3), (40, 72, 1)], (2, 5, 6)),
    ([(64, 128, 3), (128, 64, 1)], (4, 4, 4)),
    ([(8, 8, 1)], (1, 1, 70)),
    ([(5, 7, 3), (7, 11, 1)], (2, 9, 8)),
    ([(8, 16, 3)], (2, 40, 33)),
    ([(16, 8, 3), (8, 16, 3)], (3, 40, 5)),
    ([(32, 16, 3)], (5, 32, 16)),
    ([(16, 24, 3)], (2, 1, 1)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shapes", "size"), SHAPES)
def test_a_stage_in_float32_agrees_with_float64(shapes, size, threads):
    stage, reference = pair(shapes)
    n, h, w = size
    x = torch.randn(n, shapes[0][0], h, w)
    weight = torch.randn(n, shapes[-1][1], h, w).double()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert ops.usable(x)
        found = backward(stage, x, weight)
    finally:
        torch.set_num_threads(before)
    wanted = backward(reference, x.double(), weight)
    for name, value in wanted.items():
        assert near(found[name], value, 1e-4), name


@pytest.mark.parametrize(("shapes", "size"), SHAPES)
def test_a_stage_in_bfloat16_is_as_near_as_plain_pytorch(monkeypatch, shapes, size):
    n, h, w = size
    squares: dict[
        str, list[list[float]]
    ] = {}  # of what it is off by, of what plain PyTorch is, of both
    for seed in range(16):  # whether a ReLU decides otherwise is chance
        stage, reference = pair(shapes, seed=seed)
        x = torch.randn(n, shapes[0][0], h, w)
        weight = torch.randn(n, shapes[-1][1], h, w).double()
        found = backward(stage, x, weight, dtype=torch.bfloat16)
        assert found["out"].dtype == torch.bfloat16
        with monkeypatch.context() as here:
            plain(here)
            usual = backward(pair(shapes, seed=seed)[0], x, weight, dtype=torch.bfloat16)
        for name, value in backward(reference, x.double(), weight).items():
            three = (found[name].double() - value, usual[name].double() - value, value.double())
            squares.setdefault(name, []).append([float(one.square().sum()) for one in three])
    for name, each in squares.items():
        error, other, scale = (sum(column) ** 0.5 for column in zip(*each, strict=True))
        assert error <= 1.3 * other + 0.002 * scale + 1e-9, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(8, 16, 3), (16, 8, 1)], (4, 32, 32)),
        ([(24, 40, 3)], (2, 5, 6)),
        ([(16, 8, 1), (8, 24, 3), (24, 8, 1)], (3, 9, 33)),
    ],
)
def test_a_stage_in_one_call_is_the_same_to_the_bit(monkeypatch, shapes, size, dtype):
    if not calls.conv_ready(dtype):
        pytest.skip("convolutions are PyTorch's here")
    n, h, w = size
    x, weight = torch.randn(n, shapes[0][0], h, w), torch.randn(n, shapes[-1][1], h, w)
    found = backward(pair(shapes)[0], x, weight, dtype=dtype)
    with monkeypatch.context() as here:
        here.setattr(ops, "plan_of", lambda *_: None)
        wanted = backward(pair(shapes)[0], x, weight, dtype=dtype)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shapes",
    [
        [(3, 8, 1)],
        [(3, 8, 3), (8, 8, 3)],
        [(8, 16, 3), (16, 24, 1)],
        [(8, 8, 3), (8, 16, 1), (16, 8, 3)],
    ],
)
def test_images_may_go_through_a_stage_in_any_portions(monkeypatch, shapes, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(5, shapes[0][0], 20, 30), torch.randn(5, shapes[-1][1], 20, 30)

    def learn():
        stage, _ = pair(shapes)
        if shapes[0][0] % 8 == 0:
            return backward(stage, x, weight, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = stage(x.to(dtype))  # channels are filled up where no gradient is wanted
        (out * weight).sum().backward()
        return {name: v.grad for name, v in stage.named_parameters()} | {"out": out.detach()}

    wanted = learn()
    for portion in (1, 2 * 20 * 30 * shapes[-1][1] * dtype.itemsize):
        with monkeypatch.context() as here:
            here.setattr(whole, "_IN_CACHE", portion)
            whole.plan_of.cache_clear()
            found = learn()
        whole.plan_of.cache_clear()
        for name, value in wanted.items():
            # sums are rounded otherwise; bfloat16 shows that where a statistic moves a feature
            assert near(found[name], value, 1e-5 if dtype == torch.float32 else 2e-3), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shapes", [[(3, 8, 1)], [(1, 16, 3), (16, 8, 1)], [(4, 24, 3)]])
def test_a_stage_of_images_learns_the_same_as_in_float64(shapes, dtype):
    """Images need no gradient: their channels may be filled up."""
    stage, reference = pair(shapes)
    x = torch.randn(3, shapes[0][0], 9, 14).to(dtype)
    weight = torch.randn(3, shapes[-1][1], 9, 14).double()
    for one, shown in ((stage, x), (reference, x.double())):
        with torch.autocast("cpu", torch.bfloat16, enabled=shown.dtype == torch.bfloat16):
            out = one(shown)
        (out.double() * weight).sum().backward()
    assert stage.norm.num_batches_tracked == reference.norm.num_batches_tracked == 1
    share = 1e-4 if dtype == torch.float32 else 0.2  # a ReLU near 0 decides otherwise
    assert near(stage.norm.running_var, reference.norm.running_var, share / 10)
    for name, value in reference.named_parameters():
        assert near(stage.get_parameter(name).grad, value.grad, share), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(
    n=st.integers(1, 3),
    h=st.integers(1, 20),
    w=st.integers(1, 40),
    ci=st.integers(1, 5),
    co=st.integers(1, 10),
    side=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_convolutions_of_any_size_are_exact_up_to_rounding(dtype, n, h, w, ci, co, side, seed):
    if not calls.conv_ready(dtype):
        pytest.skip("this processor has neither AVX-512 nor AVX2")
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator)

    x = draw(n, 8 * ci, h, w).to(dtype).contiguous(memory_format=LAST)
    g = draw(n, 8 * co, h, w).to(dtype).contiguous(memory_format=LAST)
    weight, bias = draw(8 * co, 8 * ci, side, side), draw(8 * co)
    y = convolutions.convolve(x, weight, bias, relu=False)
    by_x, by_weight = convolutions.convolve_back(g, x, weight, by_x=True)
    assert convolutions.owned(x, weight) or max(weight.shape[:2]) > convolutions._MANY
    rounded = (weight.to(dtype) if calls.halves(dtype) else weight).double()
    twin = x.double().requires_grad_()
    rounded.requires_grad_()
    wanted = F.conv2d(twin, rounded, bias.double(), padding=side // 2)
    wanted.backward(g.double())
    rounding = 4e-3 if dtype == torch.bfloat16 else 1e-6  # bfloat16 keeps 8 bits
    assert near(y, wanted.detach(), rounding)
    assert near(by_x, twin.grad, rounding)
    assert near(by_weight, rounded.grad, 1e-5)  # stays float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 8, 16, 20, 64])
def test_pooling_and_growing_agree_with_pytorch(dtype, channels):
    torch.manual_seed(0)
    # few values: ties, where the first of the largest gets the gradient
    x = torch.randint(-2, 3, (2, channels, 6, 10)).to(dtype).contiguous(memory_format=LAST)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    pooled, kept = ops.pool_and_keep(ours)
    low = ops.grow_and_add(pooled, kept)
    reference = F.interpolate(F.max_pool2d(theirs, 2), scale_factor=2, mode="nearest") + theirs
    assert torch.equal(low, reference)
    g = torch.randint(-3, 4, low.shape).to(dtype)
    low.backward(g)
    reference.backward(g)
    assert torch.equal(ours.grad, theirs.grad)


def test_a_whole_network_learns_the_same(monkeypatch):
    def losses():
        torch.manual_seed(0)
        network = make_unet(UNetConfig(in_channels=3, outputs=1, width=0.5), torch.device("cpu"))
        images = torch.randint(0, 256, (4, 3, 32, 32)).float()
        labels = (images.mean(1, keepdim=True) > 128).float()
        optimiser = torch.optim.AdamW(network.train().parameters(), lr=1e-3)
        found = []
        for _ in range(8):
            loss = F.binary_cross_entropy_with_logits(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append(loss.item())
        return found

    with_kernels = losses()
    plain(monkeypatch)
    assert with_kernels == pytest.approx(losses(), rel=0.02)
    assert with_kernels[-1] < with_kernels[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 64, 64), (40, 30, 13)])
def test_numbers_are_the_same_every_time_and_with_any_threads(size, dtype):
    n, h, w = size
    x, weight = torch.randn(n, 8, h, w), torch.randn(n, 24, h, w)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            twin, _ = pair([(8, 16, 3), (16, 24, 1)])
            found.append(backward(twin, x, weight, dtype=dtype))
    finally:
        torch.set_num_threads(before)
    if not calls.conv_ready(dtype):
        pytest.skip("convolutions are PyTorch's here")
    for other in found[1:]:
        for name, value in found[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projections_are_the_same_with_any_threads(dtype):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(8, 2, 1)
    x = torch.randn(3, 8, 90, 70).to(dtype).requires_grad_()
    g = torch.randn(3, 2, 90, 70)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = ops.project(x, conv)
            found.append([out, *torch.autograd.grad(out, (x, conv.weight, conv.bias), g)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_projections_in_other_dtypes_are_in_float32(monkeypatch):
    conv = torch.nn.Conv2d(8, 1, 1).bfloat16()
    x = torch.randn(1, 8, 4, 4).bfloat16()
    found = project(x, conv)
    plain(monkeypatch)
    torch.testing.assert_close(found, project(x, conv))


def test_other_tensors_take_the_plain_way():
    assert ops.usable(torch.zeros(1, 3, 2, 2))
    assert not ops.usable(torch.zeros(1, 3, 2, 2, dtype=torch.float64))
    assert not ops.usable(torch.zeros(1, 3, 2, 2, device="meta"))


def test_stages_that_the_kernels_do_not_know_take_the_plain_way():
    for change in (
        lambda stage: stage.norm.eval(),
        lambda stage: stage.convs[1].double(),
        lambda stage: stage.bfloat16(),
        lambda stage: setattr(stage.norm, "momentum", None),
        lambda stage: stage.to("meta"),
        lambda stage: setattr(stage.convs[0], "bias", None),
    ):
        stage = Stage([(8, 8, 3), (8, 8, 1)], momentum=0.1).train()
        assert stage.fits()
        change(stage)
        assert not stage.fits()


@pytest.mark.parametrize("size", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
@pytest.mark.parametrize("side", [1, 3])
def test_no_pixels_are_no_crash(size, side):
    n, h, w = size
    stage = Stage([(8, 16, side)], momentum=0.1)
    x = torch.zeros(n, 8, h, w)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ValueError, match="no mean to normalise by"):
            stage.train()(x)
        with torch.no_grad():
            assert stage.eval()(x).shape == (n, 16, h, w)


def test_dropout_takes_the_plain_way():
    stage = Stage([(8, 8, 1)], momentum=0.1, dropout=0.5).train()
    torch.manual_seed(0)
    out = stage(torch.rand(1, 8, 64, 64))
    assert stage.fits() is False
    assert out.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shapes", "size"), SHAPES)
def test_a_stage_outside_of_training_agrees_with_float64(dtype, shapes, size):
    stage, reference = pair(shapes)
    for one in (stage, reference):
        one.norm.running_mean.uniform_(0, 1, generator=torch.Generator().manual_seed(1))
        one.norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    n, h, w = size
    x = torch.randn(n, shapes[0][0], h, w)
    bf16 = dtype == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = stage.eval()(x)
    with torch.no_grad():
        reference.norm.running_mean.copy_(stage.norm.running_mean)
        reference.norm.running_var.copy_(stage.norm.running_var)
        wanted = reference.eval()(x.double())
    assert found.dtype == dtype
    assert near(found, wanted, 2e-2 if bf16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shapes", [[(8, 8, 3), (8, 16, 3), (16, 8, 1)], [(8, 24, 1)], [(16, 8, 3)]]
)
@pytest.mark.parametrize("size", [(3, 26, 18), (1, 9, 4), (2, 8, 32)])
def test_portions_change_nothing_outside_of_training(monkeypatch, shapes, size, dtype):
    stage = pair(shapes)[0].eval()
    n, h, w = size
    x = torch.randn(n, shapes[0][0], h, w).to(dtype)
    with torch.no_grad():
        wanted = stage(x)
        for rows in (8, 2 * h):
            monkeypatch.setattr(whole, "_IN_CACHE", rows * w * 24 * dtype.itemsize)
            whole.plan_of.cache_clear()
            assert stage(x).equal(wanted)
    whole.plan_of.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [1, 3, 4, 8])
@pytest.mark.parametrize("size", [(3, 26, 18), (1, 10, 4), (2, 2, 2)])
def test_stages_in_one_call_are_stages_in_turn(monkeypatch, given, size, dtype):
    n, h, w = size
    stages = [pair(shapes)[0].eval() for shapes in ([(given, 16, 1)], [(16, 24, 3), (24, 24, 1)])]
    x = torch.randn(n, given, h, w).to(dtype)
    with torch.no_grad():
        wanted = F.max_pool2d(stages[1](stages[0](x)).float(), 2).to(dtype)
        for portion in (1, whole._IN_CACHE):
            monkeypatch.setattr(whole, "_IN_CACHE", portion)
            whole.plan_of.cache_clear()
            found = ops.stages_and_pool(x, [(one.convs, one.norm) for one in stages])
            assert found.equal(wanted)
    whole.plan_of.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_first_stage_in_bands_learns_the_same(monkeypatch, dtype):
    """Its input needs no gradient: fewer rows are ahead on the way back."""
    if not calls.conv_ready(dtype):
        pytest.skip("convolutions are PyTorch's here")
    torch.manual_seed(0)
    shapes, x = [(8, 8, 3), (8, 16, 3)], torch.randn(2, 8, 45, 12).to(dtype)
    weight, threads = torch.randn(2, 16, 45, 12), torch.get_num_threads()

    def learn(portion):
        monkeypatch.setattr(whole, "_IN_CACHE", portion)
        whole.plan_of.cache_clear()
        stage = pair(shapes)[0]
        (stage(x) * weight).sum().backward()
        return whole.plan_of(dtype, x.shape, *[c.weight.shape for c in stage.convs]), [
            v.grad for v in stage.parameters()
        ]

    plan, wanted = learn(2**20)
    assert plan.numbers[4] == 45
    try:
        for torch_threads in (1, 2):
            torch.set_num_threads(torch_threads)
            plan, found = learn(1)
            assert plan.numbers[4] == 8
            for one, other in zip(found, wanted, strict=True):
                assert near(one, other, 1e-5 if dtype == torch.float32 else 2e-3)
    finally:
        torch.set_num_threads(threads)
        whole.plan_of.cache_clear()


def test_gradients_by_weights_see_no_other_image(monkeypatch):
    """A band of a convolution of 1 x 1 is cut into rows anew; the last one is not full."""
    monkeypatch.setattr(whole, "_IN_CACHE", 34 * 32 * 32 * 2)
    whole.plan_of.cache_clear()
    x = torch.randn(2, 32, 1123, 32).bfloat16().contiguous(memory_format=LAST)
    x[1] = float("nan")
    stage = pair([(32, 32, 1)])[0]
    with torch.autocast("cpu", torch.bfloat16):
        stage(x[:1]).float().sum().backward()
    whole.plan_of.cache_clear()
    assert all(v.grad.isfinite().all() for v in stage.parameters())


def test_stages_that_do_not_fit_are_refused():
    x, first, other = torch.zeros(1, 8, 8, 8), pair([(8, 16, 1)])[0], pair([(8, 8, 1)])[0]
    with torch.no_grad(), pytest.raises(ValueError, match="16 channels meet a convolution of 8"):
        ops.stages_and_pool(x, [(one.eval().convs, one.norm) for one in (first, other)])
    with torch.no_grad(), pytest.raises(ValueError, match="8 channels meet a convolution of 16"):
        ops.stages_and_pool(x, [(one.convs, one.norm) for one in (pair([(16, 8, 1)])[0].eval(),)])
    with torch.no_grad(), pytest.raises(ValueError, match="cannot halve"):
        ops.stages_and_pool(x[:, :, :7], [(first.convs, first.norm)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_no_number_stays_so(dtype, training):
    stage, _ = pair([(8, 8, 3), (8, 8, 1)])
    x = torch.randn(2, 8, 16, 16)
    x[0, 0, 3, 3] = float("nan")
    bf16 = dtype == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert stage.train(training)(x).isnan().any()


@pytest.mark.parametrize("size", [(56, 64), (64, 40), (24, 24)])
def test_sizes_that_do_not_halve_are_refused(size):
    network = make_unet(UNetConfig(in_channels=3, outputs=1, width=0.5), torch.device("cpu"))
    with pytest.raises(ValueError, match="multiples of 16"):
        network(torch.zeros(2, 3, *size))


def test_other_channels_are_refused():
    network = make_unet(UNetConfig(in_channels=8, outputs=1, width=0.5), torch.device("cpu"))
    with pytest.raises(ValueError, match="16 channels meet a convolution of 8"):
        network(torch.zeros(2, 16, 32, 32))
    with pytest.raises(ValueError, match="16 channels meet a convolution of 8"):
        ops.project(torch.zeros(2, 16, 32, 32), torch.nn.Conv2d(8, 1, 1))


def test_a_skip_of_another_size_is_refused():
    x, skip = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 8, 10)
    with pytest.raises(ValueError, match="cannot add"):
        ops.grow_and_add(x, skip)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("channels", [6, 8, 16, 24])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 5), (17, 4, 2), (3, 40, 31)])
def test_a_projection_is_a_convolution(outputs, channels, size, dtype):
    n, h, w = size
    conv = torch.nn.Conv2d(channels, outputs, 1)
    x = torch.randn(n, channels, h, w).to(dtype).contiguous(memory_format=LAST).requires_grad_()
    g = torch.randn(n, outputs, h, w)
    found, variables = ops.project(x, conv), (x, conv.weight, conv.bias)
    grads = torch.autograd.grad(found, variables, g)
    exact = [v.detach().double().requires_grad_() for v in variables]
    wanted = F.conv2d(*exact)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    # A sum may be near zero by chance: its error is measured by the sizes of what is summed.
    sizes = [v.detach().abs().requires_grad_() for v in exact]
    terms = torch.autograd.grad(F.conv2d(*sizes), sizes, g.abs().double())
    for one, other, summed in zip(
        grads, torch.autograd.grad(wanted, exact, g.double()), terms, strict=True
    ):
        share = 1e-6 if one.dtype == torch.float32 else 4e-3
        assert ((one.double() - other).abs() <= share * summed + 1e-30).all()
