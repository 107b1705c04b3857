"""The public surface of a plugin file; `__init__.pyi` is the table of its names and of the module that each comes from.

A name is imported when it is first used: numpy and tinygrad take too long for `mist-bench --help`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
