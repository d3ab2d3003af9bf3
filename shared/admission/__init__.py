"""Local adapters and pure helpers of admission: the queue, the clock, the agents."""
