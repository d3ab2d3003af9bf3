"""Translates a regular expression of ECMA-262 (JSON Schema's dialect) for RE2, so that both match the same texts. Pure.

Literal characters are written as code points, so that RE2's own syntax has no effect (`(?i)`, `[[:alpha:]]`, `\\A` and `\\Q`
have no special meaning in ECMA-262). Unsupported is raised for everything that RE2 cannot express or matches differently:
lookaround, back-references, lone surrogates, unknown properties.

The rules are those of the `u` flag (json-schema.org/draft/2020-12/json-schema-core, 6.4). Patterns that are valid only
without it (Annex B: `\\-`, `\\_`, a literal `{` or `]`) keep their literal meaning; an ambiguous one is Unsupported.
"""

from __future__ import annotations

import re


class Unsupported(Exception):
    """RE2 has no expression that matches the same texts."""


_SPACES = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
"""`\\s` (WhiteSpace and LineTerminator, ECMA-262 12.2 and 12.3)."""
_NOT_SPACES = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)
_NEEDS_EXACT = re.compile("[\r\v\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
"""Characters for which `.` or `\\s` differ between RE2 and ECMA-262."""
_CONTROLS = {"f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_TOKEN = re.compile(
    r"""
      \\u\{(?P<code>[0-9A-Fa-f]+)\}
    | \\u(?P<high>[dD][89abAB][0-9A-Fa-f]{2})\\u(?P<low>[dD][c-fC-F][0-9A-Fa-f]{2})
    | \\(?:u(?P<four>[0-9A-Fa-f]{4})|x(?P<two>[0-9A-Fa-f]{2})|c(?P<control>[A-Za-z]))
    | \\(?P<sign>[pP])\{(?P<property>[A-Za-z0-9_=]+)\}
    | \\(?P<escape>.)
    | (?P<group>\((?:\?(?::|<(?![=!])[^>]*>|.?))?)
    | (?P<repeat>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)
    | (?P<literal>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_CATEGORIES = {
    "Letter": "L", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt", "Modifier_Letter": "Lm",
    "Other_Letter": "Lo", "Mark": "M", "Combining_Mark": "M", "Nonspacing_Mark": "Mn", "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me", "Number": "N", "Decimal_Number": "Nd", "digit": "Nd", "Letter_Number": "Nl",
    "Other_Number": "No", "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc", "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi", "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm", "Currency_Symbol": "Sc", "Modifier_Symbol": "Sk",
    "Other_Symbol": "So", "Separator": "Z", "Space_Separator": "Zs", "Line_Separator": "Zl", "Paragraph_Separator": "Zp",
    "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Private_Use": "Co",
}  # fmt: skip
"""General categories by their long names (ECMA-262, table 68), without unassigned code points, which RE2 does not know."""
_SHORT = set(_CATEGORIES.values())


def needs_exact(text: str) -> bool:
    """Whether a text has a character for which only the exact translation is correct."""
    return _NEEDS_EXACT.search(text) is not None


def translated(pattern: str, *, exact: bool, unicode: bool = True) -> str:
    """The pattern for RE2. Raises Unsupported.

    `exact`: correct for every text. Otherwise `.` and `\\s` are not translated, which makes the program a third of the size;
    it is correct for texts that do not need the exact one. `unicode`: whether the pattern is valid with the `u` flag."""
    return _Translation(pattern, exact, unicode).text()


class _Translation:
    def __init__(self, pattern: str, exact: bool, unicode: bool) -> None:
        self._pattern = pattern
        self._unicode = unicode
        self._at = 0
        self._spaces, self._not_spaces = (_SPACES, _NOT_SPACES) if exact else (r"\s", r"\S")
        self._any = r"[^\n\r\x{2028}\x{2029}]" if exact else "."

    def text(self) -> str:
        pieces: list[str] = []
        while self._at < len(self._pattern):
            token = self._next()
            if token["group"] is not None:
                pieces.append(_group(token["group"]))
            elif token["repeat"] is not None:
                pieces.append(token["repeat"])
            elif token["literal"] is not None:
                pieces.append(self._plain(token["literal"]))
            elif token["escape"] in ("b", "B"):
                pieces.append(_word_boundary(token["escape"]))
            else:
                atom = self._atom(token)
                pieces.append(_literal(atom) if isinstance(atom, int) else f"[{atom}]")
        return "".join(pieces)

    def _next(self) -> re.Match[str]:
        token = _TOKEN.match(self._pattern, self._at)
        if token is None:
            raise Unsupported("a backslash at the end")
        self._at = token.end()
        return token

    def _plain(self, character: str) -> str:
        if character == ".":
            return self._any
        if character == "[":
            return self._class()
        return character if character in "^$|)" else _literal(self._code(ord(character)))

    def _class(self) -> str:
        """A character class, after its `[`."""
        negated = self._pattern.startswith("^", self._at)
        self._at += negated
        items: list[int | str] = []
        while not self._pattern.startswith("]", self._at):
            self._reject_set_notation()
            first = self._class_atom()
            self._reject_set_notation()
            if self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at):
                self._at += 1
                last = self._class_atom()
                if isinstance(first, int) and isinstance(last, int):
                    items.append(f"{_literal(first)}-{_literal(last)}")
                else:
                    # Annex B: next to a class such as \w the hyphen is literal.
                    items += [first, ord("-"), last]
            else:
                items.append(first)
        self._at += 1
        if not items:
            return r"[\x{0}-\x{10ffff}]" if negated else r"[^\x{0}-\x{10ffff}]"
        written = "".join(_literal(item) if isinstance(item, int) else item for item in items)
        return f"[{'^' if negated else ''}{written}]"

    def _reject_set_notation(self) -> None:
        """Without the `u` flag, `[` and doubled operators are ambiguous: set notation of the `v` flag, or literal."""
        if not self._unicode and self._pattern.startswith(("[", "&&", "--"), self._at):
            raise Unsupported("a set within a class")

    def _class_atom(self) -> int | str:
        if self._at >= len(self._pattern):
            raise Unsupported("a class without an end")
        if self._pattern[self._at] != "\\":
            self._at += 1
            return self._code(ord(self._pattern[self._at - 1]))
        token = self._next()
        if token["escape"] == "b":
            return 8
        return ord("-") if token["escape"] == "-" else self._atom(token)

    def _atom(self, token: re.Match[str]) -> int | str:
        """A code point, or the inside of a class for a set of them."""
        if token["property"] is not None:
            return self._property(token["sign"], token["property"])
        if token["high"] is not None:
            if not self._unicode:
                raise Unsupported("halves of a surrogate pair")
            return 0x10000 + (int(token["high"], 16) - 0xD800) * 0x400 + int(token["low"], 16) - 0xDC00
        if token["code"] is not None:
            if not self._unicode:
                raise Unsupported("a repeated u")
            return self._code(int(token["code"], 16))
        for digits in (token["four"], token["two"]):
            if digits is not None:
                return self._code(int(digits, 16))
        if token["control"] is not None:
            return ord(token["control"]) % 32
        return self._escape(token["escape"])

    def _escape(self, escape: str) -> int | str:
        if escape in "dDwW":
            return f"\\{escape}"
        if escape in "sS":
            return self._spaces if escape == "s" else self._not_spaces
        if escape in _CONTROLS:
            return _CONTROLS[escape]
        if escape == "0" and not self._pattern[self._at : self._at + 1].isdigit():
            return 0
        if escape.isalnum():
            # A back-reference, an octal escape, or (Annex B) a letter with a meaning in other dialects.
            raise Unsupported(f"\\{escape}")
        return self._code(ord(escape))

    def _property(self, sign: str, content: str) -> str:
        if not self._unicode:
            raise Unsupported("a property without the u flag")
        name, _, value = content.rpartition("=")
        if name in ("Script", "sc"):
            return f"\\{sign}{{{value}}}"
        if name in ("", "General_Category", "gc"):
            category = _CATEGORIES.get(value, value)
            if category in _SHORT:
                return f"\\{sign}{{{category}}}"
            if not name and value in ("Any", "ASCII"):
                last = 0x10FFFF if value == "Any" else 0x7F
                if sign == "p":
                    return rf"\x{{0}}-\x{{{last:x}}}"
        raise Unsupported(f"the property {content}")

    def _code(self, code: int) -> int:
        if 0xD800 <= code <= 0xDFFF or (code > 0xFFFF and not self._unicode):
            raise Unsupported("half of a surrogate pair")
        return code


def _group(opening: str) -> str:
    """Groups lose their number and name, because only a match or no match is needed."""
    if opening in ("(", "(?:") or opening.endswith(">"):
        return "(?:"
    raise Unsupported("lookaround, or flags within the pattern")


def _word_boundary(escape: str) -> str:
    if escape == "B":
        # RE2 tests between bytes, so it would find a match inside a multi-byte character.
        raise Unsupported(r"\B")
    return r"\b"


def _literal(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\x{{{code:x}}}"
