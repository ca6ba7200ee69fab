"""The calls of the API: one class for each service."""

# Written by `generate` from `aio/_calls/__init__.py`. Do not edit it.
