"""What the pictures show, read from what was drawn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from gradwise import Chain, Conv2D, Dense, Flatten, MeanSquaredError, Network, ReLU, SoftmaxCrossEntropy, plot  # noqa: E402
from gradwise.errors import ArgumentError, DataError, MissingExtraError, NotBuiltError, ShapeError  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def net():
    layers = [Chain([Conv2D(6, 3), ReLU()]), Flatten(), Dense(4)]
    return Network(layers, SoftmaxCrossEntropy(), input_shape=(1, 7, 8), random_state=0)


X = np.random.default_rng(0).random((9, 1, 7, 8))
Y = np.arange(9) % 4


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_history():
    run = {
        "loss": [2.0, 1.0],
        "accuracy": [0.5, 0.75],
        "val_loss": [2.5, 1.5],
        "val_accuracy": [0.25, 0.5],
        "seconds": [1.0, 1.0],
    }
    ax = plot.history(run)
    right = next(other for other in ax.figure.axes if other is not ax)
    drawn = {
        line.get_label(): (line.get_ydata().tolist(), line.get_linestyle(), line.get_color())
        for part in (ax, right)
        for line in part.lines
    }
    assert set(drawn) == {"loss", "accuracy", "validation loss", "validation accuracy"}
    assert drawn["loss"][:2] == ([2.0, 1.0], "-")
    assert drawn["validation accuracy"][:2] == ([0.25, 0.5], "--")
    assert drawn["loss"][2] == drawn["validation loss"][2] != drawn["accuracy"][2]
    assert ax.lines[0].get_xdata().tolist() == [1, 2]
    assert right.get_ylabel() == "accuracy"


def test_history_of_one_epoch_and_of_one_kind():
    ax = plot.history({"loss": [1.0]})
    assert ax.lines[0].get_marker() == "o"
    assert len(ax.figure.axes) == 1
    assert plot.history({"accuracy": [0.5, 0.6]}).get_ylabel() == "accuracy"
    for empty in ({}, {"loss": []}, {"seconds": [1.0]}):
        with pytest.raises(DataError, match="no finished epoch to draw: train for one epoch"):
            plot.history(empty)
    with pytest.raises(DataError, match="a mapping name -> one number per epoch, but got list"):
        plot.history([1.0, 2.0])
    with pytest.raises(DataError, match="'loss' is no list of numbers"):
        plot.history({"loss": 1.0})


def test_epochs_are_whole_numbers_and_the_points_of_one_apart():
    def ticks(ax):
        low, high = ax.get_xlim()
        return [tick for tick in ax.get_xticks() if low <= tick <= high]

    one = {"loss": [2.0], "accuracy": [0.3], "val_loss": [1.5], "val_accuracy": [0.4]}
    ax = plot.history(one)
    assert ticks(ax) == [1]
    ax.figure.canvas.draw()
    heights = sorted(
        part.transData.transform((1, line.get_ydata()[0]))[1] for part in ax.figure.axes for line in part.lines
    )
    assert len(heights) == 4
    assert np.diff(heights).min() > 10  # pixels
    assert {line.get_label(): line.get_fillstyle() for line in ax.lines} == {"loss": "full", "validation loss": "none"}
    for epochs in (2, 3, 40):
        assert all(tick == int(tick) for tick in ticks(plot.history({"loss": [1.0] * epochs})))


def test_the_history_s_legend_is_above_all_lines():
    ax = plot.history({"loss": [2.0, 1.0], "accuracy": [0.5, 0.75]})
    right = next(other for other in ax.figure.axes if other is not ax)
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["loss", "accuracy"]
    assert ax.get_legend() is None


def test_history_of_a_run(net):
    run = net.fit(X, Y, epochs=2, verbose=False)
    np.testing.assert_allclose(plot.history(run).lines[0].get_ydata(), run["loss"])


def test_confusion_matrix():
    ax = plot.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2], labels=["a", "b", "c"])
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 0, 0], [0, 1, 0], [0, 1, 1]])
    assert sorted(texts(ax)) == ["1", "1", "1", "1"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("predicted", "true", "3 of 4 right")
    rows = plot.confusion_matrix(np.eye(5)[[0, 1]], np.eye(5)[[0, 0]])
    assert rows.images[0].get_array().shape == (5, 5)
    assert plot.confusion_matrix([0], [0], labels=["a", "b"]).images[0].get_array().shape == (2, 2)
    dark = plot.confusion_matrix([0] * 9 + [1], [0] * 9 + [0])
    assert {t.get_text(): t.get_color() for t in dark.texts} == {"9": "white", "1": "black"}


def test_confusion_matrix_of_what_does_not_fit():
    with pytest.raises(DataError, match="2 predictions and 1 targets"):
        plot.confusion_matrix([0, 1], [0])
    with pytest.raises(DataError, match="0 predictions"):
        plot.confusion_matrix(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ArgumentError, match="labels has 1 names, but there are 2 classes"):
        plot.confusion_matrix([0, 1], [0, 1], labels=["a"])
    with pytest.raises(ArgumentError, match="labels has 3 names, but there are 2 classes"):
        plot.confusion_matrix(np.eye(2), [0, 1], labels=["a", "b", "c"])
    for other in ([0, 4], np.eye(5)[[0, 4]]):
        with pytest.raises(DataError, match="of 2 and of 5 classes"):
            plot.confusion_matrix(np.eye(2), other)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0], [1]], ShapeError, r"has shape \(2, 1\)\. Labels are prediction\[:, 0\]"),
        (0, ShapeError, r"holds labels \(N,\) or rows \(N, classes\), but has shape \(\)"),
        (np.zeros((2, 2, 2)), ShapeError, r"has shape \(2, 2, 2\)"),
        ([0.0, 1.0], DataError, r"an array of float64\. Whole numbers become labels by prediction\.astype\(int\)"),
        ([-1, 0], DataError, "whole numbers from 0, but got a smallest one of -1"),
        (["a", "b"], DataError, "Number the classes"),
        ([[0.0, np.nan], [1.0, 0.0]], DataError, "some are NaN"),
    ],
)
def test_labels_that_are_none(labels, error, message):
    with pytest.raises(error, match=message):
        plot.confusion_matrix(labels, [0, 1])
    with pytest.raises(error, match=message):
        plot.predictions(X[:2], [0, 1], labels)


def test_filters(net):
    ax = plot.filters(net)
    canvas = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert canvas.shape == (2 * 16 + 1, 3 * 16 + 1)  # 2 x 3 tiles of 3 x 3 numbers of 5 x 5 pixels, with gaps of one
    kernel = net.parameters()["0.0.kernel"][:, :, 0, 4]
    tile = canvas[17:32, 17:32]
    np.testing.assert_allclose(tile, np.kron(kernel / np.abs(kernel).max(), np.ones((5, 5))), rtol=1e-6)
    assert np.isnan(canvas[[0, 16, 32]]).all()
    assert np.isnan(canvas[:, [0, 16, 32, 48]]).all()
    colours = ax.images[0].get_cmap()
    assert np.abs(colours.get_bad() - colours(0.5)).max() > 0.2  # a gap is told from a weight of 0
    assert ax.get_title() == "6 kernels of 3 x 3"
    assert ax.images[0].get_clim() == (-1, 1)


def test_filters_of_several_channels():
    layer = Conv2D(20, 2)
    layer.build((3, 5, 5), 0)
    ax = plot.filters(layer)
    canvas = ax.images[0].get_array()
    assert canvas.shape == (16 * 11 + 1, 3 * 11 + 1)
    scales = np.abs(layer.kernel).max(axis=(0, 1, 2))  # one for each filter, over its channels
    np.testing.assert_allclose(canvas[23, 12], layer.kernel[0, 0, 1, 2] / scales[2], rtol=1e-6)
    assert ax.get_title() == "48 of 60 kernels of 2 x 2"
    with pytest.raises(ArgumentError, match=r"filters draws the kernels of a Conv2D layer, but .* has none"):
        plot.filters(Network([Dense(3)], input_shape=64))
    with pytest.raises(ArgumentError, match="but 3 has none"):
        plot.filters(3)
    with pytest.raises(NotBuiltError, match="has no kernel yet"):
        plot.filters(Conv2D(2))


def test_filters_of_many_kernels_of_one_channel():
    layer = Conv2D(300, 1)
    layer.build((1, 5, 5), np.random.default_rng(0))
    ax = plot.filters(layer)
    assert ax.get_title() == "256 of 300 kernels of 1 x 1"
    assert ax.images[0].get_array().shape == (16 * 6 + 1, 16 * 6 + 1)


def test_predictions():
    ax = plot.predictions(X, Y, np.where(np.arange(9) == 2, 0, Y), count=4)
    assert len(ax.images) == 4
    np.testing.assert_array_equal(ax.images[1].get_array(), X[1, 0])
    assert [(t.get_text(), t.get_color()) for t in ax.texts] == [
        ("true 0, predicted 0", "dimgray"),
        ("true 1, predicted 1", "dimgray"),
        ("true 2, predicted 0", "red"),
        ("true 3, predicted 3", "dimgray"),
    ]
    assert len(plot.predictions(X, np.eye(4)[Y], np.eye(4)[Y]).images) == 9
    colour = plot.predictions(np.random.default_rng(0).random((2, 3, 5, 5)) * 255, [0, 1], [0, 1])
    assert colour.images[0].get_array().shape == (5, 5, 3)
    assert colour.images[0].get_array().max() <= 1
    ones = plot.predictions(np.ones((1, 3, 5, 5), bool), [0], [0])
    np.testing.assert_array_equal(ones.images[0].get_array(), np.ones((5, 5, 3)))


@pytest.mark.parametrize("inches", [2.5, 4.0, 8.0])
@pytest.mark.parametrize("labels", [Y, Y + 1000])
def test_words_below_the_images_do_not_meet(inches, labels):
    figure, ax = plt.subplots(figsize=(inches, inches))
    plot.predictions(X, labels, labels, ax=ax)
    figure.canvas.draw()
    boxes = [artist.get_window_extent() for artist in (*ax.texts, *ax.images)]
    assert len(boxes) == 18
    assert not any(boxes[k].overlaps(boxes[m]) for k in range(9) for m in range(18) if k != m)
    if inches != 4.0:  # small axes have two lines, large ones have one
        assert {text.get_text().count("\n") for text in ax.texts} == {int(inches < 4)}


def test_predictions_of_what_does_not_fit():
    with pytest.raises(DataError, match="9 images, 8 targets and 9 predictions"):
        plot.predictions(X, Y[:8], Y)
    with pytest.raises(ShapeError, match=r"x holds images .* but has shape \(9, 2, 7, 8\)"):
        plot.predictions(np.repeat(X, 2, axis=1), Y, Y)
    with pytest.raises(
        DataError, match="0 images, 0 targets and 0 predictions: give as many of each, and at least one"
    ):
        plot.predictions(X[:0], Y[:0], Y[:0])
    for count in (0, 2.5):
        with pytest.raises(ArgumentError, match="count is a whole number of 1 or more"):
            plot.predictions(X, Y, Y, count=count)


def test_saliency(net):
    ax = plot.saliency(net, X[3], Y[3])
    np.testing.assert_allclose(ax.images[1].get_array(), np.abs(net.input_gradient(X[3:4], Y[3:4]))[0, 0])
    np.testing.assert_array_equal(ax.images[0].get_array(), X[3, 0])
    predicted = net.predict(X[3:4]).argmax()
    assert ax.get_title() == f"true 3, predicted {predicted}"
    same = plot.saliency(net, X[3:4], [3])
    np.testing.assert_array_equal(same.images[1].get_array(), ax.images[1].get_array())
    rows = plot.saliency(net, X[3], np.eye(4)[3])
    np.testing.assert_allclose(rows.images[1].get_array(), ax.images[1].get_array(), rtol=1e-5)
    assert ax.figure.axes[1].get_ylabel() == "|dL/dx|"
    colours = ax.images[1].get_cmap()
    assert colours(0.0)[3] == 0  # where nothing depends on a pixel, it is seen as it is
    assert colours(1.0) == (1, 0, 0, 0.9)


def test_saliency_of_what_does_not_fit(net):
    with pytest.raises(ShapeError, match=r"takes one image, .*, but got shape \(9, 1, 7, 8\)\. Draw one of them"):
        plot.saliency(net, X, Y)
    with pytest.raises(ShapeError, match=r"takes one image, .*, but got shape \(7, 8\)\.$"):
        plot.saliency(net, X[0, 0], 0)
    with pytest.raises(DataError, match="labels from 0 to 3"):
        plot.saliency(net, X[0], 7)
    with pytest.raises(ArgumentError, match="saliency explains a Network with its loss, but got Chain"):
        plot.saliency(Chain([Dense(3)]), X[0], 0)


def test_saliency_of_values_and_colours():
    net = Network([Flatten(), Dense(2)], MeanSquaredError(), input_shape=(3, 4, 4), random_state=0)
    x = np.random.default_rng(0).random((3, 4, 4))
    ax = plot.saliency(net, x, [0.5, 1.0])
    wanted = np.abs(net.input_gradient(x[None], np.array([[0.5, 1.0]])))[0].max(axis=0)
    np.testing.assert_allclose(ax.images[1].get_array(), wanted)
    assert ax.get_title() == ""


def test_all_draw_into_the_axes_given(net):
    for draw in (
        lambda ax: plot.history({"loss": [1.0, 2.0]}, ax=ax),
        lambda ax: plot.confusion_matrix([0], [0], ax=ax),
        lambda ax: plot.filters(net, ax=ax),
        lambda ax: plot.predictions(X, Y, Y, ax=ax),
        lambda ax: plot.saliency(net, X[0], Y[0], ax=ax),
    ):
        figure, ax = plt.subplots()
        assert draw(ax) is ax
        assert ax.has_data()
        assert plt.gcf() is figure
        figure.canvas.draw()
        assert draw(None) is not ax


def test_given_arrays_are_left_as_they_are(net):
    x, y = X.copy(), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    plot.predictions(x, y, y)
    plot.saliency(net, x[0], y[0])
    plot.confusion_matrix(y, y)


@pytest.mark.parametrize(
    "draw",
    [
        lambda net: plot.history({"loss": [1.0]}),
        lambda net: plot.confusion_matrix([0], [0]),
        lambda net: plot.filters(net),
        lambda net: plot.predictions(X, Y, Y),
        lambda net: plot.saliency(net, X[0], Y[0]),
    ],
    ids=["history", "confusion_matrix", "filters", "predictions", "saliency"],
)
def test_without_matplotlib(monkeypatch, net, draw):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"gradwise.plot needs matplotlib: pip install 'gradwise\[plot\]'"):
        draw(net)
