"""Every change that an ORM makes, as an event in the transaction that makes it."""
