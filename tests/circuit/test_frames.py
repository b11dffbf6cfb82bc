"""From frames to circuits: hard net, simulation, engine, C and Verilog agree on raw rows of later frames."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CompiledCircuit, Decoding, Engine, emit_verilog
from lgn_lightning.circuit.check.simulate_verilog import simulate_verilog
from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.data import Table
from lgn_lightning.data.table_columns import make_table_rows
from lgn_lightning.deploy.trial import Trial
from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.targets import num_scores_of
from tests.circuit.tables import NAMES, net_of

ROWS = 24
VALUES = {
    "Int64": st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-3, 3),
    "Int32": st.integers(-(2**31), 2**31 - 1),
    "Float64": st.floats(allow_nan=False) | st.sampled_from([0.1, -0.0, np.inf, -np.inf]),
    "Float32": st.floats(width=32, allow_nan=False),
    "boolean": st.booleans(),
    "string": st.sampled_from(["red", "grün", "a,b", 'q"q', "blue"]),
}


#: Codes of columns, besides those that they have by default.
CODES = {"Int64": ["binary", "gray", "one-hot"], "Int32": ["binary", "gray", "one-hot"], "string": ["binary", "gray"]}


@st.composite
def frames(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """A frame to train on, and a later one: other values, missing ones, unseen categories, columns in another order.

    And codes of some columns.
    """
    names = draw(st.permutations(NAMES))
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    train, later, codes = {}, {}, {}
    for name, kind in zip(names, kinds, strict=False):
        values = VALUES[kind]
        optional = values | st.none() if draw(st.booleans()) else values
        first = draw(st.lists(optional, min_size=ROWS, max_size=ROWS))
        first[:2] = draw(st.lists(values, min_size=2, max_size=2, unique_by=repr))  # something to learn from
        again = values | st.none() | (st.just("pink") if kind == "string" else st.sampled_from(first))
        train[name] = pd.array(first, dtype=kind)
        later[name] = pd.array(draw(st.lists(again, min_size=ROWS, max_size=ROWS)), dtype=kind)
        if kind in CODES and draw(st.booleans()):
            codes[name] = draw(st.sampled_from(CODES[kind]))
    train["the target"] = np.arange(ROWS) % 2
    order = draw(st.permutations(sorted(later)))
    return pd.DataFrame(train), pd.DataFrame(later)[list(order)], codes


@pytest.mark.parametrize("target", ["classes", "yes_no", "labels", "number"])
@settings(max_examples=3, deadline=None)
@given(frames(), st.sampled_from(["quantile", "even"]), st.integers(0, 9))
def test_all_agree_on_raw_rows_of_frames(
    target: str, made: tuple[pd.DataFrame, pd.DataFrame, dict[str, str]], spacing: str, seed: int
) -> None:
    frame, later, codes = made
    encoding: dict[str, Any] = {"spacing": spacing, "thresholds": 4, "codes": codes}
    table = Table.of_frame(frame, "the target", test_fraction=0, val_fraction=0, **encoding)
    try:
        comparisons = table.comparisons
    except Exception as error:  # columns of one value alone
        assert "nothing to learn" in str(error)  # noqa: PT017
        return
    width = max(24, 2 * len(comparisons))  # gates enough to read all bits
    net = net_of(comparisons, seed, width, num_scores_of(target, 2))
    module = LogicModule(net, 2, target=target)
    module.target.fit(torch.randn(ROWS, 2) if target == "number" else torch.zeros(ROWS, 2))
    rows, notes = make_table_rows(table.columns, later, "later")
    texts = {name: later[name].dropna() for name in later if later[name].dtype == "string"}
    unseen = {name: int((~values.isin(frame[name])).sum()) for name, values in texts.items()}
    assert notes.unseen.items() >= {name: count for name, count in unseen.items() if count}.items()
    circuit = Circuit.from_module(net).with_decoding(Decoding(**module.target.decoding()))
    raw: Any = rows.view(np.uint8).reshape(ROWS, -1)
    with torch.no_grad():
        said = module.target.decide(module.target.counts(net(torch.from_numpy(raw)), hard=True)).numpy()
    assert np.array_equal(circuit.predict(rows), said)
    assert np.array_equal(Engine(circuit).predict(rows), said)
    trial = Trial.of_net(circuit, net, raw)
    trial.compare(circuit.scores(rows), "simulation")
    trial.compare(Engine(circuit)(rows), "engine")
    small = circuit.optimize()
    with tempfile.TemporaryDirectory() as folder:
        compile_source(small.to_c(), Path(folder) / "a.so")
        compiled = CompiledCircuit(Path(folder) / "a.so")
        trial.compare(compiled.scores(rows), "compiled C")
        assert np.array_equal(compiled.predict(rows), said)
        assert np.array_equal([compiled.predict(rows[i : i + 1])[0] for i in range(ROWS)], said)
    if shutil.which("iverilog") is not None:
        assert simulate_verilog(small, emit_verilog(small, name="net"), raw, "net").equal
