"""AWS's grammar of expressions, strictly: emulators accept more, such as arithmetic in a condition.

    condition  = disjunct { OR disjunct }      disjunct = negated { AND negated }      negated = { NOT } term
    term       = ( condition ) | function | operand comparator operand
               | operand BETWEEN operand AND operand | operand IN ( operand, … )
    operand    = path | :value | size ( path )
    key        = path comparator :value [ AND ( path comparator :value | begins_with | BETWEEN ) ]
    update     = each of SET, REMOVE, ADD and DELETE at most once
    SET        = path = side [ + side | - side ], …
    side       = path | :value | if_not_exists ( path, side ) | list_append ( side, side )
    REMOVE     = path, …        ADD, DELETE = path :value, …        projection = path, …

Ours is stricter in one thing: an attribute is always a #placeholder, so that none of the 573 reserved words can bite.
Source: Amazon DynamoDB Developer Guide, "Condition and filter expressions", "Update expressions".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_TOKEN: Final = re.compile(r"\s*(#\w+|:\w+|\w+|<>|<=|>=|\[\d+\]|[=<>(),.+-])")
_COMPARATORS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})
_PREDICATES: Final[Mapping[str, int]] = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "attribute_type": 2,
    "begins_with": 2,
    "contains": 2,
}
"""With how many arguments each takes; the first is a path."""


class NotInGrammarError(Exception):
    """AWS would refuse the request."""


def check_request(request: Mapping[str, Any]) -> None:
    """Check the expressions of a request, or of one action of a transaction, with its names and values.

    Raises:
        NotInGrammarError: saying what AWS would refuse.
    """
    used: set[str] = set()
    for kind, parse in _GRAMMARS.items():
        if kind in request:
            parser = _Parser(request[kind])
            parse(parser)
            parser.end()
            used |= parser.used
    for marker, kind in (("#", "ExpressionAttributeNames"), (":", "ExpressionAttributeValues")):
        defined = request.get(kind)
        wanted = {name for name in used if name.startswith(marker)}
        if defined is not None and not defined:
            raise NotInGrammarError(f"{kind} is empty")
        if wanted != set(defined or ()):
            raise NotInGrammarError(f"{kind} has {sorted(defined or ())}, and the expressions use {sorted(wanted)}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text) or not self._tokens:
            raise NotInGrammarError(f"not made of tokens: {text!r}")
        self.used: set[str] = set()

    def end(self) -> None:
        if self._tokens:
            raise self._unexpected("the end")

    def condition(self) -> None:
        self._joined("OR", lambda: self._joined("AND", self._negated))

    def key_condition(self) -> None:
        self._path()
        self._expect("=")
        self._value()
        if not self._take("AND"):
            return
        if self._take("begins_with"):
            self._arguments(self._path, self._value)
            return
        self._path()
        if self._take("BETWEEN"):
            self._value()
            self._expect("AND")
        else:
            self._one_of(_COMPARATORS - {"<>"}, "a comparator")
        self._value()

    def update(self) -> None:
        clauses: dict[str, Callable[[], None]] = {
            "SET": self._assignment,
            "REMOVE": self._path,
            "ADD": self._path_and_value,
            "DELETE": self._path_and_value,
        }
        while self._tokens:
            clause = self._one_of(clauses.keys(), "a clause that was not there yet")
            self._joined(",", clauses.pop(clause))

    def projection(self) -> None:
        self._joined(",", self._path)

    def _negated(self) -> None:
        while self._take("NOT"):
            pass
        self._term()

    def _term(self) -> None:
        if self._take("("):
            self.condition()
            self._expect(")")
            return
        if self._peek() in _PREDICATES:
            number = _PREDICATES[self._next()]
            self._arguments(self._path, *[self._operand] * (number - 1))
            return
        self._operand()
        if self._take("BETWEEN"):
            self._operand()
            self._expect("AND")
            self._operand()
        elif self._take("IN"):
            self._expect("(")
            self._joined(",", self._operand)
            self._expect(")")
        else:
            self._one_of(_COMPARATORS, "a comparator")
            self._operand()

    def _operand(self) -> None:
        if self._take("size"):
            self._arguments(self._path)
        elif self._peek().startswith(":"):
            self._value()
        else:
            self._path()

    def _assignment(self) -> None:
        self._path()
        self._expect("=")
        self._side()
        if self._take("+") or self._take("-"):
            self._side()

    def _side(self) -> None:
        if self._take("if_not_exists"):
            self._arguments(self._path, self._side)
        elif self._take("list_append"):
            self._arguments(self._side, self._side)
        elif self._peek().startswith(":"):
            self._value()
        else:
            self._path()

    def _path_and_value(self) -> None:
        self._path()
        self._value()

    def _path(self) -> None:
        self._placeholder("#")
        while self._peek() == "." or self._peek().startswith("["):
            if self._next() == ".":
                self._placeholder("#")

    def _value(self) -> None:
        self._placeholder(":")

    def _placeholder(self, marker: str) -> None:
        if not self._peek().startswith(marker):
            raise self._unexpected(f"a {marker}placeholder")
        self.used.add(self._next())

    def _arguments(self, *arguments: Callable[[], None]) -> None:
        self._expect("(")
        for index, argument in enumerate(arguments):
            if index:
                self._expect(",")
            argument()
        self._expect(")")

    def _joined(self, separator: str, part: Callable[[], None]) -> None:
        part()
        while self._take(separator):
            part()

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _next(self) -> str:
        return self._tokens.pop(0)

    def _take(self, token: str) -> bool:
        is_there = self._peek() == token
        if is_there:
            self._next()
        return is_there

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._unexpected(token)

    def _one_of(self, tokens: Any, what: str) -> str:
        if self._peek() not in tokens:
            raise self._unexpected(what)
        return self._next()

    def _unexpected(self, expected: str) -> NotInGrammarError:
        return NotInGrammarError(f"{self._peek() or 'the end'!r} where {expected} was expected, in {self._text!r}")


_GRAMMARS: Final[Mapping[str, Callable[[_Parser], None]]] = {
    "ConditionExpression": _Parser.condition,
    "FilterExpression": _Parser.condition,
    "KeyConditionExpression": _Parser.key_condition,
    "UpdateExpression": _Parser.update,
    "ProjectionExpression": _Parser.projection,
}
