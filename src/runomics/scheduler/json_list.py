"""A JSON list of objects, of any size, read element by element. Scheduler's threads.

The list is never in memory as a whole, and no call holds the interpreter for longer than one element takes.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

READ_BYTES = 1 << 20
MAX_ELEMENT_CHARS = 4 << 20
"""Of one element. The largest member of any, a run's parameters, is limited to a quarter of a mebibyte."""

_BLANKS = re.compile(r"[ \t\n\r]*")


class NotAList(Exception):
    """The file is not a JSON list of objects."""


def elements(file: BinaryIO) -> Iterator[tuple[dict[str, Any], str]]:
    """Each object of the JSON list that `file` holds from where it is, with its text.

    Raises:
        NotAList: it is not one, found out when the iteration comes to it.
    """
    text = _Text(file)
    text.take("[")
    if text.next_character() == "]":
        text.take("]")
    else:
        yield text.element()
        while text.next_character() == ",":
            text.take(",")
            yield text.element()
        text.take("]")
    if text.next_character():
        raise NotAList("there is more after the list")


class _Text:
    """A window of the file's text that moves on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next one that is no blank, without taking it; "" at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        """Raises: NotAList: another one comes."""
        found = self.next_character()
        if found != character:
            raise NotAList(f"{character} was expected and not {found or 'the end'}")
        self._at += 1

    def element(self) -> tuple[dict[str, Any], str]:
        """The next object. Raises: NotAList."""
        if self.next_character() != "{":
            raise NotAList("an element is not an object")
        end = self._end_of_element()
        text = self._text[self._at : end]
        self._at = end
        try:
            # Reads what a request's body is read by, so that both mean the same.
            element: dict[str, Any] = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
            raise NotAList(str(error)) from error
        return element, text

    def _end_of_element(self) -> int:
        while True:
            try:
                end: int = self._scan(self._text, self._at)[1]
            except (ValueError, RecursionError) as error:
                # Either it goes on in what was not read yet, or it is wrong.
                if len(self._text) - self._at > MAX_ELEMENT_CHARS or not self._read_on():
                    raise NotAList(str(error)) from error
            else:
                return end

    def _read_on(self) -> bool:
        """Read more; False when there is none."""
        if self._ended:
            return False
        data = self._file.read(READ_BYTES)
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise NotAList(str(error)) from error
        self._text = self._text[self._at :] + more
        self._at = 0
        return not self._ended
