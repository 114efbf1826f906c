"""Texts that a spreadsheet would run: marked with an apostrophe for csv files, and given back as they were.

A spreadsheet runs a cell that begins with = + - @ (or what it reads as one of them), whoever wrote it. So does what
follows a separator or a line break within a text, because a reader that expects another separator begins a new cell
there. A number runs nothing, also with a sign. `original(neutral(text))` is `text`, for every text.
"""

from __future__ import annotations

import re


def neutral(text: str) -> str:
    """`text` with one more apostrophe wherever a spreadsheet could begin to read a formula."""
    return _DANGER.sub("'", text)


def original(text: str) -> str:
    """The text of which `neutral` made this one."""
    return _MARK.sub("", text)


def runs(text: str) -> bool:
    """Whether a spreadsheet could take this cell for a formula when it is typed in."""
    return _DANGER.match(text) is not None


# = + - @, their full-width and small forms, and the minus sign, which spreadsheets of some languages read alike
_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
_SEPARATORS = r",;|\t\r\n"
# What may stand before the sign: spaces of all kinds, control and invisible characters, a quote. No separator, so that
# the search stays linear in the length of the text.
_IGNORED = r" \"\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\xa0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
# A number alone between two separators, also as the last element of an array, a range or a json value
_NUMBER = r"[+-](?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[Ii]nfinity)"
_NUMBERS = rf"'* *{_NUMBER}[)\]}}\" ]*(?:[{_SEPARATORS}]|\Z)"
# The apostrophes let `original` tell a mark from an apostrophe that the text had: each text gets one more.
_FORMULA = rf"(?='*[{_IGNORED}]*[{_SIGNS}])(?!{_NUMBERS})"
_BREAK = r"(?='*[\t\r\n])"  # as the first character it would hide what follows
_BEGINNING = rf"(?:\A|(?<=[{_SEPARATORS}]))"
_DANGER = re.compile(rf"{_BEGINNING}{_FORMULA}|\A{_BREAK}")
_MARK = re.compile(rf"{_BEGINNING}'{_FORMULA}|\A'{_BREAK}")
