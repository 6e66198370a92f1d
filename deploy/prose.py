"""A prose linter over pages, docstrings, comments and messages: proselint and the glossary's words.

    python deploy/prose.py [FILE ...]    # by default every page and every Python file of ours

Exit status 1 if it finds anything. proselint reports doubled words, redundancy, clichés and the
like (``CHECKS``); ``WORDS`` are phrases that have a plainer one, and second words for what the
glossary in docs/architecture.md has one word for. Code, addresses and tables' code are left out.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    "archaism",
    "cliches",
    "lexical_illusions",
    "malapropisms",
    "mondegreens",
    "nonwords",
    "redundancy",
)
WORDS = {
    r"\b(is|are|was|were|be) told\b(?! apart)": "name who reports it: publish, report, show",
    r"\bsaid of\b": "name the verdict, the label or the message",
    r"\b(learnt|anew)\b(?!:)": "learned; again, new, relearn",
    r"\bsteadiness\b": "process monitoring",
    r"\bbacklog\b": "outbox",
    r"\bbring(s|ing)? out\b": "roll out",
    r"\bjudges? on\b": "continues to judge",
    r"\bmend(s|ed|ing)?\b": "correct a file, repair a device",
    r"\b(has|have) (it|them) no more\b": "no longer has",
    r"\bwithout a word\b": "silently; without a goodbye message",
    r"\bnothing is recorded of\b": "no matching records",
    r"\bput together:": "composes",
    r"\bone who asked\b": "the command",
    r"``\w+``'s(?= to |\.|;|,)": "say what that module does",
    r"\bof (its|theirs|ours)(?=[.,;:)])": "its …, their …, our …",
    r"\bwhere (it|there|one|none|nothing) (is|are|was|has|does|can|cannot)\b(?! made| read)": "if",
}
_CODE = re.compile(r"```.*?```|^ {4}.*?$|`[^`\n]*`|\]\([^)]*\)|https?://\S+", re.S | re.M)


def main(arguments: list[str]) -> int:
    files = [Path(name).resolve() for name in arguments] or sorted(_ours())
    texts = {file: prose_of(file) for file in files}
    found = 0
    for file, line, what in sorted({*_words(texts), *_proselint(texts)}):
        found += 1
        sys.stderr.write(f"{file.relative_to(ROOT)}:{line}: {what}\n")
    sys.stderr.write(f"prose of {len(files)} files: {found or 'nothing'} found\n")
    return int(found > 0)


def prose_of(file: Path) -> str:
    """The file's prose, each line where it stands in the file; what is not prose is blank."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return _CODE.sub(lambda match: _blank(match.group(0)), text)
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0]] += " " + token.string.lstrip("#! ")
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            for number, part in enumerate(token.string.split("\n"), token.start[0]):
                words = part.strip().strip("\"'")
                # One word is a name, not prose.
                lines[number] += " " + words if " " in words else ""
    return "\n".join(lines[1:])


def _blank(text: str) -> str:
    return re.sub(r"\S", " ", text)


def _words(texts: dict[Path, str]) -> Iterator[tuple[Path, int, str]]:
    for file, text in texts.items():
        for pattern, better in WORDS.items():
            for match in re.finditer(pattern, text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                yield file, line, f"{match.group(0)!r}: better {better}"


def _proselint(texts: dict[Path, str]) -> Iterator[tuple[Path, int, str]]:
    with tempfile.TemporaryDirectory() as folder:
        copies = {}
        for number, (file, text) in enumerate(texts.items()):
            copy = Path(folder) / f"{number}.md"
            # "10 000" is no word twice.
            copy.write_text(re.sub(r"\d", " ", text), encoding="utf-8")
            copies[copy.name] = file
        command = [sys.executable, "-m", "proselint", "-o", "compact", "check", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    for report in done.stdout.splitlines():
        place = re.match(r".*?(\d+\.md):(\d+):\d+: (.*)", report)
        if place is None or not place[3].startswith(CHECKS):
            continue
        # Neighbouring strings of a program are not one text.
        if not (place[3].startswith("lexical") and copies[place[1]].suffix == ".py"):
            yield copies[place[1]], int(place[2]), place[3]


def _ours() -> Iterator[Path]:
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    yield from (ROOT / "docs").rglob("*.md")
    for folder in ("edge_qc", "export/edge_qc_export"):
        yield from (ROOT / folder).rglob("*.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
