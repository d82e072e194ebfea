"""An unpickler whose memory and time are limited by the size of the file.

A small pickle may ask for all memory, or for hours of work: by sizes that it does not have, by
copying the same data again and again, or by containers that contain another one twice, and so on,
which take forever to hash and are endless as text. So keys are text or numbers, and messages name
the types of values, never the values.
"""

import pickle
import re
import struct
import types
from typing import IO, Any, ClassVar, NoReturn

# Operations of a pickle. A million take half a second and at most 130 MB. A larger file may have
# more, but most of its bytes have to be data. Float numbers do not count: each has 9 bytes.
MAX_OPERATIONS = 1_000_000
BYTES_PER_OPERATION = 100
# Bytes that are copied to make objects, beyond twice the size of the file.
MAX_COPIED = 64 << 20
MAX_DEPTH = 100
LONG_TEXT = 1 << 20  # bytes; such text is the data of an array, in Latin-1


class WeightsError(ValueError):
    """A file of arrays that cannot be read, or that does not fit the model."""


class Dict(dict):
    """Replaces an OrderedDict; ignores the attributes that PyTorch adds (`_metadata`)."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class Set(list):
    """Replaces a set. Its members are not hashed."""

    __slots__ = ()


class Skipped:
    """Replaces an object that is not needed: accepts everything, keeps nothing."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


# Types of keys: those that hash quickly.
KEYS = frozenset({str, bytes, int, float, bool, type(None), Skipped})


def kind_of(value: Any) -> str:
    """The type of a value, for messages."""
    names = {Dict: "dict", Set: "set", Skipped: "object", types.MethodType: "function"}
    return names.get(type(value), type(value).__name__)


# Python's unpickler, not the one in C: a forged memo index makes the C code allocate all memory.
class BoundedUnpickler(pickle._Unpickler):
    """Reads text, numbers and plain containers, within limits.

    `find_class` of a subclass returns a bound method for each name that may be called, and text or
    None for one that is only an argument.

    Args:
        file: open at the position of the pickle.
        size: bytes of the file.
    """

    pop_mark: Any  # () -> the items after the last mark; Python's type stubs lack it
    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], size: int):
        super().__init__(file, encoding="latin1")
        self._file, self._size = file, size
        self._operations = MAX_OPERATIONS + size // BYTES_PER_OPERATION
        self._copied = MAX_COPIED + 2 * size

    def load(self) -> Any:
        """Read the pickle at the position of the file.

        Raises:
            WeightsError: it exceeds a limit, or contains what is not allowed.
        """
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        self.read, self.readline = self._read, self._file.readline
        read, dispatch = self._file.read, self.dispatch
        try:
            while key := read(1):
                self._operations -= 1
                if self._operations < 0:
                    raise WeightsError(
                        f"its {self._size} bytes describe too many small objects, expected arrays"
                    )
                dispatch[key[0]](self)
        except pickle._Stop as stop:  # pyright: ignore[reportAttributeAccessIssue]
            _check_depth(stop.value)
            return stop.value
        finally:
            # The memo holds functions of this reader, a cycle that would keep all data in memory.
            self.memo, self.stack, self.metastack = {}, [], []
        raise EOFError("the file is truncated")

    def charge(self, size: int) -> None:
        """Count bytes that are copied.

        Raises:
            WeightsError: the file copies the same data many times.
        """
        self._copied -= size
        if self._copied < 0:
            raise WeightsError("it copies the same data many times, which no file of arrays does")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size) if size <= self._size else b""
        if len(data) < size:
            raise EOFError(f"the file is truncated: {size} bytes are announced")
        return data

    # --- what pickles may call ---

    def _call(self, function, args):
        if not isinstance(function, types.MethodType) or not isinstance(args, tuple):
            raise WeightsError(f"it calls a {kind_of(function)}, which is not allowed")
        return function(*args)

    def make_list(self, values=()) -> list:
        if not isinstance(values, (list, tuple)):
            raise WeightsError(f"it makes a list of a {kind_of(values)}, expected a list or tuple")
        self.charge(8 * len(values))
        return list(values)

    def make_tuple(self, values=()) -> tuple:
        return tuple(self.make_list(values))

    def make_set(self, values=()) -> Set:
        return Set(self.make_list(values))

    def make_dict(self, items=()) -> Dict:
        made = Dict()
        pairs = list(items.items()) if isinstance(items, dict) else self.make_list(items)
        self.charge(100 * len(pairs))
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise WeightsError(f"it makes a dict of a {kind_of(pair)}, expected pairs")
            made[_checked_key(pair[0])] = pair[1]
        return made

    def make_bytes(self, text, encoding) -> bytes:
        """As `_codecs.encode`, with which protocols 0 to 2 write bytes."""
        if not isinstance(text, str) or encoding != "latin1":
            raise WeightsError("it holds text in an unknown encoding, expected latin1")
        self.charge(len(text))
        return text.encode("latin1")

    # --- operations of pickles ---

    def _frame(self):
        self._read(8)  # the size of the frame; its content is read from the file

    def _float(self):
        self._operations += 1
        self.append(struct.unpack(">d", self._read(8))[0])

    def _float_line(self):
        line = self.readline()
        self._operations += len(line) > 8
        self.append(float(line))

    def _unicode_line(self):
        line = self.readline()[:-1]
        if len(line) > LONG_TEXT and re.search(rb"\\U|\\u(?!00)", line):
            _refuse_text(len(line))
        self.append(str(line, "raw-unicode-escape"))

    def _unicode4(self):
        self._unicode(*struct.unpack("<I", self._read(4)))

    def _unicode8(self):
        self._unicode(*struct.unpack("<Q", self._read(8)))

    def _unicode(self, size: int):
        data = self._read(size)
        # A character above Latin-1 makes Python store all of them in 2 or 4 bytes each.
        if size > LONG_TEXT and re.search(rb"[\xc4-\xff]", data):
            _refuse_text(size)
        self.append(str(data, "utf-8", "surrogatepass"))

    def _bytearray8(self):
        self.append(bytearray(self._read(*struct.unpack("<Q", self._read(8)))))

    def _extension(self):
        raise WeightsError("it refers to objects of the program that wrote it, expected arrays")

    def _dict(self):
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _setitem(self):
        self._set([self.stack.pop(-2), self.stack.pop()])

    def _setitems(self):
        self._set(self.pop_mark())

    def _set(self, items: list):
        target = self.stack[-1]
        if isinstance(target, dict):
            for index in range(0, len(items), 2):
                target[_checked_key(items[index])] = items[index + 1]
        elif not isinstance(target, Skipped):
            raise WeightsError(f"it sets an item of a {kind_of(target)}, expected a dict")

    def _append(self):
        self._extend([self.stack.pop()])

    def _appends(self):
        self._extend(self.pop_mark())

    def _extend(self, items: list):
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Skipped):
            raise WeightsError(f"it appends to a {kind_of(target)}, expected a list")

    def _empty_set(self):
        self.append(Set())

    def _frozenset(self):
        items = self.pop_mark()  # changes self.append
        self.append(Set(items))

    def _reduce(self):
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _newobj(self):
        self._reduce()

    def _newobj_ex(self):
        self.stack.pop()  # keyword arguments, which only skipped objects have
        self._reduce()

    def _instantiate(self, klass, args):
        self.append(self._call(klass, tuple(args)))

    def _build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        # Bound methods and dicts have none, so nothing that outlives the file is changed.
        if not any("__setstate__" in vars(kind) for kind in type(target).__mro__):
            raise WeightsError(f"it changes a {kind_of(target)}, which is not allowed")
        target.__setstate__(state)

    for _code, _method in (
        (pickle.FRAME, _frame),
        (pickle.BINFLOAT, _float),
        (pickle.FLOAT, _float_line),
        (pickle.UNICODE, _unicode_line),
        (pickle.BINUNICODE, _unicode4),
        (pickle.BINUNICODE8, _unicode8),
        (pickle.BYTEARRAY8, _bytearray8),
        (pickle.EXT1, _extension),
        (pickle.EXT2, _extension),
        (pickle.EXT4, _extension),
        (pickle.DICT, _dict),
        (pickle.SETITEM, _setitem),
        (pickle.SETITEMS, _setitems),
        (pickle.APPEND, _append),
        (pickle.APPENDS, _appends),
        (pickle.EMPTY_SET, _empty_set),
        (pickle.FROZENSET, _frozenset),
        (pickle.ADDITEMS, _appends),
        (pickle.REDUCE, _reduce),
        (pickle.NEWOBJ, _newobj),
        (pickle.NEWOBJ_EX, _newobj_ex),
        (pickle.BUILD, _build),
    ):
        dispatch[_code[0]] = _method


def _checked_key(key):
    # The hash of a tuple may take forever, and all multiples of 2^61 - 1 have the same hash.
    if type(key) not in KEYS or (type(key) is int and abs(key) >= 1 << 60):
        kind = "too large a number" if type(key) is int else f"a {kind_of(key)}"
        raise WeightsError(f"a key in it is {kind}, expected text or a number")
    return key


def _refuse_text(size: int) -> NoReturn:
    raise WeightsError(f"it holds {size} characters of text, expected arrays")


def _check_depth(content) -> None:
    """Limit the depth of containers, so that code that walks through them needs no limit."""
    level, seen = [content], {id(content)}
    for _ in range(MAX_DEPTH):
        inner = []
        for value in level:
            members = value.values() if isinstance(value, dict) else value
            if isinstance(members, (list, tuple)) or isinstance(value, dict):
                inner += [v for v in members if isinstance(v, (dict, list, tuple))]
        level = []
        for value in inner:
            if id(value) not in seen:
                seen.add(id(value))
                level.append(value)
        if not level:
            return
    raise WeightsError(f"it nests lists, tuples or dicts more than {MAX_DEPTH} deep")
