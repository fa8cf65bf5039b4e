"""The compiled module and the owners of its C objects.

`_protocol`, `_connect` and `_runtime` use the owners. Only modules of this folder and `build_info`
import the compiled module.
"""
