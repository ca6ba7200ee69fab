"""What only servers have whose clock moves when it is told to."""

# Written by `generate`. Do not edit it.
