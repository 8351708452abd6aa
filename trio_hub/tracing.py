"""Traces: spans of OpenTelemetry around publishes, deliveries and requests. Needs the extra ``tracing``.

What belongs together. A request is a child of what its ``traceparent`` names (W3C Trace Context), or begins a trace. A
publish is a child of whatever its publisher is in the midst of, such as a request. A delivery offers one burst of
events: it is linked to the publish of each, and a child of the first.

The rooms below know nothing of this: the hub has a `Tracing` or None, and requests are seen where their handler is
called, which is wrapped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trio_hub.errors import RequestFailed
from trio_hub.messages import Request
from trio_hub.peer.items import closing, is_stream
from trio_hub.peer.requests import Handler

__all__ = ["TracedHandler", "Traces"]

_propagator = TraceContextTextMapPropagator()


class Traces:
    """The spans of a hub, made by `tracer`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def publish(self, name: str) -> Iterator[SpanContext]:
        """Be in a span as long as the hub takes to accept an event of this name; yields what `deliver` links to."""
        attributes = {"trio_hub.event": name}
        with self._tracer.start_as_current_span("publish", kind=SpanKind.PRODUCER, attributes=attributes) as span:
            yield span.get_span_context()

    def deliver(self, published: Sequence[SpanContext]) -> AbstractContextManager[Any]:
        """Be in a span as long as it takes to offer a burst of events, which were published in these."""
        return self._tracer.start_as_current_span(
            "deliver",
            context=set_span_in_context(NonRecordingSpan(published[0]), Context()),
            kind=SpanKind.CONSUMER,
            attributes={"trio_hub.events": len(published)},
            links=[Link(each) for each in published],
        )


class TracedHandler:
    """Carries out requests as `handler` does, each within a span that `tracer` makes."""

    def __init__(self, handler: Handler, tracer: Tracer) -> None:
        self._handler = handler
        self._tracer = tracer
        self.ordered = handler.ordered

    def __call__(self, connection: Any, request: Request) -> Any:
        """Return the reply's data, or a coroutine that will, or the items of a streamed reply, as the handler does."""
        span = self._tracer.start_span(
            "request",
            context=_parent(request.traceparent),
            kind=SpanKind.SERVER,
            attributes={"trio_hub.action": request.action[:100]},
        )
        handed_over = False
        try:
            with _in(span):
                result = self._handler(connection, request)
            if iscoroutine(result):
                handed_over = True
                return _Work(span, result, streams=request.items is not None)
            handed_over = request.items is not None and is_stream(result)
            return _Items(span, result) if handed_over else result
        finally:
            if not handed_over:
                span.end()


class _Work(Coroutine[Any, Any, Any]):
    """A handler's coroutine, in a span that ends with it, also where it is closed before it has begun."""

    def __init__(self, span: Span, work: Coroutine[Any, Any, Any], *, streams: bool) -> None:
        self._span = span
        self._work = work
        self._streams = streams
        self._steps = self._carry_on()

    async def _carry_on(self) -> Any:
        handed_over = False
        try:
            with _in(self._span):
                result = await self._work
            handed_over = self._streams and is_stream(result)
            return _Items(self._span, result) if handed_over else result
        finally:
            if not handed_over:
                self._span.end()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps.__await__()

    def send(self, value: Any, /) -> Any:
        return self._steps.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        return self._steps.throw(typ, val, tb)

    def close(self) -> None:
        if getcoroutinestate(self._steps) == CORO_CREATED:
            self._span.end()
        self._steps.close()
        self._work.close()


class _Items(AsyncIterator[Any]):
    """The items of a streamed reply, in a span that ends when they are closed, also where none was asked for."""

    def __init__(self, span: Span, items: AsyncIterator[Any]) -> None:
        self._span = span
        self._items = items

    async def __anext__(self) -> Any:
        with _in(self._span):
            try:
                return await anext(self._items)
            except StopAsyncIteration:
                pass
        raise StopAsyncIteration

    async def aclose(self) -> None:
        try:
            async with closing(self._items):
                pass
        finally:
            self._span.end()


@contextmanager
def _in(span: Span) -> Iterator[None]:
    """Be in this span, and note what is raised. That somebody asked for what cannot be is no error of ours."""
    with use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except RequestFailed as failure:
            span.set_attribute("trio_hub.status", failure.status)
            raise
        except Exception as error:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR)
            raise


def _parent(traceparent: str | None) -> Context:
    """Return the context that a request belongs to; an empty one where it names none, or none that can be read."""
    return Context() if traceparent is None else _propagator.extract({"traceparent": traceparent}, Context())
