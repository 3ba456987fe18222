"""The conformance kit: every law of `armillary.core.protocols` as a check that a component passes or breaks.

    from armillary.core.testing import Case, check_sampler, parametrize_with_checks

    check_sampler(MySampler(step_size=0.5))            # raises at the first violation, and says what to look at

    @parametrize_with_checks([MySampler(step_size=0.5), MyPrior(1.0), "my-distribution"])
    def test_conformance(component, check):            # one test for each component and check
        check(component)

The checks run on a CPU in seconds. pytest is needed for `parametrize_with_checks` only. New versions bring new checks:
pin armillary-core's minor version in the tests of a plugin.
"""

from ._checks import CHECKS as CHECKS
from ._checks import Case as Case
from ._checks import ConformanceError as ConformanceError
from ._checks import parametrize_with_checks as parametrize_with_checks
from ._denoiser import check_denoiser as check_denoiser
from ._denoiser import check_denoiser_batches as check_denoiser_batches
from ._denoiser import check_denoiser_float32_where_x64_is_on as check_denoiser_float32_where_x64_is_on
from ._denoiser import check_denoiser_gradient as check_denoiser_gradient
from ._denoiser import check_denoiser_identity as check_denoiser_identity
from ._denoiser import check_denoiser_sigma as check_denoiser_sigma
from ._denoiser import check_denoiser_structure as check_denoiser_structure
from ._denoiser import check_denoiser_vmapped_sigma as check_denoiser_vmapped_sigma
from ._evidence import check_evidence_estimator as check_evidence_estimator
from ._evidence import check_evidence_gaussian as check_evidence_gaussian
from ._evidence import check_evidence_nan as check_evidence_nan
from ._evidence import check_evidence_permutation as check_evidence_permutation
from ._evidence import check_evidence_shift as check_evidence_shift
from ._likelihood import check_likelihood as check_likelihood
from ._likelihood import check_likelihood_gradient as check_likelihood_gradient
from ._likelihood import check_likelihood_interface as check_likelihood_interface
from ._likelihood import check_likelihood_log_density as check_likelihood_log_density
from ._likelihood import check_likelihood_transforms as check_likelihood_transforms
from ._operator import check_operator as check_operator
from ._operator import check_operator_adjoint as check_operator_adjoint
from ._operator import check_operator_gradient as check_operator_gradient
from ._operator import check_operator_interface as check_operator_interface
from ._operator import check_operator_linear as check_operator_linear
from ._operator import check_operator_opnorm as check_operator_opnorm
from ._operator import check_operator_structures as check_operator_structures
from ._operator import check_operator_transforms as check_operator_transforms
from ._operator import check_transform as check_transform
from ._operator import check_transform_interface as check_transform_interface
from ._operator import check_transform_round_trip as check_transform_round_trip
from ._plugin import check_plugin as check_plugin
from ._plugin import check_plugin_entry_point as check_plugin_entry_point
from ._plugin import check_plugin_factories as check_plugin_factories
from ._plugin import check_plugin_hooks as check_plugin_hooks
from ._plugin import check_plugin_import_is_light as check_plugin_import_is_light
from ._plugin import check_plugin_namespace as check_plugin_namespace
from ._plugin import check_plugin_requires_core as check_plugin_requires_core
from ._prior import check_prior as check_prior
from ._prior import check_prior_flatten as check_prior_flatten
from ._prior import check_prior_gradient as check_prior_gradient
from ._prior import check_prior_inference as check_prior_inference
from ._prior import check_prior_interface as check_prior_interface
from ._prior import check_prior_jit as check_prior_jit
from ._prior import check_prior_keys as check_prior_keys
from ._prior import check_prior_normalised as check_prior_normalised
from ._prior import check_prior_pickle as check_prior_pickle
from ._prior import check_prior_prox_batches as check_prior_prox_batches
from ._prior import check_prior_prox_nonexpansive as check_prior_prox_nonexpansive
from ._prior import check_prior_prox_optimality as check_prior_prox_optimality
from ._prior import check_prior_prox_small_step as check_prior_prox_small_step
from ._prior import check_prior_samples as check_prior_samples
from ._prior import check_prior_score as check_prior_score
from ._prior import check_prior_shapes as check_prior_shapes
from ._prior import check_prior_support as check_prior_support
from ._prior import check_prior_vmap as check_prior_vmap
from ._prior import check_prior_wrappers as check_prior_wrappers
from ._sampler import check_sampler_carry as check_sampler_carry
from ._sampler import check_sampler_different_keys as check_sampler_different_keys
from ._sampler import check_sampler_float32 as check_sampler_float32
from ._sampler import check_sampler_float32_where_x64_is_on as check_sampler_float32_where_x64_is_on
from ._sampler import check_sampler_float64 as check_sampler_float64
from ._sampler import check_sampler_interface as check_sampler_interface
from ._sampler import check_sampler_jit_equals_eager as check_sampler_jit_equals_eager
from ._sampler import check_sampler_legacy_keys as check_sampler_legacy_keys
from ._sampler import check_sampler_nested_position as check_sampler_nested_position
from ._sampler import check_sampler_same_key as check_sampler_same_key
from ._sampler import check_sampler_scalar_position as check_sampler_scalar_position
from ._sampler import check_sampler_state as check_sampler_state
from ._sampler import check_sampler_traces_once as check_sampler_traces_once
from ._sampler import check_sampler_traits as check_sampler_traits
from ._sampler import check_sampler_vmap_equals_loop as check_sampler_vmap_equals_loop
from ._sampler_runs import check_sampler as check_sampler
from ._sampler_runs import check_sampler_adaptation as check_sampler_adaptation
from ._sampler_runs import check_sampler_finite as check_sampler_finite
from ._sampler_runs import check_sampler_moments as check_sampler_moments
from ._sampler_runs import check_sampler_numpyro as check_sampler_numpyro
