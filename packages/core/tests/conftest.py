"""Two CPU devices, for the tests of parallel chains: JAX reads this when it is first used."""

import os

os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2").strip()
