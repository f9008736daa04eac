"""One operation of the service without an SDK client: botocore's parts, and no connection.

What botocore's client decides (endpoint, headers, signature) is read from its event
``before-call``, which is how botocore lets others answer a request. Common requests, responses and
events are checked, written and read by the functions of `shapes`, and signed by a `SignatureV4`
that agrees with botocore; botocore does all others.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentkit.providers.bedrock.connection import credentials_of
from agentkit.providers.bedrock.frames import EventDecoder, EventParser
from agentkit.providers.bedrock.shapes import RequestWriter, reader
from agentkit.providers.bedrock.signature import SignatureV4, signature_like
from agentkit.providers.transport.http.record import typed_parser
from agentkit.providers.transport.instrumentation import without_sdk_spans

_ADVISORY_REFRESH: Final = 15 * 60
"""Seconds before their end from which botocore renews credentials while a request is signed."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OF_ONE_CALL: Final = frozenset({"x-amzn-trace-id"})
"""Headers that belong to the call that they were prepared for."""


class SignedRequest(NamedTuple):
    """A request as it is sent, below the endpoint.

    `headers` are those beside, or in place of, the `Operation.headers`.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]


class Operation:
    """One operation, such as ``Converse``, as the SDK client `client` is set up to call it.

    Making it signs a request, which may ask another machine for credentials.

    Attributes:
        endpoint: the address that botocore resolved, without a default port.
        headers: what every request has.

    Raises:
        botocore.exceptions.BotoCoreError: there are no credentials.
    """

    def __init__(self, client: Any, name: str) -> None:
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from botocore.exceptions import InvalidEndpointConfigurationError
        from botocore.parsers import create_parser
        from botocore.serialize import create_serializer
        from botocore.tokens import FrozenAuthToken

        params, signer, context = _prepared(client, name)
        model = client.meta.service_model.operation_model(name)
        protocol = model.service_model.resolved_protocol
        url = params["url"].removesuffix(params["url_path"])
        self.endpoint = _without_default_port(url)
        self._name = name
        self._model = model
        self._exceptions = client.exceptions
        self._make_request = AWSRequest
        self._signer = signer
        self._fixed_type = Credentials
        self._token_type = FrozenAuthToken
        self._context = context
        self.headers = {
            key: value
            for key, value in params["headers"].items()
            if key.lower() not in _OF_ONE_CALL
        }
        self._serializer = create_serializer(protocol, client.meta.config.parameter_validation)
        self._writer = RequestWriter(model)
        self._parser = create_parser(protocol)
        self._parse_json = typed_parser(Any)
        self._read = reader(model.output_shape)
        self._signature: SignatureV4 | None = None
        probe = self.request({"modelId": "model"})
        self._has_token = probe.headers.get("Authorization", "").startswith("Bearer ")
        if self._has_token and not self.endpoint.startswith("https:"):
            # Older releases of botocore sign it.
            raise InvalidEndpointConfigurationError(msg="an API key requires an HTTPS endpoint")
        credentials, _ = credentials_of(signer)
        if isinstance(credentials, Credentials):
            frozen = credentials.get_frozen_credentials()
            self._signature = signature_like(self.endpoint, *probe, frozen)
            self._credentials = credentials

    def request(self, arguments: Mapping[str, Any]) -> SignedRequest:
        """The request with `arguments`.

        Signing it may renew credentials, which asks another machine: see `may_wait`.

        Raises:
            botocore.exceptions.ParamValidationError: an argument is not as documented.
            botocore.exceptions.BotoCoreError: there are no credentials.
        """
        path, body = self._written(arguments)
        if self._signature is not None:
            frozen = self._credentials.get_frozen_credentials()
            return SignedRequest(path, body, self._signature.headers(path, body, frozen))
        request = self._make_request(
            method="POST", url=self.endpoint + path, headers=self.headers, data=body
        )
        request.context = {**self._context, "signing": {**self._context.get("signing", {})}}
        self._signer.sign(self._name, request)
        headers = {name: _text(value) for name, value in request.headers.items()}
        return SignedRequest(path, body, headers)

    def _written(self, arguments: Mapping[str, Any]) -> tuple[str, bytes]:
        """The path and the body."""
        written = self._writer.write(arguments)
        if written is not None:
            return written
        serialized = self._serializer.serialize_to_request(arguments, self._model)
        return serialized["url_path"], serialized["body"]

    def may_wait(self) -> bool:
        """Whether signing may have to wait for new credentials."""
        credentials, token = credentials_of(self._signer)
        if self._has_token:
            return not isinstance(token, self._token_type)
        if credentials is None or type(credentials) is self._fixed_type:
            return False
        refresh_needed = getattr(credentials, "refresh_needed", None)
        return refresh_needed is None or bool(refresh_needed(_ADVISORY_REFRESH))

    def response(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """A complete response as the SDK returns it.

        Raises:
            botocore.exceptions.ClientError: `status` is that of an error.
        """
        if status == 200:
            with suppress(ValueError):  # botocore has to read it, or to say what is wrong
                read: dict[str, Any] = self._read(self._parse_json(body))
                return {"ResponseMetadata": _metadata(status, headers), **read}
        given = {"status_code": status, "headers": headers, "body": body, "context": {}}
        parsed: dict[str, Any] = self._parser.parse(given, self._model.output_shape)
        parsed["ResponseMetadata"]["RetryAttempts"] = 0
        if status >= 300:
            code = parsed.get("Error", {}).get("Code")
            raise self._exceptions.from_code(code)(parsed, self._name)
        return parsed

    def opening(self, status: int, headers: Mapping[str, str], stream: Any) -> dict[str, Any]:
        """The response of a stream, whose events are `stream`."""
        return {"ResponseMetadata": _metadata(status, headers), "stream": stream}

    def events(self) -> EventDecoder:
        """A decoder for the events of one response."""
        return EventDecoder(self._event_parser)

    @cached_property
    def _event_parser(self) -> EventParser:
        from botocore.parsers import EventStreamJSONParser

        shape = self._model.output_shape
        return EventParser(
            EventStreamJSONParser(), shape.members[shape.event_stream_name], self._name
        )


def _prepared(client: Any, name: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """The request, the signer and the context with which `client` calls `name`. Sends nothing."""
    from botocore import xform_name

    thread = threading.get_ident()
    found: list[tuple[dict[str, Any], Any, dict[str, Any]]] = []

    def answer(params: Any, request_signer: Any, context: Any, **_: Any) -> Any:
        if threading.get_ident() != thread:
            return None
        found.append((params, request_signer, context))
        return SimpleNamespace(status_code=200), {}

    event = "before-call"  # after the handlers of more particular events
    client.meta.events.register_last(event, answer)
    try:
        with without_sdk_spans():
            getattr(client, xform_name(name))(modelId="model")
    finally:
        client.meta.events.unregister(event, answer)
    return found[0]


def _metadata(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the SDK says about a response beside its body. Names of headers are in lower case."""
    found: dict[str, Any] = {}
    if "x-amzn-requestid" in headers:
        found["RequestId"] = headers["x-amzn-requestid"]
    elif "x-amz-request-id" in headers:
        found["RequestId"] = headers["x-amz-request-id"]
        found["HostId"] = headers.get("x-amz-id-2", "")
    return found | {"HTTPStatusCode": status, "HTTPHeaders": dict(headers), "RetryAttempts": 0}


def _without_default_port(url: str) -> str:
    """`url` as signatures and the header ``Host`` have it."""
    parts = urlsplit(url)
    if parts.port is None or parts.port != _DEFAULT_PORTS.get(parts.scheme):
        return url
    return parts._replace(netloc=parts.netloc.removesuffix(f":{parts.port}")).geturl()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
