"""PyTorch, eager; option "channels_last" for its other memory format."""

from __future__ import annotations

import sys

import torch
from torch import nn

from ..layers import LAYERS
from ..networks import data, images, shapes


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def network(name: str, option: str):
    made = []
    for layer, given, _ in shapes(name):
        if layer.kind == "dense":
            made.append(nn.Linear(given[0], layer.size))
        elif layer.kind == "conv":
            made.append(nn.Conv2d(given[0], layer.size, 3))
        else:
            made.append({"pool": nn.MaxPool2d(layer.size or 1), "relu": nn.ReLU(), "flatten": nn.Flatten()}[layer.kind])
    model = nn.Sequential(*made)
    return model.to(memory_format=torch.channels_last) if option == "channels_last" else model


def tensors(name: str, batch: int, option: str):
    x, y = map(torch.from_numpy, data(name, batch))
    return (x.to(memory_format=torch.channels_last) if option == "channels_last" and images(name) else x), y


def _optimizer(model, optimizer: str, rate: float = 0.001):
    return {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](model.parameters(), rate)


def train(name: str, batch: int, optimizer: str, option: str):
    model, (x, y) = network(name, option), tensors(name, batch, option)
    steps, loss = _optimizer(model, optimizer), nn.CrossEntropyLoss()

    def step():
        steps.zero_grad()
        value = loss(model(x), y)
        value.backward()
        steps.step()
        return value.detach()

    return step


def infer(name: str, batch: int, option: str):
    model, (x, _) = network(name, option).eval(), tensors(name, batch, option)

    def step():
        with torch.inference_mode():
            model(x)

    return step


def fit(name: str, x, y, batch: int, option: str):
    """The plain loop, with the same validation and a bar of tqdm's."""
    from tqdm import tqdm

    cut = int(len(x) * 0.9)
    tensors_ = [torch.from_numpy(part) for part in (x[:cut], y[:cut], x[cut:], y[cut:])]
    sets = [torch.utils.data.TensorDataset(*tensors_[:2]), torch.utils.data.TensorDataset(*tensors_[2:])]
    loader = torch.utils.data.DataLoader(sets[0], batch_size=batch, shuffle=True)
    held = torch.utils.data.DataLoader(sets[1], batch_size=256)
    model, loss = network(name, option), nn.CrossEntropyLoss()
    steps = _optimizer(model, "sgd", 0.01)

    def epoch():
        model.train()
        right = total = 0.0
        for images_, labels in tqdm(loader, file=sys.stderr, disable=None):
            steps.zero_grad()
            logits = model(images_)
            value = loss(logits, labels)
            value.backward()
            steps.step()
            total += value.item()
            right += (logits.argmax(1) == labels).sum().item()
        model.eval()
        with torch.inference_mode():
            for images_, labels in held:
                logits = model(images_)
                total += loss(logits, labels).item()
                right += (logits.argmax(1) == labels).sum().item()

    return epoch


def layer(name: str, which: str, option: str):
    kind, shape, size, filters, stride, padding = LAYERS[name]
    made = {
        "conv": lambda: nn.Conv2d(shape[1], filters, size, stride, padding),
        "max": lambda: nn.MaxPool2d(size, stride, padding),
        "average": lambda: nn.AvgPool2d(size, stride, padding, count_include_pad=False),
        "dense": lambda: nn.Linear(shape[1], filters),
        "relu": nn.ReLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
    }[kind]()
    last = option == "channels_last" and len(shape) == 4
    order = torch.channels_last if last else torch.contiguous_format
    made, x = made.to(memory_format=order), torch.randn(shape).contiguous(memory_format=order)
    x.requires_grad_(which == "both")
    dy = torch.randn_like(made(x))

    def step():
        if which == "forward":
            with torch.inference_mode():
                made(x)
            return
        x.grad = None
        made.zero_grad()
        made(x).backward(dy)

    return step
