"""What the two ends of the transport share: names, types and bounds of its resources.

Implements docs/protocol.md sections 11.1 and 11.3. The server is adapters.http_server, the client adapters.http_client.
"""

from __future__ import annotations

from typing import Final

from exchange.core.envelope import MAX_BATCH_BYTES
from exchange.core.wire import MAX_DOCUMENT_BYTES

ENVELOPES: Final = "/v1/envelopes"
CARD: Final = "/v1/card"
PREKEYS: Final = "/v1/prekeys"
BLOBS: Final = "/v1/blobs/"
DOCUMENTS: Final = "/v1/documents"
HEALTH: Final = "/v1/health"

REQUEST_HEADER: Final = "Focalpoint-Request"  # base64 of a signed request
MAX_REQUEST_CHARS: Final = 6_144  # below the 8,190 bytes that HTTP software commonly takes as one header
BATCH_TYPE: Final = "application/octet-stream"
BLOB_TYPE: Final = "application/octet-stream"
JSON_TYPE: Final = "application/json"

SLOWEST_BYTES_PER_S: Final = 8_192  # a body may take its length by this, and a grace; slower is a stalled one
MAX_ANSWER_BYTES: Final = MAX_BATCH_BYTES  # stored answers to a whole batch of repeats
MAX_PUSHED_BYTES: Final = MAX_DOCUMENT_BYTES
