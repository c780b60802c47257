"""From a recorded event to a sealed one: the queue, the threads, and what waits when the database does not take it."""
