"""The kernels against their plain formulas, over drawn shapes, strides, paddings and memory orders."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradwise as gw
from gradwise.kernels import (
    activations,
    averages,
    blas,
    conv,
    dense,
    gemm,
    library,
    pointwise,
    pool,
    pooled,
    products,
    samples,
    shifted,
    ways,
    wide,
    winograd,
)
from gradwise.kernels.checks import all_finite
from gradwise.kernels.samples import cut, together
from gradwise.kernels.softmax import log_softmax, softmax
from gradwise.kernels.windows import batch_innermost, by_rows, from_rows, geometry, outermost

sides = st.integers(1, 9)
windows = st.tuples(st.integers(1, 4), st.integers(1, 4))
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.sampled_from(["valid", "same", (0, 1), (2, 0), (1, 1), (3, 2)])
channels = st.integers(1, 3)


def placed(image, window, stride, padding):
    g = geometry(image, window, stride, padding)
    return g if min(g.output) > 0 else None


def images(n, c, height, width, seed, whole=False):
    """Images in one of several memory orders; whole numbers where ties are wanted."""
    draw = np.random.default_rng(seed)
    x = (
        draw.integers(-2, 3, (n, c, height, width)).astype(float)
        if whole
        else draw.standard_normal((n, c, height, width))
    )
    order = [(0, 1, 2, 3), (1, 2, 3, 0), (0, 2, 3, 1), (3, 1, 0, 2)][seed % 4]
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def padded(x, g, value=0.0):
    return np.pad(x, ((0, 0), (0, 0), (g.before[0], g.after[0]), (g.before[1], g.after[1])), constant_values=value)


def patches(x, g, value=0.0):
    """All windows, (N, C, OH, OW, kh, kw)."""
    view = np.lib.stride_tricks.sliding_window_view(padded(x, g, value), g.window, axis=(2, 3))
    return view[:, :, :: g.stride[0], :: g.stride[1]]


def scattered(shares, x, g):
    """The adjoint of `patches`: each window's share added where it came from."""
    total = padded(np.zeros_like(x), g)
    for h, w in np.ndindex(*g.output):
        top, left = h * g.stride[0], w * g.stride[1]
        total[:, :, top : top + g.window[0], left : left + g.window[1]] += shares[:, :, h, w]
    (top, left), (height, width) = g.before, g.image
    return total[:, :, top : top + height, left : left + width]


def in_whole_numbers(g, n, c, o, seed):
    """A batch, a cotangent, a kernel and a bias; the batch's windows, the output without the bias, and dL/dx."""
    x, dy = images(n, c, *g.image, seed, whole=True), images(n, o, *g.output, seed + 1, whole=True)
    draw, view = np.random.default_rng(seed), patches(x, g)
    kernel, bias = draw.integers(-5, 5, (*g.window, c, o)).astype(float), draw.integers(-5, 5, o).astype(float)
    wanted = np.einsum("nchwkl,klco->nohw", view, kernel)
    return x, dy, kernel, bias, view, wanted, scattered(np.einsum("nohw,klco->nchwkl", dy, kernel), x, g)


@contextmanager
def choosing(**values):
    """Constants by which a convolution's way is chosen; what has been worked out by others is forgotten."""
    plans = ways._plan, shifted._plan, shifted._products
    for plan in plans:
        plan.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(ways, name, value)
        yield patch
    for plan in plans:
        plan.cache_clear()


@pytest.mark.parametrize("few", [True, False])  # all windows in one product, or row by row
@given(
    st.integers(1, 5), channels, st.integers(1, 4), sides, sides, windows, strides, paddings, st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_convolution(few, n, c, o, height, width, window, stride, padding, high, seed):
    g = placed((height, width), window, stride, padding)
    if g is None:
        return
    x = images(n, c, height, width, seed)
    draw = np.random.default_rng(seed)
    kernel, bias = draw.standard_normal((*window, c, o)), draw.standard_normal(o)
    strips = {"_NEAR": 1, "_LOW": 2} if high else {}  # of two rows
    with choosing(**strips, **({} if few else {"_TINY": 0})):
        view = patches(x, g)
        np.testing.assert_allclose(
            conv.convolve(x, kernel, bias, g),
            np.einsum("nchwkl,klco->nohw", view, kernel) + bias[:, None, None],
            atol=1e-12,
        )
        dy = images(n, o, *g.output, seed + 1)
        each = np.einsum("nchwkl,nohw->nklco", view, dy)
        np.testing.assert_allclose(conv.kernel_gradient(x, dy, g), each.sum(0), atol=1e-11)
        np.testing.assert_allclose(conv.sample_kernel_gradients(x, dy, g), each, atol=1e-11)
        np.testing.assert_allclose(conv.bias_gradient(dy), dy.sum(axis=(0, 2, 3)), atol=1e-11)
        shares = np.einsum("nohw,klco->nchwkl", dy, kernel)
        np.testing.assert_allclose(conv.input_gradient(dy, kernel, g), scattered(shares, x, g), atol=1e-11)


@pytest.mark.parametrize("few", [True, False])
def test_a_bias_of_another_dtype_leaves_the_output_its_own(few):
    """That of the images and the kernel."""
    g, p = geometry((8, 8), (3, 3), (1, 1), "valid"), geometry((6, 6), (2, 2), (2, 2), "valid")
    draw = np.random.default_rng(0)
    x, kernel = draw.standard_normal((2, 1, 8, 8), np.float32), draw.standard_normal((3, 3, 1, 4), np.float32)
    bias = np.arange(4.0)
    with choosing(**({} if few else {"_TINY": 0})):
        y = conv.convolve(x, kernel, bias, g)
    np.testing.assert_allclose(y, conv.convolve(x, kernel, None, g) + bias[:, None, None], rtol=1e-6, atol=1e-6)
    assert y.dtype == pooled.convolve(x, kernel, bias, g, p, True, False)[0].dtype == np.float32


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("places", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize(("stride", "padding"), [((1, 1), "valid"), ((1, 2), "same"), ((1, 1), (2, 1))])
def test_patches_are_the_same_gathered_or_copied(stride, padding, places, with_bias, monkeypatch):
    g = geometry((9, 12), (3, 2), stride, padding)
    draw = np.random.default_rng(0)
    kernel, bias = draw.standard_normal((3, 2, 2, 4)), draw.standard_normal(4) if with_bias else None
    for seed in range(4):  # memory orders
        x = images(3, 2, 9, 12, seed).transpose(1, 2, 3, 0)
        monkeypatch.setattr(conv, "_GATHERED", 1 << 15)
        gathered = conv.in_one(x, kernel, bias, g, places, x.dtype)
        monkeypatch.setattr(conv, "_GATHERED", 0)
        np.testing.assert_array_equal(conv.in_one(x, kernel, bias, g, places, x.dtype), gathered)


def test_few_patches_are_gathered(monkeypatch):
    """A table of many would take more time, and more memory than they do."""
    asked, table = [], conv._table
    monkeypatch.setattr(conv, "_table", lambda *of: asked.append(of) or table(*of))
    for side, times in ((28, 1), (64, 1)):
        g, x = geometry((side, side), (3, 3), (1, 1), "valid"), np.ones((1, side, side, 1))
        conv.in_one(x, np.ones((3, 3, 1, 2)), None, g, (1, 1), x.dtype)
        assert len(asked) == times


@pytest.mark.parametrize("n", [1, 2, 4, 11, 16])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, (1, 1)), (5, 3, "same"), (2, 3, "valid")])
def test_strided_convolution_of_many_pixels(n, size, stride, padding):
    """Those of few samples are copied as one thing each; in whole numbers, where sums are exact in any order."""
    draw, g = np.random.default_rng(0), geometry((40, 43), (size, size), (stride, stride), padding)
    x = draw.integers(-5, 5, (n, 9, 40, 43)).astype(np.float32)
    kernel, bias = draw.integers(-5, 5, (size, size, 9, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
    dy, view = draw.integers(-5, 5, (n, 4, *g.output)).astype(np.float32), patches(x, g)
    wanted = np.einsum("nchwkl,klco->nohw", view, kernel) + bias[:, None, None]
    back = scattered(np.einsum("nohw,klco->nchwkl", dy, kernel), x, g)
    for of, arriving in ((x, dy), (batch_innermost(x), batch_innermost(dy)), (from_rows(by_rows(x)), dy)):
        np.testing.assert_array_equal(conv.convolve(of, kernel, bias, g), wanted)
        np.testing.assert_array_equal(conv.kernel_gradient(of, arriving, g), np.einsum("nchwkl,nohw->klco", view, dy))
        np.testing.assert_array_equal(conv.input_gradient(arriving, kernel, g), back)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 3, 0), (2, 1, 3, 0)])  # batch first, innermost, by rows
@pytest.mark.parametrize(("n", "c", "o"), [(40, 3, 5), (2, 3, 5), (30, 40, 50)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_convolution_by_windows_of_one_pixel(n, c, o, stride, order):
    """In one product or row by row; in whole numbers, where sums are exact in any order."""
    draw, g = np.random.default_rng(0), geometry((7, 8), (1, 1), stride, "valid")

    def lying(*shape):
        x = draw.integers(-5, 5, shape).astype(float)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))

    x, dy, kernel, bias = lying(n, c, 7, 8), lying(n, o, *g.output), lying(1, 1, c, o), np.arange(o, dtype=float)
    seen, matrix = x[:, :, :: stride[0], :: stride[1]], kernel[0, 0]
    wanted = np.einsum("nchw,co->nohw", seen, matrix)
    np.testing.assert_array_equal(conv.convolve(x, kernel, None, g), wanted)
    np.testing.assert_array_equal(conv.convolve(x, kernel, bias, g), wanted + bias[:, None, None])
    gradient = np.einsum("nchw,nohw->co", seen, dy)
    for cotangent in (dy, np.ascontiguousarray(dy), outermost(dy.transpose(1, 2, 3, 0).copy())):
        np.testing.assert_array_equal(conv.kernel_gradient(x, cotangent, g)[0, 0], gradient)
    back = np.zeros_like(x)
    back[:, :, :: stride[0], :: stride[1]] = np.einsum("nohw,co->nchw", dy, matrix)
    np.testing.assert_array_equal(conv.input_gradient(dy, kernel, g), back)


@given(st.integers(1, 5), channels, st.integers(1, 4), sides, sides, windows, strides, paddings, st.integers(0, 99))
def test_convolution_without_its_padding(n, c, o, height, width, window, stride, padding, seed):
    """Products that leave out what lies in the padding, chosen for other sizes; in whole numbers. The bias goes with
    them, where all see one row of the kernel, and is added where none do.
    """
    g = placed((height, width), window, stride, padding)
    if g is None:
        return
    x = images(n, c, height, width, seed, whole=True)
    draw = np.random.default_rng(seed)
    kernel, bias = draw.integers(-5, 5, (*window, c, o)).astype(float), draw.integers(-5, 5, o).astype(float)
    wanted = np.einsum("nchwkl,klco->nohw", patches(x, g), kernel)
    with choosing(_TINY=0, _EDGE=0):
        np.testing.assert_array_equal(conv.convolve(x, kernel, None, g), wanted)
        np.testing.assert_array_equal(conv.convolve(x, kernel, bias, g), wanted + bias[:, None, None])


@given(
    st.integers(1, 5), channels, st.integers(1, 4), sides, sides, windows, strides, paddings, st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_convolution_without_patches(n, c, o, height, width, window, stride, padding, near, seed):
    """Chosen for other sizes than these; in whole numbers, where sums are exact in any order."""
    g = placed((height, width), window, (stride[0], 1), padding)
    if g is None:
        return
    x, dy, kernel, bias, view, wanted, back = in_whole_numbers(g, n, c, o, seed)
    with choosing() as patch:
        patch.setattr(blas, "SMALL", 1 + seed * 20)
        patch.setattr(blas, "FEW", 1 + seed * 5)
        patch.setattr(blas, "PACKS", seed % 2 == 0)
        patch.setattr(shifted, "_LEAST", 0)
        patch.setattr(shifted, "_MANY", 1000)
        patch.setattr(shifted, "_LONG", 0)
        patch.setattr(shifted, "_SEEN", range(100))
        if near:  # a few rows at a time
            patch.setattr(shifted, "_NEAR", 2 * o * g.output[1] * n)
            patch.setattr(shifted, "_SWEPT", 2 * (o * g.output[1] + g.stride[0] * c * width) * n)
        np.testing.assert_array_equal(conv.convolve(x, kernel, None, g), wanted)
        np.testing.assert_array_equal(conv.convolve(x, kernel, bias, g), wanted + bias[:, None, None])
        np.testing.assert_array_equal(conv.input_gradient(dy, kernel, g), back)
        for given in (dy, conv.laid(dy, g, o)):
            gradient = conv.kernel_gradient(conv.laid(x, g, o), given, g)
            np.testing.assert_array_equal(gradient, np.einsum("nchwkl,nohw->klco", view, dy))
            np.testing.assert_array_equal(conv.bias_gradient(given), dy.sum(axis=(0, 2, 3)))
            np.testing.assert_array_equal(
                conv.sample_kernel_gradients(x, given, g), np.einsum("nchwkl,nohw->nklco", view, dy)
            )


@contextmanager
def wide_where_it_can_be(threads=2, **values):
    """A BLAS that packs, of so many threads, and products of all output rows wherever that can be."""
    with choosing(_TINY=0, _LOW=1) as patch:
        patch.setattr(blas, "PACKS", True)
        patch.setattr(blas, "SHARED", 1 << 60)
        patch.setattr(library, "threads", lambda: threads)
        for name, value in {"_ROW": 0, "_DEEP": 0, "_PADDED": 1000, **values}.items():
            patch.setattr(wide, name, value)
        patch.setattr(np, "empty", _filled(np.empty))
        yield


def _filled(empty):
    """np.empty, whose numbers are NaN where nobody writes them."""

    def filled(*arguments, **named):
        array = empty(*arguments, **named)
        if array.dtype.kind == "f":
            array[...] = np.nan
        return array

    return filled


@pytest.mark.skipif(not gemm._PRODUCTS, reason="NumPy's BLAS is not called by itself here")
@given(
    st.integers(1, 5), channels, st.integers(1, 4), sides, sides, windows, paddings, st.booleans(),
    st.sampled_from([1, 200, 1 << 18]), st.integers(0, 99),
)  # fmt: skip
def test_convolution_by_wide_products(n, c, o, height, width, window, padding, by_rows_first, near, seed):
    """However many output rows go together, and however the images lie."""
    g = placed((height, width), window, (1, 1), padding)
    if g is None:
        return
    x, dy, kernel, bias, view, wanted, back = in_whole_numbers(g, n, c, o, seed)
    lies = from_rows(by_rows(x)) if by_rows_first else x
    with wide_where_it_can_be(NEAR=near):
        plan = ways.plan(g, c, o, n, x.dtype)
        assert {plan.forwards, plan.backwards} == ({"pointwise"} if pointwise.pays(g) else {"wide"})
        np.testing.assert_array_equal(conv.convolve(lies, kernel, None, g), wanted)
        np.testing.assert_array_equal(conv.convolve(lies, kernel, bias, g), wanted + bias[:, None, None])
        np.testing.assert_array_equal(conv.input_gradient(dy, kernel, g), back)
        for given in (dy, from_rows(by_rows(dy))):
            gradient = conv.kernel_gradient(lies, given, g)
            np.testing.assert_array_equal(gradient, np.einsum("nchwkl,nohw->klco", view, dy))
        small = conv.kernel_gradient(x.astype(np.float32), dy, g)
        assert small.dtype == conv.convolve(x.astype(np.float32), kernel, bias, g).dtype == np.float64


def test_wide_products_are_for_several_threads():
    g = placed((26, 26), (3, 3), (1, 1), "valid")
    known = np.dtype(np.float32) in gemm._PRODUCTS
    for threads, ways_of_it in ((2, {"wide"} if known else {"patches", "shifted"}), (1, {"patches", "shifted"})):
        with wide_where_it_can_be(threads):
            plan = ways.plan(g, 16, 16, 8, np.dtype(np.float32))
            assert {plan.forwards, plan.backwards} <= ways_of_it
            apart = placed((26, 26), (3, 3), (2, 2), "valid")
            assert ways.plan(apart, 16, 16, 8, np.dtype(np.float32)).forwards == "patches"
    assert library.threads() >= 1


@pytest.mark.skipif(not gemm._PRODUCTS, reason="NumPy's BLAS is not called by itself here")
@pytest.mark.parametrize(
    ("channels", "filters", "samples", "side", "forwards"),
    [
        (16, 16, 8, 84, "wide"),
        (16, 16, 8, 88, "shifted"),  # a row by a column of the kernel is for two threads
        (16, 16, 32, 22, "wide"),  # but not by those that see the padding
        (3, 16, 256, 32, "wide"),  # it would not go by columns
        (16, 16, 2, 26, "patches"),
    ],
)
def test_products_that_two_threads_do_not_share_are_wide(channels, filters, samples, side, forwards):
    g = placed((side, side), (3, 3), (1, 1), "same")
    with choosing() as patch:
        patch.setattr(blas, "PACKS", True)
        patch.setattr(library, "threads", lambda: 2)
        assert ways.plan(g, channels, filters, samples, np.dtype(np.float32)).forwards == forwards


@pytest.mark.skipif(not gemm._PRODUCTS, reason="NumPy's BLAS is not called by itself here")
def test_convolutions_in_a_row_take_what_they_are_given_as_it_lies():
    """By rows from the first on, and so do the gradients; where a single one follows, or none does, batch innermost."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((32, 1, 28, 28), np.float32)
    first, second = geometry((28, 28), (3, 3), (1, 1), "valid"), geometry((26, 26), (3, 3), (1, 1), "valid")
    kernels = [draw.standard_normal((3, 3, c, 16), np.float32) for c in (1, 16)]
    y = conv.convolve(x, kernels[0], None, first)
    assert np.shares_memory(conv.laid(y, second, 16), y)
    z = conv.convolve(y, kernels[1], None, second)
    dy = conv.input_gradient(z, kernels[1], second)
    for array in (y, z, dy):
        assert array.transpose(2, 1, 3, 0).flags.c_contiguous
    y = conv.convolve(x[:2], kernels[0], None, first)
    assert y.transpose(1, 2, 3, 0).flags.c_contiguous
    assert np.shares_memory(conv.laid(y, second, 16), y)


@pytest.mark.skipif(not gemm._PRODUCTS, reason="NumPy's BLAS is not called by itself here")
def test_products_by_address_are_of_the_arrays_that_are_there():
    g, x, kernel = geometry((6, 7), (3, 2), (1, 1), "valid"), np.ones((6, 2, 7, 3)), np.ones((3, 2, 2, 4))
    assert (shifted.convolve(x, kernel, None, g) == 12).all()
    for images, weights in (
        (x[:5], kernel),
        (x[:, :, :6].copy(), kernel),
        (x[:, :, ::-1], kernel),
        (x, kernel[:2]),
        (x, kernel[:, :, :1]),
        (x, kernel.transpose(1, 0, 2, 3)),
    ):
        with pytest.raises(ValueError, match="are not those of"):
            shifted.convolve(images, weights, None, g)
    with pytest.raises(ValueError, match="images are float64, and the kernel is float32"):
        shifted.convolve(x, kernel.astype(np.float32), None, g)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_images_by_rows_are_pooled_as_they_lie(n):
    """Between convolutions by Winograd's algorithm, whose images lie so; with ties."""
    draw = np.random.default_rng(0)
    x = draw.integers(-2, 3, (n, 32, 13, 14)).astype(np.float32)
    lying = from_rows(by_rows(x))
    for window, stride, padding in (
        ((2, 2), (2, 2), "valid"),
        ((3, 2), (1, 2), "same"),
        ((4, 4), (4, 4), "valid"),
        ((13, 14), (13, 14), "valid"),
        ((10, 9), (10, 9), "same"),
    ):
        g = geometry((13, 14), window, stride, padding)
        y, saved = pool.max_pool(x, g)
        for of in (x, lying):
            np.testing.assert_array_equal(pool.highest(of, g), y)
        assert pool.highest(lying, g, flat=True).transpose(1, 2, 3, 0).flags.c_contiguous
        found, kept = pool.max_pool(lying, g)
        dy = draw.standard_normal(y.shape)
        np.testing.assert_array_equal(found, y)
        np.testing.assert_array_equal(pool.max_pool_gradient(dy, kept, g), pool.max_pool_gradient(dy, saved, g))
        flat, kept = pool.max_pool(lying, g, flat=True)
        assert flat.transpose(1, 2, 3, 0).flags.c_contiguous
        np.testing.assert_array_equal(flat, y)
        np.testing.assert_array_equal(pool.max_pool_gradient(dy, kept, g), pool.max_pool_gradient(dy, saved, g))


@pytest.mark.parametrize(
    ("n", "c", "o", "image", "padding"),
    [
        (16, 16, 16, (26, 26), "valid"),  # small products, a block of columns at a time
        (64, 16, 24, (20, 22), "same"),
        (16, 32, 48, (12, 12), "valid"),
        (130, 1, 24, (28, 28), "valid"),
        (200, 8, 40, (9, 9), "valid"),
        (1, 32, 64, (16, 15), "same"),
        (20, 8, 12, (17, 19), "same"),  # the gradient a column of the kernel at a time
        (17, 24, 20, (17, 19), "same"),  # without patches
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_at_real_sizes(n, c, o, image, padding, dtype):
    """Sizes at which other algorithms are chosen."""
    g = geometry(image, (3, 3), (1, 1), padding)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, c, *image)).astype(dtype)
    kernel = draw.standard_normal((3, 3, c, o)).astype(dtype)
    dy = draw.standard_normal((n, o, *g.output)).astype(dtype)
    exact, cotangent = x.astype(np.float64), dy.astype(np.float64)
    view = patches(exact, g)
    y = np.einsum("nchwkl,klco->nohw", view, kernel.astype(np.float64), optimize=True)
    dk = np.einsum("nchwkl,nohw->klco", view, cotangent, optimize=True)
    turned = padded(cotangent, g._replace(before=tuple(2 - b for b in g.before), after=tuple(2 - a for a in g.after)))
    back = np.lib.stride_tricks.sliding_window_view(turned, (3, 3), axis=(2, 3))
    dx = np.einsum("nohwkl,klco->nchw", back, kernel[::-1, ::-1].astype(np.float64), optimize=True)
    off = 5e-6 if dtype == np.float32 else 1e-14  # of the maximum
    for found, wanted in (
        (conv.convolve(x, kernel, None, g), y),
        (conv.kernel_gradient(x, dy, g), dk),
        (conv.input_gradient(dy, kernel, g), dx),
    ):
        assert found.dtype == dtype
        assert np.abs(found - wanted).max() <= off * np.abs(wanted).max()


steps = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.integers(1, 4), channels, sides, sides, windows, steps, paddings, st.integers(0, 99))
def test_max_pooling_with_ties(n, c, height, width, window, stride, padding, seed):
    """The first maximum in row-major order takes the gradient; overlapping windows add."""
    g = placed((height, width), window, stride, padding)
    if g is None or any(b >= w or a >= w for b, a, w in zip(g.before, g.after, g.window, strict=True)):
        return  # a window of padding alone has no maximum
    x = images(n, c, height, width, seed, whole=True)
    view = patches(x, g, -np.inf).reshape(n, c, *g.output, -1)
    if not np.isfinite(view.max(axis=-1)).all():
        return
    y, saved = pool.max_pool(x, g)
    np.testing.assert_array_equal(y, view.max(axis=-1))
    np.testing.assert_array_equal(pool.highest(x, g), y)
    dy = images(n, c, *g.output, seed + 1)
    one_hot = np.eye(math.prod(window))[view.argmax(axis=-1)].reshape(n, c, *g.output, *window)
    shares = one_hot * dy[..., None, None]
    np.testing.assert_allclose(pool.max_pool_gradient(dy, saved, g), scattered(shares, x, g), atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 16])
def test_max_pooling_of_many_channels(size):
    """More numbers than are pooled at a time, and windows larger than are compared entry by entry."""
    g = geometry((34, 33), (size, size), (size, size), "valid")
    x = images(40, 7, 34, 33, 0, whole=True)
    view = patches(x, g).reshape(40, 7, *g.output, -1)
    y, saved = pool.max_pool(x, g)
    np.testing.assert_array_equal(y, view.max(axis=-1))
    for of in (x, batch_innermost(x), from_rows(by_rows(x))):
        np.testing.assert_array_equal(pool.highest(of, g), y)
    dy = images(40, 7, *g.output, 1)
    one_hot = np.eye(size * size)[view.argmax(axis=-1)].reshape(*dy.shape, size, size)
    np.testing.assert_array_equal(pool.max_pool_gradient(dy, saved, g), scattered(one_hot * dy[..., None, None], x, g))


@given(st.integers(1, 4), channels, sides, sides, windows, strides, paddings, st.integers(0, 99))
def test_average_pooling(n, c, height, width, window, stride, padding, seed):
    g = placed((height, width), window, stride, padding)
    if g is None:
        return
    x = images(n, c, height, width, seed)
    inside = patches(np.ones_like(x), g).sum(axis=(-1, -2))
    if not inside.all():
        return  # a window of padding alone has no mean
    np.testing.assert_allclose(averages.average_pool(x, g), patches(x, g).sum(axis=(-1, -2)) / inside, atol=1e-12)
    np.testing.assert_allclose(averages.average_pool(from_rows(by_rows(x)), g), averages.average_pool(x, g), atol=1e-12)
    dy = images(n, c, *g.output, seed + 1)
    shares = np.broadcast_to((dy / inside)[..., None, None], (*dy.shape, *window))
    for arriving in (dy, from_rows(by_rows(dy))):
        np.testing.assert_allclose(averages.average_pool_gradient(arriving, g), scattered(shares, x, g), atol=1e-12)


@pytest.mark.parametrize("stride", [3, 2, 4])
def test_pixels_that_no_window_sees_get_no_gradient(stride, monkeypatch):
    """Whatever lay in their memory before."""
    g = geometry((8, 11), (3, 3), (stride, stride), "valid")
    x, dy = images(2, 3, 8, 11, 1), images(2, 3, *g.output, 1)
    shares = np.broadcast_to(dy[..., None, None] / 9, (*dy.shape, 3, 3))
    wanted = scattered(shares, x, g)
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan, dtype))
    np.testing.assert_allclose(averages.average_pool_gradient(dy, g), wanted, atol=1e-12)


@given(sides, st.integers(1, 5), st.integers(1, 4))
def test_same_padding_is_that_of_keras(size, window, stride):
    g = geometry((size, size), (window, window), (stride, stride), "same")
    assert g.output == (-(-size // stride),) * 2
    total = max((g.output[0] - 1) * stride + window - size, 0)
    assert (g.before[0], g.after[0]) == (total // 2, total - total // 2)


def test_a_batch_of_one_may_have_any_stride():
    """NumPy calls an array with a batch of one contiguous whatever the stride of its batch is."""
    g = geometry((5, 4), (3, 3), (1, 1), "valid")
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 4))
    dy = np.random.default_rng(1).standard_normal((7, 3, 3, 2))[4:5]
    wanted = np.einsum("nchwkl,nohw->klco", patches(x, g), dy)
    np.testing.assert_allclose(conv.kernel_gradient(x, dy, g), wanted, atol=1e-13)
    np.testing.assert_allclose(
        conv.kernel_gradient(outermost(x.transpose(1, 2, 3, 0).copy()), dy, g), wanted, atol=1e-13
    )


EXTREMES = np.array([-1e4, -800.0, -90.0, -20.0, -1e-8, 0.0, 1e-8, 1.0, 20.0, 90.0, 800.0, 1e4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_never_overflow(dtype):
    x = EXTREMES.astype(dtype)
    s = activations.sigmoid(x)
    np.testing.assert_allclose(s, [0.5 * (1 + math.tanh(v / 2)) for v in x.astype(float)], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(activations.softplus(x), np.logaddexp(0, x.astype(np.float64)), rtol=1e-6)
    rows = np.stack([x, x[::-1]])
    p = softmax(rows)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(log_softmax(rows)).all()


@pytest.mark.parametrize("order", ["C", "F", "mixed", "every second"])
@pytest.mark.parametrize(
    "layer",
    [gw.ReLU(), gw.LeakyReLU(0.3), gw.LeakyReLU(2), gw.ELU(), gw.ELU(0.4), gw.GELU(), gw.SiLU(), gw.Sigmoid(),
     gw.Tanh(), gw.Softplus()],
    ids=repr,
)  # fmt: skip
def test_activations_of_many_numbers(layer, order):
    """Some numbers at a time, where x and dy lie alike; they give what each row of them gives by itself."""
    draw = np.random.default_rng(0)
    x, dy = (3 * draw.standard_normal((9, 200, 160)) for _ in range(2))
    if order == "every second":
        x = np.repeat(x, 2, axis=2)[:, :, ::2]
    elif order != "C":
        x, other = np.asarray(x, order="F"), np.asarray(dy, order="F")
        dy = other if order == "F" else dy
    layer.build(x.shape[1:])
    y, pullback = layer.vjp(x)
    dx = pullback.input(dy)
    np.testing.assert_allclose(layer.forward(x), y, rtol=1e-14)
    for row in range(9):
        found, own = layer.vjp(np.ascontiguousarray(x[row : row + 1]))
        np.testing.assert_allclose(y[row : row + 1], found, rtol=1e-14)
        np.testing.assert_allclose(dx[row : row + 1], own.input(dy[row : row + 1]), rtol=1e-14, atol=1e-14)  # near 0


def test_normal_distribution_function():
    """Against the error function of the standard library, over the whole range."""
    x = np.concatenate([np.linspace(-39, 39, 4001), EXTREMES])
    wanted = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    np.testing.assert_allclose(activations.normal_cdf(x), wanted, rtol=2e-12, atol=1e-300)
    single = activations.normal_cdf(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(
        single, [0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x.astype(np.float32)], rtol=2e-5, atol=1e-37
    )


@given(
    st.integers(1, 5), channels, st.integers(1, 4), st.integers(1, 14), st.integers(1, 14), windows, strides, paddings,
    st.sampled_from([(1, 2), (2, 2), (3, 2), (2, 3), (1, 3)]), st.sampled_from([1, 40, 300, 1 << 18]),
    st.sampled_from([0, 16_000]), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_convolution_with_pooling(
    n, c, o, height, width, window, stride, padding, pool_size, cached, tiny, shared, near, relu, ties, seed
):
    """The same numbers as one after the other, in pieces of any size, also where a maximum stands in several places."""
    g = placed((height, width), window, stride, padding)
    p = None if g is None else placed(g.output, pool_size, pool_size, "valid")
    if p is None:
        return
    x = images(n, c, height, width, seed, whole=ties)
    draw = np.random.default_rng(seed)
    kernel = draw.integers(-1, 2, (*window, c, o)).astype(float) if ties else draw.standard_normal((*window, c, o))
    bias = draw.integers(-3, 4, o).astype(float)
    between = conv.convolve(x, kernel, bias, g)
    y, saved = pool.max_pool(between, p)
    dy = images(n, o, *p.output, seed + 1)
    arriving = dy * (y > 0) if relu else dy
    before = pool.max_pool_gradient(arriving, saved, p)
    y = np.maximum(y, 0) if relu else y
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled, "_CACHED", cached)
        patch.setattr(pooled, "_TINY", tiny)
        patch.setattr(pooled, "_NEAR", 1 << 60 if near else 0)
        patch.setattr(blas, "SHARED", 0)  # any line would be
        patch.setattr(blas, "shares", lambda: shared)
        pooled._few.cache_clear()
        pooled._long.cache_clear()
        found, winners = pooled.convolve(x, kernel, bias, g, p, relu, True)
        np.testing.assert_allclose(found, y, atol=1e-12)
        np.testing.assert_allclose(pooled.convolve(x, kernel, bias, g, p, relu, False)[0], found, atol=1e-12)
        by_kernel, by_bias = pooled.gradients(x, dy, winners, g, p)
        np.testing.assert_allclose(by_kernel, conv.kernel_gradient(x, before, g), atol=1e-11)
        np.testing.assert_allclose(by_bias, arriving.sum(axis=(0, 2, 3)), atol=1e-11)
        back = pooled.input_gradient(dy, kernel, winners, g, p)
        np.testing.assert_allclose(back, conv.input_gradient(before, kernel, g), atol=1e-11)
    joined = [won.piece.joined for won in winners]
    assert all(joined) if shared and near else tiny or not any(joined)
    pooled._few.cache_clear()
    pooled._long.cache_clear()


def test_products_of_a_pooled_convolution_are_long_where_two_threads_share_them():
    p = geometry((26, 26), (2, 2), (2, 2), "valid")
    g = geometry((28, 28), (3, 3), (1, 1), "valid")
    assert pooled._line(g, p, 1, 24, 32) < blas.SHARED <= pooled._line(g, p, 1, 24, 128)
    assert pooled._long(g, p, 1, 24, 32)
    assert pooled._long(g, p, 1, 24, 128)  # of all lines nothing is far
    wide, q = geometry((224, 224), (3, 3), (1, 1), "valid"), geometry((222, 222), (2, 2), (2, 2), "valid")
    assert pooled._line(wide, q, 3, 16, 8) >= blas.SHARED
    assert not pooled._long(wide, q, 3, 16, 8)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize(
    "shapes", [((3, 7), (5, 7)), ((5, 7), (3, 7)), ((4, 3, 7), (4, 5, 7)), ((2, 4, 5, 7), (2, 4, 3, 7))]
)
def test_rows_by_rows(shapes, packs, monkeypatch):
    monkeypatch.setattr(blas, "PACKS", packs)
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal(shape) for shape in shapes)
    wanted = np.einsum("...mn,...kn->...mk", left, right)
    wanted = wanted.reshape(-1, *wanted.shape[-2:]).sum(axis=0)
    np.testing.assert_allclose(blas.rows_by_rows(left, right), wanted, atol=1e-12)
    first = []
    monkeypatch.setattr(np, "matmul", lambda a, b, product=np.matmul: first.append(a.shape[-2]) or product(a, b))
    blas.rows_by_rows(left, right)
    assert first == [5 if packs else left.shape[-2]]


def test_convolution_with_pooling_is_for_few_channels():
    g = geometry((28, 28), (3, 3), (1, 1), "valid")
    p = geometry(g.output, (2, 2), (2, 2), "valid")
    assert pooled.pays(g, p, 3)
    assert not pooled.pays(g, p, 8)
    for window, stride, padding in (((2, 2), (1, 1), "valid"), ((2, 2), (2, 2), (1, 1)), ((16, 16), (16, 16), "valid")):
        assert not pooled.pays(g, geometry(g.output, window, stride, padding), 1)


@given(
    st.sampled_from([1, 2, 3, 7, 8, 9, 16, 70]), st.sampled_from([3, 50, 1000]), st.sampled_from([2, 17, 40, 150]),
    st.sampled_from("CF"), st.sampled_from("CF"), st.sampled_from("CF"), st.sampled_from([50, 4000, 1_000_000]),
    st.sampled_from([100, 300_000, 2_500_000]), st.booleans(),
)  # fmt: skip
def test_dense_products(n, inputs, units, of_x, of_kernel, of_dy, small, several, packs):
    """In every memory order, and whether made whole or of pieces."""
    draw = np.random.default_rng(0)
    x = np.asarray(draw.standard_normal((n, inputs)), order=of_x)
    kernel, bias = np.asarray(draw.standard_normal((inputs, units)), order=of_kernel), draw.standard_normal(units)
    dy = np.asarray(draw.standard_normal((n, units)), order=of_dy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blas, "SMALL", small)
        patch.setattr(blas, "SEVERAL", several)
        patch.setattr(blas, "PACKS", packs)
        np.testing.assert_allclose(dense.forward(x, kernel, bias), x @ kernel + bias, atol=1e-10)
        np.testing.assert_allclose(dense.forward(x, kernel, None), x @ kernel, atol=1e-10)
        gradient = dense.kernel_gradient(x, dy, kernel)
        np.testing.assert_allclose(gradient, x.T @ dy, atol=1e-10)
        assert gradient.flags.c_contiguous == kernel.flags.c_contiguous
        np.testing.assert_allclose(dense.input_gradient(dy, kernel), dy @ kernel.T, atol=1e-10)
        for _ in range(2):  # by BLAS itself, where NumPy has one that is known, and by NumPy
            stepped = kernel.copy(order="K")
            products.subtract(stepped, products.Product(x.T, dy))
            np.testing.assert_allclose(stepped, kernel - x.T @ dy, atol=1e-10)
            patch.setattr(gemm, "_PRODUCTS", {})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lie", ["apart", "together", "reversed", "other order", "every second", "mixed"])
def test_products_are_added_to_what_is_there(known, dtype, lie, monkeypatch):
    if not known:
        monkeypatch.setattr(gemm, "_PRODUCTS", {})
    monkeypatch.setattr(gemm, "_ADDED", 0)
    monkeypatch.setattr(blas, "SMALL", 50)  # in parts
    draw = np.random.default_rng(0)
    whole = draw.standard_normal((2, 3, 4, 12)).astype(dtype)
    lefts, rights = draw.standard_normal((3, 4, 5)).astype(dtype), draw.standard_normal((2, 3, 5, 6)).astype(dtype)
    targets = {"apart": whole[..., 2:8], "every second": whole[..., ::2], "reversed": whole[:, :, ::-1, :6]}.get(lie)
    if targets is None:
        targets = whole[..., :6].copy()
    if lie == "other order":
        lefts, rights = lefts.transpose(0, 2, 1).copy().transpose(0, 2, 1), np.asfortranarray(rights)
    if lie == "mixed":
        lefts = lefts.astype(np.float16)
    before, outside = targets.copy(), whole.copy()
    gemm.add(targets, lefts, rights)
    wanted = before + np.matmul(lefts, rights)
    np.testing.assert_allclose(targets, wanted, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)
    assert targets.dtype == dtype
    if lie == "apart":
        np.testing.assert_array_equal(whole[..., :2], outside[..., :2])
        np.testing.assert_array_equal(whole[..., 8:], outside[..., 8:])


def test_products_that_do_not_fit_are_not_added():
    targets = np.zeros((2, 3, 4, 6))
    with pytest.raises(ValueError, match=r"\(3, 4, 5\) @ \(2, 3, 4, 6\) can't be added to \(2, 3, 4, 6\)"):
        gemm.add(targets, np.ones((3, 4, 5)), np.ones((2, 3, 4, 6)))
    targets.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gemm.add(targets, np.ones((3, 4, 5)), np.ones((2, 3, 5, 6)))
    gemm.add(np.zeros((0, 3, 4, 6)), np.ones((3, 4, 5)), np.ones((0, 3, 5, 6)))
    assert not targets.any()


by_blas = pytest.mark.skipif(not gemm._PRODUCTS, reason="NumPy's BLAS is not called by itself here")


def test_without_a_known_blas_nothing_is_called(monkeypatch):
    monkeypatch.setattr(gemm, "_NAMES", ("no_{}gemm_of_that_name",))
    assert gemm._found() == {}
    monkeypatch.undo()
    monkeypatch.setattr(library, "ctypes", None)
    assert gemm._found() == {}
    assert library.core() == ""
    monkeypatch.setattr(gemm, "_PRODUCTS", {})
    target = np.ones((2, 2))
    assert not gemm.subtract(target, np.ones((2, 1)), np.ones((1, 2)))
    assert (target == 1).all()


@by_blas
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (1, 6, 3), (6, 1, 3), (33, 20, 16), (0, 3, 2), (3, 4, 0)])
def test_blas_subtracts_a_product_in_place(shape, order, dtype):
    """Of matrices in any memory order: rows, columns, slices of either."""
    (rows, columns, depth), draw = shape, np.random.default_rng(0)

    def laid(*size):
        array = draw.standard_normal(size).astype(dtype)
        wide = np.zeros((2 * size[0], 2 * size[1]), dtype)
        wide[::2, ::2] = array
        return array, np.asfortranarray(array), wide[::2, ::2], np.repeat(array, 2, axis=1)[:, ::2]

    for left in laid(rows, depth):
        for right in laid(depth, columns):
            target = np.asarray(draw.standard_normal((rows, columns)), dtype, order=order)
            wanted = target - left @ right
            left.flags.writeable = False
            assert gemm.subtract(target, left, right)
            np.testing.assert_allclose(target, wanted, atol=1e-5 if dtype is np.float32 else 1e-13)


@by_blas
def test_blas_writes_nowhere_else():
    left, right = np.ones((4, 2)), np.ones((2, 3))
    for shape in ((4, 4), (3, 3), (3, 4)):
        target = np.zeros(shape)
        with pytest.raises(ValueError, match=r"\(4, 2\) @ \(2, 3\) can't be subtracted"):
            gemm.subtract(target, left, right)
        assert not target.any()
    fixed = np.zeros((4, 3))
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gemm.subtract(fixed, left, right)
    for target in (np.zeros((8, 3))[::2], np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float16)):
        assert not gemm.subtract(target, left, right)  # NumPy's business
        assert not target.any()


@by_blas
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_prepared_products_are_written_or_added(turned, dtype):
    """Several, each a step from the one before, of matrices whose rows are further apart than they are long."""
    draw, (m, n, k) = np.random.default_rng(0), (2, 3, 4)
    left = draw.standard_normal((3, k if turned[0] else m, 6)).astype(dtype)
    right, target = draw.standard_normal((n if turned[1] else k, 7)).astype(dtype), np.ones((3, m, 5), dtype)
    steps, apart = (5, 6, 7), (target.strides[0], left.strides[0], 0)
    multiply = gemm.prepared(np.dtype(dtype), (m, n, k), steps, apart, turned, -2.0)
    lefts = left[:, :, :m].transpose(0, 2, 1) if turned[0] else left[:, :, :k]
    wanted = -2 * lefts @ (right[:, :k].T if turned[1] else right[:, :n])
    for over in (True, False):
        before = target.copy()
        multiply(3, *(gemm.address(array) for array in (target, left, right)), over)
        wide = before[..., :n] * (not over) + wanted
        np.testing.assert_allclose(target[..., :n], wide, rtol=1e-5 if dtype is np.float32 else 1e-12)
        np.testing.assert_array_equal(target[..., n:], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere NumPy has other libraries")
def test_blas_of_numpys_wheels_is_found():
    named = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if named != "scipy-openblas":
        pytest.skip(f"NumPy is built with {named}")
    assert set(gemm._PRODUCTS) == {np.dtype(np.float32), np.dtype(np.float64)}
    assert library.core()
    assert library.function("no_function_of_that_name", "scipy_sgemm_64_") is not None
    assert library.function("no_function_of_that_name") is None


@pytest.mark.skipif(not library.core(), reason="NumPy's BLAS does not say for which processor it runs")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the processors named here are others")
@pytest.mark.parametrize(("core", "packs"), [("Haswell", True), ("Nehalem", True), ("SkylakeX", False)])
def test_whether_small_matrices_are_packed_is_asked_of_blas(core, packs):
    """As OpenBLAS runs when told to run as on that processor, where this one has the same instructions."""
    known = ["Nehalem", "Sandybridge", "Haswell", "SkylakeX"]
    if core != known[0] and (library.core() not in known or known.index(library.core()) < known.index(core)):
        pytest.skip(f"this is {library.core()}")
    code = "from gradwise.kernels import blas, library; print(library.core(), blas.PACKS, blas.SMALL)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60, env=os.environ | {"OPENBLAS_CORETYPE": core},
    ).stdout.split()  # fmt: skip
    assert found == [core, str(packs), "4000000" if packs else "1000000"]


@pytest.mark.parametrize("packs", [False, True])
def test_dense_kernels_lie_as_their_shape_wants(packs, monkeypatch):
    monkeypatch.setattr(blas, "PACKS", packs)
    assert dense.order(4056, 32) == dense.order(4056, 10) == dense.order(784, 32) == dense.order(25088, 512) == "C"
    assert dense.order(784, 1024) == dense.order(40, 20) == dense.order(9216, 128) == "F"
    assert dense.order(784, 10) == ("C" if packs else "F")


@pytest.mark.parametrize("packs", [False, True])
def test_two_and_three_samples_go_one_by_one_where_blas_packs(packs, monkeypatch):
    monkeypatch.setattr(blas, "PACKS", packs)
    went, row_by_row = [], dense._row_by_row
    monkeypatch.setattr(dense, "_row_by_row", lambda x, kernel: went.append(len(x)) or row_by_row(x, kernel))
    for count in (1, 2, 3, 4):
        dense.forward(np.ones((count, 1024), np.float32), np.ones((1024, 32), np.float32), None)
        dense.forward(np.ones((count, 256), np.float32), np.ones((256, 64), np.float32), None)
    assert went == ([2, 3] if packs else [])


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("samples", [3, 4, 64])
def test_the_bias_of_a_dense_layer_is_added_in_the_dtype_of_the_products(samples, packs, monkeypatch):
    monkeypatch.setattr(blas, "PACKS", packs)
    monkeypatch.setattr(dense, "_MATRIX", 0)
    rng = np.random.default_rng(samples)
    x, kernel, bias = rng.random((samples, 200)), rng.random((200, 10)), rng.random(10)
    y = dense.forward(x.astype(np.float32), kernel.astype(np.float32), bias)
    assert y.dtype == np.float32
    assert y.T.flags.c_contiguous  # batch innermost
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 5, 4097, 300_000, 2_100_000])
def test_not_finite_is_found_anywhere(bad, size):
    for position in {0, size // 2, size - 1}:
        x = np.full(size, 3e38, np.float32)
        assert all_finite(x)
        x[position] = bad
        assert not all_finite(x)
        assert not all_finite(x.reshape(1, -1).T)
        assert not all_finite(x.repeat(2)[::2])


@given(
    st.integers(1, 20), st.integers(32, 40), st.integers(32, 48), st.integers(10, 24), st.integers(3, 14), st.integers(1, 4),
    st.sampled_from(["valid", "same", (0, 1), (2, 0), (1, 2)]), st.integers(0, 99),
)  # fmt: skip
def test_winograd_is_convolution(n, c, o, height, width, kw, padding, seed):
    """Any height, width and padding: also heights that are no multiple of its tiles' four rows."""
    g = placed((height, width), (3, kw), (1, 1), padding)
    if g is None or not winograd.pays(g, c, o, np.dtype(np.float32)):
        return
    x = images(n, c, height, width, seed).astype(np.float32)
    kernel = np.random.default_rng(seed).standard_normal((3, kw, c, o)).astype(np.float32)
    exact = conv.convolve(x.astype(np.float64), kernel.astype(np.float64), None, g)
    dy = images(n, o, *g.output, seed + 1).astype(np.float32)
    gradient = conv.kernel_gradient(x.astype(np.float64), dy.astype(np.float64), g)
    back = conv.input_gradient(dy.astype(np.float64), kernel.astype(np.float64), g)
    for found, wanted in (
        (conv.convolve(x, kernel, None, g), exact),
        (conv.kernel_gradient(x, dy, g), gradient),
        (conv.input_gradient(dy, kernel, g), back),
    ):
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() <= 5e-6 * np.abs(wanted).max()


def test_winograd_is_for_single_precision():
    g = geometry((20, 20), (3, 3), (1, 1), "valid")
    assert winograd.pays(g, 32, 64, np.dtype(np.float32))
    assert not winograd.pays(g, 32, 64, np.dtype(np.float64))
    assert not winograd.pays(geometry((20, 20), (3, 3), (2, 2), "valid"), 32, 64, np.dtype(np.float32))


@pytest.mark.parametrize("size", [3, 40, 60, 400])  # the sizes at which another way is taken
@pytest.mark.parametrize("order", ["C", "F", "neither"])
def test_relu_and_its_gradient_by_their_definition(size, order):
    rng = np.random.default_rng(size)
    x, dy = rng.standard_normal((2, size, 2 * size)).astype(np.float32)
    x[0, 0] = 0
    x = x[:, ::2] if order == "neither" else np.asarray(x, order=order)
    dy = np.asarray(dy[:, : x.shape[1]], np.float64, order="F" if order == "F" else "C")
    y = activations.relu(x)
    np.testing.assert_array_equal(y, np.where(x > 0, x, 0))
    assert y.dtype == np.float32
    wanted = np.where(x > 0, dy, 0)
    np.testing.assert_array_equal(activations.relu_gradient(dy, y), wanted)
    activations.relu_gradient(dy, y, dy)
    np.testing.assert_array_equal(dy, wanted)
    activations.relu(x, x)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("shape", "order"), [((16, 10), "C"), ((16, 10), "F"), ((1, 3), "C"), ((600, 500), "C")])
def test_sums_of_columns(shape, order):
    rows = np.asarray(np.random.default_rng(0).standard_normal(shape), order=order)
    np.testing.assert_allclose(blas.column_sums(rows), rows.sum(axis=0), rtol=1e-12, atol=1e-12)


# Which samples go together


@given(st.integers(1, 3000), st.integers(1, 1 << 23), st.integers(0, 1 << 27), st.booleans())
def test_samples_go_together_in_sixteens_or_few(count, largest, weights, packs):
    numbers, most = (1_300_000, 3_300_000) if packs else (640_000, 1_650_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "_NUMBERS", numbers)
        patch.setattr(samples, "_MOST", most)
        rows = together(count, largest, weights)
    sizes, starts = [part.stop - part.start for part in rows], [part.start for part in rows]
    assert starts == [sum(sizes[:k]) for k in range(len(sizes))]
    assert sum(sizes) == count
    if len(sizes) > 1:
        first = sizes[0]
        assert first % 16 == 0 or first in (8, 4, 2)
        assert all(start % min(first, 16) == 0 for start in starts)
        assert first == 2 or first * largest <= max(most, min(weights // 2, 10_000_000))
        assert 2 * (first + 16) * largest > max(numbers, min(weights // 2, 10_000_000))  # they are not many more
        assert min(sizes) > 0


@given(st.integers(1, 3000), st.integers(1, 10**7), st.sampled_from([1, 16]))
def test_parts_of_a_product_are_small_and_of_whole_units(size, work, unit):
    cuts = blas.parts(size, work, unit=unit)
    assert [part.stop for part in cuts] == [part.start for part in cuts[1:]] + [size]
    assert cuts[0].start == 0
    most = max(1, size * blas.SMALL // work)
    assert all(part.stop - part.start <= most for part in cuts)
    assert most < unit or not any(part.start % unit for part in cuts)


@pytest.mark.parametrize(("count", "parts", "sizes"), [(10, 2, [5, 5]), (10, 3, [4, 3, 3]), (2, 3, [1, 1])])
def test_samples_are_cut_into_equal_parts(count, parts, sizes):
    assert [rows.stop - rows.start for rows in cut(count, parts)] == sizes
