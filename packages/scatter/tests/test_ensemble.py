import numpy as np
import pytest

from armillary.scatter import ScatteringCovariance, StatisticsEnsemble
from armillary.sphere import alm_from_real

pytestmark = pytest.mark.usefixtures("x64")


def test_mean_and_covariance():
    fields = alm_from_real(np.random.default_rng(0).normal(size=(21, 64)) + 3)
    cov = ScatteringCovariance(8, 1, 1)
    values = np.asarray(cov(fields).ravel())
    for given, size in ((fields, 8), (iter(fields), 8), (list(fields), 21)):
        found = StatisticsEnsemble.of(cov, given, batch_size=size)
        assert found.num == 21
        assert found.labels == cov(fields[0]).labels()
        np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
        scale = np.sqrt(np.outer(values.var(axis=0), values.var(axis=0)))
        assert (abs(found.covariance - np.cov(values.T)) < 1e-12 * scale).all()
    # Of two fields, too.
    pairs = StatisticsEnsemble.of(lambda a: cov.cross(a, fields[0]), fields[:3], batch_size=8)
    assert len(pairs.mean) == len(pairs.labels) == 15


def ensembles(truth, num, count, seed):
    rng = np.random.default_rng(seed)
    p = len(truth)
    for _ in range(count):
        x = rng.multivariate_normal(np.zeros(p), truth, size=num)
        yield StatisticsEnsemble(x.mean(axis=0), np.cov(x.T), num, tuple(range(p)))


def test_precision_is_right_on_average():
    p = 4
    a = np.random.default_rng(1).normal(size=(p, p))
    # With scales of many magnitudes, as statistics have.
    truth = (a @ a.T + np.eye(p)) * np.outer(scale := 10.0 ** (-3 * np.arange(p)), scale)
    found = np.mean([e.precision() for e in ensembles(truth, 16, 4000, 2)], axis=0) * np.outer(scale, scale)
    wanted = np.linalg.inv(truth / np.outer(scale, scale))
    # The standard error is 0.6 % of the largest; without the factor it is off by 50 %.
    assert abs(found - wanted).max() < 0.03 * abs(wanted).max()


def test_shrunk_is_nearly_the_best():
    # No inverse: fewer fields than statistics. The intensity is compared with the best one, which needs the truth.
    p, num = 30, 20
    truth = 0.6 ** abs(np.arange(p)[:, None] - np.arange(p))
    rho = np.linspace(0, 1, 101)
    losses, best, plain = [], [], []
    for e in ensembles(truth, num, 50, 3):
        covariance, intensity = e.shrunk()
        assert np.linalg.eigvalsh(covariance).min() > 0
        np.testing.assert_allclose(np.diagonal(covariance), np.diagonal(e.covariance), rtol=1e-12)
        root = np.sqrt(np.diagonal(e.covariance))
        R = e.covariance / np.outer(root, root)
        np.testing.assert_allclose(
            covariance / np.outer(root, root), (1 - intensity) * R + intensity * np.eye(p), atol=1e-12
        )
        loss = [(((1 - x) * R + x * np.eye(p) - truth) ** 2).sum() for x in rho]
        losses.append((((1 - intensity) * R + intensity * np.eye(p) - truth) ** 2).sum())
        best.append(min(loss))
        plain.append(loss[0])
    assert np.mean(losses) < 1.1 * np.mean(best)
    assert np.mean(losses) < 0.7 * np.mean(plain)
    # Where nothing is correlated, or but one statistic is there, all of it.
    assert next(ensembles(np.eye(200), 10, 1, 4)).shrunk()[1] > 0.9
    assert StatisticsEnsemble(np.zeros(1), np.ones((1, 1)), 5, (0,)).shrunk()[1] == 1.0


def test_errors():
    cov = ScatteringCovariance(8, 1, 1)
    fields = alm_from_real(np.random.default_rng(0).normal(size=(3, 64)))
    with pytest.raises(ValueError, match="fields: 1 of them"):
        StatisticsEnsemble.of(cov, fields[:1])
    with pytest.raises(ValueError, match="fields: 0 of them"):
        StatisticsEnsemble.of(cov, [])
    with pytest.raises(ValueError, match="batch_size=0"):
        StatisticsEnsemble.of(cov, fields, batch_size=0)
    with pytest.raises(ValueError, match=r"3 fields for 15 statistics: .* 18 fields or more"):
        StatisticsEnsemble.of(cov, fields).precision()
    with pytest.raises(ValueError, match="statistic of fields 0 to 2 is not finite"):
        StatisticsEnsemble.of(lambda x: cov(1e200 * x), fields)
    still = StatisticsEnsemble(np.zeros(2), np.diag([1.0, 0.0]), 9, ("a", "b"))
    for call in (still.precision, still.shrunk):
        with pytest.raises(ValueError, match="statistic b is the same in all fields"):
            call()
