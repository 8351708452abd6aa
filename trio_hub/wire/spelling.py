"""What messages consist of, whatever they are spelled in: maps with the members of the protocol."""

from __future__ import annotations

from typing import Any, Final

from trio_hub.errors import PeerFault
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    CloseCode,
    End,
    Event,
    Item,
    MalformedRequest,
    More,
    Reply,
    Request,
    Resumed,
)

__all__ = [
    "END",
    "ITEM",
    "LARGEST_NUMBER",
    "FromClient",
    "FromServer",
    "Message",
    "as_object",
    "client_message",
    "error_object",
    "server_message",
    "unknown",
]

FromClient = Request | MalformedRequest | Cancel | More | Ack | AckReplies
FromServer = Event | Item | End | Reply | Resumed
Message = Request | Cancel | More | Ack | AckReplies | Reply | Resumed | Item | End
"""What is said by itself. Events are not: see `bodies`."""

ITEM: Final = "item"
END: Final = "end"

LARGEST_NUMBER: Final = 2**53 - 1  # JSON numbers are exact up to here


def as_object(message: Message) -> dict[str, Any]:
    """Return the map that says this."""
    match message:
        case Reply(seq_reply, data, None):
            reply = {"status": "OK", "seq_reply": seq_reply}
            return reply if data is None else {**reply, "data": data}
        case Reply(seq_reply, _, error):
            return {"status": "FAIL", "seq_reply": seq_reply, "error": error_object(error)}
        case Item(reply_to, data):
            return {"event": ITEM, "data": data, "reply_to": reply_to}
        case End(reply_to, error):
            return {"event": END, "data": error_object(error), "reply_to": reply_to}
        case Resumed(connection_id, next, requests, max_message):
            resumed = {"connection_id": connection_id, "next": next, "requests": requests}
            return {"resumed": resumed if max_message is None else {**resumed, "max_message": max_message}}
        case Request():
            return _request_object(message)
        case Ack(number, None):
            return {"ack": number}
        case Ack(number, connection_id):
            return {"ack": number, "connection_id": connection_id}
        case AckReplies(number):
            return {"ack_replies": number}
        case Cancel(seq):
            return {"cancel": seq}
        case More(seq, items):
            return {"more": seq, "items": items}


def _request_object(request: Request) -> dict[str, Any]:
    spelled = {"seq": request.seq, "action": request.action, "data": request.data}
    if request.deadline is not None:
        spelled["deadline"] = round(request.deadline * 1000)
    for member in ("traceparent", "items"):
        value = getattr(request, member)
        if value is not None:
            spelled[member] = value
    return spelled


def error_object(error: tuple[int, str, str] | None) -> dict[str, Any] | None:
    """Return the map that says what has failed, and why; None where nothing has."""
    if error is None:
        return None
    status, id, text = error
    return {"id": id, "message": text, "status_code": status}


def client_message(item: dict[str, Any], *, acknowledges: bool) -> FromClient:
    """Return what a client says with this map. Raises `PeerFault` where it says nothing we know."""
    if "seq" in item:
        return _request(item)
    if acknowledges:
        match item:
            case {"ack": number}:
                return Ack(_number(number, "ack"), _connection_id(item.get("connection_id")))
            case {"ack_replies": number}:
                return AckReplies(_number(number, "ack_replies"))
            case {"cancel": seq}:
                return Cancel(_number(seq, "cancel"))
            case {"more": seq, "items": items}:
                return More(_number(seq, "more"), _number(items, "items"))
    raise unknown(item)


def _request(item: dict[str, Any]) -> Request | MalformedRequest:
    """Return the request, or what is wrong with it where its number is good enough to answer to."""
    seq = _number(item["seq"], "seq")
    if seq < 1:
        raise PeerFault(CloseCode.UNSUPPORTED, "request number below 1, to which no reply is possible")
    action, deadline = item.get("action"), item.get("deadline")
    if type(action) is not str or not action:
        return MalformedRequest(seq, "Expected non-empty `str` - at `$.action`")
    traceparent = item.get("traceparent")
    if type(traceparent) is not str:
        traceparent = None  # of no importance to what is asked
    items = item.get("items")
    if items is not None and (type(items) is not int or not 1 <= items <= LARGEST_NUMBER):
        return MalformedRequest(seq, "Expected a whole number >= 1 - at `$.items`")
    if deadline is None:
        return Request(seq, action, item.get("data"), None, traceparent, items)
    if type(deadline) not in (int, float) or not 0 <= deadline <= LARGEST_NUMBER:
        return MalformedRequest(seq, "Expected milliseconds >= 0 - at `$.deadline`")
    return Request(seq, action, item.get("data"), deadline / 1000, traceparent, items)


def server_message(item: dict[str, Any]) -> FromServer:
    """Return what a server says with this map. Raises `PeerFault` where it says nothing we know."""
    match item:
        case {"event": "item", "reply_to": seq}:
            return Item(_number(seq, "reply_to"), item.get("data"))
        case {"event": "end", "reply_to": seq}:
            error = item.get("data")
            return End(_number(seq, "reply_to"), None if error is None else _error(error))
        case {"event": str(name)}:
            number = item.get("seq")
            if number is not None:
                _number(number, "seq")
            return Event(name, item.get("data"), item.get("broadcast"), number)
        case {"status": "OK", "seq_reply": seq}:
            return Reply(_number(seq, "seq_reply"), item.get("data"))
        case {"status": "FAIL", "seq_reply": seq}:
            return Reply(_number(seq, "seq_reply"), None, _error(item.get("error")))
        case {"resumed": {"connection_id": str(connection_id), "next": next, "requests": requests, **more}}:
            largest = more.get("max_message")
            return Resumed(
                connection_id,
                _number(next, "next"),
                _number(requests, "requests"),
                None if largest is None else _number(largest, "max_message"),
            )
    raise unknown(item)


def _error(error: Any) -> tuple[int, str, str]:
    match error:
        case {"id": str(id), "message": str(text), "status_code": int(status)}:
            return status, id, text
    return 500, "unknown", "the server gave no reason that we understand"


def _number(value: Any, member: str) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise PeerFault(CloseCode.UNSUPPORTED, f"expected a whole number at `$.{member}`")
    return value


def _connection_id(value: Any) -> str | None:
    if value is not None and type(value) is not str:
        raise PeerFault(CloseCode.UNSUPPORTED, "expected a string at `$.connection_id`")
    return value


def unknown(value: Any) -> PeerFault:
    """Return the fault of whoever says this, which is no message."""
    if type(value) is dict:
        members = ", ".join(str(name)[:20] for name in list(value)[:5])
        return PeerFault(CloseCode.UNSUPPORTED, f"no message of this subprotocol has the members {{{members}}}")
    return PeerFault(CloseCode.UNSUPPORTED, f"a message is a JSON object, not {type(value).__name__}")
