"""The native transport: HTTP and JSON without a vendor's SDK."""

from agentkit.providers.transport.http.record import Record
from agentkit.providers.transport.http.transport import HttpApi, HttpTransport

__all__ = ["HttpApi", "HttpTransport", "Record"]
