"""How core's tests run JAX: on two CPU devices, for parallel chains, and compiling quickly rather than well."""

import os

import pytest

# JAX reads this when it is first used.
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2").strip()


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of the time of these tests is compilation of code that runs for milliseconds."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
