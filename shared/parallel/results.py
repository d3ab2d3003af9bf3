"""What `GeminiParallelProcessor.stream` yields."""

from shared.batch.result import Result

__all__ = ["Result"]
