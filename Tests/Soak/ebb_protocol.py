"""A client of the Ebb protocol without dependencies: messages are dictionaries, and protocol/ebb.proto says what is in them."""
import asyncio
import contextlib
import pathlib
import re
import socket
import struct

PROTO = pathlib.Path(__file__).resolve().parent.parent.parent / "protocol/ebb.proto"
VARINT = {"uint32", "uint64", "int32", "int64", "sint64", "bool"}
FIXED = {"float": ("<f", 5), "double": ("<d", 1), "fixed32": ("<I", 5), "fixed64": ("<Q", 1)}


def read_schema(text):
    """{message: {field: (number, type, repeated)}}, {enum: {name: number}}; nested types go by their own names."""
    messages, enums, stack = {}, {}, []
    for statement in re.findall(r"[^;{}]*[;{}]", re.sub(r"//.*", "", text)):
        words = statement.strip(" \n;{").split()
        if statement.endswith("{"):
            stack.append(words[-1])
            if words[0] in ("message", "enum"):
                (messages if words[0] == "message" else enums)[words[1]] = {}
            else:
                stack[-1] = stack[-2]  # a oneof's fields are its message's
        elif statement.strip() == "}":
            stack.pop()
        elif stack and "=" in words:
            number = int(words[words.index("=") + 1])
            if stack[-1] in enums:
                enums[stack[-1]][words[0]] = number
            else:
                kind, name = words[words.index("=") - 2:words.index("=")]
                messages[stack[-1]][name] = (number, kind, "repeated" in words)
    return messages, enums


MESSAGES, ENUMS = read_schema(PROTO.read_text())


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def encode_value(kind, value):
    """The wire type and the bytes of one value."""
    if kind in FIXED:
        return FIXED[kind][1], struct.pack(FIXED[kind][0], value)
    if kind == "sint64":
        return 0, varint(value << 1 ^ value >> 63)
    if kind in ENUMS:
        return 0, varint(ENUMS[kind][value] if isinstance(value, str) else value)
    if kind in VARINT:
        return 0, varint(int(value))
    data = value.encode() if kind == "string" else value if kind == "bytes" else encode(kind, value)
    return 2, varint(len(data)) + data


def encode(message, values):
    out = b""
    for name, value in values.items():
        number, kind, repeated = MESSAGES[message][name]
        for one in value if repeated else [value]:
            wire, data = encode_value(kind, one)
            out += varint(number << 3 | wire) + data
    return out


def decode(message, data):
    """Fields that are not there have no entry; `get` with a default reads them."""
    fields = {number: (name, kind, repeated) for name, (number, kind, repeated) in MESSAGES[message].items()}
    values, at = {}, 0

    def take_varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    def signed(kind, n):
        if kind == "sint64":
            return n >> 1 ^ -(n & 1)
        if kind == "bool":
            return bool(n)
        if kind in ENUMS:
            return next((name for name, number in ENUMS[kind].items() if number == n), n)
        return n - (1 << 64) if kind.startswith("int") and n >> 63 else n

    while at < len(data):
        tag = take_varint()
        name, kind, repeated = fields.get(tag >> 3, ("?", "bytes", False))
        wire = tag & 7
        if wire == 0:
            found = [signed(kind, take_varint())]
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            found = [struct.unpack(FIXED.get(kind, ("<Q" if wire == 1 else "<I",))[0], data[at:at + size])[0]]
            at += size
        else:
            size = take_varint()
            piece = data[at:at + size]
            at += size
            if kind == "string":
                found = [piece.decode()]
            elif kind == "bytes":
                found = [piece]
            elif kind in MESSAGES:
                found = [decode(kind, piece)]
            elif kind in FIXED:
                form = FIXED[kind][0]
                found = [v for (v,) in struct.iter_unpack(form, piece)]
            else:  # packed numbers
                end, found, at = at, [], at - size
                while at < end:
                    found.append(signed(kind, take_varint()))
        if repeated:
            values.setdefault(name, []).extend(found)
        else:
            values[name] = found[-1]
    return values


def frame(envelope):
    payload = encode("Envelope", envelope)
    return struct.pack(">I", len(payload)) + payload


def body_of(envelope):
    """(kind, values) of an envelope's body."""
    return next(((k, v) for k, v in envelope.items() if k != "id"), ("nothing", {}))


class Closed(Exception):
    """The daemon has ended the connection."""


class Connection:
    """One connection. Answers are read by whoever awaits one; only one task may read."""

    @classmethod
    async def open(cls, path, name="test", hello=True):
        self = cls()
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(path)
        self.ids = 1
        if hello:
            # Who is refused may find the socket closed already; why can be read from it, unless asyncio writes to it.
            with contextlib.suppress(BrokenPipeError):
                connected.sendall(frame({"id": 1, "hello": {"version_min": 1, "version_max": 1, "client": name}}))
        self.reader, self.writer = await asyncio.open_unix_connection(sock=connected, limit=8 << 20)
        if hello:
            kind, values = body_of(await self.receive())
            if kind != "welcome":
                self.abort()
                raise Closed(values)
        return self

    async def send(self, envelope):
        await self.send_bytes(frame(envelope))

    async def send_bytes(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise Closed(error) from None

    async def request(self, **body):
        """Sends a request; its id."""
        self.ids += 1
        await self.send({"id": self.ids, **body})
        return self.ids

    async def receive(self):
        try:
            size, = struct.unpack(">I", await self.reader.readexactly(4))
            return decode("Envelope", await self.reader.readexactly(size))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Closed(error) from None

    async def call(self, **body):
        """(kind, values) of the one answer, where nothing else is under way on the connection."""
        wanted = await self.request(**body)
        while True:
            envelope = await self.receive()
            if envelope.get("id", 0) in (0, wanted):
                return body_of(envelope)

    def abort(self):
        self.writer.transport.abort()
