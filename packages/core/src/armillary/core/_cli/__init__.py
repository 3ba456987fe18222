"""The command line: ``armillary list | demo | run | report | cite``.

The work of each command is imported when it runs: ``armillary list`` pays for no JAX.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

#: What a user can mend: told in one line, with no traceback.
_EXPECTED = (ValueError, LookupError, ImportError, OSError, RuntimeError)

app = typer.Typer(
    name="armillary",
    help="Bayesian inference on the sphere and in imaging, as plugins for NumPyro.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"armillary {version('armillary-core')}")
        raise typer.Exit


def _help(context: typer.Context, value: bool) -> None:
    if value:
        typer.echo(context.get_help())
        raise typer.Exit


# For `armillary list`, which must be quick: typer imports pydantic, a third of the time, for its own --help and for
# every parameter but a flag. So this is a flag of ours, and `list` reads its argument from the context.
HelpFlag = Annotated[bool, typer.Option("--help", callback=_help, is_eager=True, help="Show this message and exit.")]


@app.callback(invoke_without_command=True, add_help_option=False)
def _root(
    context: typer.Context,
    help: HelpFlag = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    "list",
    add_help_option=False,
    options_metavar="[OPTIONS] [KIND]...",
    context_settings={"allow_extra_args": True},
)
def list_(
    context: typer.Context,
    help: HelpFlag = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: components and failures.")] = False,
) -> None:
    """List the components that the installed packages offer, and the plugins that did not load.

    Of every kind, or of those named: `armillary list sampler prior`.
    """
    from ._list import show

    show(context.args, as_json=json)


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="Which: `armillary list demo` names them.")] = "earth",
    output: Annotated[Path, typer.Option(help="The directory to write to.")] = Path("armillary-demo"),
) -> None:
    """Run a demonstration on real data and write its report."""
    from ._demo import run_demo

    run_demo(name, output)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file: model, data, sampler, evidence ...")],
    output: Annotated[Path | None, typer.Option(help="The run directory; before the config's own.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no summary.")] = False,
) -> None:
    """Sample the posterior that a config file describes, as armillary.core.infer does."""
    from ._run import run_config

    run_config(config, output, resume=resume, quiet=quiet)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write the report.html of a run directory anew."""
    from ._run import rewrite_report

    typer.echo(rewrite_report(run))


@app.command()
def cite(
    names: Annotated[list[str] | None, typer.Argument(help="Components; none: Armillary itself.")] = None,
) -> None:
    """Print what to cite for components, or for Armillary itself."""
    from armillary.core import _cite

    if not names:
        for text in _cite.foundations():
            typer.echo(text)
        return
    for component in [c for name in names for c in _cite.find(name)]:
        where = f"{component.kind} of {component.distribution} {component.version}"
        typer.echo(f"{component.name} ({where}): {component.reference or 'no reference is given'}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 an error told in one line, 130 interrupted, 1 anything else.

    With ``ARMILLARY_DEBUG=1`` an error raises with its traceback.
    """
    if os.environ.get("ARMILLARY_DEBUG", "") not in ("", "0"):
        sys.exit(typer.main.get_command(app).main(args, prog_name="armillary", standalone_mode=False))
    try:
        code = typer.main.get_command(app).main(args, prog_name="armillary", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        code = 130
    except BrokenPipeError:
        # The reader of a pipe, such as head, has left: end quietly, and let no flush at exit complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        usage = getattr(error, "format_message", None)  # typer's own errors: its base class is not public
        if usage is not None:
            _complain(f"{usage()} (see `armillary --help`)")
        elif isinstance(error, _EXPECTED):
            _complain(str(error) or repr(error))
        else:
            _complain(f"{type(error).__name__}: {error} (ARMILLARY_DEBUG=1 shows where)")
        code = 2 if usage is not None or isinstance(error, _EXPECTED) else 1
    sys.exit(code)


def _complain(message: str) -> None:
    print("armillary:", " ".join(message.split()), file=sys.stderr)
