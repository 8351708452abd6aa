"""What messages consist of, whatever they are spelled in: maps with the members of the protocol."""

from __future__ import annotations

from typing import Any, Final

from trio_hub.errors import PeerFault
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    CloseCode,
    Event,
    MalformedRequest,
    Reply,
    Request,
    Resumed,
)

__all__ = ["LARGEST_NUMBER", "FromClient", "FromServer", "as_object", "client_message", "server_message", "unknown"]

FromClient = Request | MalformedRequest | Cancel | Ack | AckReplies
FromServer = Event | Reply | Resumed

LARGEST_NUMBER: Final = 2**53 - 1  # JSON numbers are exact up to here


def as_object(message: Reply | Resumed | Request | Cancel | Ack | AckReplies) -> dict[str, Any]:
    """Return the map that says this."""
    match message:
        case Reply(seq_reply, data, None):
            reply = {"status": "OK", "seq_reply": seq_reply}
            return reply if data is None else {**reply, "data": data}
        case Reply(seq_reply, _, (status, id, text)):
            error = {"id": id, "message": text, "status_code": status}
            return {"status": "FAIL", "seq_reply": seq_reply, "error": error}
        case Resumed(connection_id, next, requests, max_message):
            resumed = {"connection_id": connection_id, "next": next, "requests": requests}
            return {"resumed": resumed if max_message is None else {**resumed, "max_message": max_message}}
        case Request(seq, action, data, deadline, traceparent):
            request = {"seq": seq, "action": action, "data": data}
            if deadline is not None:
                request["deadline"] = round(deadline * 1000)
            return request if traceparent is None else {**request, "traceparent": traceparent}
        case Ack(number, None):
            return {"ack": number}
        case Ack(number, connection_id):
            return {"ack": number, "connection_id": connection_id}
        case AckReplies(number):
            return {"ack_replies": number}
        case Cancel(seq):
            return {"cancel": seq}
    raise AssertionError(message)  # pragma: no cover


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
    if deadline is None:
        return Request(seq, action, item.get("data"), None, traceparent)
    if type(deadline) not in (int, float) or not 0 <= deadline <= LARGEST_NUMBER:
        return MalformedRequest(seq, "Expected milliseconds >= 0 - at `$.deadline`")
    return Request(seq, action, item.get("data"), deadline / 1000, traceparent)


def server_message(item: dict[str, Any]) -> FromServer:
    """Return what a server says with this map. Raises `PeerFault` where it says nothing we know."""
    match item:
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
