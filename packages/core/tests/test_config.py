"""Config files: what is accepted, and the one line that says what is wrong."""

import ast
import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armillary.core._cli import _inputs
from armillary.core._config import Config, ConfigError, load


@pytest.fixture
def write(tmp_path):
    """Write a config, and give its path."""

    def to(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to


@pytest.fixture(autouse=True)
def _untouched_imports(monkeypatch):
    """What a model's import adds to the path and to the modules goes with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in list(sys.modules):
        if name.partition(".")[0] in ("mine", "mine_too", "helper_of_mine", "broken", "pack"):
            del sys.modules[name]


def load_model(path):
    """The model of a config that has one."""
    config = load(path)
    return _inputs.load_model(config, config.model)


def test_everything_that_is_not_said_has_the_default_of_infer(write):
    from armillary.core import infer

    config = load(write("model: mine:model"))
    defaults = inspect.signature(infer).parameters
    for name in ("num_warmup", "num_samples", "num_chains", "chain_method", "sampler", "evidence", "checkpoint_every"):
        assert getattr(config, name) == defaults[name].default
    assert config.seed == 0
    assert config.precision == "float64"


def test_every_key_is_read(write):
    config = load(
        write("""
model: "mine.py:model"
data: {y: y.npy, n: 3, flags: [true, false]}
sampler: {name: nuts, target_acceptance_rate: 0.9, step_size: 1e-3}
seed: 7
num_warmup: 0
num_samples: 10
num_chains: 1
chain_method: sequential
checkpoint_every: 5
precision: float32
output: out
versions: {jax: "0.12.0"}
""")
    )
    assert config.model == "mine.py:model"
    assert config.data == {"y": "y.npy", "n": 3, "flags": [True, False]}
    assert (config.sampler, config.sampler_options) == ("nuts", {"target_acceptance_rate": 0.9, "step_size": 0.001})
    assert (config.seed, config.num_warmup, config.num_samples, config.num_chains) == (7, 0, 10, 1)
    assert (config.chain_method, config.checkpoint_every, config.precision) == ("sequential", 5, "float32")
    assert (config.output, config.versions) == ("out", {"jax": "0.12.0"})


WRONG = [
    ("", "expected keys and values"),
    ("- model", "expected keys and values"),
    ("model: {a: 3}", 'model.a = 3: expected "module:function" or "file.py:function"'),
    ("model: {a/b: 'm:f'}", "model.a/b = 'm:f': expected a name of letters"),
    ("model: {}", 'model = {}: expected "module:function"'),
    ("data: {}", 'model is missing: expected "module:function" or "file.py:function"'),
    ("model: mine", "model = 'mine': expected \"module:function\""),
    ("model: 3", "model = 3: expected"),
    ("model: mine:model\nnum_sample: 10", "num_sample = 10: unknown key; did you mean 'num_samples'?"),
    ("model: mine:model\nqqqq: 1", "qqqq = 1: unknown key; the keys are model, data, sampler"),
    ("model: mine:model\nnum_warmup: ten", "num_warmup = 'ten': expected a non-negative integer"),
    ("model: mine:model\nnum_warmup: -1", "num_warmup = -1: expected a non-negative integer"),
    ("model: mine:model\nnum_samples: 0", "num_samples = 0: expected a positive integer"),
    ("model: mine:model\nnum_samples: 1.5", "num_samples = 1.5: expected a positive integer"),
    ("model: mine:model\nnum_chains: yes", "num_chains = True: expected a positive integer"),
    ("model: mine:model\nnum_chains:", "num_chains = None: expected a positive integer"),
    ("model: mine:model\nseed: 4294967296", "seed = 4294967296: expected an integer from 0 to 4294967295"),
    ("model: mine:model\nchain_method: vectorised", "did you mean 'vectorized'?"),
    ("model: mine:model\nprecision: 64", "precision = 64: expected one of float64, float32"),
    ("model: mine:model\noutput: 3", "output = 3: expected the path of a directory"),
    ("model: mine:model\nversions: {jax: 1.0}", "versions = {'jax': 1.0}: expected a mapping"),
    ("model: mine:model\nsampler: nutz", "sampler = 'nutz': no installed distribution offers the sampler 'nutz'"),
    ("model: mine:model\nsampler: {name: nutz}", "sampler.name = 'nutz': no installed distribution"),
    ("model: mine:model\nsampler: {step_size: 1}", "sampler = {'step_size': 1}: expected the name of a sampler"),
    ("model: mine:model\nsampler: 3", "sampler = 3: expected the name of a sampler"),
    ("model: mine:model\nsampler: {name: nuts, 3: 4}", "sampler.3 = 4: expected the name of an option"),
    ("model: mine:model\nevidence: qqqq", "evidence = 'qqqq': no installed distribution offers the evidence_estimator"),
    ("model: mine:model\ndata: [1]", "data = [1]: expected a mapping from the model's arguments"),
    ("model: mine:model\ndata: {y: {z: 1}}", "data.y = {'z': 1}: expected a number"),
    ("model: mine:model\ndata: {y: }", "data.y = None: expected a number"),
    ("model: mine:model\ndata: {a b: 1}", "data.a b = 1: expected the name of an argument"),
    ("model: mine:model\nmodel: mine:other", "not valid YAML: the key 'model' is there twice (line 2, column 1)"),
    ("model: [", "not valid YAML"),
    ("model: mine:model\ndata: {y: [" + "1, " * 100 + "{}]}\nqqqq: 1", "qqqq = 1"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_an_error_names_the_file_the_key_the_value_and_what_was_expected(write, text, expected):
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "no.yaml")


def test_reading_a_config_imports_no_jax(write):
    path = write("model: mine:model\nsampler: nuts\ndata: {y: y.npy}")
    code = (
        "import sys; from pathlib import Path; from armillary.core._config import load; "
        f"load(Path({str(path)!r})); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The range in which a Python float is written and read back by YAML as it is: it is one of doubles.
numbers = st.one_of(st.booleans(), st.integers(-(10**15), 10**15), st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=50, deadline=None)
@given(
    data=st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.one_of(numbers, st.lists(numbers))),
    seed=st.integers(0, 2**32 - 1),
    num_samples=st.integers(1, 10**9),
    options=st.dictionaries(st.sampled_from(["step_size", "dense"]), numbers),
)
def test_a_resolved_config_reads_back_as_itself(tmp_path_factory, data, seed, num_samples, options):
    import yaml

    path = tmp_path_factory.mktemp("resolved") / "config.yaml"
    config = Config(path, "mine:model", data, sampler_options=options, seed=seed, num_samples=num_samples)
    path.write_text(yaml.safe_dump(config.resolved(), sort_keys=False))
    assert load(path) == config


# --- what the config names: data ---


def test_data_of_every_form(write, tmp_path):
    np.save(tmp_path / "y.npy", np.arange(3, dtype=np.float32))
    np.savez(tmp_path / "d.npz", a=np.arange(4), b=np.eye(2))
    (tmp_path / "t.csv").write_text("x,the sum\n1,2.5\n3,-4e2\n")
    config = load(
        write("""
model: mine:model
data: {a: y.npy, b: "d.npz:b", c: "t.csv:the sum", d: 2, e: 0.5, f: true, g: [1, 2], h: [[1.0, 2], [3, 4]]}
""")
    )
    data = _inputs.load_data(config)
    np.testing.assert_array_equal(data["a"], np.arange(3, dtype=np.float32), strict=True)
    np.testing.assert_array_equal(data["b"], np.eye(2), strict=True)
    np.testing.assert_array_equal(data["c"], [2.5, -400.0])
    assert (data["d"], data["e"], data["f"]) == (2, 0.5, True)
    assert isinstance(data["d"], int)
    np.testing.assert_array_equal(data["g"], np.array([1, 2]), strict=True)
    np.testing.assert_array_equal(data["h"], np.array([[1.0, 2], [3, 4]]), strict=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no.npy", "there is no file"),
        ("y.txt", "expected a number, a list of numbers, or a file"),
        ("'d.npz:aa'", "expected d.npz:KEY with a KEY of the file (alpha, beta)"),
        ("'d.npz:alphq'", "did you mean 'alpha'?"),
        ("d.npz", "expected d.npz:KEY"),
        ("'t.csv:y'", "expected t.csv:COLUMN with a COLUMN of the first line (x, z)"),
        ("'t.csv:z'", "line 3 holds 'two': expected a number"),
        ("objects.npy", "allow_pickle"),
        ("words.npy", "expected numbers, found dtype"),
        ("[1, [2, 3]]", "expected a list of numbers, or lists of equal lengths"),
        ("[a, b]", "expected a list of numbers"),
    ],
)
def test_data_that_is_not_as_it_should_be(write, tmp_path, value, expected):
    np.savez(tmp_path / "d.npz", alpha=1, beta=2)
    (tmp_path / "t.csv").write_text("x,z\n1,1\n2,two\n")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array(["a"]))
    config = load(write(f"model: mine:model\ndata: {{y: {value}}}"))
    with pytest.raises(ConfigError) as error:
        _inputs.load_data(config)
    assert ": data.y = " in str(error.value)
    assert expected in str(error.value)


# --- and the model ---


@pytest.mark.parametrize("where", ["mine:model", "mine.py:model"])
def test_a_model_beside_the_config(write, tmp_path, where):
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 3")
    (tmp_path / "mine.py").write_text("from helper_of_mine import VALUE\ndef model(y):\n    return y + VALUE")
    config = load(write(f"model: {where}\ndata: {{y: 1}}"))
    model, file = _inputs.load_model(config, config.model)
    assert model(1) == 4
    assert file == tmp_path / "mine.py"


def test_a_model_in_the_working_directory(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine_too.py").write_text("def model(): pass")
    monkeypatch.chdir(elsewhere)
    _, file = load_model(write("model: mine_too:model"))
    assert file == elsewhere / "mine_too.py"


@pytest.mark.parametrize("where", ["pack.inner.mine:model", "pack/inner/mine.py:model"])
def test_a_model_in_a_package_keeps_its_relative_imports(write, tmp_path, where):
    inner = tmp_path / "pack" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("")
    (tmp_path / "pack" / "base.py").write_text("def model(): return 'base'")
    (inner / "mine.py").write_text("from ..base import model as model")
    model, file = load_model(write(f"model: {where}"))
    assert model() == "base"
    assert file == inner / "mine.py"


def test_a_model_of_an_installed_package(write):
    model, file = load_model(write("model: ast:parse\ndata: {source: 1}"))
    assert model is ast.parse
    assert file is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: no_such_module_here:model", "importing 'no_such_module_here' failed: ModuleNotFoundError"),
        ("model: no/such.py:model", "there is no file"),
        ("model: broken:model", "importing 'broken' failed: ZeroDivisionError"),
        ("model: mine:modell", "'mine' has no function 'modell'; did you mean 'model'?"),
        ("model: mine:qqqq", "'mine' has no function 'qqqq' (model)"),
        ("model: mine:model\ndata: {x: 1, yy: 2}", "data.yy = 2: 'mine:model' has no such argument"),
        ("model: mine:model\ndata: {x: 1, scal: 2}", "did you mean 'scale'?"),
        ("model: mine:model\ndata: {scale: 1}", "data = {'scale': 1}: expected a value for 'x', an argument"),
    ],
)
def test_a_model_that_does_not_fit(write, tmp_path, text, expected):
    (tmp_path / "mine.py").write_text("def model(x, scale=1): pass")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError) as error:
        load_model(write(text))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("target_acceptance_rat: 0.9", "did you mean 'target_acceptance_rate'?"),
        ("num_warmup: 10", "sampler.num_warmup = 10: num_warmup is a key of its own, beside sampler"),
        ("target_acceptance_rate: 7", "sampler = {'name': 'nuts', 'target_acceptance_rate': 7}: "),
        ("target_acceptance_rate: high", "target_acceptance_rate"),
    ],
)
def test_options_that_the_sampler_does_not_take(write, options, expected):
    config = load(write(f"model: mine:model\nsampler: {{name: nuts, {options}}}"))
    with pytest.raises(ConfigError) as error:
        _inputs.check_options(config)
    assert expected in str(error.value)


def test_options_that_it_takes(write):
    _inputs.check_options(load(write("model: mine:model\nsampler: {name: nuts, target_acceptance_rate: 0.9}")))


def test_paths_are_written_as_seen_from_the_run_directory(write, tmp_path):
    (tmp_path / "mine.py").write_text("def model(y, z, n): pass")
    config = load(write('model: mine:model\ndata: {y: sub/y.npy, z: "t.csv:z", n: 3}'))
    run = tmp_path / "runs" / "one"
    there = _inputs.relative(config, {"result": tmp_path / "mine.py"}, run)
    assert there.path == run / "config.yaml"
    assert there.model == "../../mine.py:model"
    assert there.data == {"y": "../../sub/y.npy", "z": "../../t.csv:z", "n": 3}
    assert _inputs.relative(config, {"result": None}, run).model == "mine:model"
