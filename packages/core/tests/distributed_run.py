"""One process of several, which run the chains of test_distributed.py: PORT RANK DIRECTORY and how often to save."""

import json
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from armillary.core import infer

NUM_PROCESSES, NUM_DEVICES, NUM_CHAINS = 2, 2, 8
SETTINGS = {"sampler": "blackjax-nuts", "num_warmup": 40, "num_samples": 60, "progress_bar": False}


def model(y):
    scale = numpyro.sample("scale", dist.HalfNormal(2.0))
    with numpyro.plate("data", len(y)):
        numpyro.sample("y", dist.Normal(0.0, scale), obs=y)


def run(num_chains=NUM_CHAINS, **options):
    y = jnp.array([0.3, -1.2, 2.0])
    return infer(model, y, key=jax.random.key(5), num_chains=num_chains, **SETTINGS, **options)


def main(port, rank, directory, last):
    jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
    jax.distributed.initialize(f"localhost:{port}", NUM_PROCESSES, int(rank))
    replace, saved = os.replace, []

    def replace_and_die(source, target):
        replace(source, target)
        name = os.path.basename(target)
        if name.startswith(("draws", "state")):
            saved.append(name)
        if name == last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die
    try:
        run(num_chains=6, chain_method="parallel")
    except ValueError as error:
        refused = str(error)
    tree = run(chain_method="parallel", checkpoint=directory, checkpoint_every=20, resume=True)
    found = {"devices": [jax.local_device_count(), jax.device_count()], "refused": refused, "saved": saved}
    for name, values in {"scale": tree.posterior["scale"], "lp": tree.sample_stats["lp"]}.items():
        found[name] = values.values.tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
