"""How a check is declared, run and reported."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from armillary.core import protocols

Check = Callable[[Any], None]

#: The checks of each kind of component, in the order in which they run.
CHECKS: dict[str, list[Check]] = {
    "sampler": [],
    "prior": [],
    "likelihood": [],
    "operator": [],
    "transform": [],
    "denoiser": [],
    "evidence_estimator": [],
    "plugin": [],
}

# Callables all three, which nothing but their author's word tells apart.
_NOT_TO_BE_GUESSED = ("likelihood", "denoiser", "evidence_estimator")


class ConformanceError(AssertionError):
    """A component breaks a law: the message names the law, the numbers, and what to look at."""


class Broken(Exception):
    """Raised inside a check with the numbers; the check's decorator adds the law and the advice."""


@dataclass(frozen=True, eq=False)
class Case:
    """A component, with what its checks cannot find out by themselves.

    Args:
        component: what is to be checked.
        example: a value to check it on, or a function of a random key that draws one. A likelihood needs its
            parameter, a denoiser an image; an operator or transform needs it where not every array of
            `in_structure` is in its domain (such as coefficients with a symmetry).
        tolerance: relative, where the default for the dtype (5e-6 in single, 1e-12 in double precision) is not what
            the component promises.
        id: what it is called in the test's name; the name of its class by default.
    """

    component: Any
    example: Any = None
    tolerance: float | None = None
    id: str = ""

    def draw(self, key: Any, default: Callable[[Any], Any] | None = None) -> Any:
        """An example value."""
        if self.example is None:
            if default is None:
                raise Broken("no example to check it on: pass Case(component, example=a value, or a function of a key)")
            return default(key)
        return self.example(key) if callable(self.example) else self.example


def as_case(component: Any) -> Case:
    """The component as a case, if it is not one."""
    return component if isinstance(component, Case) else Case(component)


def check(kind: str, law: str, look: str) -> Callable[[Callable[[Case], None]], Check]:
    """Register a check of a kind of component.

    Args:
        kind: see `CHECKS`.
        law: what must hold, as a clause.
        look: what to look at where it does not.
    """

    def decorate(function: Callable[[Case], None]) -> Check:
        @functools.wraps(function)
        def checked(component: Any) -> None:
            case = as_case(component)
            try:
                function(case)
            except (ConformanceError, unittest.SkipTest):
                raise
            except Broken as error:
                raise ConformanceError(_message(checked, case, str(error))) from None
            except Exception as error:
                # Its first lines: JAX's messages run to a page, and the error itself follows as the cause.
                text = "\n".join(str(error).strip().splitlines()[:4])
                raise ConformanceError(_message(checked, case, f"{type(error).__name__}: {text}")) from error

        checked.law, checked.look = law, look  # type: ignore[attr-defined]
        CHECKS[kind].append(checked)
        return checked

    return decorate


def _message(checked: Any, case: Case, found: str) -> str:
    return (
        f"{checked.__name__}: {_id(case)} breaks the law that {checked.law}.\nFound: {found}.\nLook at: {checked.look}."
    )


def run(kind: str, component: Any) -> None:
    """Run every check of a kind; the first violation raises, a check that does not apply is passed over."""
    for one in CHECKS[kind]:
        try:
            one(component)
        except unittest.SkipTest:
            continue


def skip(reason: str) -> unittest.SkipTest:
    """To be raised by a check that does not apply to a component; pytest shows it as skipped."""
    return unittest.SkipTest(reason)


def parametrize_with_checks(
    components: Iterable[Any],
    expected_failures: Mapping[str, str | Mapping[str, str]] | None = None,
    *,
    kind: str | None = None,
) -> Any:
    """A pytest parametrisation: one test for each component and check.

        @parametrize_with_checks(
            [MySampler(step_size=0.1), Case(MySampler(step_size=0.2), id="long-steps")],
            expected_failures={"check_sampler_scalar_position": "the method needs two dimensions"},
        )
        def test_conformance(component, check):
            check(component)

    Args:
        components: constructed components, or `Case` of them. They may be of several kinds.
        expected_failures: from the name of a check to the reason for which it fails, for all components, or from
            the id of a component to such a mapping. The test is a strict ``xfail``: it fails if the check passes.
        kind: see `CHECKS`. Samplers, priors, operators, transforms and plugins (by their name, a string) are
            recognised; a likelihood, denoiser or evidence estimator is not, since each is just a callable.

    Raises:
        ValueError: no component, an unknown kind, check or id, or an expected failure without a reason.
    """
    import pytest

    cases = [as_case(component) for component in components]
    if not cases:
        raise ValueError("components is empty: no check would be run")
    if kind is not None and kind not in CHECKS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(CHECKS)}")
    ids = _unique([_id(case) for case in cases])
    kinds = [kind or _kind_of(case) for case in cases]
    failures = _expected(expected_failures or {}, ids, kinds)
    parameters = []
    for case, name, its_kind in zip(cases, ids, kinds, strict=True):
        for one in CHECKS[its_kind]:
            check_name = one.__name__
            reason = failures[name].get(check_name)
            marks = () if reason is None else pytest.mark.xfail(strict=True, reason=reason, raises=ConformanceError)
            parameters.append(pytest.param(case, one, id=f"{name}-{check_name}", marks=marks))
    return pytest.mark.parametrize(("component", "check"), parameters)


def _id(case: Case) -> str:
    component = case.component
    if case.id:
        return case.id
    return component if isinstance(component, str) else getattr(component, "__name__", type(component).__name__)


def _unique(ids: list[str]) -> list[str]:
    return [name if ids.count(name) == 1 else f"{name}{ids[:i].count(name)}" for i, name in enumerate(ids)]


def _kind_of(case: Case) -> str:
    component = case.component
    found = ""
    if isinstance(component, str):
        found = "plugin"
    elif isinstance(component, protocols.Sampler):
        found = "sampler"
    elif isinstance(component, protocols.Prior):
        found = "prior"
    elif isinstance(component, protocols.Transform):
        found = "transform"
    elif isinstance(component, protocols.ForwardOperator):
        found = "operator"
    if not found:
        raise ValueError(
            f"{_id(case)} is not recognised as a component: pass kind=, one of {', '.join(CHECKS)} "
            f"({', '.join(_NOT_TO_BE_GUESSED)} always need it)"
        )
    return found


def _expected(
    given: Mapping[str, str | Mapping[str, str]], ids: list[str], kinds: list[str]
) -> dict[str, dict[str, str]]:
    """The reason of each expected failure, by component and check."""
    failures: dict[str, dict[str, str]] = {name: {} for name in ids}
    names = {name: {one.__name__ for one in CHECKS[kind]} for name, kind in zip(ids, kinds, strict=True)}
    for key, value in given.items():
        if isinstance(value, Mapping):
            if key not in failures:
                raise ValueError(f"expected_failures: no component has the id {key!r}; there are {', '.join(ids)}")
            pairs = [(key, name, reason) for name, reason in value.items()]
        else:
            pairs = [(name, key, value) for name in ids if key in names[name]] or [(ids[0], key, value)]
        for component, name, reason in pairs:
            if name not in names[component]:
                raise ValueError(
                    f"expected_failures: {component} has no check {name!r}; it has "
                    f"{', '.join(sorted(names[component]))}"
                )
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"expected_failures: {name} has no reason: write why it is expected to fail")
            failures[component][name] = reason
    return failures
