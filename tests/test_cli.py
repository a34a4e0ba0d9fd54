"""The command line, as a person uses it: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import gradwise
from gradwise import Dense, MeanSquaredError, Network, SoftmaxCrossEntropy, architectures
from gradwise.cli import main
from gradwise.datasets import tables
from gradwise.errors import LoadError


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Run a command line: (exit code, standard output, standard error)."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(result, message, code=2):
    """One line on standard error, nothing on standard output, the exit code."""
    got, out, err = result
    assert got == code, err
    assert err.startswith("gradwise: ")
    assert err.count("\n") == 1
    assert message in err
    assert "Traceback" not in err
    return out


def flowers(n=120, seed=0):
    """A table of three kinds of flowers, in units far from 0 and 1."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, 3, n)
    x = np.array([[1000, 0.01], [1100, 0.02], [1000, 0.03]])[kinds] + draw.normal(size=(n, 2)) * [20, 0.001]
    return x, np.array(["rose", "tulip", "aster"])[kinds]


def write_csv(path, x, labels, header="petal,weight,species"):
    rows = [f"{a:.6g},{b:.6g},{name}" for (a, b), name in zip(x, labels, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def table(tmp_path):
    return write_csv(tmp_path / "flowers.csv", *flowers())


def test_the_main_job(run, tmp_path):
    """At least 98 % on the digits, as the README promises."""
    code, out, err = run("train", "digits")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[-2] == "saved digits-model.npz"
    name, accuracy = lines[-1].rsplit(" ", 1)
    assert name == "test accuracy"
    assert len(accuracy) == 6
    assert float(accuracy) >= 0.98
    assert "confusion matrix" in out
    counts = [
        line.split()[1:] for line in lines[lines.index("confusion matrix (rows: true, columns: predicted)") + 2 : -2]
    ]
    counts = np.array([[0 if cell == "." else int(cell) for cell in row] for row in counts])
    assert counts.shape == (10, 10)
    assert counts.sum() == 360
    assert counts.trace() / 360 == pytest.approx(float(accuracy), abs=1e-4)
    assert "epoch 1/20" in err
    code, out, _ = run("evaluate", "digits-model.npz", "digits")
    assert code == 0
    assert out.splitlines()[-1] == f"accuracy {accuracy}"


def test_the_same_seed_gives_the_same_model(run):
    for name in ("a", "b"):
        assert run("train", "digits", "--epochs", 1, "--out", f"{name}.npz", "--seed", 3)[0] == 0
    one, other = (gradwise.load(f"{name}.npz").parameters() for name in ("a", "b"))
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path])


def test_a_table_from_training_to_predictions(run, table, tmp_path):
    code, out, err = run("train", table, "--epochs", 60, "--test-split", 0.25)
    assert code == 0, err
    assert "120 samples, 3 classes in 'species'" in out
    assert float(out.split()[-1]) >= 0.9
    net = gradwise.load("flowers-model.npz")
    assert net.classes == ["aster", "rose", "tulip"]
    code, out, err = run("predict", "flowers-model.npz", table, "--out", "answers.csv")
    assert code == 0, err
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert lines[0] == "prediction,probability"
    x, labels = flowers()
    assert len(lines) == 121
    assert np.mean([line.split(",")[0] == label for line, label in zip(lines[1:], labels, strict=True)]) > 0.9
    bare = tmp_path / "bare.csv"
    bare.write_text("petal,weight\n" + "\n".join(f"{a:.6g},{b:.6g}" for a, b in x) + "\n")
    code, out, _ = run("predict", "flowers-model.npz", bare)
    assert code == 0
    assert out.splitlines() == lines
    code, out, _ = run("evaluate", "flowers-model.npz", table)
    assert code == 0
    assert float(out.split()[-1]) > 0.9


def test_the_label_column(run, tmp_path):
    x, labels = flowers()
    path = tmp_path / "t.csv"
    path.write_text("kind,petal,weight\n" + "".join(f"{k},{a},{b}\n" for (a, b), k in zip(x, labels, strict=True)))
    assert run("train", path, "--label", "kind", "--epochs", 1)[0] == 0
    refused(run("train", path, "--label", "kinds", "--epochs", 1), "no column 'kinds'; it has kind, petal, weight")
    refused(run("train", path, "--epochs", 1), "line 2, column 'kind'")  # takes the last column for the label


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.random.default_rng(0).random((60, 6)), np.arange(60) % 3),
        (np.random.default_rng(0).integers(0, 255, (60, 9, 9)).astype(np.uint8), np.arange(60) % 3 + 5),
        (np.random.default_rng(0).random((60, 3, 20, 18)), np.array(["no", "yes"])[np.arange(60) % 2]),
        (np.random.default_rng(0).random((60, 6)), np.eye(3)[np.arange(60) % 3]),
        (np.random.default_rng(0).random((60, 6)), (np.arange(60) % 2).astype(bool)),
        (np.random.default_rng(0).random((60, 6)), np.arange(60.0) % 4),
    ],
)
def test_archives(run, tmp_path, x, y):
    np.savez(tmp_path / "data.npz", x=x, y=y)
    code, out, err = run("train", "data.npz", "--epochs", 1, "--optimizer", "sgd", "--batch-size", 16)
    assert code == 0, err
    assert run("evaluate", "data-model.npz", "data.npz")[0] == 0
    np.savez(tmp_path / "new.npz", x=x)
    code, out, err = run("predict", "data-model.npz", "new.npz")
    assert code == 0, err
    classes = gradwise.load("data-model.npz").classes
    assert {line.split(",")[0] for line in out.splitlines()[1:]} <= set(classes)
    assert len(out.splitlines()) == 61
    refused(run("evaluate", "data-model.npz", "new.npz"), "no labels")


def test_numbers_are_sorted_as_numbers():
    assert tables.classes(np.array(["10", "9", "-1", "9"])) == ["-1", "9", "10"]
    assert tables.classes(np.array(["b", "a", "10"])) == ["10", "a", "b"]


def test_models(run, table, tmp_path):
    assert run("train", table, "--model", "mlp", "--epochs", 1)[0] == 0
    model = tmp_path / "model.json"
    model.write_text(
        json.dumps(
            [
                {"layer": "Dense", "units": 5, "kernel_initializer": {"initializer": "HeNormal"}},
                "Tanh",
                {"layer": "Dense", "units": 3},
            ]
        )
    )
    assert run("train", table, "--model", model, "--epochs", 1)[0] == 0
    code, out, _ = run("summary", "flowers-model.npz")
    assert code == 0
    assert "Tanh()" in out
    assert "kernel_initializer=HeNormal()" in out
    assert "classes aster, rose, tulip" in out
    model.write_text(json.dumps([{"layer": "Dense", "units": 4}]))
    refused(run("train", table, "--model", model), "gives (4,), but there are 3 classes: end it in Dense(3)")
    refused(run("train", table, "--model", "cnn"), "takes images")
    refused(run("train", table, "--model", "transformer"), "--model is mlp, cnn or a .json file")
    nested = [{"layer": "Chain", "layers": ["Flatten", {"layer": "Dense", "units": 3}]}]
    model.write_text(json.dumps(nested))
    assert repr(architectures.described(model)) == "[Chain([Flatten(), Dense(3)])]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "holds a list of layers"),
        ('["Danse"]', "layer 0: there is no layer 'Danse'"),
        ('["ReLU", 3]', "layer 1: a layer is"),
        ('[{"layer": "Dense"}]', "layer 0:.*units"),
        ('[{"layer": "Dense", "units": -1}]', "layer 0: Dense: units is a whole number"),
        ('[{"layer": "Layer"}]', "no layer 'Layer'"),
        ('[{"layer": "Dense", "units": 1, "kernel_initializer": {"initializer": "He"}}]', "no initializer 'He'"),
    ],
)
def test_models_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(LoadError, match=message):
        architectures.described(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["train"], "DATA"),
        (["trian", "digits"], "invalid choice"),
        (["train", "digits", "--epochs", "0"], "'0' is not a whole number of 1 or more"),
        (["train", "digits", "--epochs", "many"], "'many' is not a whole number"),
        (["train", "digits", "--batch-size", "-3"], "whole number of 1 or more"),
        (["train", "digits", "--learning-rate", "0"], "a number above 0"),
        (["train", "digits", "--validation-split", "1"], "from 0 up to, not including, 1"),
        (["train", "digits", "--optimizer", "lbfgs"], "invalid choice"),
        (["train", "digits", "--label", "y"], "--label names a column"),
        (["train", "digits", "--out", "model.txt"], "saved as .npz"),
        (["train", "digits", "--out", "no/folder/model.npz"], "there is no such folder"),
        (["train", "missing.csv"], "missing.csv: no such file"),
        (["train", "data.xlsx"], "data.xlsx: no such file"),
        (["evaluate", "missing.npz", "digits"], "missing.npz: no such file"),
        (["summary", "missing.npz"], "missing.npz: no such file"),
    ],
)
def test_bad_usage(run, tmp_path, arguments, message):
    out = refused(run(*arguments), message)
    assert not out
    assert not list(tmp_path.iterdir()), "nothing may be written"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line is a header"),
        ("1,2,3\n4,5,6\n", "first line is a header"),
        ("a,b,class\n", "has a header, but no rows"),
        ("a;b;class\n1;2;x\n", "separated by commas"),
        ("a,a,class\n1,2,x\n", "two columns are called 'a'"),
        ("class\nx\ny\n", "label column 'class' alone"),
        ("a,b,class\n1,2,x\n1,2\n", "line 3: 2 fields, but the header has 3"),
        ("a,b,class\n1,2,x\n\n1,oops,y\n", "line 4, column 'b': 'oops' is not a finite number"),
        ("a,b,class\n1,nan,x\n", "line 2, column 'b': 'nan'"),
        ("a,b,class\n1,,x\n", "line 2, column 'b': ''"),
        ("a,b,class\n1,1e60,x\n", "'1e60' is not a finite number"),
        ("a,b,class\n1,2,\n", "line 2: the label, 'class', is empty"),
        ("a,b,class\n1,2,x\n3,4,x\n", "all 2 labels in 'class' are 'x'"),
        ("a,b,class\n1,2,0.5\n3,4,1.5\n", "labels of classes, names or whole numbers, but among them is 0.5"),
        ("a,b,class\n1,2,x\n3,4,y\n", "leaves one of the two parts empty"),
    ],
)
def test_tables_that_are_wrong(run, tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    refused(run("train", path), message)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_archives_that_are_wrong(run, tmp_path):
    x, y = np.zeros((9, 3)), np.arange(9) % 2
    for arrays, message in [
        ({"a": x}, "has no array x; it has a"),
        ({"x": x}, "has no array y"),
        ({"x": x, "y": y[:8]}, "one label for each of the 9 samples"),
        ({"x": x.astype(str), "y": y}, "not of numbers"),
        ({"x": x[0], "y": y}, "has shape (3,)"),
        ({"x": x + np.nan, "y": y}, "NaN"),
        ({"x": x, "y": y + 0.5}, "whole numbers"),
    ]:
        np.savez(tmp_path / "d.npz", **arrays)
        refused(run("train", "d.npz"), message)
    np.savez(tmp_path / "d.npz", x=np.array([{}] * 9, dtype=object), y=y)
    refused(run("train", "d.npz"), "plain arrays")
    (tmp_path / "d.npz").write_text("x,y\n1,2\n")
    refused(run("train", "d.npz"), "plain arrays")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00a,b\n")
    refused(run("train", "d.csv"), "not text in UTF-8")
    (tmp_path / "d.txt").write_text("hello")
    refused(run("train", "d.txt"), "neither .csv nor .npz")
    refused(run("evaluate", "d.csv", "digits"), "d.csv is not a gradwise file")


def test_data_that_does_not_fit_the_model(run, tmp_path, table):
    assert run("train", table, "--epochs", 1)[0] == 0
    refused(run("evaluate", "flowers-model.npz", "digits"), "was built for inputs of 2 features")
    other = write_csv(tmp_path / "other.csv", flowers()[0], ["daisy"] * 120)
    refused(run("evaluate", "flowers-model.npz", other), "has the label 'daisy', which the network does not know")


def test_files_are_never_overwritten_by_mistake(run, tmp_path, table):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((30, 2)), y=np.arange(30) % 2)
    before = (tmp_path / "d.npz").read_bytes()
    refused(run("train", "d.npz", "--out", "d.npz"), "is the data file itself")
    refused(run("train", "d.npz", "--out", tmp_path / "." / "d.npz"), "is the data file itself")
    assert (tmp_path / "d.npz").read_bytes() == before
    assert run("train", table, "--epochs", 1)[0] == 0
    kept = table.read_bytes()
    refused(run("predict", "flowers-model.npz", table, "--out", table), "is a file that is read")
    assert table.read_bytes() == kept


def test_divergence_is_a_failure(run, table, tmp_path):
    refused_out = run("train", table, "--learning-rate", 1e30, "--optimizer", "sgd", "--epochs", 5)
    assert refused_out[0] == 1
    assert "gradwise: training stopped in epoch" in refused_out[2]
    assert not (tmp_path / "flowers-model.npz").exists()


def test_without_matplotlib(run, monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(run("train", "digits", "--plots", "pictures"), "pip install 'gradwise[plot]'", code=1)
    assert not list(tmp_path.iterdir())


def test_pictures(run, tmp_path, table):
    pytest.importorskip("matplotlib").use("Agg")
    code, _, err = run("train", "digits", "--epochs", 1, "--plots", "pictures")
    assert code == 0, err
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"history.png", "confusion_matrix.png", "filters.png", "predictions.png", "saliency.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())
    assert run("train", table, "--epochs", 1, "--plots", "table")[0] == 0
    assert {path.name for path in (tmp_path / "table").iterdir()} == {"history.png", "confusion_matrix.png"}
    (tmp_path / "file").write_text("")
    refused(run("train", "digits", "--plots", "file"), "is not a folder")


def test_a_network_over_values(run, tmp_path):
    net = Network([Dense(2)], MeanSquaredError(), input_shape=3, random_state=0)
    net.save(tmp_path / "net.npz")
    x = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    code, out, _ = run("predict", "net.npz", "d.npz")
    assert code == 0
    rows = [[float(cell) for cell in line.split(",")] for line in out.splitlines()[1:]]
    np.testing.assert_allclose(rows, net.predict(x), rtol=1e-6)


def test_a_network_without_class_names(run, tmp_path):
    net = Network([Dense(2)], SoftmaxCrossEntropy(), input_shape=3, random_state=0)
    net.save(tmp_path / "net.npz")
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3)), y=[0, 1, 1, 0])
    code, out, _ = run("evaluate", "net.npz", "d.npz")
    assert code == 0
    assert out.splitlines()[-1] == "accuracy 0.5000"


def test_as_a_process(tmp_path):
    def gradwise_(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "gradwise", *arguments], capture_output=True, text=True, check=False
        )

    done = gradwise_("--version")
    assert (done.returncode, done.stdout) == (0, f"gradwise {gradwise.__version__}\n")
    done = gradwise_("train", "digits", "--epochs", "1", "--out", "m.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("test accuracy 0.")
    done = gradwise_("train", "nothing.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gradwise: nothing.csv: no such file.\n"
    pipe = f"{sys.executable} -m gradwise predict m.npz digits | head -1"
    done = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "prediction,probability\n"
    assert done.stderr == ""
