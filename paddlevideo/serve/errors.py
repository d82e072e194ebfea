"""Why a request is refused, with the HTTP status that says so."""


class RequestError(Exception):
    """A request that the service does not answer with a result.

    Args:
        status: of the HTTP response, 400 ... 599.
        reason: what came, what was expected, and what to do; clients see it.
        retry_after: after how many seconds another try makes sense; None for never.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None):
        super().__init__(status, reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after

    def __str__(self):
        return f"{self.status}: {self.reason}"
