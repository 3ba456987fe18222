"""Training of networks: that it learns, goes on to the same bits, and refuses what is not finite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.sphere import DiscoConv, GaussLegendre, train_network
from armillary.sphere import _nn_training as module

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = GaussLegendre(6)
KEY = jax.random.key(3)


def squared(y, target):
    return ((y - target) ** 2).mean()


@pytest.fixture(scope="module")
def problem():
    teacher, student = (DiscoConv(2, 1, GRID, key=jax.random.key(i)) for i in range(2))
    x = jax.random.normal(jax.random.key(2), (10, 2, *GRID.shape))
    return student, x, jax.vmap(teacher)(x)


def train(problem, num_epochs=4, loss=squared, **settings):
    return train_network(KEY, *problem, loss, num_epochs=num_epochs, batch_size=4, learning_rate=0.05, **settings)


def test_a_layer_learns_another(problem):
    trained = train(problem, num_epochs=60)
    assert trained.losses[-1] < 0.02 * trained.losses[0]


def test_going_on_gives_the_same_weights(problem, tmp_path):
    whole = train(problem)
    assert eqx.tree_equal(whole.network, train(problem).network)

    # Stopped after the second epoch.
    calls = []
    path = tmp_path / "training.eqx"
    with pytest.MonkeyPatch.context() as patch:
        write = module._write

        def write_two(*args):
            write(*args)
            calls.append(None)
            if len(calls) == 2:
                raise KeyboardInterrupt

        patch.setattr(module, "_write", write_two)
        with pytest.raises(KeyboardInterrupt):
            train(problem, checkpoint=path)
    with pytest.raises(ValueError, match="is there already"):
        train(problem, checkpoint=path)
    gone_on = train(problem, checkpoint=path, resume=True)
    assert eqx.tree_equal(gone_on.network, whole.network)
    assert gone_on.losses.tolist() == whole.losses.tolist()
    # At the end there is nothing left to do.
    assert eqx.tree_equal(train(problem, checkpoint=path, resume=True).network, whole.network)
    with pytest.raises(ValueError, match="of another training, its num_epochs differ"):
        train(problem, num_epochs=5, checkpoint=path, resume=True)
    student, x, y = problem
    with pytest.raises(ValueError, match="its examples and first weights differ"):
        train((student, x + 1, y), checkpoint=path, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["training.eqx"]


def test_another_key_gives_other_weights(problem):
    student, x, y = problem
    other = train_network(jax.random.key(4), student, x, y, squared, num_epochs=1, batch_size=4)
    assert not eqx.tree_equal(other.network, train(problem, num_epochs=1).network)


def test_what_is_not_finite(problem):
    student, x, y = problem
    with pytest.raises(ValueError, match=r"inputs has 1 values that are NaN or infinite, the first at \(2, 1, 3, 4\)"):
        train((student, x.at[2, 1, 3, 4].set(jnp.nan), y))
    with pytest.raises(ValueError, match="targets has 1 values"):
        train((student, x, y.at[0, 0, 0, 0].set(jnp.inf)))
    with pytest.raises(ValueError, match="the loss is nan in epoch 0"):
        train(problem, loss=lambda y, target: jnp.log(-1 - y**2).mean())


def test_arguments(problem, tmp_path):
    student, x, y = problem
    for settings, message in [
        ({"num_epochs": 0}, "num_epochs=0"),
        ({"num_epochs": 1, "batch_size": 11}, "batch_size=11"),
        ({"num_epochs": 1, "learning_rate": -1.0}, r"learning_rate=-1\.0"),
        ({"num_epochs": 1, "resume": True}, "resume=True needs checkpoint="),
    ]:
        with pytest.raises(ValueError, match=message):
            train_network(KEY, student, x, y, squared, **settings)
    with pytest.raises(ValueError, match="same number of examples"):
        train((student, x, np.asarray(y)[:5]))
    path = tmp_path / "other"
    path.write_bytes(b"not a checkpoint\n")
    with pytest.raises(ValueError, match="of another training"):
        train(problem, checkpoint=path, resume=True)
