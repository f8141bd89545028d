from .ring_a_bell import RingABell, RingABellSoft

__all__ = ["RingABell", "RingABellSoft"]
