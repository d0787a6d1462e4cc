"""The catalogs have every text of the app, or of the example project, and no other, translated; what is compiled is what is written. Needs no gettext tools."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path
from typing import NamedTuple

import pytest
from django.utils.translation.template import templatize

import partium_auth

APP = Path(partium_auth.__file__).parent
EXAMPLE = APP.parent / "example_project"
CATALOGS = sorted(path for root in (APP, EXAMPLE) for path in (root / "locale").glob("*/LC_MESSAGES/*.po"))
WHAT_TO_DO = (
    "Run: make messages (Debian: apt install gettext), translate what is empty or fuzzy in {}, and run it again."
)

# Where each function has its context, its text and its plural.
POSITIONS = {
    "gettext": ("text",),
    "ngettext": ("text", "plural"),
    "pgettext": ("context", "text"),
    "npgettext": ("context", "text", "plural"),
}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]|%%|\{\w*\}")
STRING = r"""u?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
IN_SCRIPT = re.compile(r"""\bgettext\(("(?:\\.|[^"\\])*")""")
CALL = re.compile(rf"\b(_|n?p?gettext)\(({STRING}(?:\s*,\s*(?:{STRING}|count))*)\)")


class Text(NamedTuple):
    """One text as the source has it."""

    context: str
    text: str
    plural: str = ""


class Entry(NamedTuple):
    """What a catalog says about a text: one form, or one for each plural."""

    forms: tuple[str, ...]
    is_fuzzy: bool


def text_of(function: str, arguments: list[ast.expr], where: str) -> Text | None:
    name = "gettext" if function == "_" else re.sub(r"_(lazy|noop)$", "", function)
    if name not in POSITIONS:
        return None
    parts: dict[str, str] = {}
    for position, argument in zip(POSITIONS[name], arguments, strict=False):
        if isinstance(argument, ast.Name):
            return None  # marked where it is defined, by gettext_noop
        assert isinstance(argument, ast.Constant), f"{where}: no catalog can have a text that is computed"
        parts[position] = str(argument.value)
    return Text(parts.get("context", ""), parts["text"], parts.get("plural", ""))


def texts_in_python(path: Path) -> Iterator[Text]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            function = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if text := text_of(function, node.args, f"{path}:{node.lineno}"):
                yield text


def texts_in_template(path: Path) -> Iterator[Text]:
    # What makemessages gives to xgettext: calls of gettext, with all else blotted out.
    for match in CALL.finditer(templatize(path.read_text(), origin=str(path))):
        call = ast.parse(match[0], mode="eval").body
        assert isinstance(call, ast.Call)
        if text := text_of(match[1], call.args, str(path)):
            yield text


def texts_in_script(path: Path) -> Iterator[Text]:
    for match in IN_SCRIPT.finditer(path.read_text()):
        yield Text("", ast.literal_eval(match[1]))


def texts_of(catalog: Path) -> set[Text]:
    """Every text that a catalog has to have."""
    root = catalog.parents[3]
    if catalog.stem == "djangojs":
        return {text for path in root.rglob("*.js") for text in texts_in_script(path)}
    python = (text for path in root.rglob("*.py") for text in texts_in_python(path))
    templates = (text for path in root.rglob("*.html") for text in texts_in_template(path))
    return {*python, *templates}


def read(path: Path) -> dict[Text, Entry]:
    """A ``.po`` file. Obsolete entries count: there are to be none."""
    entries: dict[Text, Entry] = {}
    for block in path.read_text().split("\n\n"):
        fields: dict[str, str] = {}
        flags, keyword = "", ""
        for line in block.splitlines():
            if line.startswith("#,"):
                flags += line
            elif match := re.fullmatch(r'(?:#~ )?(msg\w+(?:\[\d\])?) (".*")', line):
                keyword = match[1]
                fields[keyword] = ast.literal_eval(match[2])
            elif line.startswith('"'):
                fields[keyword] += ast.literal_eval(line)
        if fields:
            text = Text(fields.get("msgctxt", ""), fields["msgid"], fields.get("msgid_plural", ""))
            forms = tuple(fields[name] for name in sorted(fields) if name.startswith("msgstr"))
            entries[text] = Entry(forms, "fuzzy" in flags)
    return entries


@pytest.fixture(params=CATALOGS, ids=lambda path: str(path.relative_to(APP.parent)))
def catalog(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def what_to_do(catalog: Path) -> str:
    return WHAT_TO_DO.format(catalog.relative_to(APP.parent))


def test_there_is_a_german_catalog() -> None:
    assert APP / "locale/de/LC_MESSAGES/django.po" in CATALOGS
    assert {EXAMPLE / f"locale/de/LC_MESSAGES/{name}.po" for name in ("django", "djangojs")} <= set(CATALOGS)


def test_it_has_the_texts_of_the_app_and_no_others(catalog: Path) -> None:
    texts, entries = texts_of(catalog), {text for text in read(catalog) if text.text}
    assert len(texts) > {"partium_auth": 250, "example_project": 20}[catalog.parents[3].name]
    missing, left_over = sorted(texts - entries), sorted(entries - texts)
    assert (missing, left_over) == ([], []), f"Missing: {missing}\nLeft over: {left_over}\n{what_to_do(catalog)}"


def test_everything_is_translated(catalog: Path) -> None:
    open_texts = [text.text for text, entry in read(catalog).items() if entry.is_fuzzy or not all(entry.forms)]
    assert open_texts == [], what_to_do(catalog)


def test_placeholders_and_ends_are_those_of_the_original(catalog: Path) -> None:
    """A placeholder less is a word that nobody sees, one more a page that fails."""
    wrong = []
    for text, entry in read(catalog).items():
        for form in entry.forms if text.text else ():
            originals = [sorted(PLACEHOLDER.findall(one)) for one in (text.text, text.plural) if one]
            same_end = all(form.endswith(end) == text.text.endswith(end) for end in (".", ":", "…", "?", "\n"))
            if sorted(PLACEHOLDER.findall(form)) not in originals or not same_end or form != form.strip():
                wrong.append((text.text, form))
    assert wrong == []


def test_what_is_compiled_is_what_is_written(catalog: Path) -> None:
    compiled = catalog.with_suffix(".mo")
    assert compiled.exists(), what_to_do(catalog)
    with compiled.open("rb") as file:
        # The standard library has no public way to list a catalog. (The stubs do not know the private one.)
        known = GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    written: dict[object, str] = {}
    for text, entry in read(catalog).items():
        if text.text:
            name = f"{text.context}\x04{text.text}" if text.context else text.text
            if text.plural:
                written.update({(name, n): form for n, form in enumerate(entry.forms)})
            else:
                written[name] = entry.forms[0]
    known.pop("")
    assert known == written, what_to_do(catalog)
