import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lgn_lightning.circuit import Circuit
from lgn_lightning.losses import FocalLoss
from lgn_lightning.sklearn import LogicGateClassifier, LogicGateRegressor

SMALL = {"width": 240, "depth": 2, "steps": 300, "batch_size": 64}
#: Enough for the rows of the checks.
QUICK = {"width": 120, "depth": 2, "steps": 150, "batch_size": 64}


@parametrize_with_checks(
    [LogicGateClassifier(**QUICK), LogicGateRegressor(**QUICK)],
)
def test_the_checks_of_scikit_learn(estimator, check) -> None:
    check(estimator)


def test_classes_of_real_rows() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    names = np.array(["malignant", "benign"])
    model = LogicGateClassifier(**SMALL, random_state=0).fit(x_train, names[y_train])
    assert model.score(x_test, names[y_test]) > 0.9
    proba = model.predict_proba(x_test)
    assert proba.sum(1) == pytest.approx(1)
    assert (model.classes_[proba.argmax(1)] == model.predict(x_test)).mean() > 0.99
    circuit = model.circuit_
    assert isinstance(circuit, Circuit)
    assert circuit.class_names == ("benign", "malignant")
    assert np.array_equal(model.classes_[circuit.predict(x_test)], model.predict(x_test))
    with torch.no_grad():
        rows = torch.from_numpy(model._rows(x_test)[0].view(np.uint8).reshape(len(x_test), -1))
        assert np.array_equal(model.net_(rows).argmax(1).numpy(), circuit.predict(x_test))


def test_numbers_one_and_several() -> None:
    x, y = load_diabetes(return_X_y=True)
    model = LogicGateRegressor(**SMALL, random_state=0).fit(x, y)
    assert model.score(x, y) > 0.5
    several = LogicGateRegressor(**{**SMALL, "width": 480}, random_state=0).fit(x, np.stack([y, -2 * y + 5], 1))
    assert several.predict(x).shape == (len(x), 2)
    assert several.score(x, np.stack([y, -2 * y + 5], 1)) > 0.4


def test_frames_with_texts_and_missing_values() -> None:
    generator = np.random.default_rng(0)
    colour = generator.choice(["red", "green", "blue"], 300)
    size = generator.normal(size=300)
    frame = pd.DataFrame({"colour": colour, "size": np.where(generator.random(300) < 0.1, np.nan, size)})
    y = np.where((colour == "red") | (size > 1), "yes", "no")
    model = LogicGateClassifier(**SMALL, random_state=0).fit(frame, y)
    assert model.score(frame, y) > 0.9
    assert [column.kind for column in model.columns_] == ["category", "float64"] or model.columns_[0].kind == "category"
    other = frame.assign(colour="violet")
    assert set(model.predict(other)) <= {"yes", "no"}
    with pytest.raises(ValueError, match=r"feature names|lacks"):
        model.predict(frame.drop(columns="size"))


def test_tools_of_scikit_learn() -> None:
    x, y = load_iris(return_X_y=True)
    model = LogicGateClassifier(width=120, depth=2, steps=150, random_state=0)
    assert cross_val_score(make_pipeline(StandardScaler(), model), x, y, cv=3).mean() > 0.85
    search = GridSearchCV(model, {"thresholds": [4, 16]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.85
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict(x), search.best_estimator_.predict(x))
    assert clone(model).get_params() == model.get_params()


def test_losses_weights_and_early_stopping() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3))
    y = (x[:, 0] + 0.8 * generator.normal(size=400) > 1.2).astype(int)
    plain = LogicGateClassifier(**SMALL, random_state=0).fit(x, y)
    balanced = LogicGateClassifier(**SMALL, random_state=0, class_weight="balanced").fit(x, y)
    assert balanced.predict(x).sum() > plain.predict(x).sum()
    for smoothing in (0.0, 0.5):  # weights of 1 are none
        options = {**SMALL, "random_state": 0, "label_smoothing": smoothing}
        alone = LogicGateClassifier(**options).fit(x, y).predict_proba(x)
        weighted = LogicGateClassifier(**options, class_weight={0: 1, 1: 1}).fit(x, y).predict_proba(x)
        assert np.array_equal(weighted, alone)
    focal = LogicGateClassifier(**SMALL, random_state=0, loss=FocalLoss(2.0)).fit(x, y)
    assert focal.score(x, y) > 0.8
    stopped = LogicGateClassifier(**{**SMALL, "steps": 5000}, random_state=0, patience=2).fit(x, y)
    assert stopped.n_iter_ < 5000
    with pytest.raises(ValueError, match="class_weight is that of the usual loss"):
        LogicGateClassifier(**SMALL, class_weight="balanced", loss=FocalLoss()).fit(x, y)
    with pytest.raises(ValueError, match="one class"):
        LogicGateClassifier(**SMALL).fit(x, np.zeros(400))


def test_categories_are_names_whatever_type_they_come_in() -> None:
    generator = np.random.default_rng(0)
    for codes in ([10, 20, 30, 40], [0, 1, 2, 3]):
        area, size = generator.choice(codes, 400), generator.normal(size=400)
        y = np.isin(area, codes[1::2])
        trained = pd.DataFrame({"area": pd.Series(area).astype("category"), "size": size})
        model = LogicGateClassifier(**SMALL, random_state=0).fit(trained, y)
        expected = model.predict(trained)
        assert (expected == y).mean() > 0.95
        for other in (
            pd.DataFrame({"area": area, "size": size}),
            pd.DataFrame({"area": area.astype(float), "size": size}),
            pd.DataFrame({"area": area.astype(str), "size": size}),
        ):
            assert np.array_equal(model.predict(other), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names of columns
            for array in (trained.to_numpy(object), np.stack([area, size], 1)):
                assert np.array_equal(model.predict(array), expected)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([f"id{i}" for i in range(60)], "leave it out: "),
        ([f"id{i}" for i in range(60)], "is a category: "),
        (pd.date_range("2020", periods=60), "leave it out: "),
        ([*map(str, range(50)), *["?"] * 10], "mean 'missing', "),
        ([*map(str, range(50)), *["?"] * 10], "says so, else "),
    ],
)
def test_an_error_of_a_column_is_mended_by_what_it_says(column: Any, says: str) -> None:
    frame = pd.DataFrame({"a": np.arange(60) % 7, "b": column})
    y, model = np.arange(60) % 2, LogicGateClassifier(**{**QUICK, "steps": 2})
    with pytest.raises(ValueError, match="column 'b'") as error:
        model.fit(frame, y)
    line = str(error.value).partition(says)[2].partition("; or")[0].partition(" says so")[0]
    model.fit(eval(line, {"X": frame, "float": float}), y)


def test_fractions_in_a_column_of_whole_numbers_are_mended_by_what_the_error_says() -> None:
    frame = pd.DataFrame({"a": np.arange(60) % 7, "b": ["u", "v"] * 30})
    y, model = np.arange(60) % 2, LogicGateClassifier(**{**QUICK, "steps": 2})
    halves = frame.assign(a=frame["a"] + 0.5)
    with pytest.raises(ValueError, match=r"column 'a' holds whole numbers, but row 1 is 0\.5") as error:
        model.fit(frame, y).predict(halves)
    assert "--data" not in str(error.value)
    line = str(error.value).partition("; fit with ")[2].partition(" takes both")[0]
    model.fit(eval(line, {"X": frame}), y).predict(halves)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps == 0, must be >= 1"),
        ({"steps": -1}, ValueError, "steps == -1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an instance of"),
        ({"batch_size": True}, TypeError, "batch_size=True is no number"),
        ({"width": 0}, ValueError, "width == 0"),
        ({"depth": 1.5}, TypeError, "depth must be an instance of"),
        ({"thresholds": 0}, ValueError, "thresholds == 0"),
        ({"loss": "x"}, TypeError, "loss='x' is no torch module"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate == 0.0"),
        ({"validation_fraction": 30}, ValueError, "validation_fraction == 30, must be < 1"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction == 1.0"),
        ({"validation_fraction": 0, "patience": 1}, ValueError, "patience waits for validations"),
        ({"validation_fraction": 0.01, "patience": 1}, ValueError, "12 rows are too few to hold a share of 0.01 out"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], error: type, message: str) -> None:
    x = np.random.default_rng(0).normal(size=(12, 2))
    with pytest.raises(error, match=message):
        LogicGateClassifier(**{**SMALL, **arguments}).fit(x, x[:, 0] > 0)


def test_dates_are_refused_as_everywhere() -> None:
    frame = pd.DataFrame({"a": np.arange(50.0), "day": pd.Timestamp("2020-01-01")})
    with pytest.raises(ValueError, match="'day' holds dates"):
        LogicGateClassifier(**SMALL).fit(frame, np.arange(50) > 20)
    with pytest.raises(ValueError, match="X holds dates or durations"):
        LogicGateClassifier(**SMALL).fit(np.arange(50).astype("m8[h]")[:, None], np.arange(50) > 20)
