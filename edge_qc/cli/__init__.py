"""The command line ``edge-qc``.

Each command is one file or folder here, listed in ``_GROUPS``, that exposes ``command``; the
workstation's commands come through the entry point ``edge_qc.commands``. A command is imported only
when it is called, so that ``edge-qc --help`` starts at once, on a Jetson too. Click's groups can
load a command by name, Typer's cannot.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import os
import sys
import threading
from contextlib import suppress
from importlib import metadata
from typing import NoReturn

import click

from edge_qc import __version__
from edge_qc.errors import EdgeQCError

_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_GROUPS = {
    "Run a station": {
        "check": "Check station.toml and the bundle, and show the resulting settings.",
        "run": "Run the station: grab frames, judge them, publish verdicts.",
        "doctor": "Check everything that the station depends on, and name remedies.",
        "watch": "Show verdicts live in the terminal.",
        "output": "Print an output's register map, try it, acknowledge its fault.",
        "outbox": "Show, export, verify or replay the outbox.",
    },
    "Bundles": {
        "inspect": "Show a bundle.",
        "install": "Install a bundle, also while the station runs.",
        "rollback": "Return to the previous bundle.",
        "build": "Build a bundle's TensorRT plan on this device, and accept it.",
        "accept": "Run the golden views through an engine and compare.",
        "commission": "Prove a bundle on a new device, and write one archive to send back.",
    },
    "Checks of a shift": {
        "golden-part": "Check the running station with a golden part.",
        "relearn": "Relearn a camera's reference after a change of camera or lamp.",
    },
    "Plant": {
        "dashboard": "Serve the plant's dashboard: stations, verdicts, yield, drift.",
        "account": "Add an account of the dashboard: who may look, label and decide.",
        "record": "Record all stations' messages in a database, and acknowledge them.",
        "query": "Query the records: yield, parts, escapes, cost and PWA, downtime, gaps, labels.",
        "label": "Record the true class of a view.",
        "notify": "Notify people by webhook or e-mail of what is wrong, and of its end.",
        "fleet": "Show what runs on each station, and how often one rejects.",
    },
    "Images": {
        "judge": "Judge image files, without cameras or broker.",
        "view": "Write the view that the network sees of an image.",
        "review": "Label kept images in a browser.",
        "evidence": "Count kept images, or export labelled ones as a data set.",
    },
}
_STATION = {name: told for group in _GROUPS.values() for name, told in group.items()}

_WORKSTATION = {
    "synth": "Make a synthetic data set in the challenge's layout.",
    "train": "Train a classifier.",
    "evaluate": "Measure a trained classifier.",
    "score": "Score any predictions against the truth.",
    "report": "Draw a run as one HTML page.",
    "study": "Run every configuration of the report and the constant prediction.",
    "export": "Export a run as one bundle.",
    "calibrate": "New thresholds for a bundle, from parts verified at a station.",
    "tune": "Move a bundle's bound and costs on a page, and see what changes.",
    "qualify": "Measure escapes and overkill of a bundle, as a signed page.",
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
        for title, table in (*_GROUPS.items(), ("Workstation", _WORKSTATION)):
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
            f"'edge-qc {name}' needs the workstation, which is not installed here. Install it "
            "with: pip install ./export   (in a clone of edge-qc), or give pip the wheel of "
            "edge-qc-export of the same version"
        )

    return missing


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 failed or the answer is no, 2 wrong use, 78 correct a file "
    "first.",
)
@click.version_option(__version__, prog_name="edge-qc")
def app() -> None:
    """Quality-control station for an inspection line: judges photographs of power dies."""


def main() -> None:
    """Run the command line and exit."""
    _prepare_streams()
    _leave(status())


def _prepare_streams() -> None:
    """Whatever they are: closed, or of an encoding that lacks a letter of what is printed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def status() -> int:
    """Run the command line: its exit status. Every deliberate error is one line on standard
    error."""
    try:
        answer = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("edge-qc: interrupted", err=True)
        return 130
    except EdgeQCError as error:
        click.echo(f"edge-qc: error: {error}", err=True)
        return error.exit_status
    except BrokenPipeError:
        # The reader of our output ended (``edge-qc watch | head``), which is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _UNWRITTEN or not _output_fails():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"edge-qc: error: the output cannot be written: {error.strerror}", err=True)
        return 1
    return answer if isinstance(answer, int) else 0


def _output_fails() -> bool:
    """Whether it is standard output that cannot be written; a file's error has no name either."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        return True
    return False


def _leave(status: int) -> NoReturn:
    """End the process.

    If a thread is still inside OpenCV or a driver (it writes a last image, its disk hangs), the
    interpreter's end would unwind it through C++, and that aborts the process. Then only the exit
    functions run, and the process ends without the interpreter's.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)
