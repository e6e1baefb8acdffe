from .sampler import BlackboxZOSampler

__all__ = ["BlackboxZOSampler"]
