"""The command line ``edge-qc``.

A command is one file here, named in ``_STATION``, that exposes ``command``; the workstation's and
the plant's commands come by the entry point ``edge_qc.commands``. A command is imported when it is
called: ``edge-qc --help`` must start at once, on a Jetson too. Click rather than Typer, because its
groups load a command by name, which is what that needs.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata

import click

from edge_qc import __version__
from edge_qc.errors import EdgeQCError

_STATION = {
    "check": "Read station.toml and the bundle, and show what they resolve to.",
    "run": "Run the station: grab, judge, publish.",
    "install": "Make a bundle this station's, while it runs.",
    "rollback": "Go back to the bundle before.",
    "golden-part": "Check the running station with a part that is known.",
    "relearn": "Have the station learn anew how a camera's pictures look.",
    "judge": "Judge images without cameras and broker.",
    "view": "Write what the network will see of an image.",
    "inspect": "Show a bundle.",
    "build": "Build a bundle's TensorRT plan on this device, and accept it.",
    "accept": "Run the golden views through an engine and compare.",
    "doctor": "Look the station over: what is well, what is not, and the remedy.",
    "watch": "Show verdicts live as a broker delivers them.",
    "dashboard": "Show a plant in a browser: stations, verdicts, yield, drift.",
    "record": "Record what stations say in a database, and acknowledge it.",
    "query": "Ask the records: yield, escapes, cost and PWA, gaps, single verdicts.",
    "label": "Say what a recorded part truly was.",
    "fleet": "Show what runs on which station, and how often one rejects.",
    "review": "Label kept images on a page of this machine.",
    "evidence": "Count kept images, or export the labelled ones as a data set.",
    "output": "Print an output's register map, try it, acknowledge its fault.",
    "outbox": "Show, export or verify what has not been delivered.",
}

_WORKSTATION = {
    "synth": "Make a synthetic data set in the challenge's layout.",
    "train": "Train a classifier.",
    "evaluate": "Measure a trained classifier.",
    "score": "Score any predictions against the truth.",
    "report": "Draw a run as one HTML page.",
    "study": "Run every configuration of the report and the constant prediction.",
    "export": "Turn a run into one ONNX and one bundle.",
    "qualify": "Escapes and overkill of a bundle, as a signed page.",
    "keygen": "Make a key pair to sign bundles with.",
}

_ENTRY_POINTS = "edge_qc.commands"


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_STATION, *_WORKSTATION]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _STATION:
            command = importlib.import_module(f"edge_qc.cli.{cmd_name.replace('-', '_')}").command
            assert isinstance(command, click.Command)
            return command
        if cmd_name in _WORKSTATION:
            return _workstation_command(cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, table in (("Station", _STATION), ("Workstation", _WORKSTATION)):
            with formatter.section(title):
                formatter.write_dl(list(table.items()))


def _workstation_command(name: str) -> click.Command:
    for point in metadata.entry_points(group=_ENTRY_POINTS, name=name):
        command = point.load()
        assert isinstance(command, click.Command)
        return command

    @click.command(name, context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("ignored", nargs=-1, type=click.UNPROCESSED)
    def missing(ignored: tuple[str, ...]) -> None:
        raise EdgeQCError(
            f"'edge-qc {name}' is a command of the workstation, which is not installed here. "
            "Install it with: pip install edge-qc-export   (from a checkout: pip install ./export)"
        )

    return missing


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 failed and worth a retry, 2 wrong use, 78 mend a file.",
)
@click.version_option(__version__, prog_name="edge-qc")
def app() -> None:
    """Quality-control station for an inspection line: judges photographs of power dies."""


def main() -> None:
    """Run the command line and exit; every deliberate error is one line on standard error."""
    try:
        status = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("edge-qc: interrupted", err=True)
        sys.exit(130)
    except EdgeQCError as error:
        click.echo(f"edge-qc: error: {error}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of our output went away (``edge-qc watch | head``): not our failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)
