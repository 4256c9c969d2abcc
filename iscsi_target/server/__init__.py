"""Runs a target on asyncio: `server` starts and ends it, `driver` feeds the machine, `transport` moves the bytes."""
