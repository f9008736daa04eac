"""The native transport: HTTP without a vendor's SDK, and JSON without its models."""

from agentkit.providers.transport.http.record import Record
from agentkit.providers.transport.http.transport import HttpApi, HttpTransport

__all__ = ["HttpApi", "HttpTransport", "Record"]
