"""Textures in the report of a run."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from armillary.core.hookspecs import ReportSection
from armillary.sphere import alm_from_real

from ._texture import validate_texture

if TYPE_CHECKING:
    import xarray as xr


def texture_sections(result: xr.DataTree) -> Iterator[ReportSection]:
    """The validation of the textures of a result with the group ``textures``.

    The group has the real harmonic coefficients ``target`` of a field, and ``texture`` of several.
    """
    if "textures" not in result.children or not {"target", "texture"} <= result["textures"].data_vars.keys():
        return
    single = jnp.result_type(float) == np.float32
    target, textures = (
        alm_from_real(jnp.asarray(np.asarray(result["textures"][name]), np.float32 if single else np.float64))
        for name in ("target", "texture")
    )
    validation = validate_texture(target, textures)
    buffer = io.BytesIO()
    validation.plot().savefig(buffer, format="png", dpi=90)
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = (
        "Power spectrum, density of heights, Minkowski functionals, maxima and moments of bands of target and textures"
    )
    rows = "".join(f"<tr><td>{name}</td><td>{x:.3f}</td></tr>" for name, x in validation.distances().items())
    yield ReportSection(
        "Textures against their target",
        f'<figure><img src="data:image/png;base64,{image}" alt="{alt}" style="max-width:100%"></figure>'
        f"<table><thead><tr><th>measure</th><th>distance from the target</th></tr></thead>{rows}</table>",
        order=46,
    )
