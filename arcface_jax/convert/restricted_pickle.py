"""Pickles that hold data alone, read by an interpreter that can do nothing else.

``pickle.Unpickler`` with a guarded ``find_class`` would not do: its BUILD sets attributes of any
object that a file names, and it allocates what a file claims before looking at its length. Here an
opcode that plain data has no need of is an error, and what a file names is never looked up.
"""

import dataclasses
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
from typing import IO, Any

NO_CODE = (
    "a file with code is not read. Re-save only the state dict where its classes are known: "
    "torch.save(model.state_dict(), path)."
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT "
    # Python 2 wrote its str as BINSTRING.
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING".split()
)
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Hidden:
    """What calls may receive, but no container holds and no result is."""


class Arguments(Hidden, tuple):
    """A tuple with something hidden inside."""


@dataclasses.dataclass(frozen=True, eq=False)
class Name(Hidden):
    """Stands for a global that a pickle names; ``call`` answers its calls, None refuses them."""

    name: str
    call: Callable[[tuple], Any] | None = None


def read_pickle(
    stream: IO[bytes],
    *,
    name: Callable[[str], Name],
    persistent: Callable[[Any], Any],
) -> Any:
    """The object of the pickle that begins where the stream stands; leaves it behind the pickle.

    Args:
      stream: bytes, whose ``read`` never returns more than there is.
      name: the `Name` that stands for a dotted global; raises ValueError to refuse it.
      persistent: the object of a persistent id; raises ValueError to refuse it.

    Returns:
      None, bool, int, float, str, list, tuple, dict and OrderedDict, nested, and what calls gave.

    Raises:
      ValueError: a pickle that is cut off, damaged, or holds more than data.

    >>> import io, pickle
    >>> read_pickle(io.BytesIO(pickle.dumps({"a": [1, (2.5, None)]})), name=Name, persistent=Name)
    {'a': [1, (2.5, None)]}
    """
    stack, outer, memo = _Stack(), [], {}
    while True:
        position = stream.tell()
        opcode, argument = _operation(stream)
        try:
            match opcode:
                case "PROTO" | "FRAME":
                    pass
                case _ if opcode in _CONSTANTS:
                    stack.append(_CONSTANTS[opcode]())
                case _ if opcode in _LITERALS:
                    stack.append(argument)
                case "MARK":
                    outer.append(stack)
                    stack = _Stack()
                case "TUPLE":
                    items, stack = stack, outer.pop()
                    stack.append(_tuple(items))
                case _ if opcode in _TUPLES:
                    stack.append(_tuple(stack.take(_TUPLES[opcode])))
                case "APPEND":
                    item = stack.pop()
                    stack.top(list).append(visible(item))
                case "APPENDS":
                    items, stack = stack, outer.pop()
                    stack.top(list).extend(map(visible, items))
                case "SETITEM":
                    pair = stack.take(2)
                    set_item(stack.top(dict, OrderedDict), *pair)
                case "SETITEMS":
                    items, stack = stack, outer.pop()
                    mapping = stack.top(dict, OrderedDict)
                    for first in range(0, len(items), 2):
                        set_item(mapping, items[first], items[first + 1])
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(name(argument))
                case "STACK_GLOBAL":
                    stack.append(name(_dotted(*stack.take(2))))
                case "BINPERSID":
                    stack.append(persistent(stack.pop()))
                case "REDUCE":
                    called, arguments = stack.take(2)
                    stack.append(_call(called, arguments))
                case "BUILD":
                    # Attributes of an OrderedDict: nn.Module leaves its _metadata there.
                    stack.pop()
                    stack.top(OrderedDict)
                case "STOP":
                    return visible(stack.pop())
                case _:
                    raise _needless(opcode)
        except (IndexError, KeyError):
            raise ValueError(
                f"its pickle is damaged at byte {position}: {opcode} has nothing to work on."
            ) from None


def visible[T](value: T) -> T:
    """The value itself.

    Raises:
      ValueError: it is `Hidden`.

    >>> visible(1)
    1
    """
    if isinstance(value, Hidden):
        what = value.name if isinstance(value, Name) else "a storage"
        raise ValueError(f"it holds {what} in a place of plain data or a tensor; {NO_CODE}")
    return value


def set_item(mapping: MutableMapping, key: Any, value: Any) -> None:
    """Sets a value under a key of a plain kind.

    Raises:
      ValueError: another kind of key, or a `Hidden` value.

    >>> set_item({}, ("a",), 1)
    Traceback (most recent call last):
    ValueError: a key of a dict is a tuple; known are str, int, float and None.
    """
    # The hash of a tuple calls that of its items: nested deeply enough it overflows C's stack.
    if not isinstance(key, str | int | float | None):
        raise ValueError(
            f"a key of a dict is a {type(key).__name__}; known are str, int, float and None."
        )
    mapping[key] = visible(value)


class _Stack(list):
    def take(self, count: int) -> list[Any]:
        """The last items, which it loses."""
        if len(self) < count:
            raise IndexError
        taken = self[-count:]
        del self[-count:]
        return taken

    def top(self, *kinds: type) -> Any:
        """The last item, which it keeps; one of these kinds."""
        # Exactly: what a call gave could be a subclass with other rules.
        if type(self[-1]) not in kinds:
            found = type(self[-1]).__name__
            raise ValueError(f"it fills a {found} as if it were a {kinds[0].__name__}; {NO_CODE}")
        return self[-1]


def _operation(stream: IO[bytes]) -> tuple[str, Any]:
    """Name and argument of the next opcode."""
    code = stream.read(1)
    opcode = _OPCODES.get(code)
    if opcode is None:
        raise _damaged(stream, f"no opcode is {code.hex()}" if code else "it ends without STOP")
    if opcode.arg is None:
        return opcode.name, None
    try:
        if opcode.name == "GLOBAL":
            return opcode.name, _two_lines(stream)
        # Other lines of text are protocol 0's; pickletools would unescape them, with warnings.
        if opcode.arg.n != pickletools.UP_TO_NEWLINE:
            return opcode.name, opcode.arg.reader(stream)
    except ValueError as error:
        raise _damaged(stream, error) from None
    raise _needless(opcode.name)


def _two_lines(stream: IO[bytes]) -> str:
    lines = [stream.readline(), stream.readline()]
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError("a name ends without a new line")
    return ".".join(line[:-1].decode() for line in lines)


def _damaged(stream: IO[bytes], problem: object) -> ValueError:
    return ValueError(f"its pickle is cut off or damaged before byte {stream.tell()}: {problem}.")


def _needless(opcode: str) -> ValueError:
    return ValueError(f"plain data has no need of pickle's {opcode}; {NO_CODE}")


def _dotted(module: Any, attribute: Any) -> str:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise IndexError
    return f"{module}.{attribute}"


def _tuple(items: Iterable[Any]) -> tuple:
    items = tuple(items)
    return Arguments(items) if any(isinstance(item, Hidden) for item in items) else items


def _call(called: Any, arguments: Any) -> Any:
    if not isinstance(called, Name) or called.call is None or not isinstance(arguments, tuple):
        what = called.name if isinstance(called, Name) else f"a {type(called).__name__}"
        raise ValueError(f"it calls {what}; {NO_CODE}")
    return called.call(arguments)
