"""What the README and the contract promise works as written."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga

ROOT = Path(__file__).parent.parent


def test_the_notebook_session_of_the_readme_runs(capsys):
    (session,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(session, "README.md", "exec"), names)
    assert float(names["cert"].epsilon) < 1e-4
    assert float(names["point"].epsilon) < 1e-12
    assert bool(names["bound"].applicable)
    assert "every hypothesis holds" in capsys.readouterr().out


def test_ci_runs_exactly_the_two_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    commands = [block.strip() for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)]
    ci = (ROOT / ".ci" / "run").read_text()
    for command in commands[:2]:
        assert command in ci


def test_own_points_and_own_weights_in_full_dimension():
    rng = np.random.default_rng(0)
    net = ga.models.TwoLayerReLU(6)
    points, labels = rng.normal(size=(5, 300)) / np.sqrt(300), np.array([1, -1, 1, -1, 1])
    data = ga.data.from_points(points, labels)
    weights = np.asarray(net.output_weights)[:, None] * (labels @ points) * 3 + 0.01 * rng.normal(size=(6, 300))
    params, rest = data.reduce(weights)
    np.testing.assert_allclose(np.sum(np.asarray(params) ** 2) + float(rest) ** 2, np.sum(weights**2), rtol=1e-12)
    point = ga.kkt.fit_multipliers(net, data, params, orthogonal_norm=rest)
    forget = ga.data.forget_mask(data, [3])
    certificate = ga.certificates.projection(net, data, point, forget)
    # the same in R^300: theta_tilde moves theta by (I - P) h alone
    weights = np.where(forget, point.multipliers, 0) * labels
    h = np.einsum("j,ji,i,id->jd", net.output_weights, point.selection, weights, points)
    basis = np.linalg.qr(points[~np.asarray(forget)].T)[0]
    inside = h @ basis @ basis.T
    lifted = np.asarray(data.lift(certificate.params))
    np.testing.assert_allclose(lifted, np.asarray(data.lift(point.params)) - (h - inside), atol=1e-12)


def test_user_vmap_over_keys_dims_and_masks():
    net = ga.models.Linear()

    def epsilon(key, dim, mask):
        data = ga.data.gaussian(key, num_points=4, dim=dim)
        point = ga.kkt.limit_point(net, data, ga.train.train(key, net, data, num_steps=50, checkpoints=1))
        return ga.certificates.projection(net, data, point, mask).epsilon

    keys, dims = jax.random.split(jax.random.key(0), 3), jnp.array([1e4, 1e8, 1e12])
    over = jax.vmap(jax.vmap(jax.vmap(epsilon, (None, None, 0)), (None, 0, None)), (0, None, None))
    values = jax.jit(over)(keys, dims, jnp.eye(4, dtype=bool))
    assert values.shape == (3, 3, 4)
    slope = np.log10(np.median(values, axis=(0, 2)))
    np.testing.assert_allclose(np.diff(slope), -2.0, atol=0.05)  # epsilon falls as 1 / sqrt(d)
