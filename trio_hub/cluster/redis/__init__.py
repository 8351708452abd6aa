"""A backplane over Redis 7 or later, or Valkey."""

from trio_hub.cluster.redis.backplane import RedisBackplane

__all__ = ["RedisBackplane"]
